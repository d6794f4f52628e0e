"""Rows that hold all channels, as with channels last."""

from __future__ import annotations

import functools
from typing import NamedTuple

import tensorflow as tf

from groupnorm.op import context, reductions
from groupnorm.op.reductions import LONGEST_SUM, Size
from groupnorm.op.views.base import Reduction, View, is_number, middle

# With so many numbers side by side an elementwise operation runs at full speed.
_WIDE_ENOUGH = 128
# So few are slow to add row by row: more of them in a row than one sum may be long of
# are faster all the same.
_NARROW = 16
# Coefficients for a whole row are few beside an input of so many rows.
_MANY_ROWS = 8
# Sums along so many channels of a group take less time than those down the rows, if a
# row has each channel once.
_LONG = 32
# Of more rows XLA on a CPU makes better loops than of one piece, and coefficients for a
# row are written down for it.
_FEW_ROWS = 16


class Cut(NamedTuple):
    """How positions are cut up."""

    blocks: int  # of rows: a sum is taken down each
    repeats: int  # positions in a row


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
        sizes: list[Size],
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
        self._are_few = isinstance(rows, int) and rows <= _FEW_ROWS
        one_is_best = self._are_few or not context.is_compiled_for_cpu()
        self._is_one_piece = self._at_the_end and groups == 1 and one_is_best
        self._blocked = [sizes[0], *blocked]
        self._down = tf.constant([len(blocked)])
        self._group_axes = (len(blocked),)
        self._needs_segments = reductions.Segments.are_needed(rows)
        self._pieces: tf.Tensor | None = None  # of a group in a row, if they are long
        if self._is_one_piece:
            in_one = reductions.can_be_added_at_once(rows, *row)
            along = [*range(2, 2 + len(row))]
            sums = [[1, *along]] if in_one else [along, [1]]
            self._sums = [tf.constant(axes) for axes in sums]
            self._spread_shape = tf.constant([-1, 1, *[1] * len(row)])
            self._statistic_shape = tf.constant([-1, 1, 1, 1, 1])
            self._row_shape = tf.constant(row)
        else:
            if self._at_the_end and repeats == 1 and _are_long(size):
                self._pieces = tf.stack([*self._blocked, groups, size, 1])
                self._along_pieces = tf.constant([len(blocked) + 2])
                if blocks > 1:
                    self._by_block = tf.constant([-1, blocks, groups, 1, 1])
            self._along = tf.constant([1, 3, 4])
            self._times = tf.constant([1, repeats, 1, size, 1])
            of_a_row = row if self._at_the_end else [channels, 1]
            self._spread_shape = tf.constant([-1, *[1] * len(blocked), *of_a_row])

    def one(self, values: tf.Tensor) -> tf.Tensor:
        row = tf.reshape(middle(values, self._group_axes), self._by_group)
        return middle(row, (3, 4))

    def moments(self, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if self._pieces is not None:
            return super().moments(tf.reshape(values, self._pieces))  # once for both
        if self._is_one_piece or not reductions.are_worth_pairs(values, self._down):
            return super().moments(values)
        rows = reductions.mean_of_pairs(values, tf.square(values), self._down)
        mean, square = (tf.reshape(row, self._by_group) for row in rows)
        return reductions.mean(mean, self._along), reductions.mean(square, self._along)

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        row = self._reduce_down(values, reductions.mean)
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

    def _reduce(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        if self._is_one_piece:
            found = super()._reduce(values, reduction)
            return tf.reshape(found, self._statistic_shape)
        if self._pieces is not None and not self._is_part(values):
            return self._reduce_pieces(values, reduction)
        row = self._reduce_down(values, reduction)
        return row if self._has_one_sum else reduction(row, self._along)

    def _reduce_pieces(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        """Reduce what lies side by side first, the piece of each group in a row."""
        if values.shape.rank == len(self._blocked) + 1:
            values = tf.reshape(values, self._pieces)
        pieces = reduction(values, self._along_pieces)
        if self._needs_segments:
            return self._segments_of_groups.mean(pieces)
        row = reduction(pieces, self._down)
        if self._columns == 1:
            return row
        return reduction(tf.reshape(row, self._by_block), self._along)

    def _reduce_down(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        """Reduce each column to one number, in the shape of a row by groups."""
        if self._needs_segments and not self._is_part(values):
            return self._segments.mean(values)
        return tf.reshape(reduction(values, self._down), self._by_group)

    @functools.cached_property
    def _segments(self) -> reductions.Segments:
        return self._segments_with(self._channels)  # rows of several are not as many

    @functools.cached_property
    def _segments_of_groups(self) -> reductions.Segments:
        return self._segments_with([self._groups, 1, 1])

    def _segments_with(self, row: list[Size]) -> reductions.Segments:
        samples, rows = self._blocked
        return reductions.Segments(samples, rows, row)

    def _is_part(self, values: tf.Tensor) -> bool:
        rows = self._blocked[-1]
        return isinstance(rows, int) and values.shape[len(self._blocked) - 1] != rows

    def _can_take_norms(self) -> bool:
        if self._is_one_piece:
            return len(self._sums) == 1 and self._has_known_sizes()
        _, size, after = self._channels
        are_short = reductions.are_short
        return all(map(are_short, self._blocked[1:])) and are_short(
            self._repeats, size, after
        )


def _are_long(pieces: int) -> bool:
    return pieces >= _LONG and context.is_run_as_written()


def cut_of(positions: Size, channels: int, groups: int) -> Cut:
    """How positions are best read, where each has all channels."""
    if not isinstance(positions, int) or not positions or context.is_compiled():
        return Cut(1, 1)
    cut = _in_blocks(positions, channels) if groups > 1 else None
    if cut is not None:
        return cut
    most = LONGEST_SUM if channels >= _NARROW else positions
    repeats = reductions.divisors(positions, most)
    fitting = [d for d in repeats if _is_column(positions // d)]
    wide = (d for d in fitting if d * channels >= _WIDE_ENOUGH)
    return Cut(1, next(wide, max(fitting, default=1)))


def _in_blocks(positions: int, channels: int) -> Cut | None:
    """Blocks of rows, if there are many, and they can be cut evenly."""
    repeats = reductions.divisors(positions)
    wide = next((d for d in repeats if d * channels >= _WIDE_ENOUGH), 1)
    rows = positions // wide
    if rows <= LONGEST_SUM:
        return None
    fitting = reductions.divisors(rows, LONGEST_SUM)
    blocks = next((b for b in fitting if _is_column(rows // b)), None)
    return None if blocks is None else Cut(blocks, wide)


def _is_column(rows: int) -> bool:
    return _MANY_ROWS <= rows <= LONGEST_SUM
