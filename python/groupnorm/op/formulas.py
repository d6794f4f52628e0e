"""Group normalization and its closed-form gradient in plain TensorFlow operations.

Everything here works on a tensor of any rank with the channel axis anywhere. Means over
positions come first and leave a small tensor of shape `(N, C)`; groups are formed on
those small tensors only, so that no tensor of the input's size is ever transposed.

Accuracy: the variance is never taken as the difference of two large numbers. A first
pass finds `shift`, close to the group's mean; `x - shift` is exact in floating point
when the two are close, and all that follows uses this difference. The mean that is left
in it is carried beside the shift, because their sum would lose digits again.

Range: deviations are squared in the dtype of the computation. In float32 those between
1e-15 and 1e15 have squares, and inverses of squares, with all their digits.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from groupnorm.op import reductions


class Layout(NamedTuple):
    """How the axes of an input of shape `(N, d1, ..., dk)` are to be read."""

    rank: int
    axis: int  # of the channels, counted from the front
    channels: int
    groups: int

    @property
    def position_axes(self) -> list[int]:
        """Every axis but batch and channel."""
        return [axis for axis in range(1, self.rank) if axis != self.axis]

    def mean_positions(self, x: tf.Tensor) -> tf.Tensor:
        """Mean over the positions, 0 where there are none: shape `(N, C)`."""
        return reductions.mean(x, self.position_axes)

    def mean_groups(self, per_channel: tf.Tensor) -> tf.Tensor:
        """Mean over the channels of a group: from `(N, C)` to `(N, G)`."""
        size = self.channels // self.groups
        return tf.reduce_mean(tf.reshape(per_channel, [-1, self.groups, size]), -1)

    def spread(self, per_group: tf.Tensor) -> tf.Tensor:
        """From `(N, G)` to `(N, C)`."""
        return reductions.spread(per_group, self.channels // self.groups)

    def expand(self, per_channel: tf.Tensor) -> tf.Tensor:
        """From `(N, C)` to a shape that broadcasts against the input."""
        shape = [1] * self.rank
        shape[0], shape[self.axis] = -1, self.channels
        return tf.reshape(per_channel, shape)

    def positions(self, x: tf.Tensor) -> tf.Tensor:
        """Number of positions of a sample, as a scalar of x's dtype."""
        sizes = [reductions.size_of(x, axis) for axis in self.position_axes]
        return tf.cast(tf.reduce_prod(tf.stack([1, *sizes])), x.dtype)


class Statistics(NamedTuple):
    """Of each sample's groups, all of shape `(N, G)`: `mean` is that of `x - shift`."""

    shift: tf.Tensor
    mean: tf.Tensor
    rstd: tf.Tensor  # 1 / sqrt(variance + epsilon)


def value(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    layout: Layout,
    epsilon: float,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, Statistics]:
    """Group normalization of `x`, and the statistics that its gradient can use.

    All computation is in the dtype of `gamma`, which may be wider than that of `x`;
    the output has the dtype of `x`. `mask` is boolean and broadcasts against `x`: only
    entries where it is true count.
    """
    wide = tf.cast(x, gamma.dtype)
    stats = _statistics(wide, layout, epsilon, mask)
    return tf.cast(_forward(wide, gamma, beta, layout, stats), x.dtype), stats


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
    # Cast again: a wide copy from `value` would be kept, and is larger than x.
    wide, dy = tf.cast(x, gamma.dtype), tf.cast(dy, gamma.dtype)
    if stats is None:
        stats = _statistics(wide, layout, epsilon, mask)
    dx, dgamma, dbeta = _backward(wide, gamma, dy, layout, stats, mask)
    return tf.cast(dx, x.dtype), dgamma, dbeta


def _statistics(
    x: tf.Tensor, layout: Layout, epsilon: float, mask: tf.Tensor | None
) -> Statistics:
    """Mean and inverse standard deviation of every group.

    A group without entries that count gets mean 0 and variance 0.
    """
    share = _inverse_share(x, layout, mask)

    def mean_counted(values: tf.Tensor) -> tf.Tensor:
        return layout.mean_groups(layout.mean_positions(values)) * share

    shift = mean_counted(_where(mask, x))
    centered = _where(mask, x - layout.expand(layout.spread(shift)))
    mean = mean_counted(centered)
    variance = mean_counted(tf.square(centered)) - tf.square(mean)
    rstd = tf.math.rsqrt(tf.maximum(variance, 0) + epsilon)
    return Statistics(shift, mean, rstd)


def _forward(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, layout: Layout, stats: Statistics
) -> tf.Tensor:
    """The normalized, scaled and centered `x`."""
    scale = layout.spread(stats.rstd) * gamma
    offset = beta - layout.spread(stats.mean) * scale
    centered = x - layout.expand(layout.spread(stats.shift))
    return centered * layout.expand(scale) + layout.expand(offset)


def _backward(
    x: tf.Tensor,
    gamma: tf.Tensor,
    dy: tf.Tensor,
    layout: Layout,
    stats: Statistics,
    mask: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients in closed form.

    With `z` the normalized input and `g = gamma * dy`, the gradient of `x` is
    `rstd * (g - mean(g) - z * mean(g * z))`, the means taken over the group.
    """
    centered = x - layout.expand(layout.spread(stats.shift))
    # A masked entry may hold anything, NaN too; where nothing flows back into it, it
    # must not reach the means.
    product = tf.multiply if mask is None else tf.math.multiply_no_nan
    mean_dy = layout.mean_positions(dy)
    mean_dy_z = layout.spread(stats.rstd) * (
        layout.mean_positions(product(centered, dy))
        - layout.spread(stats.mean) * mean_dy
    )
    share = _inverse_share(x, layout, mask)
    mean_g = layout.mean_groups(gamma * mean_dy) * share
    mean_gz = layout.mean_groups(gamma * mean_dy_z) * share

    slope = -tf.square(stats.rstd) * mean_gz
    level = -stats.rstd * mean_g - stats.mean * slope
    through_statistics = _where(
        mask,
        centered * layout.expand(layout.spread(slope))
        + layout.expand(layout.spread(level)),
    )
    dx = dy * layout.expand(layout.spread(stats.rstd) * gamma) + through_statistics
    positions = layout.positions(x)
    dgamma = tf.reduce_sum(mean_dy_z, 0) * positions
    dbeta = tf.reduce_sum(mean_dy, 0) * positions
    return dx, dgamma, dbeta


def _where(mask: tf.Tensor | None, values: tf.Tensor) -> tf.Tensor:
    """The values that count, 0 in place of the others."""
    return values if mask is None else tf.where(mask, values, 0)


def _inverse_share(
    x: tf.Tensor, layout: Layout, mask: tf.Tensor | None
) -> tf.Tensor | float:
    """What turns a mean over all positions into one over those that count: `(N, 1)`."""
    if mask is None:
        return 1.0
    # One channel, and every position: the mask need not tell all of them apart.
    shape = tf.tensor_scatter_nd_update(tf.shape(x), [[layout.axis]], [1])
    share = layout.mean_positions(tf.cast(tf.broadcast_to(mask, shape), x.dtype))
    return tf.math.divide_no_nan(tf.ones_like(share), share)
