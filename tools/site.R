# The site, in site/: pkgdown's pages of the R package, and pdoc's of the Python package
# beside them. What comes of it needs no network; site_local.R sees to that.

options(pkgdown.internet = FALSE)
# For links to packages that are not installed, downlit would read all of CRAN.
no_packages <- data.frame(Package = character(), URL = character())
utils::assignInNamespace("CRAN_urls", function() no_packages, "downlit")
folder <- "site"
unlink(folder, recursive = TRUE)
site <- pkgdown::as_pkgdown(override = list(destination = folder))
pkgdown::build_site(
  site,
  preview = FALSE, devel = FALSE, new_process = FALSE, install = FALSE
)

# The README links to these pages, which are not among those that pkgdown looks for.
dir.create(file.path(folder, "benchmarks", "results"), recursive = TRUE)
file.copy("benchmarks/results/figure.png", file.path(folder, "benchmarks", "results"))
for (name in c("README", "FINDINGS")) {
  lines <- readLines(file.path("benchmarks", paste0(name, ".md")))
  page <- tempfile(fileext = c(".md", ".html"))
  writeLines(lines[-1], page[1]) # but for its title
  rmarkdown::pandoc_convert(page[1], from = "gfm", to = "html", output = page[2])
  pkgdown::render_page(
    site, "title-body",
    data = list(
      pagetitle = sub("^# ", "", lines[1]),
      body = paste(readLines(page[2]), collapse = "\n")
    ),
    path = file.path("benchmarks", paste0(name, ".html")), depth = 1L
  )
}
status <- system2(
  "python", c("tools/python_api.py", file.path(folder, "python"))
)
stopifnot("the Python pages were not written" = status == 0)

# In a process of its own: R's OpenSSL crashes beside the one that TensorFlow brings.
status <- system2(file.path(R.home("bin"), "Rscript"), c("tools/site_local.R", folder))
stopifnot("the pages do not stand by themselves" = status == 0)
cat("Open ", file.path(folder, "index.html"), "\n", sep = "")
