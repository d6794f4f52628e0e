"""Few numbers of half precision, which XLA adds without rounding."""

from __future__ import annotations

import tensorflow as tf

from groupnorm.op import reductions
from groupnorm.op.reductions import Sizes
from groupnorm.op.views.base import View


class Exact(View):
    """One position, as in dense layers: `(N, groups, size)`.

    The mean itself is taken off, and nothing is left of it. It is rounded where `size`
    is no power of two; a number times `size`, less the sum of its group, is not. So the
    shift is that sum then. Statistics are `(N, groups, 1)`, values of channels like
    inputs.
    """

    _group_axes = (2,)

    def __init__(self, sizes: Sizes, groups: int, size: int) -> None:
        super().__init__(sizes, [sizes[0], groups, size], groups, 1)
        self._size = size
        is_shared_exactly = size & (size - 1) == 0
        self._times = 1 if is_shared_exactly else size
        self._along = tf.constant(self._group_axes)

    def near(self, values: tf.Tensor) -> tf.Tensor:
        total = tf.reduce_sum(values, self._along, keepdims=True)
        return total * (self._times / self._size)

    def less(self, values: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
        return (values * self._times - shift) * (1 / self._times)

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
