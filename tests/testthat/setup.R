# While it loads, before it has read TF_CPP_MIN_LOG_LEVEL, TensorFlow writes lines about
# GPUs that are not there, and again when it first looks for one. They say nothing about
# a test. What is missing in Python is for the tests to say.
try(
  unheard(reticulate::import("tensorflow")$config$get_visible_devices()),
  silent = TRUE
)
