"""How many numbers there are, as far as that is known while a graph is made."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import tensorflow as tf

from groupnorm.op import context

Size: TypeAlias = int | tf.Tensor  # a number where it is known

# Sums of more numbers than this are taken in blocks, because the rounding errors of one
# running sum grow with its length.
LONGEST_SUM = 1024

# An axis of more numbers XLA on a CPU adds in windows, of what is written down. That of
# so few it joins with what computes them.
LONGEST_JOINED = 32


class Sizes(list[Size]):
    """The size of every axis of a tensor, and all of them in one."""

    def __init__(self, sizes: list[Size], shape: Any) -> None:
        super().__init__(sizes)
        self.shape = shape  # for `tf.reshape`


def sizes_of(x: tf.Tensor) -> Sizes:
    """Size of every axis, -1 for that of the batch where `tf.reshape` can tell it."""
    sizes = x.shape.as_list()
    if sizes[0] is None and all(sizes[1:]):
        sizes[0] = -1
    if None not in sizes:
        return Sizes(sizes, sizes)
    shape = tf.shape(x)
    found = tf.unstack(shape)
    sizes = [s if n is None else n for n, s in zip(sizes, found, strict=True)]
    return Sizes(sizes, shape)


def as_shape(*sizes: Size) -> tf.Tensor:
    """A shape for `tf.reshape`: if it can tell the only one that is unknown, of those.

    It is no operation then.
    """
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes) - 1 and all(size > 0 for size in known):
        return tf.constant([n if isinstance(n, int) else -1 for n in sizes])
    return tf.stack(sizes)


def product(*sizes: Size) -> Size:
    """Their product. To multiply one that is unknown is an operation, even by 1."""
    known = math.prod(size for size in sizes if isinstance(size, int))
    unknown = [size for size in sizes if not isinstance(size, int)]
    if not unknown:
        return known
    first = unknown[0] if known == 1 else unknown[0] * known
    return math.prod(unknown[1:], start=first)


def quotient(size: Size, parts: int) -> Size:
    """The size of each of so many parts, likewise."""
    return size if parts == 1 else size // parts


def are_short(*lengths: Size | None, lanes: int = 1) -> bool:
    """Whether sums over axes of these lengths, if known, may be taken in one go."""
    known = [n for n in lengths if isinstance(n, int)]
    return len(known) == len(lengths) and 0 < math.prod(known) <= LONGEST_SUM * lanes


def can_be_added_at_once(*lengths: Size | None) -> bool:
    """Whether sums over the last axes, of these lengths, may be taken in one go."""
    # TensorFlow adds what lies side by side as a tree, so that no sum is long.
    return context.is_run_as_written() or are_short(*lengths)


def divisors(length: int, most: int | None = None) -> list[int]:
    """All that divide this length, or those up to the most, in ascending order."""
    small = [d for d in range(1, math.isqrt(length) + 1) if length % d == 0]
    found = sorted({*small, *(length // d for d in small)})
    return found if most is None else [d for d in found if d <= most]


def are_last(axes: list[int], x: tf.Tensor) -> bool:
    """Whether what lies along these axes lies side by side."""
    end = axes[-1] + 1
    return axes == list(range(axes[0], end)) and set(x.shape[end:]) <= {1}


def longest(x: tf.Tensor, axes: list[int]) -> int:
    return max(axes, key=lambda axis: x.shape[axis] or 0)
