"""Group normalization for TensorFlow and Keras, called from Python or from R.

`GroupNormalization` and `InstanceNormalization` are the layers for the Keras that
`tf.keras` is: Keras 3, or tf_keras where `TF_USE_LEGACY_KERAS` is set or Keras 3 is not
installed. `groupnorm.layers` and `groupnorm.legacy` have those of either by name.
`group_normalization` is the function behind them. `migrate` brings over models that
were saved with TensorFlow Addons. `build_kernel` makes a CPU faster.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from groupnorm import _generation
from groupnorm._version import __version__

if TYPE_CHECKING:
    from groupnorm._dispatch import build_kernel, implementation
    from groupnorm._migration import migrate
    from groupnorm.layers import GroupNormalization, InstanceNormalization
    from groupnorm.op import group_normalization
else:
    _layers = _generation.layers_for(_generation.default())
    GroupNormalization = _layers.GroupNormalization
    InstanceNormalization = _layers.InstanceNormalization

__all__ = [
    "GroupNormalization",
    "InstanceNormalization",
    "__version__",
    "build_kernel",
    "group_normalization",
    "implementation",
    "migrate",
]

# What not every use of the package needs, and where it is: TensorFlow need not be there
# when Keras runs on another backend (the layers then say so).
_LAZY = {
    "build_kernel": "groupnorm._dispatch",
    "group_normalization": "groupnorm.op",
    "implementation": "groupnorm._dispatch",
    "migrate": "groupnorm._migration",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _serve_other_generation() -> None:
    """Register the layers of the other Keras too, as soon as that one is loaded."""
    try:
        import wrapt
    except ImportError:
        return  # nor is TensorFlow there, which needs wrapt, nor then tf_keras

    def register(keras: ModuleType) -> None:
        if _generation.is_supported(keras.__name__, keras.__version__):
            _generation.layers_for(keras.__name__)

    wrapt.register_post_import_hook(register, _generation.TF_KERAS)
    wrapt.register_post_import_hook(register, _generation.KERAS_3)


_serve_other_generation()
