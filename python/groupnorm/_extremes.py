"""Squares that leave the range of a dtype, although the numbers themselves do not.

The variance is a mean of squares, and the gradient holds the square of its inverse. In
float32 the square of 1e20 is infinite, and that of 1e-25 is zero.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from groupnorm import _dispatch


def in_range(squares: tf.Tensor) -> tf.Tensor:
    """Where squares, and their inverses, have all the digits of their dtype."""
    # Terms of a sum that are too small to be held do not show in one of this size.
    smallest = _tiny(squares) / float(np.finfo(squares.dtype.as_numpy_dtype).eps)
    return (squares >= smallest) & (squares <= 1 / smallest)


def unit(largest: tf.Tensor, epsilon: float) -> tf.Tensor:
    """What to divide by, so that neither the largest value nor epsilon is above 1."""
    return tf.maximum(largest, max(epsilon**0.5, _tiny(largest)))


def scaled(epsilon: float, scale: tf.Tensor) -> tf.Tensor | float:
    """Epsilon for values times `scale`, which is at most the inverse of its root."""
    if epsilon < _tiny(scale):
        return 0.0
    return tf.maximum(epsilon * tf.square(scale), _tiny(scale))


def _tiny(values: tf.Tensor) -> float:
    """The smallest number that has all the digits of the dtype."""
    return float(np.finfo(values.dtype.as_numpy_dtype).tiny)


def mend(
    values: tf.Tensor,
    good: tf.Tensor,
    mended: Callable[..., tf.Tensor],
    *inputs: tf.Tensor,
) -> tf.Tensor:
    """The values where they are good, and those of `mended(*inputs)` elsewhere."""
    if _dispatch.is_compiled():
        # A branch would keep XLA from joining the operations before and after it.
        return mended(*inputs)
    if not _dispatch.may_branch():
        return values
    # TensorFlow cannot differentiate branches in every mode: derivatives go around.
    values_now, *inputs_now = map(tf.stop_gradient, (values, *inputs))
    found = tf.cond(
        tf.reduce_all(good), lambda: values_now, lambda: mended(*inputs_now)
    )
    return tf.where(good, values, found)
