"""Operations as TensorFlow 2.0 to 2.3 wrote them, for `make_addons_fixtures.py`."""

from __future__ import annotations

import inspect
import json

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
from google.protobuf import json_format

L = tf.keras.layers
Group = tfa.layers.GroupNormalization


def raw_operations():
    """Operations as TensorFlow 2.0 to 2.3 wrote them: `TensorFlowOpLayer`."""
    rng = np.random.default_rng(11)
    axis, two = np.array([1, 2]), np.float32(2)
    values = {
        "AddV2": {1: np.float32(1.5)},
        "Sub": {0: np.float32(1)},
        "Mul": {1: rng.normal(size=(4,)).astype("float32")},
        "RealDiv": {1: two},
        "Maximum": {1: np.float32(0.5)},
        "Pow": {1: two},
        "Greater": {1: np.float32(0)},
        "SquaredDifference": {1: two},
        "Relu": {},
        "Softmax": {},
        "Mean": {1: axis},
        "Max": {1: np.int32(-1)},
        "Reshape": {1: np.array([-1, 24, 4])},
        "Transpose": {1: np.array([0, 3, 1, 2])},
        "ExpandDims": {1: np.int32(1)},
        "Pad": {1: np.array([[0, 0], [1, 1], [2, 0], [0, 0]])},
        "MirrorPad": {1: np.array([[0, 0], [1, 1], [2, 2], [0, 0]])},
        "Tile": {1: np.array([1, 2, 1, 1])},
        "Slice": {1: np.array([0, 1, 0, 0]), 2: np.array([-1, 2, -1, 3])},
        "StridedSlice": {
            1: np.array([0, 0, 0, 1]),
            2: np.array([0, 0, 0, 3]),
            3: np.array([1, 2, 1, 1]),
        },
        "ConcatV2": {2: np.int32(-1)},
        "Pack": {},
        "Cast": {},
    }
    attributes = {
        "Mean": {"keep_dims": True},
        "MirrorPad": {"mode": "REFLECT"},
        "StridedSlice": {"begin_mask": 5, "end_mask": 7},
        "Pack": {"axis": 1},
        "Cast": {"DstT": tf.float64},
    }
    x = L.Input((6, 4, 4), name="x")
    y = Group(groups=2, name="norm")(L.Conv2D(4, 1, name="conv")(x))
    config = json.loads(tf.keras.Model(x, y).to_json())
    layers, outputs = config["config"]["layers"], []
    for op, constants in values.items():
        tensors = ["norm", "conv"] if op in ("ConcatV2", "Pack") else ["norm"]
        made = operation_layer(op, tensors, constants, attributes.get(op, {}))
        layers.append(made)
        outputs.append([made["name"], 0, 0])
    config["config"]["output_layers"] = outputs
    return tf.keras.models.model_from_json(json.dumps(config))


def operation_layer(op, tensors, constants, attributes):
    """The configuration of a layer that is one operation, as it was written then."""
    function = getattr(tf.raw_ops, op)
    parameters = [n for n in inspect.signature(function).parameters if n != "name"]

    @tf.function
    def graph(*operands):
        operands = list(operands)
        for position, value in sorted(constants.items()):
            kind = tf.float32 if np.asarray(value).dtype.kind == "f" else tf.int32
            operands.insert(position, tf.constant(value, kind))
        if op == "Pack":
            operands = [operands]
        if op == "ConcatV2":
            operands = [operands[:-1], operands[-1]]
        names = [name for name in parameters if name not in attributes]
        return function(**dict(zip(names, operands, strict=False)), **attributes)

    specs = [tf.TensorSpec((None, 6, 4, 4))] * len(tensors)
    made = graph.get_concrete_function(*specs).graph.get_operations()
    node = next(item.node_def for item in made if item.type == op)
    return {
        "class_name": "TensorFlowOpLayer",
        "name": f"tf_op_layer_op_{op}",
        "config": {
            "name": f"op_{op}",
            "trainable": True,
            "dtype": "float32",
            "node_def": json_format.MessageToDict(node),
            "constants": {i: np.asarray(c).tolist() for i, c in constants.items()},
        },
        "inbound_nodes": [[[tensor, 0, 0, {}] for tensor in tensors]],
    }
