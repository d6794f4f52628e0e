"""The layers for tf_keras, the older Keras generation (Keras 2)."""

from __future__ import annotations

from typing import ClassVar

import tf_keras

from groupnorm.layers import addons
from groupnorm.layers.mixins import GroupNormalizationMixin, InstanceNormalizationMixin


class _Legacy:
    _keras = tf_keras
    _no_autocast: ClassVar[dict[str, bool]] = {"experimental_autocast": False}


@tf_keras.utils.register_keras_serializable(package="groupnorm")
class GroupNormalization(_Legacy, GroupNormalizationMixin, tf_keras.layers.Layer):
    """`groupnorm.layers.GroupNormalization` for tf_keras: all else is the same.

    Example:
        >>> import tensorflow as tf
        >>> layer = GroupNormalization(groups=8)
        >>> layer(tf.random.normal((4, 28, 28, 32))).shape
        TensorShape([4, 28, 28, 32])
    """

    __module__ = "groupnorm.legacy"  # by which users and files know it


@tf_keras.utils.register_keras_serializable(package="groupnorm")
class InstanceNormalization(_Legacy, InstanceNormalizationMixin, tf_keras.layers.Layer):
    """`groupnorm.layers.InstanceNormalization` for tf_keras: all else is the same."""

    __module__ = "groupnorm.legacy"


addons.register(tf_keras, GroupNormalization, InstanceNormalization)
