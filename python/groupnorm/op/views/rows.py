"""Rows that hold all channels, for XLA, and for what others read."""

from __future__ import annotations

import tensorflow as tf

from groupnorm.op import context, reductions
from groupnorm.op.reductions import Size, Sizes
from groupnorm.op.views.base import View, is_number, middle
from groupnorm.op.views.cuts import Cut

# Of more rows XLA on a CPU makes better loops than of one piece, and coefficients for a
# row are written down for it.
_FEW_ROWS = 16


class Rows(View):
    """Every row holds all channels: `(N, rows, repeats, C)` or `(N, rows, C, run)`.

    The first is for channels at the end, `(N, rows, C)` if each row holds one position;
    it holds several if they are short. Many rows are in blocks:
    `(N, blocks, rows, repeats, C)`. A sample of one group is mostly one piece all the
    same. Statistics are `(N, 1, groups, 1, 1)` and values of channels
    `(N, 1, groups, size, 1)`.
    """

    def __init__(
        self,
        sizes: Sizes,
        groups: int,
        size: int,
        before: Size,
        cut: Cut,
        after: Size,
    ) -> None:
        blocks, repeats = cut
        rows = reductions.quotient(before, blocks * repeats)
        channels = groups * size
        self._at_the_end = is_number(1, after)
        row = [channels] if self._at_the_end else [channels, after]
        if repeats > 1:
            row = [repeats, *row]
        blocked = [blocks, rows] if blocks > 1 else [rows]
        positions = reductions.product(before, after)
        super().__init__(sizes, [sizes[0], *blocked, *row], groups, positions)
        self._repeats, self._size = repeats, size
        self._channels = [groups, size, after]
        self._columns = blocks * repeats  # that a channel's numbers are in
        self._has_one_sum = all(is_number(1, n) for n in (self._columns, size, after))
        samples = -1 if isinstance(after, int) else sizes[0]
        self._by_group = tf.stack([samples, self._columns, *self._channels])
        self._are_one_axis = len(sizes) == 3  # the positions, in the input
        self._are_few = isinstance(rows, int) and rows <= _FEW_ROWS
        one_is_best = self._are_few or not context.is_compiled_for_cpu()
        self._is_one_piece = self._at_the_end and groups == 1 and one_is_best
        self._blocked = [sizes[0], *blocked]
        self._down = tf.constant([len(blocked)])
        self._group_axes = (len(blocked),)
        if self._is_one_piece:
            in_one = reductions.can_be_added_at_once(rows, *row)
            along = [*range(2, 2 + len(row))]
            sums = [[1, *along]] if in_one else [along, [1]]
            self._sums = [tf.constant(axes) for axes in sums]
            self._spread_shape = tf.constant([-1, 1, *[1] * len(row)])
            self._statistic_shape = tf.constant([-1, 1, 1, 1, 1])
            self._row_shape = tf.constant(row)
        else:
            self._along = tf.constant([1, 3, 4])
            self._times = tf.constant([1, repeats, 1, size, 1])
            of_a_row = row if self._at_the_end else [channels, 1]
            self._spread_shape = tf.constant([-1, *[1] * len(blocked), *of_a_row])

    def one(self, values: tf.Tensor) -> tf.Tensor:
        row = tf.reshape(middle(values, self._group_axes), self._by_group)
        return middle(row, (3, 4))

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        if self._is_one_piece:
            return tf.reshape(super().mean(values), self._statistic_shape)
        row = self._mean_down(values)
        return row if self._has_one_sum else reductions.mean(row, self._along)

    def moments(self, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if self._is_one_piece or not reductions.are_worth_pairs(values, self._down):
            return super().moments(values)
        rows = reductions.mean_of_pairs(values, tf.square(values), self._down)
        mean, square = (tf.reshape(row, self._by_group) for row in rows)
        return reductions.mean(mean, self._along), reductions.mean(square, self._along)

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        row = self._mean_down(values)
        if self._at_the_end and self._columns == 1:
            return row
        return reductions.mean(row, tf.constant([1, 4]))

    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        if self._size == 1:
            return per_channel
        return tf.reduce_mean(per_channel, 3, keepdims=True)

    def spread(self, statistics: tf.Tensor) -> tf.Tensor:
        if self._is_one_piece or (self._repeats == 1 and self._size == 1):
            return tf.reshape(statistics, self._spread_shape)
        tile = tf.tile if self._are_few else reductions.tile
        copies = tile(statistics, self._times)
        return tf.reshape(copies, self._spread_shape)

    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        return tf.reshape(parameter, [self._groups, -1, 1])

    def beside_input(self, parameter: tf.Tensor) -> tf.Tensor:
        if self._is_one_piece and self._repeats > 1:
            return tf.broadcast_to(parameter, self._row_shape)
        if self._at_the_end:
            return parameter
        return tf.reshape(parameter, self._spread_shape)

    def read_mask(self, mask: tf.Tensor) -> tf.Tensor:
        one_channel = [1] if self._at_the_end else [1, self._channels[-1]]
        return tf.reshape(mask, [*self._blocked, *one_channel])

    def _mean_down(self, values: tf.Tensor) -> tf.Tensor:
        """The mean of each column, in the shape of a row by groups."""
        means = reductions.mean(values, self._down, self._are_one_axis)
        return tf.reshape(means, self._by_group)
