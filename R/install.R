#' Install what the layers need in Python
#'
#' Installs TensorFlow, Keras and NumPy from PyPI, where Python packages are published,
#' into a Python environment. The Python code of groupnorm itself comes with the R
#' package and needs no installation.
#'
#' With reticulate 1.41 or newer this is seldom needed: groupnorm declares its
#' requirements with `reticulate::py_require()`, and reticulate provides them unless
#' another Python was chosen.
#'
#' @param envname Name or path of the environment. reticulate finds `"r-groupnorm"`, the
#'   default, by itself; `NULL` is the environment that reticulate uses.
#' @param tensorflow Name under which to install TensorFlow: `"tensorflow"` or
#'   `"tensorflow-cpu"` (smaller, without support for GPUs).
#' @param ... Further arguments of [reticulate::py_install()], such as `method` and
#'   `python_version`.
#'
#' @returns `NULL`, invisibly.
#' @seealso [groupnorm_config()] to see the result.
#' @examples
#' \dontrun{
#' install_groupnorm()
#' install_groupnorm(tensorflow = "tensorflow-cpu", method = "virtualenv")
#' }
#' @export
install_groupnorm <- function(envname = "r-groupnorm",
                              tensorflow = c("tensorflow", "tensorflow-cpu"),
                              ...) {
  packages <- python_requirements(match.arg(tensorflow))
  if (utils::packageVersion("reticulate") < "1.40") {
    # Older versions of reticulate cannot read the arrays of NumPy 2.
    packages <- c(packages, "numpy<2")
  }
  reticulate::py_install(packages, envname = envname, pip = TRUE, ...)
  invisible(NULL)
}
