"""Group normalization for TensorFlow and Keras, called from Python or from R.

`GroupNormalization` and `InstanceNormalization` are the layers for the Keras that
`tf.keras` is: Keras 3, or tf_keras where `TF_USE_LEGACY_KERAS` is set or Keras 3 is not
installed. `groupnorm.layers` and `groupnorm.legacy` have those of either by name.
`group_normalization` is the function behind them. `migrate` brings over models that
were saved with TensorFlow Addons. `implementation` says what computes on this machine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from groupnorm import layers
from groupnorm._version import __version__

if TYPE_CHECKING:
    from groupnorm.layers import GroupNormalization, InstanceNormalization
    from groupnorm.migration import migrate
    from groupnorm.op.choice import implementation
    from groupnorm.op.function import group_normalization

__all__ = [
    "GroupNormalization",
    "InstanceNormalization",
    "__version__",
    "group_normalization",
    "implementation",
    "migrate",
]

# Where it is. Nothing is loaded before it is used: neither Keras nor TensorFlow need be
# there for this package to say that they are not.
_HOME = {
    "group_normalization": "groupnorm.op.function",
    "implementation": "groupnorm.op.choice",
    "migrate": "groupnorm.migration",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in layers.__all__:
        return getattr(layers.generation.default_layers(), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
