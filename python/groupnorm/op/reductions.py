"""Means over axes, in the form that runs fastest and rounds least.

TensorFlow's own kernels run one operation at a time: few operations are fast there,
and what is as large as the input costs most where it is written down.
XLA joins operations into loops. On a CPU it makes good ones of elementwise operations,
but of a sum over something that it computes on the way it makes a loop that uses no
vector instructions. There are other forms for it: sums of slices, products with a
vector, two sums in one loop. On a GPU it gives each column of numbers that are added
down the rows to few threads, and where it thinks them too few to compute on the way
what is added, that is written to memory first. `mean` adds shorter columns for it.

Every mean here keeps the axes that it is over, with size 1. Axes are given as a
constant tensor, which can serve many calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf
from tensorflow.python.ops.parallel_for import pfor

from groupnorm.op import context

Size: TypeAlias = int | tf.Tensor  # a number where it is known
Mean: TypeAlias = Callable[[tf.Tensor, list[int]], tf.Tensor]

# Sums of more numbers than this are taken in blocks, because the rounding errors of one
# running sum grow with its length.
LONGEST_SUM = 1024

# Rows that are added first where their number does not tell how many are best.
_SEGMENT = 512

# Numbers side by side are added in so many sums, or more.
_LANES = 4

# Of columns that XLA adds for a GPU each sum is written down: the longer they are, the
# less that is beside what was read. But a block of threads adds so many columns side by
# side, and there are to be enough blocks for all processors of a large GPU.
_SIDE_BY_SIDE, _PROCESSORS = 64, 128
# Columns of fewer numbers are not worth their sums.
_SHORTEST_COLUMN = 16
# Where the batch may be of any size there is no telling how many there are.
_COLUMN_OF_ANY_BATCH = 256

# Slices that are added to one another before a sum: more make that sum smaller,
# but are more places to read from at once.
_SLICES = 8
# XLA takes a sum of more numbers than this in parts, for which it writes down what is
# added. That of so few it joins with what computes them, into a loop without vectors.
_JOINED = 32
# Down the rows, a product is best where those are longer than one vector, but not two.
_WORTH_PRODUCT_DOWN = range(9, 16)
# Where a view with groups in one piece has positions, which may be several axes of the
# input. To find its way in them XLA needs divisions, and only shifts for powers of two:
# then it adds slices fast, and never products.
_POSITIONS = 4
# So many of them are best two axes, of which the last is as long as a vector: a sum
# over these it joins with what computes the numbers, into a loop with vectors. Of more
# the slices are long enough.
_FEWEST_NESTED, _MOST_NESTED = 16, 256
_VECTOR, _SHORT_VECTOR = 8, 4
# For the sum over samples of so few numbers a library takes longer to start.
_FEW_TO_SUM = 8192
# So many are added as pairs faster than twice.
_WORTH_PAIRS = range(8, 33)


def sizes_of(x: tf.Tensor) -> list[Size]:
    """Size of every axis, -1 for that of the batch where `tf.reshape` can tell it."""
    sizes = x.shape.as_list()
    if sizes[0] is None and all(sizes[1:]):
        sizes[0] = -1
    if None in sizes:
        found = tf.unstack(tf.shape(x))
        sizes = [s if n is None else n for n, s in zip(sizes, found, strict=True)]
    return sizes


def are_short(*lengths: Size | None, lanes: int = 1) -> bool:
    """Whether sums over axes of these lengths, if known, may be taken in one go."""
    known = [n for n in lengths if isinstance(n, int)]
    return len(known) == len(lengths) and 0 < math.prod(known) <= LONGEST_SUM * lanes


def can_be_added_at_once(*lengths: Size | None) -> bool:
    """Whether sums over the last axes, of these lengths, may be taken in one go."""
    # TensorFlow adds what lies side by side as a tree, so that no sum is long.
    return run_as_written() or are_short(*lengths)


def nested(length: Size, times: int) -> list[Size]:
    """Axes for so many numbers side by side, where a mean is over `times` of these."""
    if not (
        context.is_compiled_for_cpu()
        and isinstance(length, int)
        and _FEWEST_NESTED <= length <= _MOST_NESTED
        and _is_power_of_2(length)
        and length * times not in _WORTH_PAIRS
    ):
        return [length]
    last = _SHORT_VECTOR if length < _VECTOR**2 else _VECTOR
    return [length // last, last]


def divisors(length: int) -> list[int]:
    """All that divide this length, in ascending order."""
    small = [d for d in range(1, math.isqrt(length) + 1) if length % d == 0]
    return sorted({*small, *(length // d for d in small)})


def mean(x: tf.Tensor, axes: tf.Tensor) -> tf.Tensor:
    """Mean over these axes, in ascending order; 0 where one of them is empty."""
    known = tf.get_static_value(axes).tolist()
    if context.is_compiled_for_cpu():
        return _mean_on_cpu(x, known)
    if context.is_compiled() and _is_of_columns(x, known):
        return _mean_of_columns(x, known)
    lengths = [x.shape[axis] for axis in known]
    lanes = _LANES if known[-1] == x.shape.rank - 1 else 1
    if are_short(*lengths, lanes=lanes):
        return tf.reduce_mean(x, axes, keepdims=True)
    if _are_last(known, x) and can_be_added_at_once(*lengths):
        return _mean_at_once(x, known)
    return _mean_axes(x, known)


def are_worth_pairs(x: tf.Tensor, axes: tf.Tensor) -> bool:
    """Whether two means over these axes are best taken by `mean_of_pairs`."""
    lengths = [x.shape[axis] for axis in tf.get_static_value(axes)]
    return (
        context.is_compiled_for_cpu()
        and None not in lengths
        and math.prod(lengths) in _WORTH_PAIRS
    )


def mean_of_pairs(
    x: tf.Tensor, y: tf.Tensor, axes: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Means of both. XLA adds complex numbers as it does real ones, in one loop."""
    total = tf.reduce_sum(tf.complex(x, y), axes, keepdims=True)
    share = 1 / math.prod(x.shape[axis] for axis in tf.get_static_value(axes))
    return tf.math.real(total) * share, tf.math.imag(total) * share


def sum_samples(x: tf.Tensor, are_sums: bool) -> tf.Tensor:
    """Sums over the first axis, as a vector, of what may itself be sums."""
    if not context.is_compiled_for_cpu():
        return tf.reshape(tf.reduce_sum(x, 0), [-1])
    # XLA would add one column after the other, number by number.
    samples = sizes_of(x)[0]
    rows = tf.reshape(x, [samples, math.prod(x.shape[1:])])
    times = 1 if _is_sum_of_few(rows, are_sums) else _VECTOR
    if samples == -1:
        samples = tf.shape(x)[0]
    return tf.matmul(tf.ones([times, samples], x.dtype), rows)[0]


def _is_sum_of_few(rows: tf.Tensor, are_sums: bool) -> bool:
    """Whether the sum down the rows is best left to XLA.

    It makes a sum again of a product with one row, and joins that with others.
    """
    numbers = rows.shape.num_elements()
    if numbers is None:
        return False
    return numbers <= _FEW_TO_SUM or (rows.shape[0] <= _JOINED and not are_sums)


class Segments:
    """Rows in blocks of which the last may be short, for means over all of them.

    They are for rows of which nobody knows how many there are, or whose number nothing
    divides: to cut them up otherwise TensorFlow would copy them.
    """

    def __init__(self, samples: Size, rows: Size, row: list[Size]) -> None:
        blocks = -(-rows // _SEGMENT)
        first = tf.range(samples)[:, tf.newaxis] * blocks
        block_of = first + tf.range(rows) // _SEGMENT
        self._block_of = tf.reshape(block_of, [-1])
        self._flat = tf.stack([samples * rows, math.prod(row)])
        self._sums = tf.stack([samples, blocks, *row])
        self._rows = rows

    @staticmethod
    def are_needed(rows: Size) -> bool:
        """Whether so many rows are neither few nor to be cut evenly into blocks."""
        if not isinstance(rows, int):
            return run_as_written()
        return rows > LONGEST_SUM and run_as_written() and _even_block(rows) is None

    def mean(self, x: tf.Tensor) -> tf.Tensor:
        """Mean over the rows of `(N, rows, *row)`; 0 if there are none."""
        sums = tf.math.segment_sum(tf.reshape(x, self._flat), self._block_of)
        total = tf.reduce_sum(tf.reshape(sums, self._sums), 1, keepdims=True)
        return total * _share(self._rows, x.dtype)


def norm(x: tf.Tensor, axes: tf.Tensor) -> tf.Tensor:
    """Root of the sum of squares over these axes, with no tensor of the squares."""
    return tf.raw_ops.EuclideanNorm(input=x, axis=axes, keep_dims=True)


def run_as_written() -> bool:
    """Whether TensorFlow's own kernels are to run this, one operation at a time."""
    return not (
        context.is_compiled() or context.is_exporting() or context.is_for_reading()
    )


def tile(x: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
    """Copies of `x` along each axis, in a form that later operations read fast."""
    copies = int(tf.get_static_value(times).prod())
    if copies == 1 or not context.is_compiled_for_cpu():
        return tf.tile(x, times)
    # XLA does not join matrix products with what follows, so that what follows reads
    # channels from memory. Half a value plus half of it is that value.
    halves = tf.fill([2, copies], tf.constant(0.5, x.dtype))
    column = tf.reshape(x, [-1, 1])
    return tf.matmul(tf.concat([column, column], 1), halves)


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


@pfor.RegisterPFor("EuclideanNorm")
def _vectorized_norm(of_one):
    """The norms of many tensors at once, for `tf.vectorized_map`."""
    axes = of_one.unstacked_input(1) + 1  # after the new one; they are not negative
    found = tf.raw_ops.EuclideanNorm(
        input=of_one.stacked_input(0), axis=axes, keep_dims=of_one.get_attr("keep_dims")
    )
    return pfor.wrap(found, True)


@pfor.RegisterPFor("SegmentSum")
def _vectorized_segment_sum(of_one):
    """The sums of many tensors at once, which are cut up alike."""
    rows_first = tf.einsum("nrc->rnc", of_one.stacked_input(0))
    sums = tf.math.segment_sum(rows_first, of_one.unstacked_input(1))
    return pfor.wrap(tf.einsum("rnc->nrc", sums), True)


def _are_last(axes: list[int], x: tf.Tensor) -> bool:
    """Whether what lies along these axes lies side by side."""
    end = axes[-1] + 1
    return axes == list(range(axes[0], end)) and set(x.shape[end:]) <= {1}


def _mean_on_cpu(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Means in the forms of which XLA makes loops with vector instructions."""
    longer = [axis for axis in axes if x.shape[axis] != 1]
    if longer == [1] and _JOINED < (x.shape[1] or 0) <= LONGEST_SUM:
        width = x.shape[2:].num_elements()
        if width == _VECTOR:
            return _mean_joined(x, axes)
        if width in _WORTH_PRODUCT_DOWN:
            return _mean_by_product_down(x)
    if not longer or not _are_last(axes, x):
        return _mean_by_slices(x, axes)
    *others, last = longer
    if _are_nested(x, axes):
        return _mean_of_nested(x, axes)
    length = x.shape[last] or 0
    is_shifted = last == _POSITIONS and _is_power_of_2(length)
    least = 2 * _JOINED if others else _JOINED
    if is_shifted or not least < length <= LONGEST_SUM:
        return _mean_by_slices(x, axes)
    found = _mean_by_product(x, last)
    return _mean_by_slices(found, others) if others else found


def _are_nested(x: tf.Tensor, axes: list[int]) -> bool:
    """Whether the last axes are those that `nested` makes."""
    lengths = [x.shape[axis] for axis in axes]
    if len(axes) < 2 or not are_short(*lengths):
        return False
    *_, outer, last = lengths
    return last in (_SHORT_VECTOR, _VECTOR) and _SHORT_VECTOR <= outer <= _JOINED


def _mean_of_nested(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Means over axes of which the last two are nested."""
    enough = (axis for axis in axes[:-2] if x.shape[axis] >= _SLICES)
    return _mean_in_slices(x, next(enough, None), axes, _mean_joined)


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
    return _mean_in_slices(x, next(enough, None) or _longest(x, axes), axes, _mean_axes)


def _mean_in_slices(
    x: tf.Tensor, axis: int | None, axes: list[int], mean_rest: Mean
) -> tf.Tensor:
    """Means over axes, of which one is cut into slices that are added first."""
    length = 0 if axis is None else x.shape[axis]
    if not length:
        return mean_rest(x, axes)

    def of_slices(x: tf.Tensor, slices: int) -> tf.Tensor:
        # Divided after the sum: a division between would have XLA join all into one
        # loop.
        return mean_rest(tf.add_n(tf.split(x, slices, axis)), axes) * (1 / slices)

    slices = _even_slices(length)
    if slices is not None:
        return of_slices(x, slices)
    rest = length % _SLICES
    head, tail = tf.split(x, [length - rest, rest], axis)
    share = rest / length
    return of_slices(head, _SLICES) * (1 - share) + mean_rest(tail, axes) * share


def _fewest(x: tf.Tensor, lengths: list[int]) -> int:
    """How many numbers are added as fast without slices."""
    # Slices of what lies side by side are short: in half precision they cost most.
    return 2 * _JOINED if math.prod(lengths) == x.shape[-1] else _JOINED


def _even_slices(length: int) -> int | None:
    """How many slices of equal size there are best, if there can be a few."""
    if length <= _SLICES:
        return length
    counts = [n for n in range(_SLICES, 1, -1) if length % n == 0]
    apart = (n for n in counts if length // n > _JOINED)
    return next(apart, max(counts, default=None))


def _longest(x: tf.Tensor, axes: list[int]) -> int:
    return max(axes, key=lambda axis: x.shape[axis] or 0)


def _is_of_columns(x: tf.Tensor, axes: list[int]) -> bool:
    """Whether there are sums side by side, and each is over what is not."""
    return len(axes) == 1 and axes[0] != x.shape.rank - 1 and x.shape[-1] != 1


def _mean_of_columns(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Means over one axis, of short columns first where its length can be divided."""
    (axis,) = axes
    length = x.shape[axis] or 1
    most = max(_longest_column(x, axis), length // LONGEST_SUM)
    blocks = [b for b in divisors(length) if _SHORTEST_COLUMN <= b <= LONGEST_SUM]
    block = max((b for b in blocks if b <= most), default=min(blocks, default=length))
    if block == length:
        return _mean_axis(x, axis)
    return _mean_of_blocks(x, axis, block)


def _longest_column(x: tf.Tensor, axis: int) -> int:
    """How many numbers a column may have so that there are enough of them."""
    numbers = x.shape.num_elements()
    if numbers is None:
        return _COLUMN_OF_ANY_BATCH
    width = math.prod(x.shape[axis + 1 :])
    return numbers // (_PROCESSORS * max(1, min(width, _SIDE_BY_SIDE)))


def _mean_axes(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    for axis in reversed(axes):
        x = _mean_axis(x, axis)
    return x


def _mean_at_once(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Mean over axes that may be of any length; 0 where one of them is empty."""
    if all(x.shape[axis] for axis in axes):
        return tf.reduce_mean(x, axes, keepdims=True)
    sizes = sizes_of(x)
    count = math.prod(sizes[axis] for axis in axes)
    return tf.reduce_sum(x, axes, keepdims=True) * _share(count, x.dtype)


def _mean_axis(x: tf.Tensor, axis: int) -> tf.Tensor:
    """Mean over one axis, 0 where it is empty, without long running sums."""
    length = x.shape[axis]
    if length is not None and length <= LONGEST_SUM:
        return _running_mean(x, axis)
    block = _even_block(length)
    if block is not None:
        return _mean_of_blocks(x, axis, block)
    if run_as_written() and axis == x.shape.rank - 1:
        return _mean_at_once(x, [axis])

    length = sizes_of(x)[axis]
    rest = length % LONGEST_SUM
    head, tail = tf.split(x, [length - rest, rest], axis)
    # Both cast first: a quotient of integers is float64, which TensorFlow Lite lacks.
    tail_share = tf.cast(rest, x.dtype) / tf.cast(tf.maximum(length, 1), x.dtype)
    return (
        _mean_of_blocks(head, axis, LONGEST_SUM) * (1 - tail_share)
        + _running_mean(tail, axis) * tail_share
    )


def _even_block(length: int | None) -> int | None:
    """A divisor of the length that is not far from its square root, if there is one."""
    if length is None:
        return None
    root = math.isqrt(length)
    return next((b for b in range(root, root // 16, -1) if length % b == 0), None)


def _mean_of_blocks(x: tf.Tensor, axis: int, block: int) -> tf.Tensor:
    shape = sizes_of(x)
    shape[axis : axis + 1] = [shape[axis] // block, block]
    blocks = tf.reshape(x, tf.stack(shape))
    means = tf.squeeze(_running_mean(blocks, axis + 1), axis + 1)
    return _running_mean(means, axis)


def _share(count: Size, dtype: tf.DType) -> Any:
    """The share of each of so many numbers, if there is one."""
    if isinstance(count, int):
        return 1 / max(count, 1)
    return 1 / tf.cast(tf.maximum(count, 1), dtype)


def _running_mean(x: tf.Tensor, axis: int) -> tf.Tensor:
    size = x.shape[axis]
    if size:
        return tf.reduce_mean(x, axis, keepdims=True)
    # tf.reduce_mean is NaN for an empty axis, and TensorFlow Lite leaves even the sum
    # over it undefined.
    size = sizes_of(x)[axis]
    total = tf.where(size > 0, tf.reduce_sum(x, axis, keepdims=True), 0)
    return total * _share(size, x.dtype)
