"""Means over axes, in the form that runs fastest and rounds least.

TensorFlow's own kernels run one operation at a time: few operations are fast there,
and what is as large as the input costs most where it is written down. XLA joins
operations into loops, and what it makes of a sum depends on the form of it.

    blocks.py     means whose running sums are short, in any operations
    segments.py   means over rows that cannot be cut evenly
    norms.py      norms, for means of squares
    xla_cpu.py    the forms for XLA on a CPU
    xla_gpu.py    the form for XLA on a GPU
    sizes.py      how many numbers there are

Every mean here keeps the axes that it is over, with size 1. Axes are given as a
constant tensor, which can serve many calls.
"""

from __future__ import annotations

import tensorflow as tf

from groupnorm.op import context
from groupnorm.op.reductions import xla_cpu, xla_gpu
from groupnorm.op.reductions.blocks import mean_axes
from groupnorm.op.reductions.norms import norm
from groupnorm.op.reductions.segments import Segments
from groupnorm.op.reductions.sizes import (
    LONGEST_SUM,
    Size,
    Sizes,
    are_last,
    are_short,
    as_shape,
    can_be_added_at_once,
    divisors,
    product,
    quotient,
    sizes_of,
)
from groupnorm.op.reductions.xla_cpu import (
    are_worth_one_sum,
    are_worth_pairs,
    is_mean_exact,
    is_one_near,
    mean_of_pairs,
    nested,
)

__all__ = [
    "LONGEST_SUM",
    "Segments",
    "Size",
    "Sizes",
    "are_short",
    "are_worth_one_sum",
    "are_worth_pairs",
    "as_shape",
    "can_be_added_at_once",
    "divisors",
    "is_mean_exact",
    "is_one_near",
    "mean",
    "mean_of_pairs",
    "nested",
    "norm",
    "product",
    "quotient",
    "same_everywhere",
    "sizes_of",
    "sum_samples",
    "tile",
]

# Numbers side by side are added in so many sums, or more.
_LANES = 4


def mean(x: tf.Tensor, axes: tf.Tensor, are_of_input: bool = True) -> tf.Tensor:
    """Mean over these axes, in ascending order.

    Where one is empty it is NaN if TensorFlow runs this as it is written, and else 0.

    Args:
        x: What they are of.
        axes: Which they are.
        are_of_input: Whether none is several of the input's, in which XLA finds its way
            by divisions.
    """
    known = tf.get_static_value(axes).tolist()
    if context.is_compiled_for_cpu():
        return xla_cpu.mean(x, known, are_of_input)
    if context.is_compiled() and xla_gpu.are_columns(x, known):
        return xla_gpu.mean(x, known)
    lengths = [x.shape[axis] for axis in known]
    lanes = _LANES if known[-1] == x.shape.rank - 1 else 1
    if are_short(*lengths, lanes=lanes):
        return tf.reduce_mean(x, axes, keepdims=True)
    starts = (n for n in range(len(known)) if are_last(known[n:], x))
    start = next(starts, len(known))
    apart, together = known[:start], known[start:]
    if together and can_be_added_at_once(*lengths[start:]):
        # The constant that is there, if it will do.
        means = tf.reduce_mean(x, together if apart else axes, keepdims=True)
        return mean_axes(means, apart)
    return mean_axes(x, known)


def sum_samples(x: tf.Tensor, are_sums: bool) -> tf.Tensor:
    """Sums over the first axis, as a vector, of what may itself be sums."""
    if context.is_compiled_for_cpu():
        return xla_cpu.sum_samples(x, are_sums)
    return tf.reshape(tf.reduce_sum(x, 0), [-1])


def tile(x: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
    """Copies of `x` along each axis, in a form that later operations read fast."""
    if context.is_compiled_for_cpu():
        return xla_cpu.tile(x, times)
    return tf.tile(x, times)


def same_everywhere(x: tf.Tensor) -> tf.Tensor:
    """Numbers that are the same, to the last bit, for all that reads them.

    XLA works out again what is little work, in every loop that needs it, and there a
    product may become one operation with the sum that follows, and stay unrounded.
    Without their last bit, which is another operation, products stay what they are.
    """
    if not context.is_compiled():
        return x
    bits = tf.bitcast(x, tf.int64 if x.dtype == tf.float64 else tf.int32)
    return tf.bitcast(
        tf.bitwise.bitwise_and(bits, tf.constant(-2, bits.dtype)), x.dtype
    )
