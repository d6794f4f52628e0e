# Every row of the table of what a layer can be composed onto.

test_that("without an object the layer itself comes back, callable from R", {
  skip_without_python()
  x <- array(rnorm(48), c(2, 4, 6))
  for (layer in list(
    layer_group_normalization(groups = 3),
    layer_group_normalization(NULL, groups = 3)
  )) {
    expect_s3_class(layer, "groupnorm.layers.GroupNormalization")
    expect_equal(as_array(layer(x)), reference(x, 3), tolerance = 1e-6)
  }
  layer <- layer_instance_normalization()
  expect_s3_class(layer, "groupnorm.layers.InstanceNormalization")
  expect_equal(as_array(layer(x)), reference(x, 6), tolerance = 1e-6)
})

test_that("a Sequential model gets the layer and comes back, invisibly", {
  keras <- keras_module()
  model <- keras$Sequential(list(keras$Input(c(4L, 6L))))
  result <- withVisible(layer_group_normalization(model, groups = 3))
  expect_false(result$visible)
  expect_identical(reticulate::py_id(result$value), reticulate::py_id(model))
  expect_length(model$layers, 1)
  expect_identical(layer_of(model, 1)$groups, 3L)
})

test_that("an empty Sequential model can begin with the layer", {
  keras <- keras_module()
  model <- keras$Sequential() |>
    layer_group_normalization(groups = 3, input_shape = c(NA, 6), batch_size = 5)
  expect_identical(model$input_shape, list(5L, NULL, 6L))
})

test_that("both pipes work, and models grow in reading order", {
  keras <- keras_module()
  `%>%` <- magrittr::`%>%`
  native <- keras$Sequential(list(keras$Input(c(4L, 6L)))) |>
    layer_group_normalization(3, name = "first") |>
    layer_instance_normalization(name = "second")
  magrittr <- keras$Sequential(list(keras$Input(c(4L, 6L)))) %>%
    layer_group_normalization(3, name = "first") %>%
    layer_instance_normalization(name = "second")
  for (model in list(native, magrittr)) {
    expect_identical(
      vapply(model$layers, function(layer) layer$name, ""), c("first", "second")
    )
  }
})

test_that("tensors and arrays give the output tensor", {
  keras <- keras_module()
  x <- array(rnorm(48), c(2, 4, 6))
  expected <- reference(x, 3)
  tensor <- keras$ops$convert_to_tensor(x)
  numpy <- reticulate::np_array(x)
  for (value in list(x, tensor, numpy)) {
    y <- layer_group_normalization(value, 3)
    expect_equal(as_array(y), expected, tolerance = 1e-6)
  }
  matrix <- matrix(rnorm(12), 2)
  expect_equal(
    as_array(layer_group_normalization(matrix, 3)), reference(matrix, 3),
    tolerance = 1e-6
  )

  symbolic <- layer_group_normalization(keras$Input(c(4L, 6L)), 3)
  expect_true(keras$utils$is_keras_tensor(symbolic))
  expect_identical(symbolic$shape, list(NULL, 4L, 6L))
})

test_that("integer and logical arrays are taken as numbers", {
  skip_without_python()
  for (values in list(sample.int(9, 48, replace = TRUE), rnorm(48) > 0)) {
    x <- array(values, c(2, 4, 6))
    y <- layer_group_normalization(x, 3)
    expect_equal(as_array(y), reference(x, 3), tolerance = 1e-6)
  }
})

test_that("a functional model and a layer that was called once pass their output on", {
  keras <- keras_module()
  input <- keras$Input(c(4L, 6L))
  dense <- keras$layers$Dense(8L)
  model <- keras$Model(input, dense(input))
  for (object in list(model, dense)) {
    output <- layer_group_normalization(object, groups = 4)
    expect_true(keras$utils$is_keras_tensor(output))
    x <- array(rnorm(48), c(2, 4, 6))
    expect_equal(
      as_array(keras$Model(input, output)(x)), reference(as_array(model(x)), 4),
      tolerance = 1e-5
    )
  }
})

test_that("anything else is an error that lists what is accepted", {
  keras <- keras_module()
  input <- keras$Input(c(4L, 6L))
  twice <- keras$layers$Dense(8L)
  two_outputs <- keras$Model(input, list(twice(input), twice(input)))
  objects <- list(
    "model", 1, 1:3, list(1), TRUE, NA, mean, quote(x), y ~ x, new.env(), mtcars,
    factor("a"), array("a", c(1, 1)), 1i,
    keras, keras$layers$Dense, keras$layers$Dense(2L), twice, two_outputs,
    keras$optimizers$Adam(), reticulate::dict(a = 1)
  )
  for (object in objects) {
    error <- expect_error(layer_group_normalization(object), class = "groupnorm_error")
    expect_match(conditionMessage(error), "`object`", fixed = TRUE)
    expect_match(conditionMessage(error), "a layer that was called exactly once")
  }
  expect_error(layer_group_normalization(array(1:3)), "rank 2 or more")
})

test_that("a Python object of another session is an error that says so", {
  keras <- keras_module()
  file <- withr::local_tempfile()
  for (object in list(keras$Sequential(), keras$initializers$Ones())) {
    saveRDS(object, file)
    dead <- readRDS(file)
    expect_error(layer_group_normalization(dead), "`object`.*another R session")
    expect_error(
      layer_group_normalization(gamma_initializer = dead),
      "`gamma_initializer`.*another R session"
    )
  }
})

test_that("an error in what is piped in is reported as it is", {
  error <- tryCatch(
    stop("no such model") |> layer_group_normalization(),
    error = function(e) e
  )
  expect_identical(conditionMessage(error), "no such model")
  expect_false(inherits(error, "groupnorm_error"))
})

test_that("a layer and an output print what they are", {
  keras <- keras_module()
  print_of <- function(x) paste(utils::capture.output(print(x)), collapse = "\n")
  layer <- layer_group_normalization(groups = 3, name = "mine")
  start <- "<GroupNormalization name=mine, groups=3, axis=-1"
  expect_match(print_of(layer), paste0(start, ", built=False>"), fixed = TRUE)
  symbolic <- layer(keras$Input(c(4L, 6L)))
  computing <- groupnorm_config()$implementation$name
  built <- sprintf("%s, channels=6, computed_by=%s>", start, computing)
  for (shown in list(print_of(layer), format(layer))) {
    expect_match(shown, built, fixed = TRUE)
  }
  expect_match(print_of(symbolic), "shape=\\(None, 4, 6\\), dtype=float32.*name=mine")
  values <- layer_group_normalization(array(1, c(2, 6)), groups = 3)
  expect_match(print_of(values), "shape=\\(2, 6\\), dtype=float32.*0[.], *0[.]")
})
