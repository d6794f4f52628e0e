# The vignettes' copies of what is measured or computed elsewhere: for a machine without
# Python, and because a package is built without benchmarks/.

# What `make bench` found on accuracy.
results <- file.path("benchmarks", "results", "results.json")
if (file.exists(results)) {
  inputs <- jsonlite::read_json(results)$accuracy$inputs
  inputs <- Filter(function(input) !is.null(input$shift), inputs)
  errors <- lapply(inputs, function(input) {
    data.frame(
      implementation = names(input$errors),
      shift = input$shift,
      error = signif(vapply(input$errors, function(e) max(unlist(e)), 0), 3)
    )
  })
  utils::write.csv(
    do.call(rbind, errors), file.path("vignettes", "data", "accuracy.csv"),
    row.names = FALSE
  )
}

# Which numbers share statistics: the article computes that, and writes it.
Sys.setenv(GROUPNORM_STORE = "true")
rmarkdown::render(
  "vignettes/how-it-works.Rmd",
  output_dir = tempdir(), intermediates_dir = tempdir(), quiet = TRUE
)
