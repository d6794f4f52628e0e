# Models with the layer leave the house, each by one call of Keras's own. That what is
# written needs neither this package nor its kernel is proved in tests/python.

# A model with weights that are not those of a fresh one, an input, and its output.
model_to_export <- function(keras) {
  keras$utils$set_random_seed(1L)
  model <- keras$Sequential(list(keras$Input(c(6L, 7L, 8L)))) |>
    layer_group_normalization(
      groups = 4,
      gamma_initializer = keras$initializers$RandomNormal(1),
      beta_initializer = keras$initializers$RandomNormal(1)
    )
  x <- array(rnorm(3 * 6 * 7 * 8, mean = 2), c(3, 6, 7, 8))
  list(model = model, x = x, y = as_array(model$predict(x, verbose = 0L)))
}

skip_without_format <- function(keras, format) {
  formats <- keras$Model$export$`__doc__`
  skip_if_not(
    grepl(paste0('"', format, '"'), formats, fixed = TRUE),
    paste("Keras", keras$`__version__`, "does not export to", format)
  )
}

float32 <- function(x) reticulate::import("numpy", convert = FALSE)$array(x, "float32")

test_that("a SavedModel computes the same", {
  keras <- keras_module()
  given <- model_to_export(keras)
  folder <- withr::local_tempfile()
  given$model$export(folder, verbose = FALSE)
  served <- reticulate::import("tensorflow")$saved_model$load(folder)
  expect_equal(as_array(served$serve(float32(given$x))), given$y, tolerance = 1e-6)
  weights <- lapply(layer_of(given$model, 1)$weights, as_array)
  expect_equal(
    given$y, reference(given$x, 4, gamma = weights[[1]], beta = weights[[2]]),
    tolerance = 1e-6
  )
})

test_that("TensorFlow Lite computes the same", {
  keras <- keras_module()
  skip_without_format(keras, "litert")
  given <- model_to_export(keras)
  file <- withr::local_tempfile(fileext = ".tflite")
  given$model$export(file, format = "litert", verbose = FALSE)
  lite <- reticulate::import("tensorflow")$lite$Interpreter(file)
  input <- lite$get_input_details()[[1]]$index
  lite$resize_tensor_input(input, dim(given$x))
  lite$allocate_tensors()
  lite$set_tensor(input, float32(given$x))
  lite$invoke()
  y <- lite$get_tensor(lite$get_output_details()[[1]]$index)
  expect_equal(as_array(y), given$y, tolerance = 1e-6)
})

test_that("ONNX computes the same", {
  keras <- keras_module()
  skip_without_format(keras, "onnx")
  for (module in c("onnx", "onnxruntime", "tf2onnx")) {
    skip_if_not(
      reticulate::py_module_available(module),
      paste(module, "is not installed: make peers")
    )
  }
  given <- model_to_export(keras)
  file <- withr::local_tempfile(fileext = ".onnx")
  given$model$export(file, format = "onnx", verbose = FALSE)
  reticulate::import("onnx")$checker$check_model(file, full_check = TRUE)
  session <- reticulate::import("onnxruntime")$InferenceSession(file)
  x <- reticulate::py_dict(session$get_inputs()[[1]]$name, list(float32(given$x)))
  expect_equal(as_array(session$run(NULL, x)[[1]]), given$y, tolerance = 1e-6)
})
