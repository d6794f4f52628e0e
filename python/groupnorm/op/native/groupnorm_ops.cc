// What the library shows: operations, to TensorFlow as it is loaded, and to XLA when it
// is asked to; and how many threads they may use.

#include <string>

#include "pool.h"
#include "tensorflow_ops.h"
#include "xla_calls.h"

#define GROUPNORM_SHOWN extern "C" __attribute__((visibility("default")))

// tf.load_op_library looks at what registers itself while it is loaded.
static const bool registered = groupnorm::tensorflow::Register();

// Give XLA the operations, once. `api` is what its GetXlaFfiApi() returns. Returns why
// that was not possible, or null.
GROUPNORM_SHOWN const char* groupnorm_register_with_xla(const XLA_FFI_Api* api) {
  static const std::string why_not = groupnorm::xla::Register(api);
  return why_not.empty() ? nullptr : why_not.c_str();
}

GROUPNORM_SHOWN void groupnorm_set_threads(int threads) {
  groupnorm::SetThreads(threads);
}
