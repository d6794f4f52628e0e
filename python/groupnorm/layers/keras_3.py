"""The layers for Keras 3."""

from __future__ import annotations

from typing import Any

import keras

from groupnorm.layers import addons
from groupnorm.layers.mixins import GroupNormalizationMixin, InstanceNormalizationMixin


class _TensorFlowLayer(keras.layers.Layer):
    def __new__(cls, *args: Any, **kwargs: Any) -> _TensorFlowLayer:
        backend = keras.config.backend()
        if backend != "tensorflow":
            raise RuntimeError(
                f"{cls.__name__} computes with TensorFlow, and Keras is using its "
                f"{backend!r} backend: set the environment variable "
                "KERAS_BACKEND=tensorflow before Keras is loaded."
            )
        return super().__new__(cls, *args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        # Keras numbers its tensors. Printed, this one says whose output it is.
        tensor = super().compute_output_spec(*args, **kwargs)
        tensor.name = self.name
        return tensor


@keras.saving.register_keras_serializable(package="groupnorm")
class GroupNormalization(GroupNormalizationMixin, _TensorFlowLayer):
    """Group normalization (Wu & He 2018, arXiv:1803.08494).

    For each sample, the `C` channels are split in order into `groups` groups, and each
    group is normalized over its channels and all positions:

        y = (x - mean) / sqrt(variance + epsilon) * gamma[c] + beta[c]

    No statistics are shared between samples, so the layer does the same at any batch
    size, in training and in inference. `groups=1` is layer normalization over all axes
    but the batch's; `groups=C` (or -1) is instance normalization. Put it after a
    convolution or a dense layer, which then needs no bias, and before the activation.

    Args:
        groups: Number of groups, a divisor of the number of channels, or -1 for one
            group per channel. 8, 16 or 32 is a good first choice.
        axis: The channel axis: 1 is the axis after the batch axis, -1 the last one.
        epsilon: Added to the variance, not negative.
        center: Whether to add the weight `beta`.
        scale: Whether to multiply by the weight `gamma`.
        beta_initializer: Initializer of `beta`.
        gamma_initializer: Initializer of `gamma`.
        beta_regularizer: Regularizer of `beta`, or `None`.
        gamma_regularizer: Regularizer of `gamma`, or `None`.
        beta_constraint: Constraint on `beta`, or `None`.
        gamma_constraint: Constraint on `gamma`, or `None`.
        use_mask: Whether positions that a Keras mask marks as padding are left out of
            the statistics. The mask is passed on in either case.
        **kwargs: Arguments of every Keras layer, such as `name`, `dtype`, `trainable`,
            `input_shape` and `activity_regularizer`.

    Input shape:
        `(N, d1, ..., dk)` with k >= 1, any floating dtype. The channel axis must be of
        known size; all others may be unknown.

    Output shape:
        That of the input, in the layer's compute dtype. Statistics are float64 for a
        float64 input and float32 for any other.

    Weights:
        `gamma` and `beta`, in this order, each of shape `(C,)`.

    Raises:
        ValueError: An argument is out of its range, or does not fit the input's shape.
        RuntimeError: Keras runs on another backend than TensorFlow.

    Example:
        >>> import tensorflow as tf
        >>> layer = GroupNormalization(groups=8)
        >>> layer(tf.random.normal((4, 28, 28, 32))).shape
        TensorShape([4, 28, 28, 32])
    """

    __module__ = "groupnorm.layers"  # by which users and files know it
    _keras = keras


@keras.saving.register_keras_serializable(package="groupnorm")
class InstanceNormalization(InstanceNormalizationMixin, _TensorFlowLayer):
    """Instance normalization (Ulyanov et al. 2016, arXiv:1607.08022).

    Group normalization with one group per channel: every channel of every sample is
    normalized over its positions. Arguments, shapes, weights and errors are those of
    `GroupNormalization`, without `groups`.

    Example:
        >>> import tensorflow as tf
        >>> layer = InstanceNormalization()
        >>> layer(tf.random.normal((4, 28, 28, 32))).shape
        TensorShape([4, 28, 28, 32])
    """

    __module__ = "groupnorm.layers"  # by which users and files know it
    _keras = keras


addons.register(keras, GroupNormalization, InstanceNormalization)
