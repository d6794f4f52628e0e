# The native kernel, as R sees it.

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

test_that("build_kernel() builds the kernel and says that it is in use", {
  skip_without_python()
  compiler <- nzchar(Sys.which(c("c++", "g++", "clang++")))
  skip_if_not(any(compiler), "there is no C++ compiler")
  found <- build_kernel()
  expect_identical(found$name, "native")
  expect_match(found$reason, "loaded from")
  expect_identical(groupnorm_config()$implementation, found)
  x <- array(rnorm(48), c(2, 4, 6))
  expect_equal(
    as_array(layer_group_normalization(x, 3)), reference(x, 3),
    tolerance = 1e-6
  )
})

test_that("build_kernel() without a compiler is an error that says so", {
  skip_without_python()
  output <- in_child(
    {
      library(groupnorm)
      invisible(layer_group_normalization())
      reticulate::py_run_string("import os; os.environ.update(PATH='', CXX='')")
      build_kernel(force = TRUE)
    }
  )
  expect_identical(attr(output, "status"), 1L)
  expect_match(output, "needs a C\\+\\+ compiler", all = FALSE)
  expect_error(build_kernel(force = NA), "`force`")
})
