"""The native kernel: loading it, and calling it.

    library.py      the compiled library, and its operations in TensorFlow
    xla.py          the same under XLA
    gradients.py    what TensorFlow must know to differentiate them
    threads.py      how many threads it may use

Whether it is used is decided elsewhere. TensorFlow is told of the gradients here, which
needs no kernel: it looks for them by the names of the operations. In C++, `kernel.h`
has the numerics, `operations.h` what they are asked for, `tensorflow_ops.h` and
`xla_calls.h` who asks.
"""

from groupnorm.op.native import gradients as _gradients  # noqa: F401
from groupnorm.op.native import xla
from groupnorm.op.native.library import backward, forward, load

__all__ = ["backward", "forward", "load", "xla"]
