#' Group and instance normalization layers
#'
#' `layer_group_normalization()` splits the channels of each sample into groups and
#' brings every group to mean 0 and variance 1; `layer_instance_normalization()` does
#' the same with one group per channel. Neither looks at more than one sample, so they
#' do the same in training and in inference and at any batch size, where batch
#' normalization needs large batches.
#'
#' Put the layer after a convolution or a dense layer and before its activation. It is
#' of use where batches are small, or differ between training and use: large images,
#' video, detection, generators, reinforcement learning. The layer before it needs no
#' bias, which `beta` is.
#'
#' The `C` channels are split in order into `groups` groups. For each sample and each
#' group, mean and (biased) variance are taken over the channels of the group and over
#' all positions:
#'
#' ```
#' y = (x - mean) / sqrt(variance + epsilon) * gamma[c] + beta[c]
#' ```
#'
#' which is equations 1 to 7 of Wu and He (2018). `groups = 1` is layer normalization
#' over all axes but the batch's (Keras's own `LayerNormalization` is another: it takes
#' each position on its own), and `groups = C`, or `-1`, is instance normalization. The
#' article `vignette("how-it-works")` has pictures, and advice on the number of groups.
#'
#' The layer has the weights `gamma` and `beta`, in this order, each of shape `(C)`.
#' Statistics are computed in float64 for a float64 input and in float32 for any other;
#' the output has the layer's compute dtype.
#'
#' @section Coming from other packages:
#' Arguments, defaults and the meaning of `axis` are those of
#' `tfaddons::layer_group_normalization()`, so that a script which uses it runs with
#' another `library()` line. `layer_instance_normalization()` had an argument `groups`
#' there, which did nothing; here it is ignored with a warning.
#'
#' `keras3::layer_group_normalization()` is Keras's own layer. Two arguments differ:
#' `groups` is 32 there, and `axis` counts from 1, so that its axis 2 is axis 1 here.
#' Attach groupnorm after keras3, whose function has the same name, or write
#' `groupnorm::layer_group_normalization()`. Both compute the same, up to rounding; what
#' this one has more is in `vignette("get-started")`.
#'
#' @section R values:
#' Whole numbers reach Python as integers, so that `8` and `8L` are the same, and
#' `TRUE`, `FALSE` and `NULL` as `True`, `False` and `None`. `NA` reaches it as `nan`,
#' which no argument accepts; in `input_shape` it stands for an unknown size.
#'
#' @param object What the layer is composed onto: nothing or `NULL`, a Sequential
#'   model, a symbolic or eager tensor, a NumPy or R array of rank 2 or more (batch axis
#'   first), a functional model with one output, or a layer that was called exactly
#'   once.
#' @param groups Number of groups: a positive whole number that divides the number of
#'   channels, or `-1` for one group per channel. 8, 16 or 32 is a good first choice;
#'   the default, 2, is that of `tfaddons`.
#' @param axis The channel axis, a whole number: 1 is the axis after the batch axis,
#'   `-1` the last one. 0, the batch axis, is an error. The size of this axis must be
#'   known; all others may be unknown.
#' @param epsilon Number that is added to the variance: finite and not negative.
#' @param center `TRUE` to add the weight `beta`, `FALSE` to do without.
#' @param scale `TRUE` to multiply by the weight `gamma`, `FALSE` to do without.
#' @param beta_initializer,gamma_initializer Initializers of the weights: the name of a
#'   Keras initializer, a named list with its `class_name` and `config`, a Python
#'   object, or an R function of `shape` and, if it likes, `dtype`, that returns as many
#'   numbers.
#' @param beta_regularizer,gamma_regularizer Regularizers of the weights: likewise, or
#'   an R function that takes the weight and returns a scalar tensor, or `NULL`.
#' @param beta_constraint,gamma_constraint Constraints on the weights: likewise, or an R
#'   function that takes the weight and returns its new value, or `NULL`.
#' @param ... Named arguments of every Keras layer, such as `name`, `dtype`,
#'   `trainable`, `activity_regularizer`, `input_shape` (a vector or list of whole
#'   numbers, `NA` or `NULL` where the size is unknown, without the batch axis) and
#'   `batch_size`; and `use_mask`: `TRUE` leaves the positions that a Keras mask marks
#'   as padding out of the statistics (default `FALSE`; the mask is passed on in any
#'   case).
#'
#' @returns It depends on `object`:
#'
#'   | `object` | result |
#'   | --- | --- |
#'   | missing or `NULL` | the layer, a function of a tensor |
#'   | a Sequential model | the model with the layer added, invisibly |
#'   | a tensor or array | the layer's output tensor |
#'   | a functional model with one output | the layer applied to its output |
#'   | a layer that was called exactly once | the layer applied to its output |
#'
#'   Output shape is input shape. Anything else, and any argument that does not fit, is
#'   an error; `object` is then as it was before. A layer prints its name, groups and
#'   axis, and once it is built its channels and what computes: `"native"`, the kernel
#'   for CPUs, or `"tensorflow"` (see [groupnorm_config()]).
#'
#' @references Wu, Y. and He, K. (2018). Group Normalization.
#'   <https://arxiv.org/abs/1803.08494>
#'
#'   Ulyanov, D., Vedaldi, A. and Lempitsky, V. (2016). Instance Normalization: The
#'   Missing Ingredient for Fast Stylization. <https://arxiv.org/abs/1607.08022>
#' @seealso [groupnorm_config()], [install_groupnorm()]
#' @examplesIf groupnorm_config()$usable
#' # An array in, a tensor out: 2 samples of 4 positions and 6 channels
#' x <- array(rnorm(48), c(2, 4, 6))
#' x |> layer_group_normalization(groups = 3)
#'
#' # With plain reticulate: a layer is a function of a tensor, so that a last `()` pipes
#' # the tensor into it
#' keras <- reticulate::import("keras")
#' image <- keras$Input(c(28L, 28L, 1L))
#' digit <- image |>
#'   keras$layers$Conv2D(32L, 3L, use_bias = FALSE)() |>
#'   layer_group_normalization(groups = 8) |>
#'   keras$layers$ReLU()() |>
#'   keras$layers$GlobalAveragePooling2D()() |>
#'   keras$layers$Dense(10L, activation = "softmax")()
#' model <- keras$Model(image, digit)
#'
#' # Onto a Sequential model, which grows
#' keras$Sequential(list(keras$Input(c(28L, 28L, 8L)))) |>
#'   layer_group_normalization(groups = 4) |>
#'   layer_instance_normalization(name = "each_channel")
#'
#' # The layer itself, which leaves out what a mask marks as padding
#' layer <- layer_group_normalization(groups = 3, use_mask = TRUE)
#' layer(x, mask = matrix(c(TRUE, TRUE, TRUE, FALSE), 2, 4, byrow = TRUE))
#' layer
#'
#' \dontrun{
#' # With the R package keras3
#' library(keras3)
#' library(groupnorm)
#' model <- keras_model_sequential(input_shape = c(28, 28, 1)) |>
#'   layer_conv_2d(32, 3, use_bias = FALSE) |>
#'   layer_group_normalization(groups = 8) |>
#'   layer_activation("relu")
#' model
#' }
#' @export
layer_group_normalization <- function(object,
                                      groups = 2,
                                      axis = -1,
                                      epsilon = 0.001,
                                      center = TRUE,
                                      scale = TRUE,
                                      beta_initializer = "zeros",
                                      gamma_initializer = "ones",
                                      beta_regularizer = NULL,
                                      gamma_regularizer = NULL,
                                      beta_constraint = NULL,
                                      gamma_constraint = NULL,
                                      ...) {
  compose_layer(
    "GroupNormalization",
    if (missing(object)) NULL else object,
    list(
      groups = groups,
      axis = axis,
      epsilon = epsilon,
      center = center,
      scale = scale,
      beta_initializer = beta_initializer,
      gamma_initializer = gamma_initializer,
      beta_regularizer = beta_regularizer,
      gamma_regularizer = gamma_regularizer,
      beta_constraint = beta_constraint,
      gamma_constraint = gamma_constraint,
      ...
    ),
    call = sys.call()
  )
}

#' @rdname layer_group_normalization
#' @export
layer_instance_normalization <- function(object,
                                         axis = -1,
                                         epsilon = 0.001,
                                         center = TRUE,
                                         scale = TRUE,
                                         beta_initializer = "zeros",
                                         gamma_initializer = "ones",
                                         beta_regularizer = NULL,
                                         gamma_regularizer = NULL,
                                         beta_constraint = NULL,
                                         gamma_constraint = NULL,
                                         ...) {
  compose_layer(
    "InstanceNormalization",
    if (missing(object)) NULL else object,
    c(
      list(
        axis = axis,
        epsilon = epsilon,
        center = center,
        scale = scale,
        beta_initializer = beta_initializer,
        gamma_initializer = gamma_initializer,
        beta_regularizer = beta_regularizer,
        gamma_regularizer = gamma_regularizer,
        beta_constraint = beta_constraint,
        gamma_constraint = gamma_constraint
      ),
      without_groups(...)
    ),
    call = sys.call()
  )
}

# `tfaddons` had the argument and ignored it; its scripts go on running.
without_groups <- function(...) {
  arguments <- list(...)
  if ("groups" %in% names(arguments)) {
    warning(
      "`groups` is ignored: instance normalization has one group per channel",
      call. = FALSE
    )
  }
  arguments[["groups"]] <- NULL
  arguments
}

# Python builds the layer and puts it on the object; R hands over the values.
compose_layer <- function(class_name, object, arguments, call) {
  # An error in what the user wrote is the user's, not one of this call.
  force(object)
  force(arguments)
  arguments <- in_call(call, {
    object <- python_object(object)
    python_arguments(arguments)
  })
  compose <- composer()
  result <- in_call(call, do.call(compose, c(list(class_name, object), arguments)))
  if (is_same_object(result, object)) invisible(object) else result
}

# A Sequential model comes back as itself.
is_same_object <- function(x, y) {
  is_python_object(x) && is_python_object(y) &&
    identical(reticulate::py_id(x), reticulate::py_id(y))
}
