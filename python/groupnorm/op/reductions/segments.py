"""Means over rows that cannot be cut evenly."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.ops.parallel_for import pfor

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
        self._rows = rows
        self._count: tf.Tensor | None = None  # of rows, once it is known in which dtype

    @staticmethod
    def are_needed(rows: Size) -> bool:
        """Whether so many rows are neither few nor to be cut evenly into blocks."""
        if not isinstance(rows, int):
            return True
        return rows > LONGEST_SUM and even_block(rows) is None

    def mean(self, x: tf.Tensor, axis: tf.Tensor) -> tf.Tensor:
        """Mean over the rows, which are along this axis; 0 if there are none."""
        sums = tf.math.segment_sum(tf.reshape(x, self._flat), self._block_of)
        blocks = tf.reshape(sums, self._sums)
        total = tf.reduce_sum(blocks, axis, keepdims=True)
        if self._count is None:
            is_known = isinstance(self._rows, int)
            self._count = (tf.constant if is_known else tf.cast)(self._rows, x.dtype)
        return tf.math.divide_no_nan(total, self._count)


@pfor.RegisterPFor("SegmentSum")
def _vectorized_segment_sum(of_one):
    """The sums of many tensors at once, which are cut up alike."""
    rows_first = tf.einsum("nrc->rnc", of_one.stacked_input(0))
    sums = tf.math.segment_sum(rows_first, of_one.unstacked_input(1))
    return pfor.wrap(tf.einsum("rnc->nrc", sums), True)
