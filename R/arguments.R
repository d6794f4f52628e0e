# R values in the form in which Python expects them. What an argument may be is for the
# Python layer to say; refused here is only what has no counterpart in Python.

python_arguments <- function(arguments) {
  names <- names(arguments)
  if (!all(nzchar(names))) {
    stop("every argument in `...` must be named", call. = FALSE)
  }
  repeated <- names[duplicated(names)]
  if (length(repeated) > 0) {
    stop(sprintf("argument `%s` was given twice", repeated[1]), call. = FALSE)
  }
  Map(python_argument, arguments, names)
}

python_argument <- function(value, name) {
  if (name %in% c("input_shape", "batch_input_shape")) {
    return(python_shape(value, name))
  }
  if (is.null(value)) {
    return(NULL)
  }
  if (is_python_object(value)) {
    return(alive(value, name))
  }
  if (is.function(value)) {
    return(python_function(value, name))
  }
  if (is_plain_list(value)) {
    return(python_list(value, name))
  }
  if (is_plain_vector(value)) {
    return(python_vector(value))
  }
  stop(sprintf(
    "argument `%s` cannot be an R object of class %s",
    name, paste(class(value), collapse = "/")
  ), call. = FALSE)
}

python_vector <- function(value) {
  if (length(value) == 1 && is.na(value)) {
    return(NaN)
  }
  if (is_whole(value)) {
    storage.mode(value) <- "integer" # dimensions and names stay
  }
  value
}

python_list <- function(value, name) {
  # An empty list has no names that tell: it is a configuration without entries.
  if (length(value) == 0) {
    return(reticulate::dict())
  }
  lapply(value, python_argument, name)
}

# A shape is a tuple of integers, with None where the size is unknown.
python_shape <- function(value, name) {
  if (is.null(value) || is_python_object(value)) {
    return(value)
  }
  sizes <- unname(unclass(as.list(value)))
  unknown <- vapply(sizes, function(size) is.null(size) || all(is.na(size)), NA)
  if (!all(vapply(sizes[!unknown], is_count, NA))) {
    stop(sprintf(
      paste(
        "argument `%s` must be whole numbers that are not negative, with NA or NULL",
        "for an unknown size; received %s"
      ),
      name, paste(deparse(value), collapse = " ")
    ), call. = FALSE)
  }
  sizes[!unknown] <- lapply(sizes[!unknown], as.integer)
  sizes[unknown] <- list(NULL)
  reticulate::tuple(sizes)
}

# Keras calls an initializer with a shape and a dtype and wants an array of that shape;
# R functions give vectors, and need not care for the dtype. Other functions take a
# tensor and return one.
python_function <- function(f, name) {
  if (is.primitive(f)) {
    return(function(...) f(...)) # reticulate wants formals
  }
  if (!endsWith(name, "_initializer")) {
    return(f)
  }
  takes_dtype <- any(c("dtype", "...") %in% names(formals(args(f))))
  function(shape, dtype = NULL, ...) {
    shape <- as.integer(unlist(shape))
    value <- if (takes_dtype) f(shape, dtype = dtype) else f(shape)
    if (is_python_object(value)) {
      return(value)
    }
    if (!is.numeric(value) || !length(value) %in% c(1, prod(shape))) {
      stop(sprintf(
        "`%s` must return %d numbers, or one; it returned %s",
        name, prod(shape), paste(deparse(value), collapse = " ")
      ), call. = FALSE)
    }
    reticulate::np_array(array(as.double(value), dim = shape))
  }
}

# What a layer can be put on; Python tells its own kinds of object apart.
python_object <- function(object) {
  if (is_python_object(object)) {
    return(alive(object, "object"))
  }
  if (is.null(object) || is_array_of_numbers(object)) {
    return(object)
  }
  stop(
    "`object` must be missing or NULL, a Sequential model, a tensor or array of rank ",
    "2 or more, a functional model with one output, or a layer that was called ",
    "exactly once; received an R object of class ",
    paste(class(object), collapse = "/"),
    call. = FALSE
  )
}

alive <- function(value, name) {
  if (reticulate::py_is_null_xptr(value)) {
    stop(sprintf(
      paste(
        "argument `%s` is a Python object left over from another R session; make it",
        "again, or load it from a file that Keras saved"
      ),
      name
    ), call. = FALSE)
  }
  value
}

is_python_object <- function(x) {
  inherits(x, "python.builtin.object")
}

is_plain_vector <- function(x) {
  is.atomic(x) && !is.object(x) &&
    (is.numeric(x) || is.logical(x) || is.character(x) && is.null(dim(x)))
}

is_plain_list <- function(x) {
  is.list(x) && !is.object(x)
}

is_array_of_numbers <- function(x) {
  is.array(x) && !is.object(x) && (is.numeric(x) || is.logical(x))
}

is_count <- function(x) {
  length(x) == 1 && is_whole(x) && x >= 0
}

is_whole <- function(x) {
  is.numeric(x) && all(is.finite(x)) && all(x == trunc(x)) &&
    all(abs(x) <= .Machine$integer.max)
}

# For the arguments of functions other than layers, which R checks itself.
check_flag <- function(value, name) {
  if (!isTRUE(value) && !isFALSE(value)) {
    stop(sprintf("`%s` must be TRUE or FALSE", name))
  }
}
