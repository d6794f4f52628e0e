#' Which Python is used, and whether it is usable
#'
#' Finds Python (starting it, if that has not happened yet), looks for what the layers
#' need, and says what is missing. It never fails.
#'
#' @returns A list of class `groupnorm_config`, with a print method:
#'   \describe{
#'     \item{usable}{`TRUE` if layers can be made.}
#'     \item{problem}{What is wrong, or `NULL`.}
#'     \item{python}{Path of the Python program, or `NULL`.}
#'     \item{versions}{Named character vector: the versions of groupnorm, Python,
#'       TensorFlow, Keras and NumPy; `NA` where one is not found.}
#'     \item{keras}{The Keras that a layer without an object is made for: `"keras"`
#'       (Keras 3) or `"tf_keras"`; or `NULL`.}
#'     \item{backend}{The backend of that Keras, or `NULL`.}
#'     \item{implementation}{A list that says what computes on this machine: `name`,
#'       `"native"` (see [build_kernel()]) or `"tensorflow"`, and `reason`; or `NULL`.}
#'     \item{location}{Folder that the Python package groupnorm was loaded from, or
#'       `NULL`.}
#'   }
#' @seealso [install_groupnorm()], [build_kernel()]
#' @examples
#' \donttest{
#' groupnorm_config()
#' }
#' @export
groupnorm_config <- function() {
  config <- structure(
    list(
      usable = FALSE, problem = NULL, python = NULL, versions = NULL,
      keras = NULL, backend = NULL, implementation = NULL,
      location = NULL
    ),
    class = "groupnorm_config"
  )
  problem <- tryCatch(
    {
      config$python <- reticulate::py_config()$python
      config$versions <- python_versions()
      layer_group_normalization(name = "groupnorm_config")
      NULL
    },
    error = function(e) conditionMessage(e)
  )
  config["problem"] <- list(problem)
  config$usable <- is.null(problem)
  if (config$usable) {
    config$keras <- groupnorm_python("_generation")$default()
    config$backend <- reticulate::import(config$keras)$backend$backend()
    config$implementation <- implementation()
    config$location <- dirname(reticulate::import("groupnorm")$`__file__`)
  }
  config
}

python_versions <- function() {
  metadata <- reticulate::import("importlib.metadata")
  version <- function(...) {
    # TensorFlow goes by several names.
    for (name in c(...)) {
      found <- tryCatch(metadata$version(name), error = function(e) NA_character_)
      if (!is.na(found)) {
        return(found)
      }
    }
    NA_character_
  }
  c(
    groupnorm = as.character(utils::packageVersion("groupnorm")),
    Python = as.character(reticulate::py_version()),
    TensorFlow = version("tensorflow", "tensorflow-cpu", "tensorflow-macos"),
    Keras = version("keras"),
    NumPy = version("numpy")
  )
}

#' @export
print.groupnorm_config <- function(x, ...) {
  cat("groupnorm:", if (x$usable) "usable" else "not usable", "\n")
  if (!is.null(x$problem)) {
    cat("problem:  ", gsub("\n", "\n           ", x$problem), "\n")
  }
  cat("Python:   ", if (is.null(x$python)) "not found" else x$python, "\n")
  if (!is.null(x$versions)) {
    found <- ifelse(is.na(x$versions), "not found", x$versions)
    cat("versions: ", paste(names(found), found, collapse = ", "), "\n")
  }
  if (!is.null(x$keras)) {
    cat("layers for", x$keras, "on", x$backend, "\n")
  }
  if (!is.null(x$implementation)) {
    cat("computing:", x$implementation$name, "-", x$implementation$reason, "\n")
  }
  if (!is.null(x$location)) {
    cat("loaded from", x$location, "\n")
  }
  invisible(x)
}
