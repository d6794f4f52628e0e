# What Python leaves goes with what R leaves.
Sys.setenv(TMPDIR = tempdir())

# Whether this is the run of all that takes long.
in_full <- function() identical(Sys.getenv("GROUPNORM_TEST_FULL"), "true")

# Of cases that each start a process: the first, or all in the full run.
some_of <- function(cases) if (in_full()) cases else cases[1]

# Python for a test, or a skip that says why there is none.
skip_without_python <- function() {
  config <- groupnorm_config()
  skip_if_not(config$usable, paste("Python is not usable:", config$problem))
}

keras_module <- function() {
  skip_without_python()
  reticulate::import("keras")
}

# Evaluates an expression, and lets nobody hear what Python and TensorFlow write to the
# console meanwhile: they write past R, so that `capture.output()` does not see it.
unheard <- function(expr) {
  os <- reticulate::import("os")
  sys <- reticulate::import("sys")
  flush(stdout())
  kept <- lapply(1:2, os$dup)
  nowhere <- os$open(os$devnull, os$O_WRONLY)
  for (i in 1:2) os$dup2(nowhere, i)
  on.exit({
    sys$stdout$flush()
    for (i in 1:2) os$dup2(kept[[i]], i)
    for (file in c(kept, nowhere)) os$close(file)
  })
  expr
}

# Group normalization from its definition, in R's own double precision; channels last.
reference <- function(x, groups, epsilon = 0.001, gamma = 1, beta = 0) {
  size <- dim(x)
  channels <- size[length(size)]
  x <- array(x, c(size[1], prod(size) / size[1] / channels, channels))
  group <- rep(seq_len(groups), each = channels / groups)
  for (n in seq_len(size[1])) {
    for (g in seq_len(groups)) {
      part <- x[n, , group == g]
      spread <- mean((part - mean(part))^2)
      x[n, , group == g] <- (part - mean(part)) / sqrt(spread + epsilon)
    }
  }
  x <- sweep(sweep(x, 3, gamma, `*`), 3, beta, `+`)
  array(x, size)
}

as_array <- function(tensor) {
  reticulate::py_to_r(reticulate::import("numpy", convert = FALSE)$asarray(tensor))
}

# The layer of a model in R's counting.
layer_of <- function(model, i) model$layers[[i]]

# An R process of its own: what it prints, and "status" if it failed.
in_child <- function(code, env = character()) {
  run_child(substitute(code), env)
}

run_child <- function(code, env) {
  file <- withr::local_tempfile(fileext = ".R")
  writeLines(deparse(code), file)
  env <- c(env, R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep))
  withr::local_envvar(env)
  suppressWarnings(system2(
    file.path(R.home("bin"), "Rscript"), c("--vanilla", shQuote(file)),
    stdout = TRUE, stderr = TRUE
  ))
}

# The same for code that is a script, in which `stopifnot()` says what must hold.
expect_runs <- function(code, env = character()) {
  output <- run_child(substitute(code), env)
  expect(
    is.null(attr(output, "status")),
    paste(c("The script failed. It printed:", output), collapse = "\n")
  )
  invisible(output)
}

# An R package that a script attaches. Not loaded here to see whether it is there:
# `keras` then changes which Keras everything else uses.
skip_without_package <- function(package) {
  skip_if_not(
    nzchar(system.file(package = package)),
    paste("the R package", package, "is not installed")
  )
}

skip_without_tf_keras <- function() {
  skip_without_python()
  found <- reticulate::import("importlib.util")$find_spec("tf_keras")
  skip_if(is.null(found), "tf_keras, the older Keras generation, is not installed")
}

# A file that TensorFlow Addons wrote. They are in the repository, not in the package.
addons_file <- function(name, folder = "tfaddons") {
  file <- file.path(test_path("..", "fixtures", folder), name)
  skip_if_not(file.exists(file), "the model files of TensorFlow Addons are not here")
  normalizePath(file)
}

# What is to be predicted there: the arrays `x` and `y`.
addons_example <- function(name) {
  example <- reticulate::import("numpy")$load(addons_file(paste0(name, ".npz")))
  list(x = example$get("x"), y = example$get("y"))
}

# Python code of a layer of somebody's own, for a generation of Keras.
shift_code <- function(generation) {
  sprintf("
import %s as generation
class Shift(generation.layers.Layer):
    def __init__(self, by=1.0, **kwargs):
        super().__init__(**kwargs)
        self.by = by
    def build(self, shape):
        self.scale = self.add_weight(name='scale', shape=shape[-1:], initializer='ones')
    def call(self, x):
        return x * self.scale + self.by
    def get_config(self):
        return {**super().get_config(), 'by': self.by}
", generation)
}

# A file of Keras 2 with that layer and a Lambda layer, or without `end` a SavedModel.
own_file <- function(folder, end = ".h5") {
  code <- "
x = generation.Input((3,))
y = generation.layers.Lambda(lambda x: 2.0 * x, name='double')(x)
generation.Model(x, Shift(3.0, name='mine')(y)).save(path)
"
  path <- file.path(folder, paste0("own", end))
  code <- paste0(sprintf("path = '%s'", path), shift_code("tf_keras"), code)
  reticulate::py_run_string(code, local = TRUE)
  path
}
