"""Norms, from which means of squares come without a tensor of the squares.

Their derivatives are 0 where they are 0, as are those of their squares, which alone are
wanted. Those that TensorFlow knows are NaN there.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.framework.ops import get_default_graph
from tensorflow.python.ops.parallel_for import pfor

_GRADIENT = "GroupnormNorm"


def norm(x: tf.Tensor, axes: tf.Tensor) -> tf.Tensor:
    """Root of the sum of squares over these axes, which stay, with size 1.

    For graphs that only `tf.gradients` differentiates: a tape does not see where an
    operation has another gradient than its type. It is no more operations than one.
    """
    with get_default_graph().gradient_override_map({"EuclideanNorm": _GRADIENT}):
        return tf.raw_ops.EuclideanNorm(input=x, axis=axes, keep_dims=True)


@tf.RegisterGradient(_GRADIENT)
def _gradient_of_norm(op: tf.Operation, d: tf.Tensor) -> tuple[tf.Tensor, None]:
    return _derivative(op.inputs[0], op.outputs[0], d), None


@pfor.RegisterPFor("EuclideanNorm")
def _vectorized(of_one):
    """The norms of many tensors at once, for `tf.vectorized_map`."""
    axes = of_one.unstacked_input(1) + 1  # after the new one; they are not negative

    @tf.custom_gradient
    def norms(x: tf.Tensor) -> Any:
        found = norm(x, axes)
        return found, lambda d: _derivative(x, found, d)

    return pfor.wrap(norms(of_one.stacked_input(0)), True)


def _derivative(x: tf.Tensor, norm: tf.Tensor, d: tf.Tensor) -> tf.Tensor:
    return x * tf.math.divide_no_nan(d, norm)
