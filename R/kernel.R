#' Build the native kernel
#'
#' The layers compute with plain TensorFlow operations, or several times faster on a CPU
#' with a native kernel. It is not compiled when the package is installed; this compiles
#' it, in seconds, and uses it from then on. Results are the same to rounding.
#'
#' The compiled file goes into the folder of the package, or, where that cannot be
#' written to, into a folder below `~/.cache` that only its owner can write to. Setting
#' the environment variable `GROUPNORM_NATIVE=0` switches the kernel off.
#'
#' @param force Whether to compile it even if there is one.
#' @returns Invisibly, a list that says which implementation is used from now on:
#'   `name`, `"native"` or `"tensorflow"`, and `reason`. It is an error if there is no
#'   C++ compiler.
#' @seealso [groupnorm_config()] says which implementation is in use, and why.
#' @examples
#' \dontrun{
#' build_kernel()
#' }
#' @export
build_kernel <- function(force = FALSE) {
  call <- sys.call()
  in_call(call, check_flag(force, "force"))
  dispatch <- groupnorm_python("op.choice")
  in_call(call, dispatch$build_kernel(force))
  invisible(implementation())
}

# What computes on this machine, and why.
implementation <- function() {
  found <- groupnorm_python("op.choice")$implementation()
  list(name = found$name, reason = found$reason)
}
