# The native kernel, as R sees it: installed with the package, if there is a compiler.

test_that("groupnorm_config() says what computes, and why", {
  skip_without_python()
  withr::local_envvar(GROUPNORM_NATIVE = "0")
  reticulate::py_run_string("import os; os.environ['GROUPNORM_NATIVE'] = '0'")
  withr::defer(reticulate::py_run_string("del os.environ['GROUPNORM_NATIVE']"))
  config <- groupnorm_config()
  expect_identical(config$implementation$name, "tensorflow")
  expect_match(config$implementation$reason, "GROUPNORM_NATIVE=0")
  expect_output(print(config), "computing: tensorflow")
})

test_that("the installed package computes natively", {
  skip_without_python()
  config <- groupnorm_config()
  library <- file.path(config$location, "op", "native", "groupnorm_ops.so")
  skip_if_not(nzchar(Sys.which("c++")), "there is no C++ compiler")
  expect_true(file.exists(library))
  expect_identical(config$implementation$name, "native")
  expect_identical(config$implementation$reason, paste("loaded from", library))
  x <- array(rnorm(48), c(2, 4, 6))
  expect_equal(
    as_array(layer_group_normalization(x, 3)), reference(x, 3),
    tolerance = 1e-6
  )
})
