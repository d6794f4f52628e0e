"""Means for XLA on a CPU.

It makes good loops of elementwise operations. A sum it joins with what computes the
numbers if that is something like a product and no axis of it is long: then the loop is
short enough to be written out with vector instructions, or it is not, and there are
none. Of a longer axis it adds windows, and what is added is written to memory first;
so it is, too, where a library adds it: large sums of what is no product.
There are other forms: sums of slices, products with a vector, two sums in one loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from groupnorm.op import context
from groupnorm.op.reductions.blocks import mean_axes
from groupnorm.op.reductions.sizes import (
    LONGEST_JOINED,
    LONGEST_SUM,
    Size,
    are_last,
    are_short,
    longest,
    sizes_of,
)

Mean: TypeAlias = Callable[[tf.Tensor, list[int]], tf.Tensor]

# Slices that are added to one another before a sum: more make that sum smaller,
# but are more places to read from at once.
_SLICES = 8
# What cannot be cut evenly into four slices or more has a rest, which costs more than
# slices of less than this save.
_WORTH_A_REST = 512
# A product adds so many sums side by side, or more, from TensorFlow 2.19 on; in 2.16
# and 2.17 it is one sum, and rounds as that does.
_ADDS_SIDE_BY_SIDE = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 19)
_LANES = 4 if _ADDS_SIDE_BY_SIDE else 1
# Down the rows it is best where those are longer than one vector, but not two, and not
# found by divisions.
_WORTH_PRODUCT_DOWN = range(9, 16 if _ADDS_SIDE_BY_SIDE else 9)
# Where a view with groups in one piece has positions, which may be several axes of the
# input. To find its way in them XLA needs divisions, and only shifts for powers of two:
# then it adds slices fast, never by products.
_POSITIONS = 4
# So many of them are best two axes, of which the last is as long as a vector: a sum
# over both becomes a loop with vectors. Of more positions slices are long enough.
_FEWEST_NESTED, _MOST_NESTED = 16, 256
_VECTOR, _SHORT_VECTOR = 8, 4
# But of eight channels or more slices are fast, and so they are of one and of four as
# long as what is left is fewer numbers than those that a library would add. Of 64
# positions slices are fast only where there are few numbers in all.
_WORTH_SLICES, _FEWEST_APART, _FEW_IN_SLICES = (1, 4), 32_768, 16_384
# For the sum over samples of so few numbers a library takes longer to start; and over
# so few samples a sum that XLA joins with nothing takes longer as a product.
_FEW_TO_SUM, _FEW_SAMPLES = 8192, 8
# One of so few is an eighth of them. To read it again costs less than a loop.
_FEW_TO_BE_NEAR = 8
# Of so few numbers in half precision, which float32 adds without rounding, Keras's form
# is the fastest: the mean itself is taken off, and no other.
_EXACT = {tf.float16: range(2, 9), tf.bfloat16: (*range(2, 9), 32)}
# A group of so few numbers, in so few rows, XLA adds in one go faster than by rows.
_MOST_IN_ONE, _MOST_ROWS_IN_ONE = 16, 4
# So many are added as pairs faster than twice, side by side and down the rows.
_WORTH_PAIRS, _WORTH_PAIRS_DOWN = range(2, 33), range(5, 33)


def nested(length: Size, times: int, numbers: int | None) -> list[Size]:
    """Axes for so many numbers side by side, where a mean is over `times` of these.

    `numbers` is how many there are in all, if that is known.
    """
    if not (
        context.is_compiled_for_cpu()
        and isinstance(length, int)
        and _FEWEST_NESTED <= length <= _MOST_NESTED
        and _is_power_of_2(length)
        and length * times not in _WORTH_PAIRS
        and not _are_best_in_slices(length, times, numbers)
    ):
        return [length]
    last = _SHORT_VECTOR if length < _VECTOR**2 else _VECTOR
    return [length // last, last]


def _are_best_in_slices(length: int, times: int, numbers: int | None) -> bool:
    if length == _VECTOR**2:  # both axes are as long as a vector
        return times >= _SLICES and numbers is not None and numbers <= _FEW_IN_SLICES
    if times >= _SLICES:
        return times % _SHORT_VECTOR == 0 or length > _VECTOR**2
    are_joined = numbers is not None and numbers < _SLICES * _FEWEST_APART
    return are_joined and times in _WORTH_SLICES


def mean(x: tf.Tensor, axes: list[int], are_of_input: bool) -> tf.Tensor:
    """Means in the forms of which XLA makes loops with vector instructions."""
    longer = [axis for axis in axes if x.shape[axis] != 1]
    if longer == [1] and LONGEST_JOINED < (x.shape[1] or 0) <= LONGEST_SUM:
        width = x.shape[2:].num_elements()
        if width == _VECTOR:
            return _mean_joined(x, axes)
        if width in _WORTH_PRODUCT_DOWN and are_of_input:
            return _mean_by_product_down(x)
    if not longer or not are_last(axes, x):
        return _mean_by_slices(x, axes)
    *others, last = longer
    if _are_nested(x, axes):
        return _mean_of_nested(x, axes)
    length = x.shape[last] or 0
    is_shifted = last == _POSITIONS and _is_power_of_2(length)
    lanes = 1 if others else _LANES
    is_one_sum = are_short(*(x.shape[axis] for axis in longer), lanes=lanes)
    least = 2 * LONGEST_JOINED if others else LONGEST_JOINED
    if is_shifted or not is_one_sum or length <= least:
        return _mean_by_slices(x, axes)
    found = _mean_by_product(x, last)
    return _mean_by_slices(found, others) if others else found


def is_one_near(numbers: int, positions: int) -> bool:
    """Whether any number of a group is near enough to their mean, and best taken."""
    if numbers > _FEW_TO_BE_NEAR or not context.is_compiled_for_cpu():
        return False
    # In a single position others than powers of two are found by divisions, and of two
    # the mean of both is faster.
    return positions > 1 or (numbers > 2 and _is_power_of_2(numbers))


def is_mean_exact(dtype: tf.DType, numbers: int) -> bool:
    """Whether the sum of so many is exact, and their mean best taken off itself."""
    return context.is_compiled_for_cpu() and numbers in _EXACT.get(dtype, ())


def are_worth_one_sum(rows: Size, size: int) -> bool:
    """Whether the numbers of a group, in rows of so many, are best added in one go."""
    if not (isinstance(rows, int) and context.is_compiled_for_cpu()):
        return False
    are_few = 1 < rows <= _MOST_ROWS_IN_ONE and rows * size <= _MOST_IN_ONE
    return are_few and size > 1


def are_worth_pairs(x: tf.Tensor, axes: tf.Tensor, of_products: bool = False) -> bool:
    """Whether two means over these axes are best taken by `mean_of_pairs`.

    Args:
        x: What the first is of.
        axes: In ascending order.
        of_products: Whether both are of products. As many of these as XLA joins at most
            it adds by vectors, but not as pairs.
    """
    known = tf.get_static_value(axes).tolist()
    lengths = [x.shape[axis] for axis in known]
    if None in lengths or not context.is_compiled_for_cpu():
        return False
    worth = _WORTH_PAIRS if are_last(known, x) else _WORTH_PAIRS_DOWN
    numbers = math.prod(lengths)
    return numbers in worth and not (of_products and numbers == LONGEST_JOINED)


def mean_of_pairs(
    x: tf.Tensor, y: tf.Tensor, axes: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Means of both. XLA adds complex numbers as it does real ones, in one loop."""
    total = tf.reduce_sum(tf.complex(x, y), axes, keepdims=True)
    share = 1 / math.prod(x.shape[axis] for axis in tf.get_static_value(axes))
    return tf.math.real(total) * share, tf.math.imag(total) * share


def sum_samples(x: tf.Tensor, are_sums: bool) -> tf.Tensor:
    """Sums over the first axis, as a vector, of what may itself be sums."""
    samples = sizes_of(x)[0]
    rows = tf.reshape(x, [samples, math.prod(x.shape[1:])])
    numbers = rows.shape.num_elements()
    if numbers is None:
        return _sum_down(rows, _VECTOR)
    if numbers <= _FEW_TO_SUM:
        # Sums of single channels are no work to look up, and joined with what follows.
        are_joined = are_sums and math.prod(x.shape[3:]) == 1
        are_apart = not are_sums and samples <= _FEW_SAMPLES
        if are_joined or are_apart:
            return tf.reduce_sum(rows, 0)
        return _sum_down(rows, 1)
    if are_sums:  # which would be written down in windows, or added column by column
        return _sum_down(rows, _VECTOR)
    # The last axes are the channels of a group. If not by vectors, it finds its way in
    # them by divisions: once for each number, if those are written down.
    fit = math.prod(x.shape[2:]) % _SHORT_VECTOR == 0
    if fit or samples <= LONGEST_JOINED:
        return _sum_down(rows, 1)
    return tf.reduce_sum(rows, 0)


def _sum_down(rows: tf.Tensor, times: int) -> tf.Tensor:
    """Sums down the rows by a product with ones, so many rows of them.

    Of one row XLA makes a sum again, and joins it with others. Several it leaves to a
    library, which takes a while to start.
    """
    samples = tf.shape(rows)[0] if rows.shape[0] is None else rows.shape[0]
    return tf.matmul(tf.ones([times, samples], rows.dtype), rows)[0]


def tile(x: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
    """Copies of `x` along each axis, in a form that later operations read fast."""
    copies = int(tf.get_static_value(times).prod())
    if copies == 1:
        return tf.tile(x, times)
    # XLA does not join matrix products with what follows, so that what follows reads
    # channels from memory. Half a value plus half of it is that value.
    halves = tf.fill([2, copies], tf.constant(0.5, x.dtype))
    column = tf.reshape(x, [-1, 1])
    return tf.matmul(tf.concat([column, column], 1), halves)


def _are_nested(x: tf.Tensor, axes: list[int]) -> bool:
    """Whether the last axes are those that `nested` makes."""
    lengths = [x.shape[axis] for axis in axes]
    if len(axes) < 2 or not are_short(*lengths):
        return False
    *_, outer, last = lengths
    return last in (_SHORT_VECTOR, _VECTOR) and _SHORT_VECTOR <= outer <= LONGEST_JOINED


def _mean_of_nested(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Means over axes of which the last two are nested."""
    *others, _, _ = axes
    enough = next((axis for axis in others if x.shape[axis] >= _SLICES), None)
    if enough is not None and _even_slices(x.shape[enough]) is None:
        # In one go it would be a long running sum, and a slower one.
        return _mean_by_slices(_mean_joined(x, axes[-2:]), others)
    return _mean_in_slices(x, enough, axes, _mean_joined)


def _mean_joined(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Means that XLA joins with what computes the numbers."""
    # It writes down what it adds, unless that is something like a product. One with a
    # half is exact.
    total = tf.reduce_sum(x * tf.constant(0.5, x.dtype), axes, keepdims=True)
    return total * (2 / math.prod(x.shape[axis] for axis in axes))


def _is_power_of_2(length: int) -> bool:
    return length & (length - 1) == 0


def _mean_by_product(x: tf.Tensor, axis: int) -> tf.Tensor:
    """Means over an axis along which numbers lie side by side."""
    length = x.shape[axis]
    # Of two axes only: XLA would find its way in more by divisions, for each number.
    shares = tf.fill([length, 1], tf.constant(1 / length, x.dtype))
    means = tf.matmul(tf.reshape(x, [-1, length]), shares)
    sizes = sizes_of(x)
    sizes[axis] = 1
    return tf.reshape(means, sizes)


def _mean_by_product_down(x: tf.Tensor) -> tf.Tensor:
    """Means over the axis after that of the samples."""
    sizes = sizes_of(x)
    rows = tf.reshape(x, [*sizes[:2], -1])
    shares = tf.fill(sizes[1:2], tf.constant(1 / sizes[1], x.dtype))
    sizes[1] = 1
    return tf.reshape(tf.einsum("l,nlc->nc", shares, rows), sizes)


def _mean_by_slices(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Add slices along an axis, which is elementwise, before the sum."""
    lengths = [x.shape[axis] for axis in axes]
    if are_short(*lengths) and math.prod(lengths) <= _fewest(x, lengths):
        return tf.reduce_mean(x, axes, keepdims=True)
    # Slices of the first axis are the longest pieces of memory.
    enough = (axis for axis in axes if (x.shape[axis] or 0) >= _SLICES)
    return _mean_in_slices(x, next(enough, None) or longest(x, axes), axes, mean_axes)


def _mean_in_slices(
    x: tf.Tensor, axis: int | None, axes: list[int], mean_rest: Mean
) -> tf.Tensor:
    """Means over axes, of which one is cut into slices that are added first."""
    length = 0 if axis is None else x.shape[axis]
    slices = _even_slices(length) if length else None
    if slices is None and (length or 0) < _WORTH_A_REST:
        return mean_rest(x, axes)

    def of_slices(x: tf.Tensor, slices: int) -> tf.Tensor:
        # Halves are exact. Of three whole slices of a single sample in half precision
        # XLA makes a loop without vectors. Divided after the sum: a division between
        # would have it join all into one loop.
        half = tf.constant(0.5, x.dtype)
        halves = [part * half for part in tf.split(x, slices, axis)]
        return mean_rest(tf.add_n(halves), axes) * (2 / slices)

    if slices is not None:
        return of_slices(x, slices)
    rest = length % _SLICES
    head, tail = tf.split(x, [length - rest, rest], axis)
    share = rest / length
    return of_slices(head, _SLICES) * (1 - share) + mean_rest(tail, axes) * share


def _fewest(x: tf.Tensor, lengths: list[int]) -> int:
    """How many numbers are added as fast without slices."""
    # Slices of what lies side by side are short: in half precision they cost most.
    return 2 * LONGEST_JOINED if math.prod(lengths) == x.shape[-1] else LONGEST_JOINED


def _even_slices(length: int) -> int | None:
    """How many slices of equal size there are best, if there can be a few."""
    if length <= _SLICES:
        return length
    least = _SLICES // 2 if length >= _WORTH_A_REST else 2
    counts = [n for n in range(_SLICES, least - 1, -1) if length % n == 0]
    apart = (n for n in counts if length // n > LONGEST_JOINED)
    return next(apart, max(counts, default=None))
