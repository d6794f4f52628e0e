"""Rows that hold all channels, for TensorFlow's own kernels."""

from __future__ import annotations

import tensorflow as tf

from groupnorm.op import reductions
from groupnorm.op.reductions import LONGEST_SUM, Size, Sizes
from groupnorm.op.views.base import Reduction, View, is_number
from groupnorm.op.views.cuts import Cut

# Of so many numbers of a group side by side sums take less time than down the rows.
_LONG = 32
# The same where rows are more than a sum may be long of: down these it takes several.
_LONG_BESIDE_MANY = 8


class Columns(View):
    """Every axis is there: these kernels join those that they need not tell apart.

    Inputs are `(N, blocks, rows, repeats, groups, size)`, or with channels between
    other axes `(N, rows, groups, size, run)`, without blocks, repeats and run if they
    are 1. Statistics have 1 in place of all but N and groups, values of channels in
    place of all but N, groups and size.
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
        rows = reductions.quotient(before, cut.blocks * cut.repeats)
        lengths = {"blocks": cut.blocks, "rows": rows, "repeats": cut.repeats}
        lengths |= {"groups": groups, "size": size, "run": after}
        for name in ("blocks", "repeats", "run"):
            if is_number(1, lengths[name]):
                del lengths[name]
        shape = [sizes[0], *lengths.values()]
        super().__init__(sizes, shape, groups, reductions.product(before, after))
        self._lengths, self._rows, self._size = lengths, rows, size
        # Of a group in a row, if that is known.
        self._piece = size * after if isinstance(after, int) else None
        self._axes = {name: axis for axis, name in enumerate(lengths, 1)}
        self._group_axes = (self._axes["rows"],)
        self._constants: dict[tuple[str, ...], tf.Tensor] = {}
        self._turn = self._exchange_rows() if self._is_best_turned() else None
        self._order = self._best_order()
        self._of_parameter = tf.constant([groups, size, *[1] * ("run" in lengths)])
        times = [lengths[n] if n in ("repeats", "size") else 1 for n in lengths]
        self._times = tf.constant([1, *times])
        self._is_uneven = reductions.Segments.are_needed(rows)
        self._segments: reductions.Segments | None = None  # once they are needed

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        found = super().mean(values)
        return found if self._turn is None else self._mean_of_turned(found)

    def mean_square(self, values: tf.Tensor) -> tf.Tensor:
        if self._turn is None:
            return super().mean_square(values)
        if self._piece is None or self._piece > LONGEST_SUM:
            return self.mean(tf.square(values))
        # Norms of pieces only: down all rows they would not be as accurate.
        squares = tf.square(self._reduce(values, reductions.norm))
        return self._mean_of_turned(squares) * (1 / self._piece)

    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        order = [["rows"], self._there("blocks", "repeats", "run")]
        return self._reduce_by(order, values, reductions.mean)

    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        if self._size == 1:
            return per_channel
        return tf.reduce_mean(per_channel, self._axes["size"], keepdims=True)

    def spread(self, statistics: tf.Tensor) -> tf.Tensor:
        if self._groups == 1 or (self._size == 1 and "repeats" not in self._lengths):
            return statistics
        return tf.tile(statistics, self._times)

    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        return tf.reshape(parameter, self._of_parameter)

    def beside_input(self, parameter: tf.Tensor) -> tf.Tensor:
        if self._groups == 1 and "repeats" in self._lengths:
            # As statistics are not copied, coefficients would be in short runs.
            return tf.broadcast_to(parameter, [self._lengths["repeats"], 1, self._size])
        return self.beside_channels(parameter)

    def read_mask(self, mask: tf.Tensor) -> tf.Tensor:
        of_one_channel = self._lengths | {"groups": 1, "size": 1}
        return tf.reshape(mask, [self._sizes[0], *of_one_channel.values()])

    def _is_best_turned(self) -> bool:
        """Whether numbers of groups in rows are added first, and then brought together.

        TensorFlow adds what lies side by side as a tree, however much it is.
        """
        if self._groups == 1 or "repeats" in self._lengths:
            return False
        if self._piece is not None and self._piece < _LONG_BESIDE_MANY:
            return False
        return not isinstance(self._rows, int) or self._rows > LONGEST_SUM

    def _best_order(self) -> list[list[str]]:
        """The axes of each sum that a group's takes."""
        if self._groups == 1:
            return [[*self._lengths]]
        if self._turn is not None:
            return [self._there("size", "run")]
        if self._size >= _LONG and not self._there("repeats", "run"):
            return [["size"], ["rows"], self._there("blocks")]
        of_size = ["size"] if self._size > 1 else []
        return [["rows"], self._there("blocks", "repeats", *of_size, "run")]

    def _there(self, *names: str) -> list[str]:
        return [name for name in names if name in self._lengths]

    def _along(self, *names: str) -> tf.Tensor:
        """The axes of these names, as one constant for all that need it."""
        if names not in self._constants:
            self._constants[names] = tf.constant([self._axes[name] for name in names])
        return self._constants[names]

    def _reduce(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        return self._reduce_by(self._order, values, reduction)

    def _reduce_by(
        self, order: list[list[str]], values: tf.Tensor, reduction: Reduction
    ) -> tf.Tensor:
        for names in filter(None, order):
            if names == ["rows"]:
                values = self._reduce_rows(values, reduction)
            else:
                values = reduction(values, self._along(*names))
        return values

    def _reduce_rows(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        down = self._along("rows")
        is_known = isinstance(self._rows, int)
        is_part = is_known and values.shape[self._axes["rows"]] != self._rows
        if is_part or not self._is_uneven:
            return reduction(values, down)
        if self._segments is None:
            self._segments = self._segments_of(values)
        return self._segments.mean(values, down)

    def _segments_of(self, values: tf.Tensor) -> reductions.Segments:
        samples = self._sizes[0]
        if is_number(-1, samples):
            samples, *_ = tf.unstack(tf.shape(values))
        rows, *row = self._lengths.values()
        return reductions.Segments(samples, rows, row)

    def _mean_of_turned(self, pieces: tf.Tensor) -> tf.Tensor:
        """Statistics, from one number for each group in a row."""
        (names,) = self._order
        turned = tf.transpose(pieces, self._turn)
        return reductions.mean(turned, self._along(*names))

    def _exchange_rows(self) -> tf.Tensor:
        """The order of axes in which the rows and the last have changed places."""
        rows, last = self._axes["rows"], len(self._lengths)
        order = [*range(last + 1)]
        order[rows], order[last] = last, rows
        return tf.constant(order)

    def _can_take_norms(self) -> bool:
        if self._groups == 1:
            return self._has_known_sizes()
        repeats, blocks = (self._lengths.get(n, 1) for n in ("repeats", "blocks"))
        are_short = reductions.are_short
        is_row_short = are_short(repeats, self._piece)
        return is_row_short and are_short(blocks) and are_short(self._rows)
