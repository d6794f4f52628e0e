"""Few numbers of half precision, of which XLA takes the mean without rounding it."""

from __future__ import annotations

import tensorflow as tf

from groupnorm.op import reductions
from groupnorm.op.reductions import Sizes
from groupnorm.op.views.base import View


class Exact(View):
    """One position, as in dense layers: `(N, groups, size)`.

    The mean itself is taken off, and nothing is left of it. Statistics are
    `(N, groups, 1)`, values of channels like inputs.
    """

    _group_axes = (2,)

    def __init__(self, sizes: Sizes, groups: int, size: int) -> None:
        super().__init__(sizes, [sizes[0], groups, size], groups, 1)
        self._size = size
        self._along = tf.constant(self._group_axes)

    def near(self, values: tf.Tensor) -> tf.Tensor:
        return self.mean(values)

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(values, self._along, keepdims=True)

    def moments(self, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        squares = self.mean(tf.square(values))
        return tf.zeros_like(squares), squares

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        return values

    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        return self.mean(per_channel)

    def means_channels(
        self, first: tf.Tensor, second: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return reductions.mean_of_pairs(first, second, self._along)

    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        return tf.reshape(parameter, [self._groups, self._size])

    def read_mask(self, mask: tf.Tensor) -> tf.Tensor:
        return tf.reshape(mask, [self._sizes[0], 1, 1])
