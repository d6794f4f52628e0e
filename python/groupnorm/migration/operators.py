"""TensorFlow functions on symbolic tensors, such as `x + y` and `tf.nn.relu(x)`.

Keras 2 saved them as layers that name a TensorFlow function. Keras 3 has operations of
its own. Each function below takes what its TensorFlow namesake takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from groupnorm.migration.report import MigrationError

LAYER_CLASSES = ("TFOpLambda", "SlicingOpLambda")


def check_known(layer: str, config: dict[str, Any]) -> None:
    """Refuse a TensorFlow function that has no counterpart here.

    Raises:
        MigrationError: It has none.
    """
    function = config["function"]
    if _plain(function) not in _FUNCTIONS:
        raise MigrationError(
            f"The layer {layer!r} is the TensorFlow function tf.{function}, for which "
            "migrate knows no operation of Keras 3. Rebuild the model from its script "
            "with one of keras.ops, or a Keras layer, in its place, and load the "
            "weights."
        )


def apply(function: str, args: Any, kwargs: dict[str, Any]) -> Any:
    """The Keras 3 counterpart of a TensorFlow function, on symbolic tensors."""
    kwargs = {key: value for key, value in kwargs.items() if key != "name"}
    return _FUNCTIONS[_plain(function)](*args, **kwargs)


def _plain(function: str) -> str:
    return function.removeprefix("compat.v1.")


def _unary(op: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*args: Any, **kwargs: Any) -> Any:
        (value,) = (*args, *kwargs.values())  # what it is called differs in TensorFlow
        return op(value)

    return apply


def _binary(op: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: op(_array(x, y), _array(y, x))


def _array(value: Any, other: Any) -> Any:
    """An array as a file has it, a list of numbers, in the other operand's dtype."""
    if isinstance(value, list | tuple):
        return np.asarray(value, other.dtype)
    return value


def _reduction(op: Callable[..., Any]) -> Callable[..., Any]:
    return lambda input_tensor, axis=None, keepdims=False: op(
        input_tensor, axis=axis, keepdims=bool(keepdims)
    )


def _matmul(
    a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False
) -> Any:
    def swap(x: Any) -> Any:
        return ops.swapaxes(x, -1, -2)

    return ops.matmul(swap(a) if transpose_a else a, swap(b) if transpose_b else b)


def _pad(
    tensor: Any,
    paddings: Any,
    mode: str = "CONSTANT",
    name: Any = None,
    constant_values: Any = 0,
) -> Any:
    mode = mode.lower()
    constant = {"constant_values": constant_values} if mode == "constant" else {}
    return ops.pad(tensor, np.asarray(paddings).tolist(), mode=mode, **constant)


def _resize(
    images: Any,
    size: Any,
    method: str = "bilinear",
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
) -> Any:
    if preserve_aspect_ratio:
        raise TypeError("preserve_aspect_ratio=True has no counterpart")
    return ops.image.resize(
        images, tuple(size), interpolation=str(method), antialias=antialias
    )


def _getitem(tensor: Any, slice_spec: Any) -> Any:
    def key(part: Any) -> Any:
        if isinstance(part, dict):  # as tf_keras keeps a slice
            return slice(part["start"], part["stop"], part["step"])
        return part

    parts = slice_spec if isinstance(slice_spec, list | tuple) else [slice_spec]
    return tensor[tuple(map(key, parts))]


_BINARY = {
    "__operators__.add": ops.add,
    "math.add": ops.add,
    "math.squared_difference": lambda x, y: ops.square(ops.subtract(x, y)),
    "math.subtract": ops.subtract,
    "math.multiply": ops.multiply,
    "math.truediv": ops.true_divide,
    "math.divide": ops.true_divide,
    "math.floordiv": ops.floor_divide,
    "floor_div": ops.floor_divide,
    "math.floormod": ops.mod,
    "math.pow": ops.power,
    "math.maximum": ops.maximum,
    "math.minimum": ops.minimum,
    "math.greater": ops.greater,
    "math.greater_equal": ops.greater_equal,
    "math.less": ops.less,
    "math.less_equal": ops.less_equal,
    "math.equal": ops.equal,
    "math.not_equal": ops.not_equal,
    "math.logical_and": ops.logical_and,
    "math.logical_or": ops.logical_or,
}
_UNARY = {
    "math.abs": ops.abs,
    "math.cos": ops.cos,
    "math.exp": ops.exp,
    "math.log": ops.log,
    "math.logical_not": ops.logical_not,
    "math.negative": ops.negative,
    "math.reciprocal": ops.reciprocal,
    "math.round": ops.round,
    "math.rsqrt": ops.rsqrt,
    "math.sigmoid": ops.sigmoid,
    "math.sign": ops.sign,
    "math.sin": ops.sin,
    "math.softplus": ops.softplus,
    "math.sqrt": ops.sqrt,
    "math.square": ops.square,
    "math.tanh": ops.tanh,
    "nn.elu": ops.elu,
    "nn.relu": ops.relu,
    "nn.relu6": ops.relu6,
    "nn.selu": ops.selu,
    "nn.sigmoid": ops.sigmoid,
    "nn.silu": ops.silu,
    "nn.softplus": ops.softplus,
    "nn.swish": ops.silu,
    "nn.tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "sqrt": ops.sqrt,
    "square": ops.square,
    "tanh": ops.tanh,
}
_REDUCTIONS = {
    "math.reduce_all": ops.all,
    "math.reduce_any": ops.any,
    "math.reduce_max": ops.max,
    "math.reduce_mean": ops.mean,
    "math.reduce_min": ops.min,
    "math.reduce_prod": ops.prod,
    "math.reduce_std": ops.std,
    "math.reduce_sum": ops.sum,
    "math.reduce_variance": ops.var,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _binary(op) for name, op in _BINARY.items()},
    **{name: _unary(op) for name, op in _UNARY.items()},
    **{name: _reduction(op) for name, op in _REDUCTIONS.items()},
    "__operators__.getitem": _getitem,
    "cast": lambda x, dtype: ops.cast(x, dtype),
    "clip_by_value": lambda t, clip_value_min, clip_value_max: ops.clip(
        t, clip_value_min, clip_value_max
    ),
    "concat": lambda values, axis: ops.concatenate(values, axis),
    "expand_dims": lambda input, axis: ops.expand_dims(input, axis),
    "image.resize": _resize,
    "linalg.matmul": _matmul,
    "math.argmax": lambda input, axis=None: ops.argmax(input, axis),
    "nn.gelu": lambda features, approximate=False: ops.gelu(features, approximate),
    "nn.leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(features, alpha),
    "nn.softmax": lambda logits, axis=-1: ops.softmax(
        logits, -1 if axis is None else axis
    ),
    "pad": _pad,
    "reshape": lambda tensor, shape: ops.reshape(tensor, tuple(shape)),
    "squeeze": lambda input, axis=None, name=None: ops.squeeze(input, axis),
    "stack": lambda values, axis=0: ops.stack(values, axis),
    "tile": lambda input, multiples: ops.tile(input, tuple(multiples)),
    "transpose": lambda a, perm=None, conjugate=False: ops.transpose(a, perm),
    "where": lambda condition, x, y: ops.where(condition, x, y),
}
