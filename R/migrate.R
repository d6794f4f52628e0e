#' Bring an old model file over to Keras 3
#'
#' Reads a model that Keras 2 saved, with layers of 'TensorFlow Addons' or without, and
#' writes it as a file of Keras 3. The new model must predict what the old one predicts
#' on random input before it takes the place of `output`. The old file is only read, and
#' never run: a model that contains code, or classes that are not known, is refused,
#' unless `custom_objects` has what takes their place.
#'
#' The new model is compiled as the old one was, and trains on from where that one
#' stopped, if Keras 3 has the same optimizer, loss and metrics. If not, the report says
#' why.
#'
#' @section Your own layers and functions:
#' A file names the classes of its author, and does not have them. Give each in
#' `custom_objects`, by the name that the file has for it: a Python class for Keras 3
#' (what `reticulate::py_run_string()` or `keras3::Layer()` makes), or a function that
#' takes and gives tensors, of R or of Python. Functions must work under both
#' generations of Keras, as those of `keras3::op_*()` (in Python `keras.ops`) do. A list
#' of two, one for Keras 2 and one for Keras 3, is each used on its own side, so that
#' both are compared. What takes the place of a Lambda layer goes by the name of that
#' layer: it becomes plain operations in the new file. If you leave one out, the error
#' shows the call that would do.
#'
#' Many `.h5` files need no such step: once groupnorm is in use, Keras opens them as
#' they are (see `vignette("migrating")`). Others Keras 3 refuses, because of what Keras
#' 2 wrote about its own layers; and it opens no `.keras` file of that time.
#'
#' This needs the Python package tf_keras, which is Keras 2:
#' `reticulate::py_install("tf-keras")`, or, where Python comes from
#' `reticulate::py_require()`, `reticulate::py_require("tf-keras")` before Python is
#' started.
#'
#' @param input Path of the old model: a `.h5` or `.keras` file, or a SavedModel folder
#'   that holds a Keras model.
#' @param output Path of the `.keras` file to write, in a folder that is there. `NULL`
#'   to see the report without writing anything.
#' @param overwrite `TRUE` to replace `output` if it is there.
#' @param custom_objects A named list of your own classes and functions, or `NULL`.
#' @param layers Whose group normalization the new file has: that of this package, or
#'   Keras's own, so that the file opens without this package, and on other backends.
#'
#' @returns The report, invisibly, after it was printed: a list of class
#'   `groupnorm_migration` with `input`, `output`, `written`, `changes` (a list, with
#'   what was changed in each layer under its name), `unchanged` (the number of other
#'   layers), `notes` (on the whole model), `proved`, `not_proved`, `needs` (the names
#'   of what is your own in the new file) and `largest_difference` (between the
#'   predictions, relative to the largest one).
#'
#'   If the model cannot be brought over, the error names the layer and the argument,
#'   and nothing is written.
#' @seealso [layer_group_normalization()]; `vignette("migrating")`
#' @examples
#' \dontrun{
#' migrate_model("old.h5", "new.keras")
#' model <- keras3::load_model("new.keras")
#'
#' # What would be changed, without writing:
#' migrate_model("old.h5", NULL)
#'
#' # A file with a Lambda layer named "double", and a layer of one's own:
#' migrate_model("own.h5", "new.keras", custom_objects = list(
#'   double = function(x) keras3::op_multiply(x, 2),
#'   ReflectionPadding2D = ReflectionPadding2D
#' ))
#' }
#' @export
migrate_model <- function(input, output, overwrite = FALSE, custom_objects = NULL,
                          layers = c("groupnorm", "keras")) {
  call <- sys.call()
  in_call(call, {
    check_path(input, "input")
    if (!is.null(output)) check_path(output, "output")
    check_flag(overwrite, "overwrite")
    check_custom_objects(custom_objects)
    layers <- check_whose(layers)
    input <- path.expand(input)
    if (!is.null(output)) output <- path.expand(output)
    check_migration(input, output, overwrite)
  })
  migrate <- groupnorm_python("migration")$migrate
  found <- in_call(call, migrate(
    input, output, overwrite, as_custom_objects(custom_objects), layers, is.null(output)
  ))
  report <- as_report(found)
  print(report)
  invisible(report)
}

#' @export
print.groupnorm_migration <- function(x, ...) {
  cat(x$text, sep = "\n")
  invisible(x)
}

# Python's report as a list of R, and as the lines that are printed.
as_report <- function(found) {
  fields <- c(
    "written", "changes", "unchanged", "notes", "proved", "not_proved", "needs",
    "largest_difference"
  )
  values <- lapply(fields, function(field) found[[field]])
  names(values) <- fields
  text <- strsplit(reticulate::py_str(found), "\n", fixed = TRUE)[[1]]
  structure(
    c(list(input = found$old, output = found$new), values, list(text = text)),
    class = "groupnorm_migration"
  )
}

# Classes and functions as Python takes them, by the names in the file.
as_custom_objects <- function(given) {
  if (is.null(given)) {
    return(NULL)
  }
  lapply(given, function(value) {
    if (is.list(value) && !is.object(value)) {
      return(lapply(unname(value), as_python_callable))
    }
    as_python_callable(value)
  })
}

# `keras3::Layer()`, `Loss()` and the like, and `create_layer_wrapper()` give functions
# of R that make layers or what else, and have the Python class beside them.
as_python_callable <- function(value) {
  if (typeof(value) == "closure" && !inherits(value, "python.builtin.object")) {
    beside <- environment(value)
    name <- if (inherits(value, "keras_layer_wrapper")) "Layer" else "__class__"
    value <- get0(name, beside, inherits = FALSE, ifnotfound = value)
  }
  if (inherits(value, "python.builtin.object")) {
    return(value)
  }
  reticulate::r_to_py(value)
}

check_custom_objects <- function(given) {
  named <- is.list(given) && length(names(given)) == length(given) &&
    all(nzchar(names(given)))
  if (!is.null(given) && !named) {
    stop("`custom_objects` must be a named list of classes and functions, or NULL")
  }
}

check_whose <- function(layers) {
  if (identical(layers, c("groupnorm", "keras"))) {
    return("groupnorm")
  }
  if (!is.character(layers) || length(layers) != 1 ||
    !layers %in% c("groupnorm", "keras")) {
    stop("`layers` must be \"groupnorm\" or \"keras\"")
  }
  layers
}

# Python checks these too, but after seconds of loading, and in its own words.
check_migration <- function(input, output, overwrite) {
  if (!file.exists(input)) {
    stop(sprintf("`input`: there is no file \"%s\"", input))
  }
  if (is.null(output)) {
    return(invisible())
  }
  if (!endsWith(output, ".keras")) {
    stop(sprintf("`output` must be the name of a .keras file; received \"%s\"", output))
  }
  if (!dir.exists(dirname(output))) {
    stop(sprintf("`output`: there is no folder \"%s\"", dirname(output)))
  }
  if (normalizePath(input) == normalizePath(output, mustWork = FALSE)) {
    stop("`output` must be another file than `input`, which is never changed")
  }
  if (file.exists(output) && !overwrite) {
    stop(sprintf(
      "`output`: \"%s\" is there already; `overwrite = TRUE` replaces it", output
    ))
  }
}

check_path <- function(value, name) {
  if (!is.character(value) || length(value) != 1 || is.na(value) || !nzchar(value)) {
    stop(sprintf("`%s` must be the path of a file, one string", name))
  }
}
