# How R values reach the layer, argument by argument.

config_of <- function(...) layer_group_normalization(...)$get_config()

test_that("the formals are those of tfaddons, in its order", {
  expected <- alist(
    object = , groups = 2, axis = -1, epsilon = 0.001, center = TRUE, scale = TRUE,
    beta_initializer = "zeros", gamma_initializer = "ones", beta_regularizer = NULL,
    gamma_regularizer = NULL, beta_constraint = NULL, gamma_constraint = NULL, ... =
    )
  expect_identical(as.list(formals(layer_group_normalization)), expected)
  expect_identical(as.list(formals(layer_instance_normalization)), expected[-2])
})

test_that("instance normalization ignores the argument groups of tfaddons", {
  skip_without_python()
  expect_warning(
    layer <- layer_instance_normalization(groups = 2, name = "same"),
    "`groups` is ignored"
  )
  without <- layer_instance_normalization(name = "same")
  expect_identical(layer$get_config(), without$get_config())
})

test_that("R's defaults are Python's", {
  skip_without_python()
  python <- reticulate::import("groupnorm")
  ours <- layer_group_normalization(name = "same")$get_config()
  expect_identical(ours, python$GroupNormalization(name = "same")$get_config())
  ours <- layer_instance_normalization(name = "same")$get_config()
  expect_identical(ours, python$InstanceNormalization(name = "same")$get_config())
})

test_that("whole numbers become integers, whichever way they are written", {
  skip_without_python()
  expect_identical(config_of(groups = 8)$groups, 8L)
  expect_identical(config_of(groups = 8L)$groups, 8L)
  expect_identical(config_of(groups = -1)$groups, -1L)
  expect_identical(config_of(axis = 1)$axis, 1L)
  expect_identical(config_of(epsilon = 1)$epsilon, 1)
  expect_identical(config_of(epsilon = 1e-5)$epsilon, 1e-5)
})

test_that("TRUE, FALSE and NULL become True, False and None", {
  skip_without_python()
  x <- array(rnorm(48), c(2, 4, 6))
  weights <- function(...) {
    layer <- layer_group_normalization(groups = 3, ...)
    layer(x)
    vapply(layer$weights, function(w) w$name, "")
  }
  expect_identical(weights(), c("gamma", "beta"))
  expect_identical(weights(center = FALSE), "gamma")
  expect_identical(weights(scale = FALSE), "beta")
  expect_length(weights(center = FALSE, scale = FALSE), 0)
  expect_null(config_of(gamma_regularizer = NULL)$gamma_regularizer)
})

test_that("input_shape is a tuple of integers with unknown sizes", {
  keras <- keras_module()
  input_shape <- function(shape) {
    (keras$Sequential() |> layer_group_normalization(input_shape = shape))$input_shape
  }
  expect_identical(input_shape(c(28, 28, 4)), list(NULL, 28L, 28L, 4L))
  expect_identical(input_shape(c(NA, 4)), list(NULL, NULL, 4L))
  expect_identical(input_shape(list(NULL, 4)), list(NULL, NULL, 4L))
  expect_identical(input_shape(4L), list(NULL, 4L))
  expect_identical(input_shape(reticulate::tuple(28L, 4L)), list(NULL, 28L, 4L))
  for (bad in list(c(2.5, 4), c(-1, 4), "4", TRUE, list(c(1, 2)), Inf)) {
    expect_error(layer_group_normalization(input_shape = bad), "`input_shape`")
  }
})

test_that("arguments of every Keras layer pass", {
  skip_without_python()
  layer <- layer_group_normalization(
    name = "norm", trainable = FALSE, dtype = "float64", use_mask = TRUE,
    activity_regularizer = "l2"
  )
  expect_identical(layer$name, "norm")
  expect_false(layer$trainable)
  expect_identical(layer$compute_dtype, "float64")
  expect_true(layer$use_mask)
  expect_s3_class(layer$activity_regularizer, "keras.src.regularizers.regularizers.L2")
})

test_that("initializers may be names, lists, Python objects, arrays or R functions", {
  keras <- keras_module()
  x <- array(rnorm(48), c(2, 4, 6))
  gamma <- function(initializer) {
    layer <- layer_group_normalization(groups = 3, gamma_initializer = initializer)
    layer(x)
    as.vector(as_array(layer$gamma))
  }
  expect_equal(gamma("zeros"), rep(0, 6))
  threes <- list(class_name = "Constant", config = list(value = 3))
  expect_equal(gamma(threes), rep(3, 6))
  expect_equal(gamma(keras$initializers$Constant(0.5)), rep(0.5, 6))
  expect_equal(gamma(array(1:6)), 1:6)
  expect_equal(gamma(function(shape) rep(2, shape)), rep(2, 6))
  expect_equal(gamma(function(shape, dtype) seq_len(shape)), 1:6)
  expect_equal(gamma(function(shape, ...) 7), rep(7, 6))
  expect_equal(gamma(function(shape) keras$ops$ones(shape)), rep(1, 6))
  seeded <- list(class_name = "RandomNormal", config = list(seed = 42))
  expect_equal(gamma(seeded), gamma(keras$initializers$RandomNormal(seed = 42L)))
  expect_error(gamma(function(shape) 1:5), "`gamma_initializer` must return 6 numbers")
  expect_error(gamma(function(shape) stop("my own")), "my own")
})

test_that("regularizers and constraints may be R functions", {
  keras <- keras_module()
  at_most_one <- list(class_name = "MaxNorm", config = list(max_value = 1, axis = 0))
  model <- keras$Sequential(list(keras$Input(c(4L, 6L)))) |>
    layer_group_normalization(
      groups = 3,
      gamma_regularizer = function(w) keras$ops$sum(w),
      beta_constraint = function(w) keras$ops$ones_like(w),
      gamma_constraint = at_most_one
    )
  expect_equal(as_array(model$losses[[1]])[1], 6)
  model$compile("sgd", "mse")
  x <- array(rnorm(48), c(2, 4, 6))
  model$fit(x, x, verbose = 0L)
  layer <- layer_of(model, 1)
  expect_equal(as.vector(as_array(layer$beta)), rep(1, 6))
  expect_lte(sqrt(sum(as_array(layer$gamma)^2)), 1 + 1e-6)
})
