# The tests in which R is the main process, against the installed package.

testthat::test_dir(
  "tests/testthat",
  package = "groupnorm", load_package = "installed",
  reporter = "check" # ends with the counts
)
