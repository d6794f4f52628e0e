"""Group normalization of a tensor: the one function that everything stands on."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from groupnorm.op import arguments, choice, context, formulas, native


# There is no Python control flow on tensors here for AutoGraph to convert, and what it
# converts does not share the state of this package's modules.
@tf.autograph.experimental.do_not_convert
def group_normalization(
    x: Any,
    groups: int,
    gamma: Any = None,
    beta: Any = None,
    axis: int = -1,
    epsilon: float = 1e-3,
    mask: Any = None,
) -> tf.Tensor:
    """Normalize each sample's groups of channels to mean 0 and variance 1.

    The `C` channels are split in order into `groups` groups. Mean and (biased) variance
    are taken for each sample and group, over the group's channels and all positions:

        y = (x - mean) / sqrt(variance + epsilon) * gamma[c] + beta[c]

    after Wu & He (2018), Group Normalization, arXiv:1803.08494, equations 1 to 7.

    Args:
        x: Tensor of rank 2 or more, batch axis first: shape `(N, d1, ..., dk)`, any
            floating dtype (other numbers are taken as float32). The channel axis must
            be of known size; all others may be unknown, zero or one.
        groups: Number of groups, a divisor of `C`. 1 is layer normalization over all
            axes but the batch's; `C`, or -1, is instance normalization.
        gamma: Scale, shape `(C,)`, or `None` for 1.
        beta: Offset, shape `(C,)`, or `None` for 0.
        axis: The channel axis: 1 is the axis after the batch axis, -1 the last one.
        epsilon: Added to the variance, not negative.
        mask: Boolean tensor, true where an entry counts, or `None`. Its shape is that
            of `x` without the channel axis; axes may be left out at the end. Entries
            that do not count are left out of mean and variance, and are then normalized
            like the rest. A sample in which none counts gets mean 0 and variance 0.

    Returns:
        A tensor of the shape and dtype of `x`. The computation is in float64 for a
        float64 input and in float32 for any other.

    Raises:
        ValueError: An argument is out of its range, or does not fit the shape of `x`.

    Example:
        >>> x = tf.constant([[[1.0, 3.0, 10.0, 30.0]]])
        >>> group_normalization(x, groups=2).numpy().round(2)
        array([[[-1.,  1., -1.,  1.]]], dtype=float32)
    """
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        x = tf.cast(x, tf.float32)
    layout = _layout(x, groups, axis)
    epsilon = arguments.check_epsilon(epsilon)
    dtype = tf.float64 if x.dtype == tf.float64 else tf.float32
    gamma = _parameter("gamma", gamma, 1, layout, dtype)
    beta = _parameter("beta", beta, 0, layout, dtype)
    if mask is not None:
        mask = _broadcastable_mask(mask, x, layout)
    y = _normalize(x, gamma, beta, mask, layout, epsilon)
    y.set_shape(x.shape)
    return y


def _layout(x: tf.Tensor, groups: Any, axis: Any) -> formulas.Layout:
    groups, axis = arguments.check_groups(groups), arguments.check_axis(axis)
    if x.shape.rank is None:
        raise ValueError("Group normalization needs an input `x` of known rank.")
    shape = x.shape.as_list()
    axis = arguments.resolve_axis(axis, shape)
    groups = arguments.resolve_groups(groups, axis, shape)
    return formulas.Layout(len(shape), axis, shape[axis], groups)


def _parameter(
    name: str, value: Any, default: float, layout: formulas.Layout, dtype: tf.DType
) -> tf.Tensor:
    if value is None:
        return tf.fill([layout.channels], tf.constant(default, dtype))
    value = tf.cast(tf.convert_to_tensor(value), dtype)
    if not value.shape.is_compatible_with([layout.channels]):
        raise ValueError(
            f"Received an invalid value for argument `{name}`, expected shape "
            f"({layout.channels},), one value per channel. "
            f"Received a tensor of shape {value.shape}."
        )
    return value


def _broadcastable_mask(mask: Any, x: tf.Tensor, layout: formulas.Layout) -> tf.Tensor:
    mask = tf.cast(tf.convert_to_tensor(mask), tf.bool)
    arguments.check_mask_shape(mask.shape.as_list(), x.shape.as_list(), layout.axis)
    while mask.shape.rank < layout.rank - 1:
        mask = mask[..., tf.newaxis]
    return tf.expand_dims(mask, layout.axis)


def _normalize(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    mask: tf.Tensor | None,
    layout: formulas.Layout,
    epsilon: float,
) -> tf.Tensor:
    """The computation, with its gradient, by the implementation that fits the call."""
    is_trivial = formulas.is_empty(x) or (
        mask is None and layout.has_one_value_a_group()
    )
    if choice.use_native(is_trivial):
        return native.forward(
            x, gamma, beta, layout.groups, layout.axis, epsilon, mask
        )[0]
    if context.is_exporting():
        # Whoever reads it has no custom gradients: leave plain operations.
        return formulas.value(x, gamma, beta, layout, epsilon, mask)[0]
    if context.is_compiled():
        under_xla = choice.use_native_under_xla(x, layout.groups, is_trivial)
        compute = native.xla.forward if under_xla else _differentiable
        # Forward mode cannot look into all that XLA compiles, but into functions.
        return _as_function(compute, layout, epsilon)(x, gamma, beta, mask)
    if tf.executing_eagerly():
        traced = _traced(layout, epsilon, x.dtype, mask is None)
        return traced(x, gamma, beta, mask)
    return _differentiable(x, gamma, beta, mask, layout, epsilon)


def _differentiable(x, gamma, beta, mask, layout, epsilon):
    # The closed form is itself made of differentiable operations on x and on statistics
    # that depend on x: higher derivatives and forward mode follow from it.
    @tf.custom_gradient
    def value(x, gamma, beta):
        y, stats = formulas.value(x, gamma, beta, layout, epsilon, mask)

        def gradient(dy):
            return formulas.gradient(x, gamma, dy, layout, epsilon, mask, stats)

        return y, gradient

    return value(x, gamma, beta)


@functools.lru_cache(maxsize=256)
def _traced(layout, epsilon, *_kind_of_tensors):
    """The computation as one TensorFlow function, for eager execution.

    Run one by one, the operations inside would each be recorded by a gradient tape, and
    their results kept. As one function they are a single record, which keeps what the
    closed form needs: x and the statistics. One for each kind of call, because
    TensorFlow warns about functions that are traced often.
    """
    return _as_function(_differentiable, layout, epsilon, reduce_retracing=True)


def _as_function(compute, layout, epsilon, **options):
    """A TensorFlow function, whose derivatives of any kind follow from its gradient."""
    compute = functools.partial(compute, layout=layout, epsilon=epsilon)
    return tf.function(compute, autograph=False, **options)
