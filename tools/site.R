# The site, in site/: pkgdown's pages of the R package, and pdoc's of the Python package
# beside them. Needs no network.

options(pkgdown.internet = FALSE)
# For links to packages that are not installed, downlit would read all of CRAN.
no_packages <- data.frame(Package = character(), URL = character())
utils::assignInNamespace("CRAN_urls", function() no_packages, "downlit")
folder <- "site"
unlink(folder, recursive = TRUE)
pkgdown::build_site(
  override = list(destination = folder),
  preview = FALSE, devel = FALSE, new_process = FALSE, install = FALSE
)
status <- system2(
  "python", c("tools/python_api.py", file.path(folder, "python"))
)
stopifnot("the Python pages were not written" = status == 0)
cat("Open ", file.path(folder, "index.html"), "\n", sep = "")
