"""Means over rows that cannot be cut evenly."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.ops.parallel_for import pfor

from groupnorm.op import context
from groupnorm.op.reductions.blocks import even_block
from groupnorm.op.reductions.sizes import LONGEST_SUM, Size, product

# Rows that are added first where their number does not tell how many are best.
_SEGMENT = 512


class Segments:
    """Rows in blocks of which the last may be short, for means over all of them.

    They are for rows of which nobody knows how many there are, or whose number nothing
    divides: to cut them up otherwise TensorFlow would copy them.
    """

    def __init__(self, samples: Size, rows: Size, row: list[Size]) -> None:
        zero, one, length = (tf.constant(number) for number in (0, 1, _SEGMENT))
        blocks = -(-rows // length)
        first = tf.expand_dims(tf.range(zero, samples, one), 1) * blocks
        block_of = first + tf.range(zero, rows, one) // length
        self._block_of = tf.reshape(block_of, [-1])
        numbers = product(*row)
        flat = -1 if isinstance(numbers, int) else product(samples, rows)
        self._flat = tf.stack([flat, numbers])
        self._sums = tf.stack([samples, blocks, *row])
        self._lengths = [samples, rows, *row]
        self._counts: dict[tuple[int, ...], tf.Tensor] = {}  # of numbers, by their axes

    @staticmethod
    def are_needed(rows: Size) -> bool:
        """Whether so many rows are neither few nor to be cut evenly into blocks."""
        if not isinstance(rows, int):
            return context.is_run_as_written()
        is_long = rows > LONGEST_SUM and even_block(rows) is None
        return is_long and context.is_run_as_written()

    def mean(self, x: tf.Tensor, axes: tf.Tensor) -> tf.Tensor:
        """Mean over the rows, which are axis 1, and others; 0 if there are no rows."""
        sums = tf.math.segment_sum(tf.reshape(x, self._flat), self._block_of)
        total = tf.reduce_sum(tf.reshape(sums, self._sums), axes, keepdims=True)
        return tf.math.divide_no_nan(total, self._count(axes, x.dtype))

    def _count(self, axes: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        known = tuple(tf.get_static_value(axes).tolist())
        if known not in self._counts:
            numbers = product(*(self._lengths[axis] for axis in known))
            as_tensor = tf.constant if isinstance(numbers, int) else tf.cast
            self._counts[known] = as_tensor(numbers, dtype)
        return self._counts[known]


@pfor.RegisterPFor("SegmentSum")
def _vectorized_segment_sum(of_one):
    """The sums of many tensors at once, which are cut up alike."""
    rows_first = tf.einsum("nrc->rnc", of_one.stacked_input(0))
    sums = tf.math.segment_sum(rows_first, of_one.unstacked_input(1))
    return pfor.wrap(tf.einsum("rnc->nrc", sums), True)
