"""Groups in one piece each, as with channels first."""

from __future__ import annotations

import tensorflow as tf

from groupnorm.op import context, reductions
from groupnorm.op.reductions import LONGEST_SUM, Size, Sizes
from groupnorm.op.views.base import View, is_number, usual_numbers


class Pieces(View):
    """Each group is in one piece, because no positions come before the channels.

    Inputs are `(N, groups, a, b, c)`, where `a * b * c` is a piece, cut where one sum
    ends and the next begins: `c` is all positions, and `a * b` the channels, unless
    positions are so many that `a` is all channels. For XLA on a CPU what follows are
    then the axes of the input, in which it finds its way without divisions, and few
    positions are two axes where it adds them so. Where TensorFlow's own kernels run,
    which add as a tree, `a` is all channels: an eighth of them lies side by side.
    Statistics are `(N, groups, 1, 1, 1)`, values of channels like inputs of one
    position.
    """

    def __init__(self, sizes: Sizes, groups: int, size: int, after: list[Size]) -> None:
        positions = reductions.product(*after)
        known = isinstance(positions, int)
        if not known or positions <= LONGEST_SUM:
            is_cut = known and not context.is_run_as_written()
            most = LONGEST_SUM // (positions or 1) if is_cut else 1
            if is_number(1, positions) and context.is_compiled_for_cpu():
                most = size  # XLA would need divisions in a cut piece, and adds slices
            nested = reductions.nested(positions, size, usual_numbers(sizes))
            piece = [*_cut(size, most), *nested]
            of_positions = [*range(4, 4 + len(nested))]
            inner, outer = [3, *of_positions], [2]
        elif len(after) > 1 and context.is_compiled_for_cpu():
            piece, of_positions = [size, *after], [*range(3, 3 + len(after))]
            inner, outer = of_positions, [2]
        else:
            piece, of_positions = [size, *_cut_many(positions)], [3, 4]
            inner, outer = [4], [2, 3]
        super().__init__(sizes, [sizes[0], groups, *piece], groups, positions)
        self._piece = dict(enumerate(piece, 2))
        self._group_axes = tuple(self._piece)
        self._position_axes = of_positions
        self._channel_axes = [axis for axis in self._piece if axis not in of_positions]
        self._of_parameter = tf.constant([groups, *self._only(self._channel_axes)])
        in_one = reductions.can_be_added_at_once(*piece)
        self._sums = [
            tf.constant(axes)
            for axes in ([[*self._piece]] if in_one else [inner, outer])
        ]

    def moments(self, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if len(self._sums) == 1 and reductions.are_worth_pairs(values, *self._sums):
            return reductions.mean_of_pairs(values, tf.square(values), *self._sums)
        return super().moments(values)

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        if is_number(1, self.positions):
            return values
        return reductions.mean(values, tf.constant(self._position_axes))

    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        return reductions.mean(per_channel, tf.constant(self._channel_axes))

    def means_channels(
        self, first: tf.Tensor, second: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        axes = tf.constant(self._channel_axes)
        if reductions.are_worth_pairs(first, axes, of_products=True):
            return reductions.mean_of_pairs(first, second, axes)
        return super().means_channels(first, second)

    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        return tf.reshape(parameter, self._of_parameter)

    def read_mask(self, mask: tf.Tensor) -> tf.Tensor:
        shape = [self._sizes[0], 1, *self._only(self._position_axes)]
        return tf.reshape(mask, shape)

    def _only(self, axes: list[int]) -> list[Size]:
        return [size if axis in axes else 1 for axis, size in self._piece.items()]

    def _can_take_norms(self) -> bool:
        return len(self._sums) == 1 and self._has_known_sizes()


def _cut_many(positions: int) -> tuple[int, int]:
    """As many positions as a sum may be long, or half of that, are side by side.

    If no such number divides them, all are: whoever adds them takes slices and a rest.
    """
    cut = _cut(positions, LONGEST_SUM)
    return cut if 2 * cut[1] >= LONGEST_SUM else (1, positions)


def _cut(length: int, most: int) -> tuple[int, int]:
    """The length as a product whose second factor is as large as it may be."""
    second = reductions.divisors(length, max(most, 1))[-1]
    return length // second, second
