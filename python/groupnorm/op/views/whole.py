"""Few numbers: what counts is how many operations, or loops of XLA's, there are."""

from __future__ import annotations

import tensorflow as tf

from groupnorm.op import context, reductions
from groupnorm.op.reductions import LONGEST_SUM, Size, Sizes
from groupnorm.op.views.base import View, is_number, middle, usual_numbers

# An operation on so few numbers takes about as long as to start it, or as to start the
# threads that a norm of them would be given; on fewer, where it has to go through four
# axes for it, and a group is in pieces that are not long. From 106,000 on, these
# operations are given threads, too.
_FEW, _FEW_IF_TORN = 102_400, 8192
_LONG = 24
# Fewer numbers down the samples are added up slowly: better later, when they are few.
_FEW_DOWN = 8


class Whole(View):
    """Every axis is there, so that nothing has to be tiled or read in another shape.

    Inputs are `(N, before, groups, size, after)`, statistics `(N, 1, groups, 1, 1)`,
    values of channels `(N, 1, groups, size, 1)`.
    """

    _group_axes = (1, 3, 4)

    def __init__(
        self, sizes: Sizes, groups: int, size: int, before: Size, after: Size
    ) -> None:
        shape = [sizes[0], before, groups, size, after]
        super().__init__(sizes, shape, groups, before * after)
        # Few operations are what counts where TensorFlow runs them one by one.
        self.holds_few = context.is_run_as_written()
        self._of_mask = [sizes[0], before, 1, 1, after]
        self._of_parameter = tf.constant([groups, size, 1])
        # In one go, a group in pieces would be brought together in memory first.
        lengths = {(1,): before, (3, 4): size * after}
        if before < _FEW_DOWN and size * after >= _LONG:
            lengths = dict(reversed(lengths.items()))
        pieces = [axes for axes, length in lengths.items() if not is_number(1, length)]
        sums = [(1, 2, 3, 4)] if groups == 1 else pieces
        self._sums = [tf.constant(axes) for axes in sums]

    @property
    def takes_off_means(self) -> bool:
        return True

    def near(self, values: tf.Tensor) -> tf.Tensor:
        if self.holds_few:
            is_short = reductions.are_short(self.numbers)
            return self.one(values) if is_short else self.mean(values)
        # For XLA only, and at most sixteen numbers: an eighth is one of them, or two.
        found = self.one(values)
        if reductions.is_one_near(self.numbers, self.positions):
            return found
        return (found + middle(values, self._group_axes, before=1)) * 0.5

    def moments(self, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # For XLA only, with all that a group has.
        axes = tf.constant(self._group_axes)
        return reductions.mean_of_pairs(values, tf.square(values), axes)

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        if is_number(1, self.positions):
            return values
        return tf.reduce_mean(values, [1, 4], keepdims=True)

    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(per_channel, 3, keepdims=True)

    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        return tf.reshape(parameter, self._of_parameter)

    def read_mask(self, mask: tf.Tensor) -> tf.Tensor:
        return tf.reshape(mask, self._of_mask)

    def _can_take_norms(self) -> bool:
        # Three operations instead of two, of which one goes over all numbers.
        return is_number(1, self.positions)


def are_few(sizes: list[Size], groups: int, before: Size) -> bool:
    """Whether all numbers are known to be few, and those down a column too."""
    numbers = usual_numbers(sizes)
    if not numbers or not isinstance(before, int):
        return False
    piece = reductions.product(*sizes[1:]) // (before * groups)
    is_torn = before > 1 and groups > 1 and 1 < piece < _LONG
    most = _FEW_IF_TORN if is_torn else _FEW
    return numbers <= most and before <= LONGEST_SUM
