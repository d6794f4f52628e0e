# While it loads, before it has read TF_CPP_MIN_LOG_LEVEL, TensorFlow writes lines about
# GPUs that are not there, and again when it first looks for one. They say nothing about
# a test: it does both here, unheard. What it has to say later is shown.

load_tensorflow_unheard <- "
import os
kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 2)
try:
    import tensorflow
    tensorflow.config.get_visible_devices()
finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)
"
# Whatever is missing in Python is for the tests to say.
try(reticulate::py_run_string(load_tensorflow_unheard, local = TRUE), silent = TRUE)
