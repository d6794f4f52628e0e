"""The layers for tf_keras, the older Keras generation (Keras 2)."""

from groupnorm.layers.legacy import GroupNormalization, InstanceNormalization

__all__ = ["GroupNormalization", "InstanceNormalization"]
