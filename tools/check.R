# R CMD check as CRAN does it, on the built package; any error, warning or note fails.
# Options of R CMD check may follow.

Sys.setenv(
  # There may be no network: neither CRAN nor a clock can be asked.
  `_R_CHECK_CRAN_INCOMING_REMOTE_` = "false",
  `_R_CHECK_SYSTEM_CLOCK_` = "0",
  # Where Python is found, loading TensorFlow alone takes longer than an example may,
  # and it uses all cores. Where CRAN runs the examples there is no Python.
  `_R_CHECK_EXAMPLE_TIMING_THRESHOLD_` = "60",
  `_R_CHECK_EXAMPLE_TIMING_CPU_TO_ELAPSED_THRESHOLD_` = "100",
  `_R_CHECK_TEST_TIMING_CPU_TO_ELAPSED_THRESHOLD_` = "100"
)

# The kernel takes a while to compile: for the check, not for the vignettes before it.
Sys.setenv(GROUPNORM_KERNEL = "0")

rcmdcheck::rcmdcheck(
  file.path(".check", "source"),
  args = c("--as-cran", "--no-manual", commandArgs(trailingOnly = TRUE)),
  build_args = "--no-manual",
  check_dir = ".check",
  env = c(GROUPNORM_KERNEL = "1"),
  error_on = "note"
)
