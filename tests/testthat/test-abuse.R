# Random calls with arguments of every R type and shape. What is valid is written down
# here, apart from the code: a call either does what the help page says, or stops with
# an R error that names the argument, and the object is then as it was.

random_calls <- if (in_full()) 5000 else 300

odd_values <- function(keras) {
  saved <- withr::local_tempfile()
  saveRDS(keras$Sequential(), saved)
  person <- methods::setClass(
    "Person",
    slots = c(name = "character"), where = environment()
  )
  vectors <- list(
    na = NA, integer_na = NA_integer_, real_na = NA_real_, text_na = NA_character_,
    complex_na = NA_complex_, nan = NaN, infinite = Inf, minus_infinite = -Inf,
    true = TRUE, false = FALSE, zero = 0, zero_integer = 0L, one = 1, two = 2L,
    three = 3, five = 5L, minus_one = -1, minus_two = -2L, minus_six = -6, half = 0.5,
    fraction = 2.5, small = 1e-300, tiny = 1e-5, huge = 1e300, above_integer = 2^31,
    above_double = 2^53 + 2, largest = .Machine$integer.max,
    lowest = -.Machine$integer.max, no_integer = integer(), no_real = numeric(),
    no_flag = logical(), no_text = character(), two_integers = 1:2,
    two_reals = c(0.5, 1.5), two_flags = c(TRUE, FALSE), six = 1:6,
    named = c(a = 1, b = 2), empty = "", word = "word", zeros = "zeros", ones = "ones",
    l2 = "l2", non_neg = "non_neg", number = "2", flag = "TRUE",
    utf8 = "gr\u00fc\u00df \u4e2d\U0001f600", quotes = "\"'`\\",
    format = "a\nb{0}%s", long = strrep("x", 1e4), words = c("a", "b"),
    raw = as.raw(1:3), complex = 1i
  )
  arrays <- list(
    array_0 = array(numeric(), 0), array_1 = array(1:3), matrix = matrix(1:6, 2),
    no_matrix = matrix(0, 0, 3), array_3 = array(as.numeric(1:48), c(2, 4, 6)),
    array_6 = array(as.numeric(1:12), c(2, 1, 1, 1, 1, 6)),
    text_matrix = matrix("a", 2, 2)
  )
  objects <- list(
    null = NULL, factor = factor("a"), ordered = factor("b", ordered = TRUE),
    date = as.Date("2020-01-02"), time = as.POSIXct("2020-01-02", tz = "UTC"),
    duration = as.difftime(1, units = "secs"), list = list(),
    unnamed_list = list(1, "a"), named_list = list(a = 1, b = NULL),
    class_list = list(class_name = "NoSuch", config = list()),
    no_config = list(class_name = 1), deep_list = list(a = list(b = list(c = list()))),
    list_of_calls = list(quote(x)), pairlist = pairlist(a = 1),
    data_frame = data.frame(a = 1:2), no_rows = data.frame(),
    environment = new.env(), call = quote(f(x)), symbol = quote(x), formula = y ~ x,
    expression = expression(a), s4 = person(name = "p"), connection = stdin(),
    pointer = methods::new("externalptr"), version = numeric_version("1.2"),
    regression = stats::lm(mpg ~ wt, datasets::mtcars),
    dead = readRDS(saved), module = reticulate::import("math"),
    dict = reticulate::dict(a = 1L), optimizer = keras$optimizers$Adam()
  )
  functions <- list(closure = function() stop("called"), primitive = sum)
  list(plain = c(vectors, objects, arrays), functions = functions)
}

# What each argument takes, by the help page, on an input of shape (2, 6, 6).

single <- function(x) is.atomic(x) && !is.object(x) && is.null(dim(x)) && length(x) == 1
number_in <- function(x, set) single(x) && is.numeric(x) && x %in% set
flag <- function(x) single(x) && (isTRUE(x) || isFALSE(x))
one_of <- function(...) function(x) any(vapply(list(...), identical, NA, x))

valid <- list(
  groups = function(x) number_in(x, c(-1, 1, 2, 3, 6)),
  axis = function(x) number_in(x, c(1, 2, -1, -2)),
  epsilon = function(x) single(x) && is.numeric(x) && is.finite(x) && x >= 0,
  center = flag, scale = flag, use_mask = flag,
  beta_initializer = one_of("zeros", "ones"),
  gamma_initializer = one_of("zeros", "ones"),
  beta_regularizer = one_of(NULL, "l2"), gamma_regularizer = one_of(NULL, "l2"),
  beta_constraint = one_of(NULL, "non_neg"), gamma_constraint = one_of(NULL, "non_neg")
)
# And where there is no input yet.
valid_on_nothing <- function(name, x) {
  whole <- single(x) && is.numeric(x) && is.finite(x) && x == trunc(x) &&
    abs(x) <= .Machine$integer.max
  switch(name,
    groups = whole && (x > 0 || x == -1),
    axis = whole && x != 0,
    valid[[name]](x)
  )
}

# Keras takes an array as an initializer (of as many values): not promised, not refused.
unspecified <- function(argument, value) {
  endsWith(argument, "_initializer") && is.array(value) && is.numeric(value)
}

pick <- function(x) x[[sample.int(length(x), 1)]]

random_arguments <- function(pool, names) {
  names <- sample(names, sample.int(3, 1))
  stats::setNames(lapply(names, function(name) {
    fits <- Filter(valid[[name]], pool)
    repeat {
      value <- if (stats::runif(1) < 0.5) list(pick(fits)) else list(pick(pool))
      if (!unspecified(name, value[[1]])) {
        return(value)
      }
    }
  }), names) |> lapply(`[[`, 1)
}

is_valid <- function(arguments, object) {
  on_nothing <- object %in% c("missing", "null")
  vapply(names(arguments), function(name) {
    value <- arguments[[name]]
    if (on_nothing) valid_on_nothing(name, value) else valid[[name]](value)
  }, NA)
}

state_of <- function(model) {
  list(length(model$layers), length(model$weights), model$to_json())
}

# What is wrong with the outcome of a call; `NULL` if nothing is.
complaint <- function(f, object, arguments, at) {
  fits <- is_valid(arguments, object)
  before <- state_of(at$model)
  given <- switch(object,
    missing = list(), null = list(NULL), list(at[[object]])
  )
  result <- tryCatch(do.call(f, c(given, arguments), quote = TRUE), error = identity)
  if (!inherits(result, "error")) {
    if (!all(fits)) {
      return("accepted")
    }
    return(complaint_about_result(f, object, arguments, at, result, before))
  }
  message <- conditionMessage(result)
  named <- vapply(names(arguments)[!fits], grepl, NA, message, fixed = TRUE)
  c(
    if (all(fits)) "refused",
    if (!any(named)) "does not name the argument",
    if (!inherits(result, "groupnorm_error")) "another error",
    if (grepl("Traceback|py_last_error", message)) "a Python traceback",
    if (!identical(state_of(at$model), before)) "the model was changed"
  )
}

complaint_about_result <- function(f, object, arguments, at, result, before) {
  if (object == "array") {
    wanted <- expected(f, at$array, arguments)
    return(if (!isTRUE(all.equal(as_array(result), wanted, tolerance = 1e-5))) "values")
  }
  if (object == "symbolic") {
    return(if (!identical(result$shape, list(NULL, 6L, 6L))) "shape")
  }
  layer <- result
  if (object == "model") {
    layer <- layer_of(at$model, length(at$model$layers))
    at$model$pop()
  }
  found <- layer$get_config()[names(arguments)]
  plain <- !grepl("_", names(arguments)) | names(arguments) == "use_mask"
  same <- mapply(function(x, y) isTRUE(all.equal(x, y)), found[plain], arguments[plain])
  c(
    if (!all(as.logical(same))) "another configuration",
    if (!identical(state_of(at$model), before)) "the model is not as it was"
  )
}

# The definition, with the weights as they are initialized.
expected <- function(f, x, arguments) {
  value <- function(name, default) {
    if (is.null(arguments[[name]])) default else arguments[[name]]
  }
  weight <- function(used, initializer, default) {
    if (!used) default else as.numeric(initializer == "ones")
  }
  if (value("axis", -1) %in% c(1, -2)) {
    arguments$axis <- NULL
    return(aperm(expected(f, aperm(x, c(1, 3, 2)), arguments), c(1, 3, 2)))
  }
  groups <- if (identical(f, layer_instance_normalization)) -1 else value("groups", 2)
  reference(
    x, if (groups == -1) 6 else groups, value("epsilon", 0.001),
    gamma = weight(value("scale", TRUE), value("gamma_initializer", "ones"), 1),
    beta = weight(value("center", TRUE), value("beta_initializer", "zeros"), 0)
  )
}

describe <- function(f, object, arguments) {
  name <- if (identical(f, layer_instance_normalization)) "instance" else "group"
  values <- vapply(arguments, function(x) substr(deparse(x, 40L)[1], 1, 60), "")
  paste0(name, "(", object, ", ", toString(paste(names(arguments), "=", values)), ")")
}

targets <- function(keras) {
  list(
    model = keras$Sequential(list(keras$Input(c(6L, 6L)), keras$layers$ReLU())),
    symbolic = keras$Input(c(6L, 6L)),
    array = array(stats::rnorm(72, 3), c(2, 6, 6))
  )
}

test_that("random arguments work as documented or are refused by name", {
  keras <- keras_module()
  withr::local_seed(if (in_full()) as.integer(Sys.time()) else 20180322)
  pool <- odd_values(keras)$plain
  at <- targets(keras)
  found <- character()
  refused <- 0
  for (i in seq_len(random_calls)) {
    f <- pick(list(layer_group_normalization, layer_instance_normalization))
    is_instance <- identical(f, layer_instance_normalization)
    names <- setdiff(names(valid), if (is_instance) "groups")
    arguments <- random_arguments(pool, names)
    object <- pick(list("missing", "null", "model", "symbolic", "array"))
    refused <- refused + !all(is_valid(arguments, object))
    wrong <- complaint(f, object, arguments, at)
    if (length(wrong) > 0) {
      found <- c(found, paste(describe(f, object, arguments), toString(wrong)))
    }
  }
  expect_identical(found, character())
  # Both kinds of call were drawn.
  expect_gt(refused, random_calls / 5)
  expect_lt(refused, random_calls * 4 / 5)
})

test_that("each value for each argument works as documented or is refused by name", {
  skip_if_not(in_full(), "a thousand calls: GROUPNORM_TEST_FULL=true")
  keras <- keras_module()
  values <- odd_values(keras)
  at <- targets(keras)
  found <- character()
  for (name in names(valid)) {
    takes_functions <- grepl("_(initializer|regularizer|constraint)$", name)
    pool <- c(values$plain, if (!takes_functions) values$functions)
    pool <- Filter(function(value) !unspecified(name, value), pool)
    for (value in names(pool)) {
      arguments <- stats::setNames(pool[value], name)
      for (object in c("missing", "model")) {
        wrong <- complaint(layer_group_normalization, object, arguments, at)
        found <- c(found, sprintf("%s = %s, %s: %s", name, value, object, wrong))
      }
    }
  }
  expect_identical(found, character())
})

test_that("any object is taken as documented or refused by name", {
  keras <- keras_module()
  values <- odd_values(keras)
  pool <- c(values$plain, values$functions)
  taken <- c("null", "array_3", "array_6")
  for (f in list(layer_group_normalization, layer_instance_normalization)) {
    # These have 3 channels, which 2 groups do not divide.
    odd_channels <- c("matrix", "no_matrix")
    if (identical(f, layer_instance_normalization)) {
      taken <- c(taken, odd_channels)
      odd_channels <- character()
    }
    for (name in names(pool)) {
      object <- unname(pool[name])
      result <- tryCatch(do.call(f, object, quote = TRUE), error = identity)
      if (name %in% taken) {
        expect_s3_class(result, "python.builtin.object")
        next
      }
      expect_s3_class(result, "groupnorm_error")
      accepted <- "a layer that was called|another R session|rank 2 or more"
      expect_match(
        conditionMessage(result), if (name %in% odd_channels) "groups" else accepted,
        info = name
      )
    }
  }
})
