# Sessions that are interrupted, restarted, forked: in R processes of their own.

# A model, data and training; in a string, because several processes need the same.
script <- '
  library(groupnorm)
  keras <- reticulate::import("keras")
  np <- reticulate::import("numpy", convert = FALSE)
  keras$utils$set_random_seed(1L)
  x <- np$random$default_rng(2L)$normal(size = reticulate::tuple(64L, 5L, 8L))
  y <- np$random$default_rng(3L)$normal(size = reticulate::tuple(64L, 1L))
  new_model <- function() {
    model <- keras$Sequential(list(keras$Input(c(5L, 8L)), keras$layers$Dense(8L))) |>
      layer_group_normalization(4, gamma_regularizer = "l2") |>
      layer_instance_normalization()
    model$add(keras$layers$Flatten())
    model$add(keras$layers$Dense(1L))
    model$compile(keras$optimizers$Adam(0.01), "mse")
    model
  }
  train <- function(model, epochs) {
    model$fit(x, y, batch_size = 16L, epochs = epochs, shuffle = FALSE, verbose = 0L)
  }
  load <- function(file) {
    layer_group_normalization() # from here on Keras knows the layers
    keras$models$load_model(file)
  }
  state <- function(model) {
    variables <- c(model$weights, model$optimizer$variables)
    lapply(variables, function(v) reticulate::py_to_r(np$asarray(v)))
  }
'

# Starts an R process with this script before its own, without waiting for it.
start_script <- function(code, envir = parent.frame()) {
  file <- withr::local_tempfile(fileext = ".R", .local_envir = envir)
  output <- withr::local_tempfile(.local_envir = envir)
  writeLines(c(script, code), file)
  withr::local_envvar(R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep))
  # A shell starts what it does not wait for with interrupts ignored.
  command <- paste(
    "env --default-signal=INT", shQuote(file.path(R.home("bin"), "Rscript")),
    "--vanilla", shQuote(file), ">", shQuote(output), "2>&1 & echo $!"
  )
  list(pid = as.integer(system(command, intern = TRUE)), output = output)
}

printed <- function(process) {
  if (file.exists(process$output)) readLines(process$output, warn = FALSE)
}

skip_without_env <- function() {
  skip_without_python()
  status <- suppressWarnings(
    system2("env", c("--default-signal=INT", "true"), stdout = FALSE, stderr = FALSE)
  )
  skip_if_not(status == 0, "env(1) here cannot start a process that can be interrupted")
}

# Waits until it has printed this line; stops after a time.
wait_for <- function(process, line, seconds = 120) {
  end <- Sys.time() + seconds
  while (!any(printed(process) == line)) {
    if (Sys.time() > end) {
      tools::pskill(process$pid, tools::SIGKILL)
      stop("\"", line, "\" did not come. Printed: ", toString(printed(process)))
    }
    Sys.sleep(0.1)
  }
}

run_script <- function(code, done = "done", seconds = 120) {
  process <- start_script(c(code, sprintf("cat('%s\\n')", done)))
  wait_for(process, done, seconds)
  printed(process)
}

test_that("fit() can be interrupted, and the session goes on", {
  skip_without_env()
  process <- start_script('
    model <- new_model()
    train(model, 1L)
    begun <- keras$callbacks$LambdaCallback(on_epoch_end = function(epoch, logs) {
      if (epoch == 2) cat("training\n")
    })
    outcome <- tryCatch(
      {
        model$fit(x, y, epochs = 1000000L, verbose = 0L, callbacks = list(begun))
        "finished"
      },
      interrupt = function(e) "interrupted",
      error = function(e) conditionMessage(e)
    )
    cat("outcome:", outcome, "\n")
    # The model, and new ones, work as before.
    stopifnot(all(is.finite(unlist(state(model)))))
    loss <- train(model, 3L)$history$loss
    stopifnot(length(loss) == 3, is.finite(unlist(loss)))
    stopifnot(dim(model$predict(x, verbose = 0L)) == c(64, 1))
    count <- length(model$layers)
    layer_group_normalization(new_model(), groups = 1)
    stopifnot(length(model$layers) == count)
    cat("usable\n")
  ')
  wait_for(process, "training")
  tools::pskill(process$pid, tools::SIGINT)
  wait_for(process, "usable")
  outcome <- grep("^outcome:", printed(process), value = TRUE)
  expect_match(outcome, "interrupted|KeyboardInterrupt")
})

test_that("training goes on after a restart as without one", {
  skip_without_env()
  folder <- withr::local_tempdir()
  at <- function(name) deparse(file.path(folder, name))
  run_script(sprintf(
    "model <- new_model(); train(model, 2L); model$save(%s)
     train(model, 3L); saveRDS(state(model), %s)", at("model.keras"), at("without.rds")
  ))
  run_script(sprintf(
    "model <- load(%s); train(model, 3L)
     saveRDS(state(model), %s)", at("model.keras"), at("with.rds")
  ))
  # And without the optimizer it would not be the same.
  run_script(sprintf(
    'model <- load(%s)
     model$compile(keras$optimizers$Adam(0.01), "mse"); train(model, 3L)
     saveRDS(state(model), %s)', at("model.keras"), at("anew.rds")
  ))
  states <- lapply(file.path(folder, c("without.rds", "with.rds", "anew.rds")), readRDS)
  expect_gt(length(states[[1]]), 20)
  expect_identical(states[[2]], states[[1]])
  expect_false(identical(states[[3]][1:2], states[[1]][1:2]))
})

test_that("objects of a session that has ended are named in the error", {
  skip_without_env()
  file <- withr::local_tempfile()
  run_script(sprintf(
    "saveRDS(list(new_model(), layer_group_normalization(), keras$Input(c(5L, 8L)),
       keras$ops$ones(c(2L, 4L))), %s)", deparse(file)
  ))
  objects <- readRDS(file)
  expect_length(objects, 4)
  for (object in objects) {
    for (f in list(layer_group_normalization, layer_instance_normalization)) {
      expect_error(f(object), "`object`.*another R session", class = "groupnorm_error")
    }
  }
})

test_that("a forked process computes, after TensorFlow has started", {
  skip_without_env()
  kernel <- groupnorm_config()$implementation
  skip_if_not(
    kernel$name == "native",
    paste("TensorFlow's own threads are not in a forked process, and", kernel$reason)
  )
  output <- run_script('
    layer <- layer_group_normalization(groups = 4)
    x <- array(rnorm(2 * 100 * 50 * 8), c(2, 100, 50, 8))
    result <- function() reticulate::py_to_r(np$asarray(layer(x)))
    expected <- result()
    found <- parallel::mclapply(1:4, function(i) result(), mc.cores = 2)
    cat("same:", vapply(found, identical, NA, expected), "\n")
    cat("afterwards:", identical(result(), expected), "\n")
  ')
  expect_true("same: TRUE TRUE TRUE TRUE " %in% output)
  expect_true("afterwards: TRUE " %in% output)
})
