# Carries the Python code into the R package: python/ has it, for both packages, and R
# installs what is below inst/. Run anew whenever the package is built or installed from
# a checkout (by configure and cleanup, and by pkgbuild), so that the copy is never older
# than its source. A package that was built has the copy only.

from <- file.path("python", "groupnorm")
to <- file.path("inst", "python", "groupnorm")
files <- list.files(from, "\\.(py|typed|cc|h|inc|sh)$", recursive = TRUE)
unlink(dirname(to), recursive = TRUE)
for (folder in unique(dirname(file.path(to, files)))) {
  dir.create(folder, recursive = TRUE)
}
copied <- file.copy(file.path(from, files), file.path(to, files), copy.date = TRUE)
stopifnot("the Python code could not be copied" = length(files) > 0 && all(copied))
