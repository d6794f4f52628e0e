"""What the shapes have in common."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

import tensorflow as tf

from groupnorm.op import context, reductions
from groupnorm.op.reductions import LONGEST_SUM, Size, Sizes

Reduction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# A number near the mean is taken from one of them, or little more.
_PARTS = 8
# Numbers side by side; to add eight times as many takes less time than to copy fewer.
_WORTH_A_COPY = 32
# A norm of so many numbers is given threads, which take longer to start than it takes;
# of more, other operations are given them, too.
_NORM_STARTS_THREADS = range(75_000, 107_000)
# Samples of a batch that may be of any size, as in most models.
_USUAL_BATCH = 32
# What is too long for one sum can be cut into blocks if it is a multiple of this.
_EVEN = 64


class View(abc.ABC):
    """A shape, and how to reduce what is in it and to broadcast against it."""

    holds_few = False
    _group_axes: tuple[int, ...] = (1,)  # of its numbers alone, in the input
    _sums: list[tf.Tensor]  # the axes of each reduction that a group's takes

    def __init__(
        self, sizes: Sizes, shape: list[Size], groups: int, positions: Size
    ) -> None:
        self.positions = positions  # of a sample
        self._sizes, self._groups = sizes, groups
        # One constant for all that is read in it; none if the input has it.
        alike = len(shape) == len(sizes) and all(map(_are_same, shape, sizes))
        self._shape = None if alike else reductions.as_shape(*shape)
        self._is_any: tf.Tensor | None = None  # 0 if there are no positions, else 1

    @property
    def takes_off_means(self) -> bool:
        """Whether means are taken off the numbers, rather than carried beside them.

        Coefficients that carry them would be as many as the numbers if there is one
        position, and are more operations.
        """
        return is_number(1, self.positions)

    @property
    def numbers(self) -> Size:
        """How many numbers a group has."""
        return reductions.product(*self._sizes[1:]) // self._groups

    def read(self, x: tf.Tensor) -> tf.Tensor:
        """The input, or what has its shape, in this shape."""
        return x if self._shape is None else tf.reshape(x, self._shape)

    def restore(self, values: tf.Tensor) -> tf.Tensor:
        """What is in this shape, in that of the input."""
        return values if self._shape is None else tf.reshape(values, self._sizes.shape)

    def part(self, values: tf.Tensor) -> tf.Tensor:
        """An eighth of each group or more, in the middle, if sizes are known.

        All of it where TensorFlow would copy so small pieces that this takes longer.
        """
        axis = self._axis_of_part(values)
        length = values.shape[axis]
        if length is None or length < 2:
            return values
        count = -(-length // _PARTS)
        if count > LONGEST_SUM:
            count += -count % _EVEN
        if context.is_run_as_written():
            after = [n or _WORTH_A_COPY for n in values.shape[axis + 1 :]]
            if count * math.prod(after) < _WORTH_A_COPY:
                return values
        else:
            count = max(2, count)  # XLA reads one alone again wherever it is taken off
        begin, size = [0] * values.shape.rank, [-1] * values.shape.rank
        begin[axis], size[axis] = (length - count) // 2, count
        return tf.slice(values, begin, size)

    def _axis_of_part(self, values: tf.Tensor) -> int:
        """The longest of a group's, or the first that an eighth can be taken of.

        The nearer to the front it is, the more of what is copied lies side by side.
        """
        lengths = {axis: values.shape[axis] or 0 for axis in self._group_axes}
        longest = max(lengths, key=lengths.__getitem__)
        if not context.is_run_as_written():
            return longest  # XLA does not copy it
        return next((a for a, n in lengths.items() if n >= _PARTS), longest)

    def near(self, values: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean of an eighth of each group or more."""
        known = self._has_known_sizes()
        if known and reductions.is_one_near(self.numbers, self.positions):
            return self.one(values)
        return reductions.same_everywhere(self.mean(self.part(values)))

    def one(self, values: tf.Tensor) -> tf.Tensor:
        """Statistics: a number in the middle of each group."""
        return middle(values, self._group_axes)

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean over each group."""
        return self._reduce(values, reductions.mean)

    def moments(self, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Statistics: the mean over each group, and that of the squares."""
        return self.mean(values), self.mean_square(values)

    def mean_square(self, values: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean of the squares over each group."""
        takes_norms = self._can_take_norms() and context.is_run_as_written()
        if not takes_norms or usual_numbers(self._sizes) in _NORM_STARTS_THREADS:
            return self.mean(tf.square(values))
        share = 1 / self.numbers
        if self._groups == 1 and is_number(1, self._sizes[0]):
            # TensorFlow would take a single norm with one thread.
            return tf.nn.l2_loss(values) * (2 * share)
        return tf.square(self._reduce(values, reductions.norm)) * share

    def if_any(self, means: tf.Tensor) -> tf.Tensor:
        """Means, 0 where there are no positions: as they are taken they can be NaN."""
        if isinstance(self.positions, int) or not context.is_run_as_written():
            return means
        if self._is_any is None:
            self._is_any = tf.cast(tf.minimum(self.positions, 1), means.dtype)
        return tf.math.multiply_no_nan(means, self._is_any)

    @abc.abstractmethod
    def mean_positions(self, values: tf.Tensor) -> tf.Tensor:
        """Values of channels: the mean over the positions."""

    @abc.abstractmethod
    def mean_channels(self, per_channel: tf.Tensor) -> tf.Tensor:
        """Statistics: the mean over the channels of each group."""

    def means_channels(
        self, first: tf.Tensor, second: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Statistics: of both the mean over the channels of each group."""
        return self.mean_channels(first), self.mean_channels(second)

    def less(self, values: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
        """Values of the input less what `near` returned."""
        return values - self.spread(shift)

    def spread(self, statistics: tf.Tensor) -> tf.Tensor:
        """Statistics, to be broadcast against the input."""
        return statistics

    @abc.abstractmethod
    def beside_channels(self, parameter: tf.Tensor) -> tf.Tensor:
        """A parameter, to be broadcast against values of channels."""

    def beside_input(self, parameter: tf.Tensor) -> tf.Tensor:
        """A parameter, to be broadcast against what `spread` returns."""
        return self.beside_channels(parameter)

    @abc.abstractmethod
    def read_mask(self, mask: tf.Tensor) -> tf.Tensor:
        """A mask of the input's shape with one channel, to be broadcast against it."""

    def _reduce(self, values: tf.Tensor, reduction: Reduction) -> tf.Tensor:
        """Reduce each group to a statistic."""
        for axes in self._sums:
            values = reduction(values, axes)
        return values

    def _has_known_sizes(self) -> bool:
        """Whether it is known how many numbers a group has, and that there are any."""
        return all(isinstance(size, int) and size > 0 for size in self._sizes[1:])

    def _can_take_norms(self) -> bool:
        """Whether norms are as accurate here as means, and worth it."""
        return False


def middle(values: tf.Tensor, axes: tuple[int, ...], before: int = 0) -> tf.Tensor:
    """What is in the middle of these axes, or before it along the longest of them."""
    begin, size = [0] * values.shape.rank, [-1] * values.shape.rank
    for axis in axes:
        begin[axis], size[axis] = values.shape[axis] // 2, 1
    begin[max(axes, key=lambda axis: values.shape[axis])] -= before
    return tf.slice(values, begin, size)


def usual_numbers(sizes: list[Size]) -> int | None:
    """How many numbers there are, if known; if the batch may be any, in a usual one."""
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) < len(sizes):
        return None
    samples = _USUAL_BATCH if known[0] == -1 else known[0]
    return samples * math.prod(known[1:])


def _are_same(size: Size, other: Size) -> bool:
    return size is other or (isinstance(size, int) and is_number(size, other))


def is_number(number: int, size: Size) -> bool:
    """Whether a size is known to be this number."""
    return isinstance(size, int) and size == number
