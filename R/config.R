#' Which Python is used, and whether it is usable
#'
#' Finds Python (starting it, if that has not happened yet), looks for what the layers
#' need, and says what is missing. It never fails. `python -m groupnorm config` says the
#' same in a shell.
#'
#' On a CPU a native kernel computes, which is compiled when the package is installed,
#' if there is a C++ compiler; from TensorFlow 2.18 on under XLA, too. Where there is
#' none, or on a GPU, plain TensorFlow computes: slower on a CPU, with the same results
#' up to rounding. Setting the
#' environment variable `GROUPNORM_NATIVE=0` switches the kernel off. It follows
#' TensorFlow's own number of threads
#' (`tf.config.threading.set_intra_op_parallelism_threads()`,
#' `TF_NUM_INTRAOP_THREADS`), and in a container takes no more than its share of
#' processors.
#'
#' @returns A list of class `groupnorm_config`, with a print method:
#'   \describe{
#'     \item{usable}{`TRUE` if layers can be made.}
#'     \item{problem}{What is wrong, or `NULL`.}
#'     \item{python}{Path of the Python program, or `NULL`.}
#'     \item{versions}{Named character vector: the versions of groupnorm, Python,
#'       TensorFlow, Keras, tf_keras and NumPy; `NA` where one is not found. `NULL`
#'       where there is no Python.}
#'     \item{keras}{The Keras that a layer without an object is made for: `"keras"`
#'       (Keras 3) or `"tf_keras"`; or `NULL`.}
#'     \item{backend}{The backend of that Keras, or `NULL`.}
#'     \item{implementation}{A list that says what computes on this machine: `name`,
#'       `"native"` (a kernel for CPUs) or `"tensorflow"`, and `reason`; or `NULL`.}
#'     \item{location}{Folder that the Python package groupnorm was loaded from, or
#'       `NULL`.}
#'   }
#' @seealso [install_groupnorm()]
#' @examples
#' \donttest{
#' groupnorm_config()
#' }
#' @export
groupnorm_config <- function() {
  tryCatch(
    python_configuration(),
    error = function(e) {
      new_config(usable = FALSE, problem = conditionMessage(e))
    }
  )
}

# Python looks; here what it finds is put into R's form.
python_configuration <- function() {
  found <- groupnorm_python("configuration")$configuration()
  versions <- vapply(found$versions, function(version) {
    if (is.null(version)) NA_character_ else version
  }, "")
  new_config(
    usable = found$usable,
    problem = found$problem,
    python = reticulate::py_config()$python,
    versions = versions,
    keras = found$keras,
    backend = found$backend,
    implementation = if (!is.null(found$implementation)) {
      list(name = found$implementation, reason = found$reason)
    },
    location = found$location,
    text = reticulate::py_str(found)
  )
}

new_config <- function(usable, problem = NULL, python = NULL, versions = NULL,
                       keras = NULL, backend = NULL, implementation = NULL,
                       location = NULL, text = NULL) {
  config <- list(
    usable = usable, problem = problem, python = python, versions = versions,
    keras = keras, backend = backend, implementation = implementation,
    location = location
  )
  structure(config, class = "groupnorm_config", text = text)
}

#' @export
print.groupnorm_config <- function(x, ...) {
  text <- attr(x, "text")
  if (is.null(text)) {
    problem <- gsub("\n", "\n           ", x$problem)
    text <- c("usable:    no", paste("problem:  ", problem))
  }
  writeLines(text)
  invisible(x)
}
