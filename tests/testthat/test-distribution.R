# Training on two devices, from R: the same weights as on one. A script in an R process
# of its own, because TensorFlow must know its devices before it starts.

test_that("two devices reach the weights of one", {
  skip_if_not(in_full(), "two devices: GROUPNORM_TEST_FULL=true")
  keras <- keras_module()
  output <- expect_runs({
    library(groupnorm)
    tf <- reticulate::import("tensorflow")
    keras <- reticulate::import("keras")

    # Two devices on any machine: the halves of its CPU.
    half <- tf$config$LogicalDeviceConfiguration()
    cpu <- tf$config$list_physical_devices("CPU")[[1]]
    tf$config$set_logical_device_configuration(cpu, list(half, half))

    strategy <- tf$distribute$MirroredStrategy(c("CPU:0", "CPU:1"))
    stopifnot(strategy$num_replicas_in_sync == 2)

    make_model <- function(normalize) {
      keras$utils$set_random_seed(1L)
      model <- keras$Sequential(list(
        keras$Input(c(8L, 8L, 3L)), keras$layers$Conv2D(8L, 3L)
      )) |> normalize()
      model$add(keras$layers$Flatten())
      model$add(keras$layers$Dense(1L))
      model$compile(keras$optimizers$SGD(0.02), "mse")
      model
    }
    set.seed(1)
    x <- array(rnorm(32 * 8 * 8 * 3), c(32, 8, 8, 3))
    y <- array(rnorm(32), c(32, 1))
    trained <- function(model) {
      model$fit(x, y, batch_size = 8L, epochs = 2L, verbose = 0L, shuffle = FALSE)
      unlist(model$get_weights())
    }
    difference <- function(normalize) {
      with(strategy$scope(), model <- make_model(normalize))
      several <- trained(model)
      one <- trained(make_model(normalize))
      max(abs(several - one)) / max(abs(one))
    }

    plain <- difference(function(model) model)
    group <- difference(function(model) layer_group_normalization(model, groups = 4))
    batch <- difference(function(model) {
      model$add(keras$layers$BatchNormalization())
      model
    })
    cat("plain", plain, "\ngroup", group, "\nbatch", batch, "\n")
    if (plain > 1e-6) quit(status = 0) # not for the layer to mend
    stopifnot(group < 1e-6, batch > 0.01)
  })
  plain <- as.numeric(sub("plain ", "", grep("^plain ", output, value = TRUE)))
  skip_if(
    plain > 1e-6,
    paste("fit() of Keras", keras$`__version__`, "differs without normalization, too")
  )
})
