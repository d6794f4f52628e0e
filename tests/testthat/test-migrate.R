# migrate_model(): what R adds to it. What it does to models is tested in Python.

test_that("an old file becomes one of Keras 3 that predicts the same", {
  skip_without_tf_keras()
  keras <- keras_module()
  for (old in c("tfa_convnet.h5", "tfa_convnet.keras", "tfa_dense_sequential.h5")) {
    old <- addons_file(old)
    before <- tools::md5sum(old)
    new <- withr::local_tempfile(fileext = ".keras")
    printed <- capture.output(result <- withVisible(migrate_model(old, new)))

    expect_false(result$visible)
    expect_match(printed, "^  group_normalization.*:$", all = FALSE)
    expect_match(printed, "predict the same on random input", all = FALSE)
    expect_s3_class(result$value, "groupnorm_migration")
    expect_identical(capture.output(print(result$value)), printed)
    expect_true(result$value$written)
    expect_lt(result$value$largest_difference, 1e-5)
    expect_match(names(result$value$changes), "^group_normalization", all = FALSE)

    example <- addons_example(tools::file_path_sans_ext(basename(old)))
    y <- keras$models$load_model(new)$predict(example$x, verbose = 0L)
    expect_lt(max(abs(y - example$y)), 1e-5)
    expect_identical(tools::md5sum(old), before)
  }
})

test_that("without an output the report is all", {
  skip_without_tf_keras()
  old <- addons_file("generator.h5")
  folder <- withr::local_tempdir()
  withr::local_dir(folder)
  printed <- capture.output(report <- migrate_model(old, NULL))
  expect_match(printed[1], "nothing was written")
  expect_false(report$written)
  expect_null(report$output)
  expect_length(list.files(folder, all.files = TRUE, no.. = TRUE), 0)
})

test_that("Keras's own layers on request", {
  skip_without_tf_keras()
  new <- withr::local_tempfile(fileext = ".keras")
  capture.output(migrate_model(addons_file("tfa_convnet.h5"), new, layers = "keras"))
  model <- keras_module()$models$load_model(new)
  modules <- vapply(model$layers, function(layer) class(layer)[1], "")
  expect_no_match(modules, "groupnorm")
  expect_match(modules, "GroupNormalization", all = FALSE)
})

shift_layer <- function() {
  reticulate::py_run_string(shift_code("keras"), local = TRUE, convert = FALSE)$Shift
}

test_that("one's own classes, and functions of R, take the place of what is missing", {
  skip_without_tf_keras()
  folder <- withr::local_tempdir()
  old <- own_file(folder)
  new <- file.path(folder, "new.keras")
  expect_error(migrate_model(old, new), "list\\(double = double, Shift = Shift\\)")
  expect_identical(list.files(folder), "own.h5")

  shift <- shift_layer()
  ops <- reticulate::import("keras")$ops
  given <- list(Shift = shift, double = function(x) ops$multiply(x, 2))
  printed <- capture.output(
    report <- migrate_model(old, new, custom_objects = given)
  )
  expect_match(printed, "mine by itself", all = FALSE)
  expect_identical(unlist(report$needs), "Shift")
  load <- keras_module()$models$load_model
  model <- load(new, custom_objects = list(Shift = shift))
  y <- model$predict(matrix(1:6, 2), verbose = 0L)
  expect_equal(as_array(y), 2 * matrix(1:6, 2) + 3)
})

test_that("that goes for .keras files and SavedModel folders, too", {
  skip_without_tf_keras()
  folder <- withr::local_tempdir()
  ops <- reticulate::import("keras")$ops
  given <- list(Shift = shift_layer(), double = function(x) ops$multiply(x, 2))
  for (end in c(".keras", "")) {
    old <- own_file(folder, end)
    expect_error(migrate_model(old, NULL), "list\\(double = double, Shift = Shift\\)")
    printed <- capture.output(
      report <- migrate_model(old, NULL, custom_objects = given)
    )
    expect_match(printed[1], "nothing was written")
    expect_lt(report$largest_difference, 1e-5)
  }
})

test_that("a loss of R's own trains on as the author's did", {
  skip_without_tf_keras()
  old <- addons_file("gesture.h5", "tfaddons_others")
  data <- reticulate::import("numpy")$load(sub("h5$", "npz", old))
  new <- withr::local_tempfile(fileext = ".keras")
  ops <- reticulate::import("keras")$ops
  loss <- function(wanted, prediction) {
    error <- ops$subtract(prediction, wanted)
    weight <- ops$where(ops$greater(error, 0), 2, 1)
    ops$mean(ops$multiply(weight, ops$square(error)), axis = -1L)
  }
  given <- list(gesture_loss = loss)
  printed <- capture.output(migrate_model(old, new, custom_objects = given))
  expect_match(printed, "It is compiled with SGD", all = FALSE)
  model <- keras_module()$models$load_model(new, custom_objects = given)
  model$run_eagerly <- TRUE
  labels <- lapply(paste0("labels", 0:2), data$get)
  logs <- model$train_on_batch(data$get("x"), labels)
  expect_equal(unlist(logs)[1], as_array(data$get("logs"))[1], tolerance = 1e-5)
})

test_that("paths are those of R", {
  skip_without_tf_keras()
  folder <- withr::local_tempdir()
  file.copy(addons_file("tfa_dense_sequential.h5"), file.path(folder, "old.h5"))
  withr::local_dir(folder)
  capture.output(migrate_model("old.h5", "relative.keras"))
  expect_true(file.exists(file.path(folder, "relative.keras")))

  # R reads HOME when it starts, so a home of our own needs a process of its own.
  expect_runs(
    capture.output(groupnorm::migrate_model("~/old.h5", "~/home.keras")),
    c(HOME = folder)
  )
  expect_true(file.exists(file.path(folder, "home.keras")))
})

test_that("a file that is there is replaced only on request", {
  skip_without_tf_keras()
  old <- addons_file("tfa_dense_sequential.h5")
  new <- withr::local_tempfile(fileext = ".keras", lines = "mine")
  expect_error(migrate_model(old, new), "`output`.*`overwrite = TRUE`")
  expect_identical(readLines(new), "mine")
  capture.output(migrate_model(old, new, overwrite = TRUE))
  expect_gt(file.size(new), 1000)
})

test_that("a file that holds no model is an error, and nothing is written", {
  skip_without_tf_keras()
  folder <- withr::local_tempdir()
  old <- file.path(folder, "old.h5")
  writeLines("not a model", old)
  error <- expect_error(
    migrate_model(old, file.path(folder, "new.keras")), "old\\.h5",
    class = "groupnorm_error"
  )
  expect_identical(deparse(conditionCall(error)[[1]]), "migrate_model")
  expect_no_match(conditionMessage(error), "Traceback|py_last_error")
  expect_identical(list.files(folder, all.files = TRUE, no.. = TRUE), "old.h5")
})

test_that("without tf_keras the error says what is needed", {
  skip_without_python()
  found <- reticulate::import("importlib.util")$find_spec("tf_keras")
  skip_if_not(is.null(found), "tf_keras is installed")
  new <- withr::local_tempfile(fileext = ".keras")
  expect_error(
    migrate_model(addons_file("tfa_convnet.h5"), new), "needs tf_keras.*pip install"
  )
  expect_false(file.exists(new))
})

test_that("wrong arguments are named, before Python is asked", {
  old <- withr::local_tempfile(fileext = ".h5", lines = "")
  new <- withr::local_tempfile(fileext = ".keras")
  kept <- withr::local_tempfile(fileext = ".keras", lines = "")
  for (bad in list(1, NA_character_, c("a", "b"), "", character(), list("a"))) {
    expect_error(migrate_model(bad, new), "`input` must be .* one string")
    expect_error(migrate_model(old, bad), "`output` must be .* one string")
  }
  expect_error(migrate_model(NULL, new), "`input` must be .* one string")
  for (bad in list(1, list(1), list(a = 1, 2), "a")) {
    expect_error(
      migrate_model(old, new, custom_objects = bad), "`custom_objects` must be a named"
    )
  }
  for (bad in list(1, "torch", NULL, c("keras", "groupnorm"))) {
    expect_error(migrate_model(old, new, layers = bad), "`layers` must be")
  }
  for (bad in list(NA, NULL, "yes", 1, c(TRUE, FALSE))) {
    expect_error(migrate_model(old, new, bad), "`overwrite` must be TRUE or FALSE")
  }
  expect_error(migrate_model("no_such.h5", new), "`input`.*no file \"no_such.h5\"")
  expect_error(migrate_model(old, "new.h5"), "`output` must be .*\\.keras file")
  expect_error(migrate_model(old, "no/such/new.keras"), "`output`.*no folder")
  expect_error(migrate_model(kept, kept, TRUE), "another file than `input`")
  expect_error(migrate_model(old, kept), "`overwrite = TRUE`")
  error <- expect_error(migrate_model(old, "new.h5"), class = "groupnorm_error")
  expect_identical(conditionCall(error), quote(migrate_model(old, "new.h5")))
})
