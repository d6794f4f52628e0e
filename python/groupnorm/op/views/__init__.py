"""The shapes in which an input is read, whatever its rank and its channel axis.

There are two, so that no tensor of the input's size is ever transposed, and so that
what is broadcast against one has long runs; and one for few numbers, where what counts
is how many operations, or loops of XLA's, there are. Statistics of groups and values of
channels have shapes of their own, which broadcast against one another.
"""

from __future__ import annotations

import tensorflow as tf

from groupnorm.op import context, reductions
from groupnorm.op.views.base import View, is_number
from groupnorm.op.views.pieces import Pieces
from groupnorm.op.views.rows import Cut, Rows, cut_of
from groupnorm.op.views.whole import Whole, are_few

__all__ = ["View", "view"]


def view(x: tf.Tensor, axis: int, groups: int, masked: bool) -> View:
    """The shape in which to read `x`, and all that has its shape."""
    sizes = reductions.sizes_of(x)
    size = sizes[axis] // groups
    before = reductions.product(*sizes[1:axis])
    after = reductions.product(*sizes[axis + 1 :])
    has_one_position = is_number(1, before) and is_number(1, after)
    if context.is_run_as_written():
        is_best_whole = has_one_position or are_few(sizes, groups, before)
    else:
        is_row = is_number(1, after)
        is_best_whole = is_row and reductions.are_worth_one_sum(before, size)
    if is_best_whole:
        return Whole(sizes, groups, size, before, after)
    if is_number(1, before):
        return Pieces(sizes, groups, size, sizes[axis + 1 :])
    is_cut = is_number(1, after) and not masked
    cut = cut_of(before, groups * size, groups) if is_cut else Cut(1, 1)
    rows = reductions.quotient(before, cut.blocks * cut.repeats)
    if reductions.Segments.are_needed(rows) and is_number(-1, sizes[0]):
        sizes[0], *_ = tf.unstack(tf.shape(x))
    return Rows(sizes, groups, size, before, cut, after)
