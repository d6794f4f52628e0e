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
  if (is.null(value)) {
    return(NULL)
  }
  if (is_python_object(value)) {
    return(alive(value, name))
  }
  if (is.function(value)) {
    return(python_function(value, name))
  }
  if (name %in% shape_arguments && is_shape(value)) {
    return(python_shape(unclass(value)))
  }
  if (is_plain_list(value)) {
    return(python_list(value, name))
  }
  if (is_plain_vector(value)) {
    return(python_vector(value))
  }
  message <- sprintf(
    "argument `%s` cannot be an R object of class %s",
    name, paste(class(value), collapse = "/")
  )
  stop(errorCondition(message, class = "groupnorm_no_counterpart"))
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

shape_arguments <- c("input_shape", "batch_input_shape")

# A shape is a tuple of integers, with None where the size is unknown.
python_shape <- function(sizes) {
  sizes <- lapply(unname(as.list(sizes)), function(size) {
    if (is_missing(size)) {
      return(NULL)
    }
    if (is_plain_vector(size)) python_vector(size) else python_argument(size, "")
  })
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

# What a layer is put on. An array stays as it is: it is data. Python tells its own
# kinds of object apart, and has the words for what is none of them.
python_object <- function(object) {
  if (is_array_of_numbers(object)) {
    return(object)
  }
  tryCatch(
    python_argument(object, "object"),
    groupnorm_no_counterpart = function(e) {
      received <- paste("an R object of class", paste(class(object), collapse = "/"))
      stop(reticulate::py_str(groupnorm_python("compose")$unusable(received)))
    }
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

# keras3 gives its shapes a class.
is_shape <- function(x) {
  inherits(x, "keras_shape") || is_plain_list(x) ||
    is_plain_vector(x) && !is.character(x) && is.null(dim(x))
}

is_missing <- function(x) {
  is.null(x) || is.atomic(x) && length(x) == 1 && is.na(x)
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
