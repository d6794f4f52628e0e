"""The shapes in which an input is read, whatever its rank and its channel axis.

There are two, so that no tensor of the input's size is ever transposed, and so that
what is broadcast against one has long runs; and one for few numbers, where what counts
is how many operations there are. Statistics of groups and values of channels have
shapes of their own, which broadcast against one another.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from groupnorm.op import context, reductions
from groupnorm.op.reductions import LONGEST_SUM, Size

Reduction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# With so many numbers side by side an elementwise operation runs at full speed.
_WIDE_ENOUGH = 128
# Coefficients for a whole row are few beside an input of so many rows.
_MANY_ROWS = 8
# An operation on so few numbers takes about as long as to start it; on fewer, where it
# has to go through four axes for it.
_FEW, _FEW_IF_TORN = 65536, 8192


def view(x: tf.Tensor, axis: int, groups: int, masked: bool) -> View:
    """The shape in which to read `x`, and all that has its shape."""
    sizes = reductions.sizes_of(x)
    size = sizes[axis] // groups
    before, after = math.prod(sizes[1:axis]), math.prod(sizes[axis + 1 :])
    if reductions.run_as_written() and (
        _is(1, before * after) or _are_few(sizes, groups, before)
    ):
        return Whole(sizes, groups, size, before, after)
    if _is(1, before):
        return Pieces(sizes, groups, size, after)
    repeats = 1 if masked or not _is(1, after) else _repeats(before, groups * size)
    return Rows(sizes, groups, size, before, repeats, after)


class View(abc.ABC):
    """What the shapes have in common."""

    holds_few = False
    _group_axes: tuple[int, ...] = (1,)  # of its numbers alone, in the input

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

    def part(self, values: tf.Tensor) -> tf.Tensor:
        """An eighth of each group or more, in the middle, if sizes are known."""
        axis = max(self._group_axes, key=lambda axis: values.shape[axis] or 0)
        length = values.shape[axis]
        if length is None or length < 2:
            return values
        count = -(-length // 8)
        begin, size = [0] * values.shape.rank, [-1] * values.shape.rank
        begin[axis], size[axis] = (length - count) // 2, count
        return tf.slice(values, begin, size)

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean over each group."""
        return self._reduce(values, reductions.mean)

    def mean_square(self, values: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean of the squares over each group."""
        if not (self._can_take_norms() and reductions.run_as_written()):
            return self.mean(tf.square(values))
        share = self._groups / math.prod(self._sizes[1:])

        # A norm has no gradient where it is 0, its square has.
        @tf.custom_gradient
        def by_norms(values: tf.Tensor) -> Any:
            squares = tf.square(self._reduce(values, reductions.norm)) * share
            return squares, lambda d: values * self.spread(d * (2 * share))

        return by_norms(values)

    @abc.abstractmethod
    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        """Values of channels: the mean over the positions."""

    @abc.abstractmethod
    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean over the channels of each group."""

    @abc.abstractmethod
    def spread(self, statistics: tf.Tensor) -> tf.Tensor:
        """Statistics, to be broadcast against the input."""

    @abc.abstractmethod
    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        """A parameter, to be broadcast against values of channels."""

    @abc.abstractmethod
    def beside_input(self, parameter: tf.Tensor) -> tf.Tensor:
        """A parameter, to be broadcast against what `spread` returns."""

    @abc.abstractmethod
    def read_mask(self, mask: tf.Tensor) -> tf.Tensor:
        """A mask of the input's shape with one channel, to be broadcast against it."""

    @abc.abstractmethod
    def _reduce(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        """Reduce each group to a statistic."""

    @abc.abstractmethod
    def _can_take_norms(self) -> bool:
        """Whether norms are as accurate here as means, and worth it."""


class Whole(View):
    """Every axis is there, and every reduction is one operation.

    Inputs are `(N, before, groups, size, after)`, statistics `(N, 1, groups, 1, 1)`,
    values of channels `(N, 1, groups, size, 1)`.
    """

    holds_few = True

    def __init__(
        self, sizes: list[Size], groups: int, size: int, before: Size, after: Size
    ) -> None:
        shape = [sizes[0], before, groups, size, after]
        super().__init__(sizes, shape, groups, before * after)
        self._of_mask = [sizes[0], before, 1, 1, after]
        self._of_parameter = [groups, size, 1]
        # In one go, a group in pieces would be brought together in memory first.
        lengths = {(1,): before, (3, 4): size * after}
        pieces = [axes for axes, length in lengths.items() if not _is(1, length)]
        sums = [(1, 2, 3, 4)] if groups == 1 else pieces
        self._sums = [tf.constant(axes) for axes in sums]

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        if _is(1, self.positions):
            return values
        return tf.reduce_mean(values, [1, 4], keepdims=True)

    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(per_channel, 3, keepdims=True)

    def spread(self, statistics: tf.Tensor) -> tf.Tensor:
        return statistics

    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        return tf.reshape(parameter, self._of_parameter)

    def beside_input(self, parameter: tf.Tensor) -> tf.Tensor:
        return self.beside_channels(parameter)

    def read_mask(self, mask: tf.Tensor) -> tf.Tensor:
        return tf.reshape(mask, self._of_mask)

    def _reduce(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        for axes in self._sums:
            values = reduction(values, axes)
        return values

    def _can_take_norms(self) -> bool:
        return False  # three operations instead of two


class Pieces(View):
    """Each group is in one piece, because no positions come before the channels.

    Inputs are `(N, groups, a, b, c)`, where `a * b * c` is a piece, cut where one sum
    ends and the next begins: `c` is all positions, and `a * b` the channels, unless
    positions are so many that `a` is all channels. Statistics are
    `(N, groups, 1, 1, 1)`, values of channels like inputs of one position.
    """

    _group_axes = (2, 3, 4)

    def __init__(
        self, sizes: list[Size], groups: int, size: int, positions: Size
    ) -> None:
        if isinstance(positions, int) and positions > LONGEST_SUM:
            piece = [size, *_cut(positions, LONGEST_SUM)]
            self._channel_axes, self._position_axes = [2], [3, 4]
            inner, outer = [4], [2, 3]
        else:
            most = LONGEST_SUM // (positions or 1) if isinstance(positions, int) else 1
            piece = [*_cut(size, most), positions]
            self._channel_axes, self._position_axes = [2, 3], [4]
            inner, outer = [3, 4], [2]
        super().__init__(sizes, [sizes[0], groups, *piece], groups, positions)
        self._piece = dict(zip((2, 3, 4), piece, strict=True))
        in_one = reductions.can_be_added_at_once(*piece)
        sums = [[2, 3, 4]] if in_one else [inner, outer]
        self._sums = [tf.constant(axes) for axes in sums]

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        if _is(1, self.positions):
            return values
        return reductions.mean(values, tf.constant(self._position_axes))

    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(per_channel, self._channel_axes, keepdims=True)

    def spread(self, statistics: tf.Tensor) -> tf.Tensor:
        return statistics

    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        return tf.reshape(parameter, [self._groups, *self._only(self._channel_axes)])

    def beside_input(self, parameter: tf.Tensor) -> tf.Tensor:
        return self.beside_channels(parameter)

    def read_mask(self, mask: tf.Tensor) -> tf.Tensor:
        shape = [self._sizes[0], 1, *self._only(self._position_axes)]
        return tf.reshape(mask, shape)

    def _only(self, axes: list[int]) -> list[Size]:
        return [size if axis in axes else 1 for axis, size in self._piece.items()]

    def _reduce(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        for axes in self._sums:
            values = reduction(values, axes)
        return values

    def _can_take_norms(self) -> bool:
        return len(self._sums) == 1


class Rows(View):
    """Every row holds all channels: `(N, rows, repeats, C)` or `(N, rows, C, run)`.

    The first is for channels at the end; each row holds several positions, if they are
    short. A sample of one group is one piece all the same. Statistics are
    `(N, 1, groups, 1, 1)` and values of channels `(N, 1, groups, size, 1)`.
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
        self._at_the_end = _is(1, after)
        row = [repeats, channels] if self._at_the_end else [channels, after]
        super().__init__(sizes, [sizes[0], rows, *row], groups, before * after)
        self._rows, self._row = rows, [repeats, groups, size, after]
        self._by_group = tf.stack([sizes[0], *self._row])
        self._is_one_piece = self._at_the_end and groups == 1
        along = [2, 3] if self._is_one_piece else [1, 3, 4]
        self._down, self._along = tf.constant([1]), tf.constant(along)
        self._is_one_sum = self._is_one_piece and reductions.can_be_added_at_once(
            rows, *row
        )
        if self._is_one_piece:
            self._spread_shape = tf.constant([-1, 1, 1, 1])
            self._statistic_shape = tf.constant([-1, 1, 1, 1, 1])
            self._row_shape = tf.constant(row)
        else:
            self._times = tf.constant([1, repeats, 1, size, 1])
            of_a_row = row if self._at_the_end else [channels, 1]
            self._spread_shape = tf.constant([-1, 1, *of_a_row])

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        row = tf.reshape(reductions.mean(values, self._down), self._by_group)
        if self._at_the_end and self._row[0] == 1:
            return row
        return reductions.mean(row, tf.constant([1, 4]))

    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(per_channel, 3, keepdims=True)

    def spread(self, statistics: tf.Tensor) -> tf.Tensor:
        if self._is_one_piece:
            return tf.reshape(statistics, self._spread_shape)
        copies = reductions.tile(statistics, self._times)
        return tf.reshape(copies, self._spread_shape)

    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        return tf.reshape(parameter, [self._groups, -1, 1])

    def beside_input(self, parameter: tf.Tensor) -> tf.Tensor:
        if self._is_one_piece and self._row[0] > 1:
            return tf.broadcast_to(parameter, self._row_shape)
        if self._at_the_end:
            return parameter
        return tf.reshape(parameter, self._spread_shape)

    def read_mask(self, mask: tf.Tensor) -> tf.Tensor:
        return tf.reshape(mask, [self._sizes[0], self._rows, 1, self._row[-1]])

    def _reduce(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        if self._is_one_sum:
            found = reduction(values, tf.constant([1, 2, 3]))
            return tf.reshape(found, self._statistic_shape)
        if self._is_one_piece:
            found = reduction(reduction(values, self._along), self._down)
            return tf.reshape(found, self._statistic_shape)
        row = tf.reshape(reduction(values, self._down), self._by_group)
        return reduction(row, self._along)

    def _can_take_norms(self) -> bool:
        repeats, _, size, after = self._row
        return self._is_one_sum or (
            reductions.are_short(self._rows)
            and reductions.are_short(repeats, size, after)
        )


def _are_few(sizes: list[Size], groups: int, before: Size) -> bool:
    """Whether all numbers are known to be few, and those down a column too."""
    if not all(isinstance(size, int) for size in [*sizes, before]):
        return False
    numbers, sample = math.prod(sizes), math.prod(sizes[1:])
    is_torn = before > 1 and groups > 1 and sample > before * groups
    most = _FEW_IF_TORN if is_torn else _FEW
    return sample > 0 and numbers <= most and before <= LONGEST_SUM


def _is(number: int, size: Size) -> bool:
    """Whether a size is known to be this number."""
    return isinstance(size, int) and size == number


def _cut(length: int, most: int) -> tuple[int, int]:
    """The length as a product whose second factor is as large as it may be."""
    second = max(d for d in reductions.divisors(length) if d <= max(most, 1))
    return length // second, second


def _repeats(positions: Size, channels: int) -> int:
    """How many positions are best read as one row."""
    if not isinstance(positions, int) or not positions or context.is_compiled():
        return 1
    fitting = [
        d
        for d in reductions.divisors(positions)
        if _MANY_ROWS <= positions // d <= LONGEST_SUM
    ]
    wide = (d for d in fitting if d * channels >= _WIDE_ENOUGH)
    return next(wide, max(fitting, default=1))
