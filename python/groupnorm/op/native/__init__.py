"""The native kernel: loading it, and calling it.

Whether it is used is decided elsewhere. TensorFlow is told of the gradients here, which
needs no kernel: it looks for them by the names of the operations.
"""

from groupnorm.op.native import gradients as _gradients  # noqa: F401
from groupnorm.op.native import xla
from groupnorm.op.native.library import backward, forward, load

__all__ = ["backward", "forward", "load", "xla"]
