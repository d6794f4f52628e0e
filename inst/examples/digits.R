# Handwritten digits: train a convolutional network with group normalization from R,
# look at what it learned, and let a fresh Python process use it.
#
#   Rscript digits.R [folder for the results]
#
# Nothing but reticulate is needed beside groupnorm.

library(groupnorm)
keras <- reticulate::import("keras")
keras$utils$set_random_seed(1L)

folder <- c(commandArgs(trailingOnly = TRUE), "digits")[1]
dir.create(folder, showWarnings = FALSE, recursive = TRUE)

# --- Data: the last quarter of the images is held out ---------------------------------

data_file <- system.file("extdata/digits.csv.gz", package = "groupnorm")
digits <- as.matrix(read.csv(data_file))
# Rows hold images row by row, R fills arrays column by column.
images <- aperm(array(digits[, 1:64] / 16, c(nrow(digits), 8, 8, 1)), c(1, 3, 2, 4))
labels <- array(as.integer(digits[, "digit"]))
train <- seq_len(1347)

# --- Model: every convolution is followed by group normalization ----------------------

# `x` comes first, so that the layers are made in the order in which they are read.
put <- function(x, layer) {
  force(x)
  layer(x)
}
convolution <- function(filters) {
  keras$layers$Conv2D(filters, 3L, padding = "same", use_bias = FALSE)
}

input <- keras$Input(c(8L, 8L, 1L))
output <- input |>
  put(convolution(32L)) |>
  layer_group_normalization(groups = 8) |>
  put(keras$layers$ReLU()) |>
  put(convolution(32L)) |>
  layer_group_normalization(groups = 8) |>
  put(keras$layers$ReLU()) |>
  put(keras$layers$MaxPooling2D()) |>
  put(convolution(64L)) |>
  layer_group_normalization(groups = 8) |>
  put(keras$layers$ReLU()) |>
  put(keras$layers$GlobalAveragePooling2D()) |>
  put(keras$layers$Dense(10L, activation = "softmax"))
model <- keras$Model(input, output)
model$summary()

# --- Training -------------------------------------------------------------------------

model$compile(
  optimizer = keras$optimizers$Adam(2e-3),
  loss = "sparse_categorical_crossentropy",
  metrics = list("accuracy")
)
history <- model$fit(
  images[train, , , , drop = FALSE], labels[train],
  validation_data = list(images[-train, , , , drop = FALSE], labels[-train]),
  batch_size = 32L, epochs = 15L
)$history

probability <- model$predict(images[-train, , , , drop = FALSE], verbose = 0L)
predicted <- max.col(probability) - 1L
accuracy <- mean(predicted == labels[-train])
cat(sprintf("Accuracy on %d held-out digits: %.4f\n", length(predicted), accuracy))

# --- Picture: the training, and the digits that it got wrong --------------------------

wrong <- which(predicted != labels[-train])
draw_curves <- function(measure) {
  curves <- sapply(history[c(measure, paste0("val_", measure))], unlist)
  matplot(
    curves,
    type = "l", lty = 1, lwd = 2, col = c("grey50", "firebrick"), las = 1,
    xlab = "epoch", ylab = measure
  )
  legend(
    if (measure == "loss") "topright" else "bottomright",
    c("training", "held out"),
    lty = 1, lwd = 2, col = c("grey50", "firebrick"), bty = "n"
  )
}
draw_digit <- function(i) {
  image(
    t(images[-train, , , , drop = FALSE][i, 8:1, , 1]),
    col = grey.colors(17, 1, 0), axes = FALSE, asp = 1,
    main = sprintf("%d, taken for %d", labels[-train][i], predicted[i])
  )
}
picture <- file.path(folder, "digits.png")
png(picture, width = 1000, height = 800, res = 110)
layout(rbind(c(1, 1, 1, 2, 2, 2), matrix(3:14, 2, byrow = TRUE)), heights = c(2, 1, 1))
par(mar = c(4, 4, 1, 1))
draw_curves("accuracy")
draw_curves("loss")
par(mar = c(1, 1, 2, 1), cex.main = 0.9)
for (i in head(wrong, 12)) draw_digit(i)
invisible(dev.off())

# --- The same model in Python ---------------------------------------------------------

file <- file.path(folder, "digits.keras")
model$save(file)
predictions <- tempfile(fileext = ".csv")
Sys.setenv(PYTHONPATH = system.file("python", package = "groupnorm"))
Sys.unsetenv("LD_LIBRARY_PATH") # R's own libraries are not for another program
status <- system2(reticulate::py_config()$python, shQuote(c(
  system.file("examples/digits.py", package = "groupnorm"),
  file, data_file, predictions
)))
stopifnot("the Python process failed" = status == 0)
in_python <- as.matrix(read.csv(predictions, header = FALSE))[-train, ]
difference <- max(abs(in_python - probability))
cat(sprintf("Largest difference to what Python predicts: %.1g\n", difference))
stopifnot(
  "R and Python differ" = difference < 1e-5,
  "accuracy is below 0.95" = accuracy >= 0.95
)
cat("Picture:", picture, "\nModel:  ", file, "\n")
