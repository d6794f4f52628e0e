"""Operations of TensorFlow as files of TensorFlow 2.0 to 2.3 have them.

Those wrote `x + 1` on symbolic tensors as a layer that names a raw operation, with what
is no tensor of the model among its constants, by position. Here each is given in the
terms of the functions of TensorFlow, which `operators` knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from groupnorm.migration import operators
from groupnorm.migration.report import MigrationError

LAYER_CLASS = "TensorFlowOpLayer"

Attributes = dict[str, Any]
_Reader = Callable[[list[Any], Attributes], tuple[str, list[Any], dict[str, Any]]]


def check_known(layer: str, config: dict[str, Any]) -> None:
    """Refuse an operation that has no counterpart here.

    Raises:
        MigrationError: It has none.
    """
    name = node_of(config["node_def"]).op
    if name not in _OPERATIONS:
        raise MigrationError(
            f"The layer {layer!r} is TensorFlow's operation {name!r}, for which "
            "migrate knows no operation of Keras 3. Rebuild the model from its script "
            "with one of keras.ops, or a Keras layer, in its place, and load the "
            "weights."
        )


def node_of(value: Any) -> Any:
    """What a configuration says of an operation: a dictionary, or bytes as text."""
    if isinstance(value, dict):
        return json_format.ParseDict(value, tf.compat.v1.NodeDef())
    content = value if isinstance(value, bytes) else str(value).encode()
    return tf.compat.v1.NodeDef.FromString(content)


def apply(layer: Any, inputs: Any) -> Any:
    """The Keras 3 counterpart of a tf_keras layer, on symbolic tensors."""
    operands = list(tf.nest.flatten(inputs))
    for position, value in sorted(layer.constants.items()):
        operands.insert(position, _plain(value))
    attributes = {key: _attribute(value) for key, value in layer.node_def.attr.items()}
    function, args, kwargs = _OPERATIONS[layer.node_def.op](operands, attributes)
    return operators.apply(function, args, kwargs)


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    return array.item() if array.ndim == 0 else array.tolist()


def _attribute(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "list":
        return list(value.list.i)
    if kind == "type":
        return tf.as_dtype(value.type).name
    if kind == "s":
        return value.s.decode()
    return getattr(value, kind) if kind else None


def _same(function: str) -> _Reader:
    """The operands as they are, in their order."""
    return lambda operands, attributes: (function, operands, {})


def _reduction(function: str) -> _Reader:
    def read(operands: list[Any], attributes: Attributes) -> Any:
        x, axis = operands
        return function, [x], {"axis": axis, "keepdims": attributes.get("keep_dims")}

    return read


def _with(function: str, **names: str) -> _Reader:
    """The operands, and attributes under the names that the function has for them."""

    def read(operands: list[Any], attributes: Attributes) -> Any:
        return function, operands, {own: attributes.get(n) for own, n in names.items()}

    return read


def _concat(operands: list[Any], attributes: Attributes) -> Any:
    *values, axis = operands
    return "concat", [values, axis], {}


def _pack(operands: list[Any], attributes: Attributes) -> Any:
    return "stack", [operands, attributes.get("axis") or 0], {}


def _squeeze(operands: list[Any], attributes: Attributes) -> Any:
    axes = attributes.get("squeeze_dims") or None
    return "squeeze", [operands[0], tuple(axes) if axes else None], {}


def _matmul(first: str, second: str) -> _Reader:
    return _with("linalg.matmul", transpose_a=first, transpose_b=second)


def _pad(operands: list[Any], attributes: Attributes) -> Any:
    x, paddings, *constant = operands
    mode = attributes.get("mode") or "CONSTANT"
    values = {"constant_values": constant[0]} if constant else {}
    return "pad", [x, paddings], {"mode": mode, **values}


def _slice(operands: list[Any], attributes: Attributes) -> Any:
    x, begin, size = operands
    ends = [None if n == -1 else b + n for b, n in zip(begin, size, strict=True)]
    key = [slice(b, e) for b, e in zip(begin, ends, strict=True)]
    return "__operators__.getitem", [x, key], {}


def _strided_slice(operands: list[Any], attributes: Attributes) -> Any:
    x, begin, end, strides = operands

    def is_set(mask: str, i: int) -> bool:
        return bool((attributes.get(f"{mask}_mask") or 0) >> i & 1)

    key: list[Any] = []
    for i, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        if is_set("ellipsis", i):
            key.append(Ellipsis)
        elif is_set("new_axis", i):
            key.append(None)
        elif is_set("shrink_axis", i):
            key.append(first)
        else:
            start = None if is_set("begin", i) else first
            stop = None if is_set("end", i) else last
            key.append(slice(start, stop, step))
    return "__operators__.getitem", [x, key], {}


def _resize(method: str) -> _Reader:
    def read(operands: list[Any], attributes: Attributes) -> Any:
        if not attributes.get("half_pixel_centers"):
            raise TypeError("resizing without half_pixel_centers has no counterpart")
        return "image.resize", operands, {"method": method}

    return read


_SAME = {
    "Abs": "math.abs",
    "Add": "math.add",
    "AddV2": "math.add",
    "BatchMatMul": "linalg.matmul",
    "ClipByValue": "clip_by_value",
    "Cos": "math.cos",
    "Div": "math.divide",
    "Elu": "nn.elu",
    "Equal": "math.equal",
    "Exp": "math.exp",
    "ExpandDims": "expand_dims",
    "FloorDiv": "math.floordiv",
    "FloorMod": "math.floormod",
    "Greater": "math.greater",
    "GreaterEqual": "math.greater_equal",
    "Less": "math.less",
    "LessEqual": "math.less_equal",
    "Log": "math.log",
    "LogicalAnd": "math.logical_and",
    "LogicalNot": "math.logical_not",
    "LogicalOr": "math.logical_or",
    "Maximum": "math.maximum",
    "Minimum": "math.minimum",
    "Mul": "math.multiply",
    "Neg": "math.negative",
    "NotEqual": "math.not_equal",
    "Pow": "math.pow",
    "RealDiv": "math.truediv",
    "Reciprocal": "math.reciprocal",
    "Relu": "nn.relu",
    "Relu6": "nn.relu6",
    "Reshape": "reshape",
    "Round": "math.round",
    "Rsqrt": "math.rsqrt",
    "SelectV2": "where",
    "Selu": "nn.selu",
    "Sigmoid": "math.sigmoid",
    "Sign": "math.sign",
    "Sin": "math.sin",
    "Softmax": "nn.softmax",
    "Softplus": "math.softplus",
    "Sqrt": "math.sqrt",
    "Square": "math.square",
    "SquaredDifference": "math.squared_difference",
    "Sub": "math.subtract",
    "Tanh": "math.tanh",
    "Tile": "tile",
    "Transpose": "transpose",
}
_REDUCTIONS = {
    "All": "math.reduce_all",
    "Any": "math.reduce_any",
    "Max": "math.reduce_max",
    "Mean": "math.reduce_mean",
    "Min": "math.reduce_min",
    "Prod": "math.reduce_prod",
    "Sum": "math.reduce_sum",
}
_OPERATIONS: dict[str, _Reader] = {
    **{name: _same(function) for name, function in _SAME.items()},
    **{name: _reduction(function) for name, function in _REDUCTIONS.items()},
    "ArgMax": _same("math.argmax"),
    "BatchMatMulV2": _matmul("adj_x", "adj_y"),
    "Cast": _with("cast", dtype="DstT"),
    "ConcatV2": _concat,
    "LeakyRelu": _with("nn.leaky_relu", alpha="alpha"),
    "MatMul": _matmul("transpose_a", "transpose_b"),
    "MirrorPad": _pad,
    "Pack": _pack,
    "Pad": _pad,
    "PadV2": _pad,
    "ResizeBilinear": _resize("bilinear"),
    "ResizeNearestNeighbor": _resize("nearest"),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
}
