"""The shapes in which an input is read, whatever its rank and its channel axis.

No tensor of the input's size is ever transposed, and what is broadcast against one has
long runs. Statistics of groups and values of channels have shapes of their own, which
broadcast against one another.

    pieces.py    groups in one piece each, as with channels first
    columns.py   rows that hold all channels, for TensorFlow's own kernels
    rows.py      the same for XLA, and for what others read
    exact.py     few numbers of half precision, for XLA
    whole.py     few numbers, where what counts is how many operations, or loops of
                 XLA's, there are
    cuts.py      how many rows there are best
"""

from __future__ import annotations

import tensorflow as tf

from groupnorm.op import context, reductions
from groupnorm.op.views.base import View, is_number
from groupnorm.op.views.columns import Columns
from groupnorm.op.views.cuts import Cut, cut_of
from groupnorm.op.views.exact import Exact
from groupnorm.op.views.pieces import Pieces
from groupnorm.op.views.rows import Rows
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
    is_one = has_one_position and not masked
    if is_one and reductions.is_mean_exact(x.dtype, size):
        return Exact(sizes, groups, size)
    if is_number(1, before):
        return Pieces(sizes, groups, size, sizes[axis + 1 :])
    is_cut = is_number(1, after) and not masked
    cut = cut_of(before, groups * size, groups) if is_cut else Cut(1, 1)
    kind = Columns if context.is_run_as_written() else Rows
    return kind(sizes, groups, size, before, cut, after)
