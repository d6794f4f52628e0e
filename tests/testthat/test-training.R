# A network trained, saved, loaded and trained on, from R.

images_and_labels <- function() {
  digits <- as.matrix(utils::read.csv(
    system.file("extdata/digits.csv.gz", package = "groupnorm"),
    nrows = 300
  ))
  list(
    x = aperm(array(digits[, 1:64] / 16, c(300, 8, 8, 1)), c(1, 3, 2, 4)),
    y = array(as.integer(digits[, 65]))
  )
}

test_that("a network with the layers learns", {
  keras <- keras_module()
  keras$utils$set_random_seed(1L)
  data <- images_and_labels()
  model <- keras$Sequential(list(
    keras$Input(c(8L, 8L, 1L)), keras$layers$Conv2D(16L, 3L)
  )) |>
    layer_group_normalization(groups = 4)
  model$add(keras$layers$Activation("relu"))
  model$add(keras$layers$Flatten())
  model$add(keras$layers$Dense(10L))
  model$compile(
    keras$optimizers$Adam(0.01),
    keras$losses$SparseCategoricalCrossentropy(from_logits = TRUE),
    metrics = list("accuracy")
  )
  gamma <- as_array(layer_of(model, 2)$gamma)
  history <- model$fit(data$x, data$y, epochs = 5L, verbose = 0L)$history
  expect_lt(history$loss[[5]], history$loss[[1]] / 4)
  expect_gt(history$accuracy[[5]], 0.9)
  expect_false(isTRUE(all.equal(as_array(layer_of(model, 2)$gamma), gamma)))

  file <- withr::local_tempfile(fileext = ".keras")
  model$save(file)
  loaded <- keras$models$load_model(file)
  expect_identical(
    as_array(loaded$predict(data$x, verbose = 0L)),
    as_array(model$predict(data$x, verbose = 0L))
  )
})
