"""Means for XLA on a GPU.

It gives each column of numbers that are added down the rows to few threads, and where
it thinks them too few to compute on the way what is added, that is written to memory
first. Shorter columns are more of them.
"""

from __future__ import annotations

import math

import tensorflow as tf

from groupnorm.op.reductions.blocks import mean_axis, mean_of_blocks
from groupnorm.op.reductions.sizes import LONGEST_SUM, divisors

# Of columns that XLA adds for a GPU each sum is written down: the longer they are, the
# less that is beside what was read. But a block of threads adds so many columns side by
# side, and there are to be enough blocks for all processors of a large GPU.
_SIDE_BY_SIDE, _PROCESSORS = 64, 128
# Columns of fewer numbers are not worth their sums.
_SHORTEST_COLUMN = 16
# Where the batch may be of any size there is no telling how many there are.
_COLUMN_OF_ANY_BATCH = 256


def are_columns(x: tf.Tensor, axes: list[int]) -> bool:
    """Whether there are sums side by side, and each is over what is not."""
    return len(axes) == 1 and axes[0] != x.shape.rank - 1 and x.shape[-1] != 1


def mean(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Means over one axis, of short columns first where its length can be divided."""
    (axis,) = axes
    length = x.shape[axis] or 1
    most = max(_longest_column(x, axis), length // LONGEST_SUM)
    blocks = [b for b in divisors(length) if _SHORTEST_COLUMN <= b <= LONGEST_SUM]
    block = max((b for b in blocks if b <= most), default=min(blocks, default=length))
    if block == length:
        return mean_axis(x, axis)
    return mean_of_blocks(x, axis, block)


def _longest_column(x: tf.Tensor, axis: int) -> int:
    """How many numbers a column may have so that there are enough of them."""
    numbers = x.shape.num_elements()
    if numbers is None:
        return _COLUMN_OF_ANY_BATCH
    width = math.prod(x.shape[axis + 1 :])
    return numbers // (_PROCESSORS * max(1, min(width, _SIDE_BY_SIDE)))
