"""Means whose running sums are short, whatever the lengths of the axes."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from groupnorm.op import context
from groupnorm.op.reductions.sizes import (
    LONGEST_JOINED,
    LONGEST_SUM,
    Size,
    sizes_of,
)


def mean_axes(x: tf.Tensor, axes: list[int]) -> tf.Tensor:
    for axis in reversed(axes):
        if x.shape[axis] != 1:
            x = mean_axis(x, axis)
    return x


def mean_axis(x: tf.Tensor, axis: int) -> tf.Tensor:
    """Mean over one axis, without long running sums."""
    length = x.shape[axis]
    if length is not None and length <= LONGEST_SUM:
        return _running_mean(x, axis)
    block = even_block(length)
    if block is not None:
        return mean_of_blocks(x, axis, block)
    if context.is_run_as_written() and axis == x.shape.rank - 1:
        return tf.reduce_mean(x, axis, keepdims=True)

    length = sizes_of(x)[axis]
    rest = length % LONGEST_SUM
    head, tail = tf.split(x, [length - rest, rest], axis)
    # Both cast first: a quotient of integers is float64, which TensorFlow Lite lacks.
    tail_share = tf.cast(rest, x.dtype) / tf.cast(tf.maximum(length, 1), x.dtype)
    return (
        mean_of_blocks(head, axis, LONGEST_SUM) * (1 - tail_share)
        + _running_mean(tail, axis) * tail_share
    )


def mean_of_blocks(x: tf.Tensor, axis: int, block: int) -> tf.Tensor:
    shape = sizes_of(x)
    shape[axis : axis + 1] = [shape[axis] // block, block]
    blocks = tf.reshape(x, tf.stack(shape))
    return _running_mean(tf.reduce_mean(blocks, axis + 1), axis)


def even_block(length: int | None) -> int | None:
    """A divisor of the length that is not far from its square root, if there is one."""
    if length is None:
        return None
    root = math.isqrt(length)
    block = next((b for b in range(root, root // 16, -1) if length % b == 0), None)
    if block is None or block > LONGEST_JOINED or length // block > LONGEST_SUM:
        return block
    # Of so short a one XLA on a CPU makes a slow loop, together with what comes before.
    return length // block


def share(count: Size, dtype: tf.DType) -> Any:
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
    return total * share(size, x.dtype)
