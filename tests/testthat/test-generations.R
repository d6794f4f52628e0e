# tf_keras, the older Keras generation, beside Keras 3, with nothing but reticulate; and
# the files that TensorFlow Addons wrote in its time.

tf_keras_module <- function() {
  skip_without_tf_keras()
  reticulate::import("tf_keras")
}

test_that("the layer is of the generation of its object", {
  keras <- keras_module()
  tf_keras <- tf_keras_module()
  class_of <- function(keras, how) {
    input <- keras$Input(list(4L, 6L))
    object <- switch(how,
      sequential = keras$Sequential(list(input)),
      model = keras$Model(input, keras$layers$ReLU()(input)),
      tensor = input
    )
    result <- layer_group_normalization(object, groups = 3)
    model <- if (how == "sequential") result else keras$Model(input, result)
    class(model$layers[[length(model$layers)]])[1]
  }
  for (how in c("sequential", "model", "tensor")) {
    expect_identical(class_of(keras, how), "groupnorm.layers.GroupNormalization")
    expect_identical(class_of(tf_keras, how), "groupnorm.legacy.GroupNormalization")
  }
})

test_that("both generations compute the same", {
  keras <- keras_module()
  tf_keras <- tf_keras_module()
  x <- array(rnorm(48), c(2, 4, 6))
  for (module in list(keras, tf_keras)) {
    model <- module$Sequential(list(module$Input(list(4L, 6L)))) |>
      layer_group_normalization(groups = 3, gamma_initializer = function(n) 1:6)
    expect_equal(
      as_array(model$predict(x, verbose = 0L)), reference(x, 3, gamma = 1:6),
      tolerance = 1e-5
    )
  }
})

test_that("tf_keras: R values reach the layer", {
  tf_keras <- tf_keras_module()
  model <- tf_keras$Sequential() |>
    layer_group_normalization(
      groups = 3, input_shape = c(NA, 6), batch_size = 2, name = "norm",
      gamma_initializer = list(class_name = "Constant", config = list(value = 3)),
      beta_regularizer = tf_keras$regularizers$L2(0.5),
      gamma_regularizer = function(w) tf_keras$backend$sum(w),
      gamma_constraint = "non_neg"
    )
  expect_identical(model$input_shape, list(2L, NULL, 6L))
  layer <- layer_of(model, 1)
  expect_identical(layer$name, "norm")
  expect_equal(as.vector(layer$get_weights()[[1]]), rep(3, 6))
  expect_equal(sum(vapply(model$losses, function(loss) as_array(loss)[1], 0)), 18)
})

test_that("tf_keras: a bad argument is refused, and the model is as it was", {
  tf_keras <- tf_keras_module()
  model <- tf_keras$Sequential(list(tf_keras$Input(list(4L, 6L))))
  error <- expect_error(
    layer_group_normalization(model, groups = 4), "groups=4",
    class = "groupnorm_error"
  )
  expect_identical(deparse(conditionCall(error)[[1]]), "layer_group_normalization")
  expect_length(model$layers, 0)
  expect_identical(model$output_shape, list(NULL, 4L, 6L))
})

test_that("tf_keras: a network learns, and is saved and loaded", {
  tf_keras <- tf_keras_module()
  tf_keras$utils$set_random_seed(1L)
  model <- tf_keras$Sequential(list(
    tf_keras$Input(list(8L, 8L, 1L)), tf_keras$layers$Conv2D(8L, 3L)
  )) |>
    layer_group_normalization(groups = 4)
  model$add(tf_keras$layers$Flatten())
  model$add(tf_keras$layers$Dense(1L))
  model$compile("adam", "mse")
  x <- array(rnorm(64 * 64), c(64, 8, 8, 1))
  y <- matrix(x[, 1, 1, 1] - x[, 8, 8, 1])
  loss <- unlist(model$fit(x, y, epochs = 20L, verbose = 0L)$history$loss)
  expect_lt(loss[20], loss[1] / 2)
  for (extension in c(".h5", ".keras")) {
    file <- withr::local_tempfile(fileext = extension)
    model$save(file)
    expect_identical(
      tf_keras$models$load_model(file)$predict(x, verbose = 0L),
      model$predict(x, verbose = 0L)
    )
  }
})

test_that("without an object TF_USE_LEGACY_KERAS decides", {
  skip_without_tf_keras()
  for (legacy in some_of(c("1", "0"))) {
    output <- in_child(
      {
        library(groupnorm)
        print(groupnorm_config())
        cat(class(layer_group_normalization())[1], "\n")
        cat(class(reticulate::import("tensorflow")$keras$Sequential())[1], "\n")
      },
      c(TF_USE_LEGACY_KERAS = legacy)
    )
    keras <- if (legacy == "1") "tf_keras" else "keras"
    module <- if (legacy == "1") "legacy" else "layers"
    expect_match(output, paste0("layers: +for ", keras, " on tensorflow"), all = FALSE)
    expect_match(output, paste0("^groupnorm\\.", module, "\\."), all = FALSE)
    expect_match(output, paste0("^", keras, "\\.src.*Sequential"), all = FALSE)
  }
})

test_that("after one call Keras opens what TensorFlow Addons saved", {
  skip_without_python()
  for (name in some_of(c("tfa_convnet", "tfa_dense_sequential"))) {
    expect_runs(
      {
        library(groupnorm)
        invisible(groupnorm_config())
        file <- Sys.getenv("FILE")
        keras <- reticulate::import("keras")
        example <- reticulate::import("numpy")$load(paste0(file, ".npz"))
        model <- keras$models$load_model(paste0(file, ".h5"))
        y <- model$predict(example$get("x"), verbose = 0L)
        stopifnot(max(abs(y - example$get("y"))) < 1e-5)

        # Saved anew, it is a model of this package.
        new <- tempfile(fileext = ".keras")
        model$save(new)
        again <- keras$models$load_model(new)
        stopifnot(identical(again$predict(example$get("x"), verbose = 0L), y))
      },
      c(FILE = sub("\\.h5$", "", addons_file(paste0(name, ".h5"))))
    )
  }
})

test_that("and so does tf_keras, whichever is loaded first", {
  skip_without_tf_keras()
  for (first in some_of(c("groupnorm", "tf_keras"))) {
    expect_runs(
      {
        if (Sys.getenv("FIRST") == "tf_keras") reticulate::import("tf_keras")
        library(groupnorm)
        invisible(groupnorm_config())
        file <- Sys.getenv("FILE")
        tf_keras <- reticulate::import("tf_keras")
        example <- reticulate::import("numpy")$load(paste0(file, ".npz"))
        for (extension in c(".h5", ".keras")) {
          model <- tf_keras$models$load_model(paste0(file, extension))
          y <- model$predict(example$get("x"), verbose = 0L)
          stopifnot(max(abs(y - example$get("y"))) < 1e-5)
        }
      },
      c(FILE = sub("\\.h5$", "", addons_file("tfa_convnet.h5")), FIRST = first)
    )
  }
})
