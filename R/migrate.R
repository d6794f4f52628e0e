#' Bring an old model file over to Keras 3
#'
#' Reads a model that Keras 2 saved, with the layers of 'TensorFlow Addons' that
#' normalize groups or instances, and writes it as a file of Keras 3. The new model must
#' predict what the old one predicts on random input before it takes the place of
#' `output`. The old file is only read, and never run: a model that contains code, such
#' as a Lambda layer, is refused.
#'
#' The new model is compiled as the old one was, if optimizer, loss and metrics are
#' Keras's own and Keras 3 can save them; the optimizer's state starts anew. If not, the
#' report says why.
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
#' @param output Path of the `.keras` file to write, in a folder that is there.
#' @param overwrite `TRUE` to replace `output` if it is there.
#'
#' @returns What was changed, invisibly, after it was printed: a Python object with the
#'   fields `changes` (a list, with what was changed in each layer under its name),
#'   `unchanged` (the number of other layers), `notes` (on the whole model) and
#'   `largest_difference` (between the predictions, relative to the largest one).
#'
#'   If the model cannot be brought over, the error names the layer and the argument,
#'   and nothing is written.
#' @seealso [layer_group_normalization()]; `vignette("migrating")`
#' @examples
#' \dontrun{
#' migrate_model("old.h5", "new.keras")
#' model <- keras3::load_model("new.keras")
#' }
#' @export
migrate_model <- function(input, output, overwrite = FALSE) {
  call <- sys.call()
  in_call(call, {
    check_path(input, "input")
    check_path(output, "output")
    check_flag(overwrite, "overwrite")
    input <- path.expand(input)
    output <- path.expand(output)
    check_migration(input, output, overwrite)
  })
  migrate <- groupnorm_python("migration")$migrate
  report <- in_call(call, migrate(input, output, overwrite))
  cat(reticulate::py_str(report), "\n", sep = "")
  invisible(report)
}

# Python checks these too, but after seconds of loading, and in its own words.
check_migration <- function(input, output, overwrite) {
  if (!file.exists(input)) {
    stop(sprintf("`input`: there is no file \"%s\"", input))
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
