# The README's figures: those of the articles, from the same data. Needs no Python.

figure <- function(article, name, file, height) {
  values <- new.env()
  knitr::opts_chunk$set(fig.path = file.path(tempdir(), "figure-"), error = FALSE)
  knitr::knit(
    file.path("vignettes", paste0(article, ".Rmd")), tempfile(fileext = ".md"),
    envir = values, quiet = TRUE
  )
  ggplot2::ggsave(
    file.path("man", "figures", file), values[[name]],
    width = 7, height = height, dpi = 150, bg = "white"
  )
}

dir.create(file.path("man", "figures"), showWarnings = FALSE)
figure("which-normalization", "summary_figure", "when-it-pays.png", 3.8)
figure("batch-size", "error_figure", "batch-size.png", 3.6)
figure("how-it-works", "shared_figure", "shared-statistics.png", 4.4)
# What `make bench` drew: the site has no other folder to show it from.
invisible(file.copy(
  file.path("benchmarks", "results", "figure.png"),
  file.path("man", "figures", "benchmark.png"),
  overwrite = TRUE
))
