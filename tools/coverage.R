# Which lines of R/ are reached by the tests in which R is the main process. They run
# against a copy of the package that counts, in a library of its own.
tests <- sprintf(
  "testthat::test_dir('%s', package = 'groupnorm', load_package = 'installed',
     reporter = 'summary')",
  normalizePath("tests/testthat")
)
print(covr::package_coverage(type = "none", code = tests))
