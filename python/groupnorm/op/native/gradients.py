"""What TensorFlow must know to differentiate the native operations.

The gradient of the forward operation is the backward operation; the gradient of that
one, and with it every higher derivative, is left to plain TensorFlow.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from groupnorm.op import formulas
from groupnorm.op.native import library


@tf.RegisterGradient("GroupnormForward")
def _gradient_of_forward(op: Any, dy: tf.Tensor, _dstats: Any) -> tuple:
    x, gamma, beta, mask = op.inputs
    stats = op.outputs[1]
    gradients = library.backward(
        x, gamma, beta, stats, dy, **_attributes(op), mask=mask
    )
    return *gradients, None


@tf.RegisterGradient("GroupnormBackward")
def _gradient_of_backward(op: Any, *upstream: tf.Tensor) -> tuple:
    x, gamma, *_ = op.inputs
    attributes = _attributes(op)
    layout = formulas.Layout(
        x.shape.rank, attributes["axis"], gamma.shape[0], attributes["groups"]
    )
    return gradient_of_backward(layout, attributes["epsilon"], op, *upstream)


def gradient_of_backward(
    layout: formulas.Layout, epsilon: float, op: Any, *upstream: tf.Tensor
) -> tuple:
    """The gradient of the backward operation, whoever calls it."""
    x, gamma, beta, mask, _stats, dy = op.inputs
    counts = None if library.is_none(mask) else mask
    second = _second_derivative(layout, epsilon)
    dx, dgamma, ddy = second(x, gamma, dy, counts, *upstream)
    # The statistics are functions of x, whose gradient accounts for them.
    return dx, dgamma, tf.zeros_like(beta), None, None, ddy


@functools.lru_cache(maxsize=256)
def _second_derivative(layout: formulas.Layout, epsilon: float) -> Any:
    """The vector-Jacobian product of the closed-form gradient.

    A function with symbolic differentiation inside, not a gradient tape: under forward
    mode TensorFlow asks for it while tapes are stopped.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def run(x, gamma, dy, mask, *upstream):
        outputs = formulas.gradient(x, gamma, dy, layout, epsilon, mask)
        return tf.gradients(outputs, (x, gamma, dy), upstream)

    return run


def _attributes(op: Any) -> dict[str, Any]:
    epsilon = op.get_attr("epsilon") + op.get_attr("epsilon_rest")
    return {
        "groups": op.get_attr("groups"),
        "axis": op.get_attr("axis"),
        "epsilon": epsilon,
    }
