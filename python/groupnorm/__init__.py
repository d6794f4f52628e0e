"""Group normalization for TensorFlow and Keras, called from Python or from R."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from groupnorm._version import __version__
from groupnorm.layers import GroupNormalization, InstanceNormalization

if TYPE_CHECKING:
    from groupnorm.op import group_normalization

__all__ = [
    "GroupNormalization",
    "InstanceNormalization",
    "__version__",
    "group_normalization",
]


def __getattr__(name: str) -> Any:
    # The function needs TensorFlow, which need not be there when Keras runs on another
    # backend; the layers then say so.
    if name == "group_normalization":
        from groupnorm.op import group_normalization

        return group_normalization
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
