"""The shapes in which an input is read, whatever its rank and its channel axis.

There are two, so that no tensor of the input's size is ever transposed, and so that
what is broadcast against one has long runs. Statistics of groups and values of channels
have shapes of their own, which broadcast against one another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from groupnorm.op import context, reductions
from groupnorm.op.reductions import LONGEST_SUM, Size

Reduction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# With so many numbers side by side an elementwise operation runs at full speed.
_WIDE_ENOUGH = 128
# Coefficients for a whole row are few beside an input of so many rows.
_MANY_ROWS = 8


def view(x: tf.Tensor, axis: int, groups: int, masked: bool) -> View:
    """The shape in which to read `x`, and all that has its shape."""
    sizes = reductions.sizes_of(x)
    before, after = math.prod(sizes[1:axis]), math.prod(sizes[axis + 1 :])
    channels = sizes[axis] // groups
    if _is(1, before):
        return Pieces(sizes, groups, channels, after)
    repeats = _repeats(before, sizes[axis]) if _is(1, after) and not masked else 1
    return Rows(sizes, groups, channels, before, repeats, after)


class View:
    """What the two shapes have in common."""

    def __init__(
        self, sizes: list[Size], shape: list[Size], groups: int, positions: Size
    ) -> None:
        self.positions = positions  # of a sample
        self._sizes, self._groups = sizes, groups
        self._shape = tf.stack(shape)  # one constant for all that is read in it

    def read(self, x: tf.Tensor) -> tf.Tensor:
        """The input, or what has its shape, in this shape."""
        return tf.reshape(x, self._shape)

    def restore(self, values: tf.Tensor) -> tf.Tensor:
        """What is in this shape, in that of the input."""
        return tf.reshape(values, self._sizes)

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean over each group."""
        return self._reduce(values, reductions.mean)

    def mean_square(self, values: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean of the squares over each group."""
        if not (self._has_short_sums and reductions.can_take_norms()):
            return self.mean(tf.square(values))
        share = self._groups / math.prod(self._sizes[1:])

        # A norm has no gradient where it is 0, its square has.
        @tf.custom_gradient
        def by_norms(values: tf.Tensor) -> tuple:
            squares = tf.square(self._reduce(values, reductions.norm)) * share
            return squares, lambda d: values * self.spread(d * (2 * share))

        return by_norms(values)


class Pieces(View):
    """Each group is in one piece, because no positions come before the channels.

    Inputs are `(N, groups, size, blocks, block)`, the last two being the positions,
    statistics `(N, groups, 1, 1, 1)` and values of channels `(N, groups, size, 1, 1)`.
    """

    def __init__(
        self, sizes: list[Size], groups: int, size: int, positions: Size
    ) -> None:
        blocks, block = _blocks(positions)
        super().__init__(
            sizes, [sizes[0], groups, size, blocks, block], groups, positions
        )
        self.mask_shape = [sizes[0], 1, 1, blocks, block]
        self._parameter_shape = [groups, size, 1, 1]
        self._has_short_sums = reductions.are_short(block) and reductions.are_short(
            size, blocks
        )
        in_one = reductions.are_short(size, blocks, block)
        levels = [[2, 3, 4]] if in_one else [[4], [2, 3]]
        self._levels = [tf.constant(axes) for axes in levels]

    def _reduce(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        for axes in self._levels:
            values = reduction(values, axes)
        return values

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        """Values of channels: the mean over the positions."""
        if _is(1, self.positions):
            return values
        return reductions.mean(values, tf.constant([3, 4]))

    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean over the channels of each group."""
        return tf.reduce_mean(per_channel, 2, keepdims=True)

    def spread(self, statistics: tf.Tensor) -> tf.Tensor:
        """Statistics, to be broadcast against the input."""
        return statistics

    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        """A parameter, to be broadcast against values of channels."""
        return tf.reshape(parameter, self._parameter_shape)

    # To be broadcast against the input and against what `spread` returns.
    beside_input = beside_channels


class Rows(View):
    """Every row holds all channels: `(N, rows, repeats, C)` or `(N, rows, C, run)`.

    The first is for channels at the end; each row holds several positions, if they are
    short. Statistics are `(N, 1, groups, 1, 1)` and values of channels
    `(N, 1, groups, size, 1)`.
    """

    def __init__(
        self,
        sizes: list[Size],
        groups: int,
        size: int,
        before: Size,
        repeats: int,
        after: Size,
    ) -> None:
        rows, channels = before // repeats, groups * size
        at_the_end = _is(1, after)
        row = [repeats, channels] if at_the_end else [channels, after]
        super().__init__(sizes, [sizes[0], rows, *row], groups, before * after)
        self.mask_shape = [sizes[0], rows, 1, after]
        self._by_group = tf.stack([sizes[0], repeats, groups, size, after])
        self._spread_shape = tf.stack([-1, 1, *(row if at_the_end else [channels, 1])])
        self._times = tf.constant([1, repeats, 1, size, 1])
        self._parameter_shape = [groups, size, 1]
        self._at_the_end, self._repeats = at_the_end, repeats
        self._has_short_sums = reductions.are_short(rows) and reductions.are_short(
            repeats, size, after
        )
        self._rows_axis, self._row_axes = tf.constant([1]), tf.constant([1, 3, 4])

    def _reduce(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        row = reduction(values, self._rows_axis)
        return reduction(tf.reshape(row, self._by_group), self._row_axes)

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        """Values of channels: the mean over the positions."""
        row = reductions.mean(values, self._rows_axis)
        row = tf.reshape(row, self._by_group)
        if self._at_the_end and self._repeats == 1:
            return row
        return reductions.mean(row, tf.constant([1, 4]))

    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean over the channels of each group."""
        return tf.reduce_mean(per_channel, 3, keepdims=True)

    def spread(self, statistics: tf.Tensor) -> tf.Tensor:
        """Statistics, to be broadcast against the input."""
        return tf.reshape(reductions.tile(statistics, self._times), self._spread_shape)

    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        """A parameter, to be broadcast against values of channels."""
        return tf.reshape(parameter, self._parameter_shape)

    def beside_input(self, parameter: tf.Tensor) -> tf.Tensor:
        """A parameter, to be broadcast against what `spread` returns."""
        if self._at_the_end:
            return parameter
        return tf.reshape(parameter, self._spread_shape)


def _is(number: int, size: Size) -> bool:
    """Whether a size is known to be this number."""
    return isinstance(size, int) and size == number


def _blocks(length: Size) -> tuple[int, Size]:
    """How many blocks of which size make up a length, none of them too long."""
    if not isinstance(length, int) or length <= LONGEST_SUM:
        return 1, length
    block = max(d for d in reductions.divisors(length) if d <= LONGEST_SUM)
    return length // block, block


def _repeats(positions: Size, channels: int) -> int:
    """How many positions are best read as one row."""
    if not isinstance(positions, int) or not positions or context.is_compiled_for_cpu():
        return 1
    fitting = [
        d
        for d in reductions.divisors(positions)
        if _MANY_ROWS <= positions // d <= LONGEST_SUM
    ]
    wide = (d for d in fitting if d * channels >= _WIDE_ENOUGH)
    return next(wide, max(fitting, default=1))
