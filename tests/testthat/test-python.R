# How Python is found, and what happens when something is missing: in processes of their
# own, because Python cannot be unloaded.

# A Python with nothing installed, to which a test adds what it wants to be there.
bare_python <- function(envir = parent.frame()) {
  python <- reticulate::py_config()$python
  folder <- withr::local_tempdir(.local_envir = envir)
  status <- system2(python, c("-m", "venv", "--without-pip", shQuote(folder)))
  skip_if_not(status == 0, "a virtual environment cannot be made")
  file.path(folder, "bin", "python")
}

site_packages <- function(python) {
  code <- "import sysconfig; print(sysconfig.get_path('purelib'))"
  system2(python, c("-c", shQuote(code)), stdout = TRUE)
}

# What the current Python has installed, for another one.
lend_packages <- function(python, except = character()) {
  packages <- dirname(dirname(reticulate::import("keras")$`__file__`))
  target <- site_packages(python)
  for (file in setdiff(list.files(packages), c("_virtualenv.pth", except))) {
    file.symlink(file.path(packages, file), file.path(target, file))
  }
}

test_that("attaching the package does not start Python", {
  skip_without_python()
  output <- in_child({
    library(groupnorm)
    cat("started:", reticulate::py_available(), "\n")
    invisible(layer_group_normalization())
    cat("started:", reticulate::py_available(), "\n")
  })
  expect_identical(
    grep("^started", output, value = TRUE), c("started: FALSE ", "started: TRUE ")
  )
})

test_that("groupnorm_config() describes a usable Python", {
  skip_without_python()
  config <- groupnorm_config()
  expect_s3_class(config, "groupnorm_config")
  expect_null(config$problem)
  expect_identical(config$python, reticulate::py_config()$python)
  expect_identical(config$backend, "tensorflow")
  expect_named(
    config$versions,
    c("groupnorm", "Python", "TensorFlow", "Keras", "tf_keras", "NumPy")
  )
  expect_identical(
    config$versions[["Keras"]], reticulate::import("keras")$`__version__`
  )
  expect_output(print(config), "usable: +yes")
})

test_that("both packages have one version", {
  skip_without_python()
  expect_identical(
    reticulate::import("groupnorm")$`__version__`,
    as.character(utils::packageVersion("groupnorm"))
  )
})

test_that("without Keras the error says what to do", {
  skip_without_python()
  python <- bare_python()
  output <- in_child(
    {
      library(groupnorm)
      print(groupnorm_config())
      layer_group_normalization()
    },
    c(RETICULATE_PYTHON = python)
  )
  expect_identical(attr(output, "status"), 1L)
  expect_match(output, "usable: +no", all = FALSE)
  expect_match(output, "needs Keras 3\\.3 or later, .* found neither", all = FALSE)
  expect_match(output, "install_groupnorm\\(\\)", all = FALSE)
})

test_that("without TensorFlow the error says what to do", {
  skip_without_python()
  python <- bare_python()
  lend_packages(python, except = "tensorflow")
  output <- in_child(
    {
      library(groupnorm)
      layer_group_normalization()
    },
    c(RETICULATE_PYTHON = python)
  )
  expect_identical(attr(output, "status"), 1L)
  expect_match(output, "No module named 'tensorflow'", all = FALSE)
  expect_match(output, "install_groupnorm\\(\\)", all = FALSE)
})

test_that("without Python the error says what to do", {
  output <- in_child(
    {
      library(groupnorm)
      cat("usable:", groupnorm_config()$usable, "\n")
      layer_group_normalization()
    },
    c(RETICULATE_PYTHON = "/no/such/python")
  )
  expect_identical(attr(output, "status"), 1L)
  expect_match(output, "usable: FALSE", all = FALSE)
  expect_match(output, "install_groupnorm\\(\\)", all = FALSE)
})

test_that("on another Keras backend the error is one clear sentence", {
  skip_without_python()
  skip_if_not(
    reticulate::py_module_available("torch"),
    "torch, another backend of Keras, is not installed: make peers"
  )
  output <- in_child(
    {
      library(groupnorm)
      cat("usable:", groupnorm_config()$usable, "\n")
      layer_group_normalization()
    },
    c(KERAS_BACKEND = "torch")
  )
  expect_identical(attr(output, "status"), 1L)
  expect_match(output, "usable: FALSE", all = FALSE)
  expect_match(paste(output, collapse = " "), "with TensorFlow.*'torch' backend")
})

test_that("reticulate is told what is needed, where it wants to know", {
  skip_if_not(
    "py_require" %in% getNamespaceExports("reticulate"),
    "this version of reticulate has no py_require()"
  )
  required <- getExportedValue("reticulate", "py_require")()$packages
  expect_true(all(c("tensorflow>=2.16", "keras>=3.3") %in% required))
})

test_that("install_groupnorm() asks for what the layers need", {
  asked <- NULL
  install <- reticulate::py_install
  withr::defer(utils::assignInNamespace("py_install", install, "reticulate"))
  utils::assignInNamespace(
    "py_install", function(packages, ...) asked <<- list(packages, ...), "reticulate"
  )
  expect_invisible(install_groupnorm("my-env", "tensorflow-cpu", method = "virtualenv"))
  expect_identical(asked$envname, "my-env")
  expect_identical(asked$method, "virtualenv")
  expect_true(all(c("tensorflow-cpu>=2.16", "keras>=3.3") %in% asked[[1]]))
  expect_error(install_groupnorm(tensorflow = "torch"), "should be one of")
})
