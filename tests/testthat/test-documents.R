# The code that README, articles and help pages show: it is run, as it stands there.

# --- Reading documents ----------------------------------------------------------------

repository_file <- function(...) {
  file <- test_path("..", "..", ...)
  skip_if_not(file.exists(file), "the documents are not here, but in the repository")
  normalizePath(file)
}

articles <- function() {
  list.files(repository_file("vignettes"), "[.]Rmd$", full.names = TRUE)
}

# Fenced blocks, those of ```r and of ```{r label, options}: `head` is what follows the
# fence, `code` the lines.
blocks <- function(file) {
  lines <- readLines(file)
  fences <- grep("^ *```", lines)
  starts <- fences[c(TRUE, FALSE)]
  ends <- fences[c(FALSE, TRUE)]
  stopifnot(length(starts) == length(ends))
  Map(function(start, end) {
    list(
      head = sub("^ *```", "", lines[start]),
      code = lines[seq_len(end - start - 1) + start]
    )
  }, starts, ends)
}

r_blocks <- function(file) {
  Filter(function(block) grepl("^[{]?r\\b", block$head), blocks(file))
}

# Those that attach keras3 run where it is, in a process of their own.
uses_keras3 <- function(block) any(grepl("^library\\(keras3\\)", block$code))

run_code <- function(code, envir) {
  withr::local_pdf(NULL)
  for (expression in parse(text = code)) eval(expression, envir)
}

# In an R process of its own.
expect_lines_run <- function(lines) {
  code <- as.call(c(quote(`{`), as.list(parse(text = lines))))
  eval(bquote(expect_runs(.(code))))
}

# Articles are knit as they are when the package is built; an error stops.
run_article <- function(name) {
  skip_if_not_installed("knitr")
  skip_if_not_installed("ggplot2")
  skip_without_python()
  file <- repository_file("vignettes", paste0(name, ".Rmd"))
  options <- knitr::opts_chunk$get()
  withr::defer(knitr::opts_chunk$restore(options))
  folder <- withr::local_tempdir()
  knitr::opts_chunk$set(error = FALSE, fig.path = file.path(folder, "figure-"))
  envir <- new.env(parent = globalenv())
  output <- knitr::knit(file, file.path(folder, "out.md"), envir = envir, quiet = TRUE)
  list(values = envir, text = readLines(output))
}

# --- What is run ----------------------------------------------------------------------

test_that("README: the R code runs", {
  file <- repository_file("README.md")
  keras_module()
  envir <- new.env(parent = globalenv())
  own <- Filter(Negate(uses_keras3), r_blocks(file))
  for (block in own) run_code(block$code, envir)
  expect_identical(envir$model$count_params(), 32L * 9L + 2L * 32L + 33L * 10L)
})

test_that("the article for a start trains, saves and loads", {
  values <- run_article("get-started")$values
  right <- values$predicted == values$labels[-values$train]
  expect_gt(mean(right), 0.95)
  again <- values$again$predict(
    values$images[-values$train, , , , drop = FALSE],
    verbose = 0L
  )
  expect_identical(again, values$probability)
})

test_that("the article for a start in Python does the same", {
  text <- run_article("get-started-python")$text
  accuracy <- as.numeric(sub("## ", "", grep("^## 0[.]9[0-9]+$", text, value = TRUE)))
  expect_length(accuracy, 1)
  expect_gt(accuracy, 0.95)
  expect_true("## True" %in% text) # what was loaded predicts the same
})

test_that("the pictures of shared statistics are what the layers do", {
  values <- run_article("how-it-works")$values
  stored <- utils::read.csv(repository_file("vignettes/data/shared_statistics.csv"))
  found <- values$shared
  found$normalization <- as.character(found$normalization)
  expect_equal(found, stored, ignore_attr = TRUE)
  # Independently of the layers: what each of them must share.
  position <- stored[c("sample", "channel")]
  half <- position$channel > 4
  expected <- list(
    batch = position$channel, layer = position$sample,
    instance = interaction(position$sample, position$channel),
    `group (groups = 2)` = interaction(position$sample, half)
  )
  for (name in names(expected)) {
    own <- stored$normalization == name
    pairs <- unique(data.frame(stored$set[own], expected[[name]][own]))
    expect_identical(anyDuplicated(pairs[[1]]), 0L, info = name)
    expect_identical(anyDuplicated(pairs[[2]]), 0L, info = name)
  }
  expect_lt(max(abs(values$masked[, 1:3, ] - values$alone)), 1e-6)
  expect_gt(max(abs(values$with_padding[, 1:3, ] - values$alone)), 0.1)
})

test_that("the article on deployment: what it exports, runs", {
  keras_module()
  code <- lapply(r_blocks(repository_file("vignettes/deploying.Rmd")), `[[`, "code")
  mentions <- function(word) grepl(word, vapply(code, paste, "", collapse = "\n"))
  expect_true(any(mentions("litert")) && any(mentions("GPU")))
  has_onnx <- all(vapply(
    c("tf2onnx", "onnx", "onnxruntime"), reticulate::py_module_available, NA
  ))
  code <- code[!mentions(if (has_onnx) "knitr" else "knitr|onnx")]
  # They are there: nothing is installed by a test.
  code <- lapply(code, function(lines) lines[!grepl("py_install", lines)])
  # There need not be two GPUs here.
  two <- 'c("GPU:0", "GPU:1")'
  one <- 'list("CPU:0")'
  code <- lapply(code, function(lines) sub(two, one, lines, fixed = TRUE))
  withr::local_dir(withr::local_tempdir())
  envir <- new.env(parent = globalenv())
  unheard(for (lines in code[-length(code)]) run_code(lines, envir))
  one_model <- as_array(envir$model(envir$x))
  expect_equal(as_array(envir$served$serve(envir$x)), one_model, tolerance = 1e-5)
  output <- envir$lite$get_tensor(envir$lite$get_output_details()[[1]]$index)
  expect_equal(as_array(output), one_model, tolerance = 1e-5)
  unheard(run_code(code[[length(code)]], envir))
  expect_identical(envir$model$input_shape[[2]], 8L)
  skip_if_not(has_onnx, "tf2onnx, onnx or onnxruntime is not installed: make peers")
  output <- envir$session$run(NULL, reticulate::py_dict(envir$name, list(envir$x)))
  expect_equal(as_array(output[[1]]), one_model, tolerance = 1e-5)
})

test_that("all other articles run", {
  known <- c("get-started", "get-started-python", "how-it-works")
  others <- setdiff(sub("[.]Rmd$", "", basename(articles())), known)
  expect_true("batch-size" %in% others)
  for (name in others) expect_no_error(run_article(name), message = name)
})

test_that("help pages: the examples run", {
  skip_without_python()
  pages <- tools::Rd_db("groupnorm")
  expect_gt(length(pages), 4)
  for (name in names(pages)) {
    file <- withr::local_tempfile()
    tools::Rd2ex(pages[[name]], file)
    if (file.exists(file)) {
      utils::capture.output(run_code(readLines(file), new.env(parent = globalenv())))
    }
  }
  succeed()
})

# --- What another R package is needed for ---------------------------------------------

test_that("keras3: the code of README, article and help page runs", {
  skip_without_python()
  skip_without_package("keras3")
  # Parameters of the model that each of them makes.
  documents <- c("README.md" = 682, "vignettes/get-started.Rmd" = 19562)
  for (document in names(documents)) {
    block <- Filter(uses_keras3, r_blocks(repository_file(document)))
    expect_length(block, 1)
    count <- sprintf("stopifnot(count_params(model) == %d)", documents[[document]])
    expect_lines_run(c(block[[1]]$code, count))
  }

  example <- withr::local_tempfile()
  page <- tools::Rd_db("groupnorm")[["layer_group_normalization.Rd"]]
  tools::Rd2ex(page, example, commentDontrun = FALSE)
  expect_lines_run(c("library(groupnorm)", readLines(example)))
})

test_that("the article on moving: a script with its one line changed, and files", {
  skip_without_tf_keras()
  chunks <- r_blocks(repository_file("vignettes/migrating.Rmd"))
  code <- vapply(chunks, function(chunk) paste(chunk$code, collapse = "\n"), "")
  before <- grep("library(tfaddons)", code, fixed = TRUE, value = TRUE)
  files <- grep("load_model\\(.(old|new)", code, value = TRUE) # not the CycleGAN's
  expect_length(before, 1)
  expect_length(files, 2)
  if (nzchar(system.file(package = "keras"))) {
    expect_lines_run(c(
      sub("library(tfaddons)", "library(groupnorm)", before, fixed = TRUE),
      "stopifnot(inherits(model$layers[[2]], 'groupnorm.legacy.GroupNormalization'))"
    ))
  }
  skip_without_package("keras3")
  saved <- addons_file("tfa_convnet.h5")
  withr::local_dir(withr::local_tempdir())
  file.copy(saved, "old.h5")
  expect_lines_run(files)
  expect_true(file.exists("new.keras"))
})

# --- What is only shown ---------------------------------------------------------------

# Calls of this package's functions, wherever they are in an expression.
calls_of <- function(expression, names) {
  if (!is.call(expression)) {
    return(list())
  }
  head <- expression[[1]]
  name <- if (is.call(head) && length(head) == 3) head[[3]] else head
  own <- if (is.name(name) && as.character(name) %in% names) list(expression)
  c(own, do.call(c, lapply(as.list(expression), calls_of, names)))
}

test_that("code that is only shown parses, and calls what is there", {
  exported <- getNamespaceExports("groupnorm")
  files <- c(repository_file("README.md"), articles())
  shown <- unlist(lapply(files, function(file) {
    lapply(r_blocks(file), `[[`, "code")
  }), recursive = FALSE)
  examples <- lapply(tools::Rd_db("groupnorm"), function(page) {
    file <- withr::local_tempfile()
    tools::Rd2ex(page, file, commentDontrun = FALSE)
    if (file.exists(file)) readLines(file)
  })
  calls <- lapply(c(shown, examples), function(code) {
    do.call(c, lapply(parse(text = code), calls_of, exported))
  })
  calls <- do.call(c, calls)
  expect_gt(length(calls), 20)
  for (call in calls) {
    name <- if (is.call(call[[1]])) call[[1]][[3]] else call[[1]]
    definition <- getExportedValue("groupnorm", as.character(name))
    expect_no_error(match.call(definition, call), message = deparse(call)[1])
  }
})

test_that("every make target that a document names is in the Makefile", {
  makefile <- readLines(repository_file("Makefile"))
  documents <- c("README.md", "CONTRIBUTING.md", "experiments/README.md")
  text <- unlist(lapply(documents, function(name) readLines(repository_file(name))))
  named <- regmatches(text, gregexpr("(^|`)make [a-z][a-z-]*", text))
  targets <- unique(sub(".*make ", "", unlist(named)))
  expect_gt(length(targets), 5)
  for (target in targets) {
    expect_true(any(startsWith(makefile, paste0(target, ":"))), info = target)
  }
})
