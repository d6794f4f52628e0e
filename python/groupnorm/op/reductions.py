"""Means over positions, and the way back to channels, in the form that runs fastest.

TensorFlow's own kernels run one operation at a time: few operations are fast there.
XLA joins operations into loops. On a CPU it makes good ones of elementwise operations,
but of a sum over something that it computes on the way it makes a loop that uses no
vector instructions, and the same happens to elementwise operations that read one value
for several channels. `mean` and `spread` have another form for it.
"""

from __future__ import annotations

import math

import tensorflow as tf

from groupnorm.op import context

# Sums of more numbers than this are taken in blocks, because the rounding errors of one
# running sum grow with its length.
_LONGEST_SUM = 1024

# Slices that are added to one another before a sum: more make that sum smaller,
# but are more places to read from at once.
_SLICES = 8


def mean(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Mean over these axes, in ascending order; 0 where one of them is empty."""
    if axes and context.is_compiled_for_cpu():
        return _mean_by_slices(x, axes)
    return _mean_axes(x, axes)


def spread(per_group: tf.Tensor, size: int) -> tf.Tensor:
    """Every value of `(N, G)` once for each channel of its group: `(N, G * size)`."""
    if size == 1:
        return per_group
    if not context.is_compiled_for_cpu():
        return tf.repeat(per_group, size, axis=1)
    # XLA does not join matrix products with what follows, so that what follows reads
    # channels from memory. Half a value plus half of it is that value.
    halves = tf.fill([2, size], tf.constant(0.5, per_group.dtype))
    column = tf.reshape(per_group, [-1, 1])
    twice = tf.concat([column, column], 1)
    return tf.reshape(tf.matmul(twice, halves), [-1, per_group.shape[1] * size])


def size_of(x: tf.Tensor, axis: int) -> int | tf.Tensor:
    """Size of an axis: a number where it is known."""
    size = x.shape[axis]
    return tf.shape(x)[axis] if size is None else size


def _mean_by_slices(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """Add slices along the longest axis, which is elementwise, before the sum."""
    axis = _longest(x, axes)
    length = x.shape[axis]
    if not length:
        return _mean_axes(x, axes)
    slices = _even_slices(length)
    if slices is not None:
        return _mean_of_slices(x, axis, slices, axes)

    rest = length % _SLICES
    head, tail = tf.split(x, [length - rest, rest], axis)
    return _mean_of_slices(head, axis, _SLICES, axes) * (
        1 - rest / length
    ) + _mean_axes(tail, axes) * (rest / length)


def _even_slices(length: int) -> int | None:
    """How many slices of equal size there are best, if there can be a few."""
    if length <= _SLICES:
        return length
    counts = range(_SLICES, _SLICES // 2 - 1, -1)
    return next((count for count in counts if length % count == 0), None)


def _mean_of_slices(x: tf.Tensor, axis: int, slices: int, axes: list[int]) -> tf.Tensor:
    # Divided after the sum: a division between would have XLA join all into one loop.
    total = tf.add_n(tf.split(x, slices, axis))
    return _mean_axes(total, axes) * (1 / slices)


def _longest(x: tf.Tensor, axes: list[int]) -> int:
    return max(axes, key=lambda axis: x.shape[axis] or 0)


def _mean_axes(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    for axis in reversed(axes):
        x = _mean_axis(x, axis)
    return x


def _mean_axis(x: tf.Tensor, axis: int) -> tf.Tensor:
    """Mean over one axis, 0 where it is empty, without long running sums."""
    length = x.shape[axis]
    if length is not None and length <= _LONGEST_SUM:
        return _running_mean(x, axis)
    block = _even_block(length)
    if block is not None:
        return _mean_of_blocks(x, axis, block)

    length = size_of(x, axis)
    rest = length % _LONGEST_SUM
    head, tail = tf.split(x, [length - rest, rest], axis)
    # Both cast first: a quotient of integers is float64, which TensorFlow Lite lacks.
    tail_share = tf.cast(rest, x.dtype) / tf.cast(tf.maximum(length, 1), x.dtype)
    return (
        _mean_of_blocks(head, axis, _LONGEST_SUM) * (1 - tail_share)
        + _running_mean(tail, axis) * tail_share
    )


def _even_block(length: int | None) -> int | None:
    """A divisor of the length that is not far from its square root, if there is one."""
    if length is None:
        return None
    root = math.isqrt(length)
    return next((b for b in range(root, root // 16, -1) if length % b == 0), None)


def _mean_of_blocks(x: tf.Tensor, axis: int, block: int) -> tf.Tensor:
    shape = tf.unstack(tf.shape(x))
    shape[axis : axis + 1] = [shape[axis] // block, block]
    blocks = tf.reshape(x, tf.stack(shape))
    return _running_mean(_running_mean(blocks, axis + 1), axis)


def _running_mean(x: tf.Tensor, axis: int) -> tf.Tensor:
    # Not tf.reduce_mean, which is NaN for an empty axis. The division between two sums
    # also keeps XLA from joining them into the one long sum that is to be avoided.
    size, total = size_of(x, axis), tf.reduce_sum(x, axis)
    if tf.is_tensor(size):
        # TensorFlow Lite leaves the sum over an empty axis undefined.
        total = tf.where(size > 0, total, 0)
    return total * (1 / tf.cast(tf.maximum(size, 1), x.dtype))
