# lintr on all R code; any lint fails.

lints <- c(
  lintr::lint_package(),
  lintr::lint_dir("inst/examples"),
  lintr::lint_dir("experiments"),
  lintr::lint_dir("tools")
)
print(lints)
quit(status = length(lints) > 0)
