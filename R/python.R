# The Python side: loaded when it is first used, from this package's own copy.

.modules <- new.env(parent = emptyenv())

.onLoad <- function(libname, pkgname) {
  # Newer versions of reticulate make an environment from such declarations.
  if ("py_require" %in% getNamespaceExports("reticulate")) {
    declare_requirements(getExportedValue("reticulate", "py_require"))
  }
}

# Two builds of TensorFlow overwrite each other's files: where one is asked for already,
# as `keras3` does, it stays the only one.
declare_requirements <- function(py_require) {
  needed <- python_requirements("tensorflow")
  a_build <- "^tensorflow(-cpu|-gpu|-macos)?($|[^a-z-])"
  if (any(grepl(a_build, py_require()$packages))) {
    needed <- needed[!startsWith(needed, "tensorflow")]
  }
  py_require(needed)
}

# What `install_groupnorm()` installs and reticulate provides.
python_requirements <- function(tensorflow) {
  c(paste0(tensorflow, ">=2.16"), "keras>=3.3", "numpy>=1.26")
}

# A module of the Python package.
groupnorm_python <- function(name) {
  if (is.null(.modules[[name]])) {
    .modules[[name]] <- load_python(paste0("groupnorm.", name))
  }
  .modules[[name]]
}

load_python <- function(module) {
  path <- system.file("python", package = "groupnorm", mustWork = TRUE)
  with_advice(reticulate::import_from_path(module, path))
}

# The function that builds layers. Keras is loaded first, once: what is missing in
# Python shows here, and not as an error of the arguments.
composer <- function() {
  if (is.null(.modules$layers)) {
    generation <- groupnorm_python("layers.generation")
    .modules$layers <- with_advice(generation$default_layers())
  }
  groupnorm_python("compose")$compose
}

with_advice <- function(expr) {
  tryCatch(
    expr,
    error = function(e) {
      stop(
        "groupnorm cannot use Python: ", python_message(e), "\n",
        "groupnorm_config() shows which Python was found, and install_groupnorm() ",
        "installs what it needs.",
        call. = FALSE
      )
    }
  )
}

# Evaluates an expression so that an error in it appears as one of the user's own call.
in_call <- function(call, expr) {
  tryCatch(expr, error = function(e) {
    stop(structure(
      class = c("groupnorm_error", "error", "condition"),
      list(message = python_message(e), call = call, parent = e)
    ))
  })
}

# The message of an error, without what reticulate adds around Python's own words.
python_message <- function(e) {
  hint <- "(\n[^\n]*reticulate::py_last_error\\(\\)[^\n]*)+\\s*$"
  message <- sub(hint, "", conditionMessage(e))
  trimws(sub("^[A-Za-z_.]+(Error|Exception): ", "", message))
}
