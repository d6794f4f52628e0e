"""Group normalization and its closed-form gradient in plain TensorFlow operations.

Everything here works on a tensor of any rank with the channel axis anywhere: it is read
in a shape from `views/`, which knows how to take means over it and how to broadcast
against it.

Accuracy: the variance is never taken as the difference of two large numbers. A shift,
near the group's mean, is taken off first: `x - shift` is exact in floating point when
the two are close, and all that follows uses this difference. The mean that is left in
it is never added to the shift, because their sum would lose digits again: it is carried
beside it or, where numbers are few, taken off as a second shift. The shift is the mean
of a part, an eighth or more of the group, which takes less time than that of all, and
is never further from it than 2.7 standard deviations, whatever the numbers: if a share
f of them had its mean s standard deviations off, then s^2 f / (1 - f) of the variance
would come from that alone. Where the mean that is left is taken off before the variance
is taken, one number is near enough: what rounding it costs is no more than rounding the
output's largest value.

Range: deviations are squared in the dtype of the computation. In float32 those between
1e-15 and 1e15 have squares, and inverses of squares, with all their digits.

Speed: what costs most is writing to fresh memory. In a chain of elementwise operations
TensorFlow writes over what nobody else will read, so that a chain needs it once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from groupnorm.op import context, reductions, views
from groupnorm.op.views import View
from groupnorm.op.views.base import is_number


class Layout(NamedTuple):
    """How the axes of an input of shape `(N, d1, ..., dk)` are to be read."""

    rank: int
    axis: int  # of the channels, counted from the front
    channels: int
    groups: int

    def has_one_value_a_group(self) -> bool:
        """Whether every value is the mean of its group."""
        return self.rank == 2 and self.groups == self.channels

    def view(self, x: tf.Tensor, mask: tf.Tensor | None) -> View:
        """The shape to compute in."""
        return views.view(x, self.axis, self.groups, mask is not None)


class Statistics(NamedTuple):
    """Of each sample's groups, in the view's shape."""

    shift: tf.Tensor  # taken off `x`; no result depends on it
    mean: tf.Tensor  # of what it leaves
    rstd: tf.Tensor  # 1 / sqrt(variance + epsilon)


def value(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    layout: Layout,
    epsilon: float,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, Statistics | None]:
    """Group normalization of `x`, and the statistics that its gradient can use.

    All computation is in the dtype of `gamma`, which may be wider than that of `x`;
    the output has the dtype of `x`. `mask` is boolean and broadcasts against `x`: only
    entries where it is true count.
    """
    if is_empty(x):
        return tf.identity(x), None
    if mask is None and layout.has_one_value_a_group():
        return tf.cast(_zeros(x, gamma) * gamma + beta, x.dtype), None
    view = layout.view(x, mask)
    wide = tf.cast(view.read(x), gamma.dtype)
    counted = _Counted(view, mask, x, layout)
    stats, centered = _statistics(wide, view, epsilon, counted)
    y = _forward(centered, gamma, beta, view, stats)
    return view.restore(tf.cast(y, x.dtype)), stats


def gradient(
    x: tf.Tensor,
    gamma: tf.Tensor,
    dy: tf.Tensor,
    layout: Layout,
    epsilon: float,
    mask: tf.Tensor | None = None,
    stats: Statistics | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gradients with respect to `x`, `gamma` and `beta`, given that of the output.

    The statistics may be those that `value` found; they are computed if not given.
    """
    if is_empty(x):
        return tf.zeros_like(x), tf.zeros_like(gamma), tf.zeros_like(gamma)
    if mask is None and layout.has_one_value_a_group():
        flow = _zeros(x, gamma) * tf.cast(dy, gamma.dtype)
        dx = tf.cast(flow * gamma, x.dtype)
        return dx, tf.reduce_sum(flow, 0), tf.reduce_sum(tf.cast(dy, gamma.dtype), 0)
    view = layout.view(x, mask)
    # Cast again: a wide copy from `value` would be kept, and is larger than x.
    wide = tf.cast(view.read(x), gamma.dtype)
    counted = _Counted(view, mask, x, layout)
    if stats is None:
        stats, _ = _statistics(wide, view, epsilon, counted)
    stats = Statistics(stats.shift, view.if_any(stats.mean), view.if_any(stats.rstd))
    stats = _of_input(x, stats, mask, layout)
    wide_dy = tf.cast(view.read(dy), gamma.dtype)
    dx, dgamma, dbeta = _backward(wide, gamma, wide_dy, view, stats, counted)
    return view.restore(tf.cast(dx, x.dtype)), dgamma, dbeta


def is_empty(x: tf.Tensor) -> bool:
    """Whether it is known that there are no numbers: then there are no formulas either.

    Where TensorFlow's graph optimizer knows that, too, it can divide by their number to
    make copies of a product's factor, which ends the process.
    """
    return 0 in x.shape.as_list()


def _zeros(x: tf.Tensor, gamma: tf.Tensor) -> tf.Tensor:
    """Values less themselves: NaN stays, and there are derivatives to ask for."""
    wide = tf.cast(x, gamma.dtype)
    return wide - wide


class _Counted:
    """Which entries count: all of them, or those where a mask is true."""

    def __init__(
        self, view: View, mask: tf.Tensor | None, x: tf.Tensor, layout: Layout
    ) -> None:
        self._mask: tf.Tensor | None = None
        if mask is None:
            return
        # One channel, and every position: the mask need not tell all of them apart.
        shape = tf.tensor_scatter_nd_update(tf.shape(x), [[layout.axis]], [1])
        self._mask = view.read_mask(tf.broadcast_to(mask, shape))

    @property
    def not_all(self) -> bool:
        """Whether some may not count."""
        return self._mask is not None

    def only(self, values: tf.Tensor) -> tf.Tensor:
        """The values that count, 0 in place of the others."""
        return values if self._mask is None else tf.where(self._mask, values, 0)

    def product(self, values: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
        """Their product, 0 where the factor is."""
        # An entry that does not count may hold anything, NaN too; where nothing flows
        # back into it, it must not reach the means.
        if self._mask is None:
            return values * factor
        return tf.math.multiply_no_nan(values, factor)

    def share(self, view: View, statistics: tf.Tensor) -> tf.Tensor:
        """Means over all positions turned into means over those that count."""
        if self._mask is None:
            return statistics
        counts = tf.cast(self._mask, statistics.dtype)
        total = tf.reduce_sum(counts, list(range(1, counts.shape.rank)))
        positions = tf.cast(view.positions, statistics.dtype)
        factor = tf.math.divide_no_nan(positions, total)
        return statistics * tf.reshape(factor, [-1] + [1] * (statistics.shape.rank - 1))


def _statistics(
    x: tf.Tensor, view: View, epsilon: float, counted: _Counted
) -> tuple[Statistics, tf.Tensor]:
    """Mean and inverse standard deviation of every group, and what is left of `x`.

    A group without entries that count gets mean 0 and variance 0.
    """
    shift = _shift(x, view, counted)
    centered = view.less(x, shift)
    if view.holds_few:
        mean = counted.share(view, view.mean(counted.only(centered)))
        centered -= view.spread(mean)
        variance = counted.share(view, view.mean_square(counted.only(centered)))
    else:
        moments = view.moments(counted.only(centered))
        mean, square = (counted.share(view, moment) for moment in moments)
        # Rounding can make the difference negative.
        variance = tf.nn.relu(square - tf.square(mean))
        if view.takes_off_means:
            centered -= view.spread(mean)
    return Statistics(shift, mean, tf.math.rsqrt(variance + epsilon)), centered


def _shift(x: tf.Tensor, view: View, counted: _Counted) -> tf.Tensor:
    """A number near the mean of each group."""
    if counted.not_all:
        near = counted.share(view, view.mean(counted.only(x)))
        near = reductions.same_everywhere(near)
    else:
        near = view.near(x)
    # Elsewhere derivatives are not taken through here, but by a vectorized map; of one
    # number they would be what rounding leaves of sums that are 0.
    is_passed = context.is_exporting() or context.is_compiled() or view.holds_few
    return tf.stop_gradient(near) if is_passed else near


def _of_input(
    x: tf.Tensor, stats: Statistics, mask: tf.Tensor | None, layout: Layout
) -> Statistics:
    """Statistics of `x` with their derivatives, in closed form.

    With `z` the normalized input, those with respect to a number that counts, one of
    `n` in its group, are `1 / n` of the mean and `-rstd^2 z / n` of `rstd`.
    """
    # In eager mode a graph of this one's derivatives reads only what is in this one.
    x, stats = tf.identity(x), Statistics(*map(tf.identity, stats))
    mask = None if mask is None else tf.identity(mask)

    def derivative(_: tf.Tensor, dmean: tf.Tensor, drstd: tf.Tensor) -> tf.Tensor:
        view = layout.view(x, mask)
        counted = _Counted(view, mask, x, layout)
        # Themselves functions of x, for derivatives of these.
        found = _of_input(x, stats, mask, layout)
        wide = tf.cast(view.read(x), drstd.dtype)
        slope = -drstd * found.rstd**3
        level = dmean if view.takes_off_means else dmean - found.mean * slope
        flow = _centered(wide, view, found) * view.spread(counted.share(view, slope))
        flow += view.spread(counted.share(view, level))
        dx = counted.only(flow) / tf.cast(view.numbers, flow.dtype)
        return view.restore(tf.cast(dx, x.dtype))

    @tf.custom_gradient
    def of_input(_: tf.Tensor) -> Any:
        return tuple(stats), derivative

    return Statistics(*of_input(x))


def _centered(x: tf.Tensor, view: View, stats: Statistics) -> tf.Tensor:
    """What is left of `x` where statistics are taken off that are not carried on."""
    centered = view.less(x, stats.shift)
    return centered - view.spread(stats.mean) if view.takes_off_means else centered


def _forward(
    centered: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    view: View,
    stats: Statistics,
) -> tf.Tensor:
    """The normalized, scaled and centered input."""
    rstd, factor = view.spread(stats.rstd), view.beside_input(gamma)
    offset = view.beside_input(beta)
    if is_number(1, view.positions):
        return centered * rstd * factor + offset
    scale = rstd * factor
    if not view.takes_off_means:
        offset -= view.spread(stats.mean) * scale
    return centered * scale + offset


def _backward(
    x: tf.Tensor,
    gamma: tf.Tensor,
    dy: tf.Tensor,
    view: View,
    stats: Statistics,
    counted: _Counted,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients in closed form.

    With `c` the centered input and `g = gamma * dy`, the gradient of `x` is
    `rstd * (g - mean(g) - c * rstd^2 * mean(g * c))`, the means taken over the group.
    """
    centered = _centered(x, view, stats)
    mean_dy = view.if_any(view.mean_positions(dy))
    product = counted.product(centered, dy)
    mean_product = view.if_any(view.mean_positions(product))
    if not view.takes_off_means:
        mean_product -= stats.mean * mean_dy
    factor = view.beside_channels(gamma)
    # `rstd` waits until numbers are fewer: of fewer factors XLA makes better loops.
    means = view.means_channels(factor * mean_dy, factor * mean_product)
    mean_g, mean_gc = (counted.share(view, mean) for mean in means)

    # TensorFlow would multiply what is smallest first: to the cube of `rstd`, which may
    # be out of range. Beyond a sign it does not look.
    slope = tf.square(stats.rstd) * -(stats.rstd * mean_gc)
    level = -stats.rstd * mean_g
    if not view.takes_off_means:
        level -= stats.mean * slope
    through_statistics = centered * view.spread(slope) + view.spread(level)
    rstd = view.spread(stats.rstd)
    scale = rstd * view.beside_input(gamma)
    dx = dy * scale + counted.only(through_statistics)
    # Of one position values of channels are like the input.
    per_channel = rstd if is_number(1, view.positions) else stats.rstd
    return dx, _sum(per_channel * mean_product, view), _sum(mean_dy, view)


def _sum(means: tf.Tensor, view: View) -> tf.Tensor:
    """Sum over samples and positions, from means over positions: one per channel."""
    total = reductions.sum_samples(means, not is_number(1, view.positions))
    return total * tf.cast(view.positions, total.dtype)
