# What R pays. Prints JSON.
#
#   Rscript r_boundary.R attach PACKAGE   seconds of library(PACKAGE), in a new process
#   Rscript r_boundary.R call REPEATS     seconds of making a layer, in several ways

attach_package <- function(package) {
  clock <- Sys.time()
  suppressPackageStartupMessages(library(package, character.only = TRUE))
  list(
    seconds = as.numeric(Sys.time() - clock, units = "secs"),
    python_started = reticulate::py_available(initialize = FALSE)
  )
}

make_layers <- function(repeats) {
  keras <- reticulate::import("keras")$layers
  groupnorm <- reticulate::import("groupnorm.layers")
  ways <- list(
    "ours" = function() groupnorm::layer_group_normalization(groups = 8),
    "bare ours" = function() groupnorm$GroupNormalization(groups = 8L),
    "bare keras" = function() keras$GroupNormalization(groups = 8L)
  )
  if (nzchar(system.file(package = "keras3"))) {
    ways[["keras3"]] <- function() keras3::layer_group_normalization(groups = 8)
  }
  for (way in ways) way()
  seconds <- lapply(ways, function(way) numeric(repeats))
  # Interleaved, so that all of them see the same machine.
  for (i in seq_len(repeats)) {
    for (name in names(ways)) {
      clock <- Sys.time()
      ways[[name]]()
      seconds[[name]][i] <- as.numeric(Sys.time() - clock, units = "secs")
    }
  }
  seconds
}

arguments <- commandArgs(trailingOnly = TRUE)
result <- switch(arguments[1],
  attach = attach_package(arguments[2]),
  call = {
    # The Python package of groupnorm: as its R package provides it.
    invisible(groupnorm::layer_group_normalization())
    make_layers(as.integer(arguments[2]))
  }
)
writeLines(jsonlite::toJSON(result, digits = NA, auto_unbox = TRUE))
