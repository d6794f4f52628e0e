# Bad input: an error that names the argument and what is accepted, and nothing changed.

small_model <- function(keras, shape = c(4L, 6L)) {
  model <- keras$Sequential(list(keras$Input(shape)))
  model$add(keras$layers$ReLU())
  model
}

# Names, shapes and weights: what can be seen of a model.
state_of <- function(model) {
  list(
    layers = vapply(model$layers, reticulate::py_id, ""),
    built = model$built,
    output_shape = model$output_shape,
    weights = length(model$weights)
  )
}

expect_refused <- function(argument, accepted, ..., shape = c(4L, 6L)) {
  keras <- keras_module()
  model <- small_model(keras, shape)
  before <- state_of(model)
  error <- expect_error(
    layer_group_normalization(model, ...),
    class = "groupnorm_error"
  )
  expect_match(conditionMessage(error), argument, fixed = TRUE)
  expect_match(conditionMessage(error), accepted)
  expect_no_match(conditionMessage(error), "Traceback|py_last_error")
  expect_identical(deparse(conditionCall(error)[[1]]), "layer_group_normalization")
  expect_identical(state_of(model), before)
}

test_that("groups", {
  for (groups in list(0, -3, 2.5, NA, NULL, "4", TRUE, c(2, 4), Inf)) {
    expect_refused("`groups`", "positive integer", groups = groups)
  }
  expect_refused("groups=12", "cannot be more than.*\\[1, 2, 3, 6\\]", groups = 12)
  expect_refused("groups=4", "must divide it.*\\[1, 2, 3, 6\\]", groups = 4)
})

test_that("axis", {
  for (axis in list(0, 1.5, NA, NULL, "1", TRUE, c(1, 2))) {
    expect_refused("`axis`", "axis after the batch axis", axis = axis)
  }
  expect_refused("axis=3", "out of bounds.*from 1 to 2", axis = 3)
  expect_refused("axis=-4", "out of bounds.*from 1 to 2", axis = -4)
  expect_refused("axis=-3", "is the batch axis.*from 1 to 2", axis = -3)
})

test_that("epsilon", {
  for (epsilon in list(-1, NA, NULL, Inf, NaN, "small", TRUE, c(1, 2))) {
    expect_refused("`epsilon`", "finite number that is not negative", epsilon = epsilon)
  }
})

test_that("center, scale and use_mask", {
  for (flag in list(NA, NULL, "yes", 2, 1, c(TRUE, FALSE))) {
    expect_refused("`center`", "True or False", center = flag)
    expect_refused("`scale`", "True or False", scale = flag)
    expect_refused("`use_mask`", "True or False", use_mask = flag)
  }
})

test_that("initializers, regularizers and constraints", {
  unknown <- list(class_name = "NoSuch", config = list())
  for (kind in c("initializer", "regularizer", "constraint")) {
    for (argument in paste(c("beta", "gamma"), kind, sep = "_")) {
      for (value in list("no_such", NA, 3, TRUE, unknown)) {
        given <- stats::setNames(list(value), argument)
        expected <- list(paste0("`", argument, "`"), paste("name of a Keras", kind))
        do.call(expect_refused, c(expected, given))
      }
    }
  }
  expect_refused("`beta_initializer`", "name of a Keras init", beta_initializer = NULL)
})

test_that("arguments in `...`", {
  expect_refused("no_such_argument", "Unrecognized", no_such_argument = 1)
  expect_refused("`batch_size`", "positive integer", batch_size = 0)
  expect_refused("`input_shape`", "whole numbers", input_shape = "4")
  expect_refused("name", "string", name = NA)
  expect_refused("`dtype`", "class formula", dtype = y ~ x)
  expect_error(
    layer_group_normalization(NULL, 2, -1, 1, TRUE, TRUE, "zeros", "ones",
      NULL, NULL, NULL, NULL, 5),
    "must be named"
  )
  expect_error(layer_group_normalization(name = "a", name = "b"), "`name`.*twice")
})

test_that("a channel axis of unknown size", {
  expect_refused("`axis`", "known size", shape = list(4L, NULL))
})

test_that("a layer that fails while it is built leaves the model as it was", {
  expect_refused(
    "my own", "my own",
    groups = 3, gamma_initializer = function(shape) stop("my own")
  )
})

test_that("the package does not hide what went wrong in Python", {
  skip_without_python()
  error <- tryCatch(layer_group_normalization(groups = 0), error = function(e) e)
  expect_s3_class(error$parent, "error")
  expect_match(conditionMessage(error$parent), "ValueError")
})
