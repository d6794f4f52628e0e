# The R packages in front of Keras: scripts as their users write them, each in an R
# process of its own, because such a package chooses a Keras for the whole process.

skip_without_keras3 <- function() {
  skip_without_python()
  skip_without_package("keras3")
}

skip_without_keras2 <- function() {
  skip_without_tf_keras()
  skip_without_package("keras")
}

test_that("keras3: models, with its objects as arguments", {
  skip_without_keras3()
  expect_runs({
    library(keras3)
    library(groupnorm)
    add_layers <- function(model) {
      model |>
        layer_dense(8, name = "dense") |>
        layer_group_normalization(
          groups = 4, name = "norm",
          gamma_initializer = initializer_constant(2),
          beta_initializer = initializer_random_normal(seed = 1),
          gamma_regularizer = regularizer_l2(0.1),
          beta_regularizer = regularizer_l1(0.1),
          gamma_constraint = constraint_nonneg(),
          beta_constraint = constraint_maxnorm(1, axis = 1)
        )
    }
    sequential <- keras_model_sequential(input_shape = c(5, 3)) |> add_layers()
    input <- layer_input(c(5, 3))
    functional <- keras_model(input, add_layers(input))
    for (model in list(sequential, functional)) {
      norm <- get_layer(model, "norm")
      config <- norm$get_config()
      stopifnot(
        inherits(norm, "groupnorm.layers.GroupNormalization"),
        all(norm$get_weights()[[1]] == 2),
        config$gamma_regularizer$class_name == "L2",
        config$beta_regularizer$class_name == "L1",
        config$gamma_constraint$class_name == "NonNeg",
        config$beta_constraint$config$axis == 0, # keras3 counts from 1
        any(grepl("GroupNormalization", capture.output(summary(model))))
      )
    }
    set_weights(functional, get_weights(sequential))
    x <- array(rnorm(30), c(2, 5, 3))
    stopifnot(identical(
      predict(functional, x, verbose = 0), predict(sequential, x, verbose = 0)
    ))
    on_model <- layer_group_normalization(functional, groups = 2)
    stopifnot(identical(shape(on_model), shape(NA, 5, 8)))
  })
})

test_that("keras3: both pipes, its shapes, and the layer as a function", {
  skip_without_keras3()
  expect_runs({
    library(keras3)
    library(groupnorm)
    piped <- keras_model_sequential() %>%
      layer_group_normalization(input_shape = shape(NA, 4)) %>%
      layer_instance_normalization()
    piped |> layer_group_normalization(groups = 4)
    stopifnot(
      length(piped$layers) == 3, identical(piped$input_shape, list(NULL, NULL, 4L))
    )

    x <- array(rnorm(48), c(2, 4, 6))
    layer <- layer_group_normalization(groups = 3, name = "mine")
    model <- keras_model_sequential(input_shape = c(4, 6)) |> layer()
    input <- layer_input(c(4, 6))
    outputs <- list(
      layer(x), x |> layer(), x |> layer_group_normalization(3), model(x),
      keras_model(input, layer(input))(x), op_convert_to_tensor(x) |> layer()
    )
    # The same of groups 1 (channels 1 and 2), sample 1, from the definition.
    part <- x[1, , 1:2]
    expected <- (part - mean(part)) / sqrt(mean((part - mean(part))^2) + 0.001)
    for (output in outputs) {
      stopifnot(all.equal(as.array(output)[1, , 1:2], expected, tolerance = 1e-6))
    }
    stopifnot(model$layers[[1]]$name == "mine")
  })
})

test_that("keras3: training, saving, copying, freezing", {
  skip_without_keras3()
  expect_runs({
    library(keras3)
    library(groupnorm)
    set_random_seed(1)
    model <- keras_model_sequential(input_shape = c(8, 8, 1)) |>
      layer_conv_2d(8, 3) |>
      layer_group_normalization(groups = 4, name = "norm") |>
      layer_activation_relu() |>
      layer_flatten() |>
      layer_dense(2, activation = "softmax")
    model |> compile("adam", "sparse_categorical_crossentropy", metrics = "accuracy")
    x <- array(rnorm(64 * 64), c(64, 8, 8, 1))
    y <- rep(0:1, 32)
    x[y == 1, 1:4, , ] <- x[y == 1, 1:4, , ] + 2
    history <- model |> fit(x, y, epochs = 15, verbose = 0)
    losses <- history$metrics$loss
    stopifnot(losses[15] < losses[1] / 2)

    expected <- predict(model, x, verbose = 0)
    file <- tempfile(fileext = ".keras")
    save_model(model, file)
    loaded <- load_model(file)
    h5 <- tempfile(fileext = ".h5")
    save_model(model, h5)
    copy <- clone_model(model)
    set_weights(copy, get_weights(model))
    for (other in list(loaded, load_model(h5), copy)) {
      stopifnot(
        inherits(get_layer(other, "norm"), "groupnorm.layers.GroupNormalization"),
        identical(predict(other, x, verbose = 0), expected)
      )
    }
    loaded |> fit(x, y, epochs = 1, verbose = 0)

    gamma <- get_layer(copy, "norm")$get_weights()[[1]]
    freeze_weights(copy, from = "norm", to = "norm")
    copy |> compile("adam", "sparse_categorical_crossentropy")
    copy |> fit(x, y, epochs = 1, verbose = 0)
    stopifnot(
      length(copy$trainable_weights) == 4,
      identical(get_layer(copy, "norm")$get_weights()[[1]], gamma)
    )
  })
})

test_that("keras3: around the layer fits what fits around Keras's own", {
  skip_without_keras3()
  expect_runs({
    library(keras3)
    library(groupnorm)
    wrap <- function(wrapper, layer) {
      tryCatch(
        wrapper(keras_model_sequential(input_shape = c(3, 6, 4)), layer)$output_shape,
        error = function(e) "an error"
      )
    }
    for (wrapper in c(layer_time_distributed, layer_bidirectional)) {
      ours <- wrap(wrapper, layer_group_normalization(groups = 2))
      stopifnot(identical(
        ours, wrap(wrapper, keras3::layer_group_normalization(groups = 2))
      ))
    }
    stopifnot(identical(
      wrap(layer_time_distributed, layer_group_normalization()),
      list(NULL, 3L, 6L, 4L)
    ))
    recurrent <- keras_model_sequential(input_shape = c(6, 4)) |>
      layer_bidirectional(layer_lstm(units = 2, return_sequences = TRUE)) |>
      layer_group_normalization(groups = 4)
    stopifnot(identical(recurrent$output_shape, list(NULL, 6L, 4L)))
  })
})

test_that("keras3: the package that is attached last gives its layer", {
  skip_without_keras3()
  for (last in c("groupnorm", "keras3")) {
    expect_runs(
      {
        last <- Sys.getenv("LAST")
        for (package in c(setdiff(c("groupnorm", "keras3"), last), last)) {
          suppressPackageStartupMessages(library(package, character.only = TRUE))
        }
        model <- keras_model_sequential(input_shape = c(6, 4)) |>
          layer_group_normalization(groups = 2) |>
          groupnorm::layer_group_normalization(groups = 2) |>
          keras3::layer_group_normalization(groups = 2)
        modules <- vapply(model$layers, function(layer) layer$`__module__`, "")
        expected <- c(groupnorm = "groupnorm", keras3 = "keras")
        stopifnot(identical(
          sub("\\..*", "", modules), c(expected[[last]], "groupnorm", "keras")
        ))
      },
      c(LAST = last)
    )
  }
})

test_that("keras3: an error is the user's own call's", {
  skip_without_keras3()
  output <- in_child({
    library(keras3)
    library(groupnorm)
    model <- keras_model_sequential(input_shape = c(6, 4))
    model |> layer_group_normalization(groups = 3)
  })
  expect_identical(attr(output, "status"), 1L)
  expect_match(output, "^Error in layer_group_normalization\\(model", all = FALSE)
  expect_match(paste(output, collapse = " "), "\\[1, 2, 4\\].*Received: groups=3")
  expect_no_match(paste(output, collapse = " "), "Traceback|py_last_error")
})

test_that("keras3: the TensorFlow that it chose stays the only one", {
  skip_without_package("keras3")
  skip_if_not(
    "py_require" %in% getNamespaceExports("reticulate"),
    "this version of reticulate has no py_require()"
  )
  for (first in c("groupnorm", "keras3")) {
    expect_runs(
      {
        for (package in unique(c(Sys.getenv("FIRST"), "keras3", "groupnorm"))) {
          library(package, character.only = TRUE)
        }
        asked <- reticulate::py_require()$packages
        stopifnot(
          length(grep("^tensorflow", asked)) == 1,
          c("keras>=3.3", "numpy>=1.26") %in% asked
        )
      },
      c(FIRST = first)
    )
  }
})

test_that("keras3 opens what TensorFlow Addons saved", {
  skip_without_keras3()
  expect_runs(
    {
      library(keras3)
      library(groupnorm)
      invisible(groupnorm_config())
      model <- load_model(Sys.getenv("FILE"))
      norm <- get_layer(model, "gn_b")
      stopifnot(inherits(norm, "groupnorm.layers.GroupNormalization"))
    },
    c(FILE = addons_file("tfa_convnet.h5"))
  )
})

test_that("keras opens what TensorFlow Addons saved", {
  skip_without_keras2()
  expect_runs(
    {
      library(keras)
      library(groupnorm)
      invisible(groupnorm_config())
      folder <- Sys.getenv("FOLDER")
      norm <- get_layer(load_model_hdf5(file.path(folder, "tfa_convnet.h5")), "gn_b")
      stopifnot(inherits(norm, "groupnorm.legacy.GroupNormalization"))
      model <- load_model_tf(file.path(folder, "generator_savedmodel"))
      norm <- get_layer(model, "instance_normalization_1")
      stopifnot(inherits(norm, "groupnorm.legacy.InstanceNormalization"))
    },
    c(FOLDER = dirname(addons_file("generator_savedmodel")))
  )
})

test_that("keras3: a class made with Layer() takes the place of one in the file", {
  skip_without_tf_keras()
  skip_without_package("keras3")
  folder <- withr::local_tempdir()
  own_file(folder)
  withr::local_dir(folder)
  expect_runs({
    library(keras3)
    shift <- Layer(
      "Shift",
      initialize = function(by = 1, ...) {
        super$initialize(...)
        self$by <- by
      },
      build = function(input_shape) {
        size <- input_shape[[length(input_shape)]]
        self$scale <- self$add_weight(shape = list(size), name = "scale")
      },
      call = function(inputs) op_add(op_multiply(inputs, self$scale), self$by),
      get_config = function() c(super$get_config(), list(by = self$by))
    )
    double <- function(x) op_multiply(x, 2)
    report <- groupnorm::migrate_model(
      "own.h5", "new.keras",
      custom_objects = list(Shift = shift, double = double)
    )
    stopifnot(
      identical(unlist(report$needs), "Shift"),
      any(grepl("mine by itself", unlist(report$not_proved)))
    )
    model <- load_model("new.keras", custom_objects = list(Shift = shift))
    x <- matrix(as.numeric(1:6), 2)
    stopifnot(all.equal(predict(model, x, verbose = 0), 2 * x + 3))
  })
})

test_that("keras: models, with its objects as arguments", {
  skip_without_keras2()
  expect_runs({
    library(keras)
    library(groupnorm)
    add_layers <- function(model) {
      model %>%
        layer_dense(8, name = "dense") %>%
        layer_group_normalization(
          groups = 4, name = "norm",
          gamma_initializer = initializer_constant(2),
          beta_initializer = initializer_random_normal(seed = 1),
          gamma_regularizer = regularizer_l2(0.1),
          gamma_constraint = constraint_nonneg()
        )
    }
    sequential <- keras_model_sequential(input_shape = c(5, 3)) %>% add_layers()
    input <- layer_input(c(5, 3))
    functional <- keras_model(input, add_layers(input))
    for (model in list(sequential, functional)) {
      norm <- get_layer(model, "norm")
      config <- norm$get_config()
      stopifnot(
        inherits(norm, "groupnorm.legacy.GroupNormalization"),
        all(norm$get_weights()[[1]] == 2),
        config$gamma_regularizer$class_name == "L2",
        config$gamma_constraint$class_name == "NonNeg",
        any(grepl("norm", capture.output(summary(model))))
      )
    }
    set_weights(functional, get_weights(sequential))
    x <- array(rnorm(30), c(2, 5, 3))
    stopifnot(identical(
      predict(functional, x, verbose = 0), predict(sequential, x, verbose = 0)
    ))

    first <- keras_model_sequential() |>
      layer_group_normalization(input_shape = list(NULL, 4), batch_size = 5)
    layer <- layer_group_normalization(groups = 3)
    x <- array(rnorm(48), c(2, 4, 6))
    stopifnot(
      identical(first$input_shape, list(5L, NULL, 4L)),
      identical(as.array(x |> layer()), as.array(layer_group_normalization(x, 3)))
    )
  })
})

test_that("keras: training, saving, copying, freezing, wrapping", {
  skip_without_keras2()
  expect_runs({
    library(keras)
    library(groupnorm)
    tensorflow::set_random_seed(1)
    model <- keras_model_sequential(input_shape = c(8, 8, 1)) %>%
      layer_conv_2d(8, 3) %>%
      layer_group_normalization(groups = 4, name = "norm") %>%
      layer_activation_relu() %>%
      layer_flatten() %>%
      layer_dense(2, activation = "softmax")
    model %>% compile("adam", "sparse_categorical_crossentropy", metrics = "accuracy")
    x <- array(rnorm(64 * 64), c(64, 8, 8, 1))
    y <- rep(0:1, 32)
    x[y == 1, 1:4, , ] <- x[y == 1, 1:4, , ] + 2
    history <- model %>% fit(x, y, epochs = 15, verbose = 0)
    losses <- history$metrics$loss
    stopifnot(losses[15] < losses[1] / 2)

    expected <- predict(model, x, verbose = 0)
    h5 <- tempfile(fileext = ".h5")
    save_model_hdf5(model, h5)
    folder <- tempfile()
    save_model_tf(model, folder)
    copy <- clone_model(model)
    set_weights(copy, get_weights(model))
    for (other in list(load_model_hdf5(h5), load_model_tf(folder), copy)) {
      stopifnot(
        inherits(get_layer(other, "norm"), "groupnorm.legacy.GroupNormalization"),
        all.equal(predict(other, x, verbose = 0), expected, tolerance = 1e-6)
      )
    }

    freeze_weights(copy, from = "norm", to = "norm")
    stopifnot(length(copy$trainable_weights) == 4)

    over_time <- keras_model_sequential(input_shape = c(3, 6, 4)) %>%
      time_distributed(layer_group_normalization())
    stopifnot(identical(over_time$output_shape, list(NULL, 3L, 6L, 4L)))
  })
})

test_that("a script for tfaddons runs when its library() line is changed", {
  skip_without_python()
  front_end <- Find(
    function(package) nzchar(system.file(package = package)), c("keras", "keras3")
  )
  skip_if(is.null(front_end), "neither keras nor keras3 is installed")
  if (front_end == "keras") skip_without_tf_keras()
  expect_runs(
    {
      library(Sys.getenv("FRONT_END"), character.only = TRUE)
      library(groupnorm)
      model <- keras_model_sequential() %>%
        layer_conv_2d(
          filters = 10, kernel_size = c(3, 3), input_shape = c(28, 28, 1),
          activation = "relu"
        ) %>%
        layer_group_normalization(groups = 5, axis = 3) %>%
        layer_instance_normalization(
          axis = 3, center = TRUE, scale = TRUE,
          beta_initializer = "random_uniform", gamma_initializer = "random_uniform"
        ) %>%
        layer_flatten() %>%
        layer_dense(units = 10, activation = "softmax")
      model %>% compile(
        optimizer = "adam", loss = "sparse_categorical_crossentropy",
        metrics = "accuracy"
      )
      x <- array(rnorm(8 * 28 * 28), c(8, 28, 28, 1))
      model %>% fit(x, 0:7, epochs = 1, batch_size = 4, verbose = 0)
      # The third axis after the batch axis, in tfaddons as here: the ten channels.
      stopifnot(
        length(model$layers[[2]]$get_weights()[[1]]) == 10,
        identical(dim(predict(model, x, verbose = 0)), c(8L, 10L))
      )
    },
    c(FRONT_END = front_end)
  )
})
