"""Write the fixtures that TensorFlow Addons itself must write.

Run under TensorFlow Addons 0.23 (TensorFlow 2.15, Python 3.11):

    python tests/python/make_addons_fixtures.py [FOLDER [NAME ...]]

For each NAME below: `NAME.h5` and `NAME.keras` (the whole model), `NAME.weights.h5`
(its weights alone) and `NAME.npz`: `x` (or `x0`, `x1`, ...), an input, and `y` (or
`y0`, `y1`, ...), what `predict` gave for it there. `generator` is there as a SavedModel
folder too. What Addons had besides is in a folder beside, `..._others`; of what was
trained (TRAINED) the `.npz` has `x`, `labels`, and what one more step gave: `logs`, and
the weights `w0`, `w1`, ...

`tfa_convnet` and `tfa_dense_sequential` were made elsewhere, likewise.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
from google.protobuf import json_format

L = tf.keras.layers
Group = tfa.layers.GroupNormalization
Instance = tfa.layers.InstanceNormalization
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "tfaddons"


def channels_first():
    """Group and instance normalization of NCHW tensors, counted from the front."""
    x = L.Input((6, 5, 4))
    y = Group(groups=3, axis=1)(x)
    y = Instance(axis=1, epsilon=1e-5)(y)
    y = L.Permute((2, 3, 1))(y)
    return tf.keras.Model(x, L.Conv2D(2, 3)(y))


def generator():
    """A CycleGAN generator: any image size, residual blocks, transposed convolution."""

    def block(x, filters, strides=1):
        x = L.Conv2D(filters, 3, strides, "same", use_bias=False)(x)
        return L.ReLU()(Instance(axis=-1, gamma_initializer="random_normal")(x))

    image = L.Input((None, None, 3))
    x = block(image, 8)
    x = block(x, 12, strides=2)
    for _ in range(2):
        y = block(x, 12)
        y = L.Conv2D(12, 3, padding="same", use_bias=False)(y)
        x = L.Add()([x, Instance(center=False)(y)])
    x = L.Conv2DTranspose(8, 3, 2, "same", use_bias=False)(x)
    x = L.LeakyReLU(0.2)(Instance()(x))
    return tf.keras.Model(image, L.Conv2D(3, 3, padding="same", activation="tanh")(x))


def recurrent():
    """Tokens of any number, padding masked, through recurrent layers."""
    x = L.Input((None,), dtype="int32")
    y = L.Embedding(20, 8, mask_zero=True)(x)
    y = Group(groups=2)(y)
    y = L.Bidirectional(L.GRU(6, return_sequences=True))(y)
    y = L.TimeDistributed(L.Dense(8))(y)
    y = Group(groups=4, scale=False)(y)
    return tf.keras.Model(x, L.Dense(2)(L.LSTM(5)(y)))


def sequential_first():
    """The layer comes first, so that it carries the shape of the model's input."""
    return tf.keras.Sequential(
        [
            Group(groups=3, center=False, scale=False, input_shape=(None, 6)),
            L.SeparableConv1D(4, 3, padding="same"),
            Group(groups=-1),
            L.GlobalMaxPooling1D(),
            L.Dense(3, activation="softmax"),
        ]
    )


def shared_and_nested():
    """Two inputs, two outputs, one layer used twice, a model in a model."""
    inner_input = L.Input((7, 4))
    inner = tf.keras.Model(inner_input, Group(groups=2)(L.Dense(6)(inner_input)))
    a, b = L.Input((7, 4)), L.Input((7, 6))
    shared = Group(groups=3, name="shared")
    y, z = shared(inner(a)), shared(b)
    merged = L.Concatenate()([y, L.LayerNormalization()(z)])
    pooled = L.GlobalAveragePooling1D()(L.BatchNormalization()(merged))
    return tf.keras.Model([a, b], [L.Dense(1)(pooled), L.Multiply()([y, z])])


def operators():
    """Plain TensorFlow on symbolic tensors, as scripts of the time wrote it."""
    x = L.Input((8, 8, 4))
    y = tf.nn.relu(Group(groups=2)(x)) * 0.5 + x
    y = tf.concat([y, tf.math.sqrt(tf.abs(y) + 1.0)], axis=-1)
    return tf.keras.Model(x, L.Dense(3)(tf.reduce_mean(y, axis=[1, 2])))


def half_precision():
    """Under the policy mixed_float16."""
    x = L.Input((6, 6, 8))
    y = Group(groups=4, dtype="mixed_float16")(x)
    y = L.Conv2D(4, 3, dtype="mixed_float16")(y)
    return tf.keras.Model(x, L.Activation("linear", dtype="float32")(y))


def compiled():
    """A model with an optimizer, a loss, a metric and a step of training behind it."""
    model = tf.keras.Sequential(
        [L.Dense(8, input_shape=(5,)), Group(groups=4), L.ELU(), L.Dense(1)]
    )
    model.compile(tf.keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    model.fit(np.ones((4, 5)), np.ones((4, 1)), verbose=0)
    return model


def gelu():
    """The layer GELU, approximate as it is by default, and exact."""
    x = L.Input((5, 4))
    y = tfa.layers.GELU()(x)
    y = L.Dense(3)(y)
    y = Group(groups=3)(tfa.layers.GELU(approximate=False)(y))
    return tf.keras.Model(x, y)


def activations():
    """Activations that Keras 3 has too, by their names in a file."""
    x = L.Input((6,))
    kinds = tfa.activations
    names = (kinds.mish, kinds.hardshrink, kinds.softshrink, kinds.tanhshrink)
    y = [L.Dense(6, activation=kind)(x) for kind in (*names, kinds.sparsemax)]
    return tf.keras.Model(x, [*y, tfa.layers.Sparsemax()(L.Rescaling(0.1)(x))])


def spectral():
    """Spectral normalization, after a step of training."""
    x = L.Input((6, 6, 3))
    y = tfa.layers.SpectralNormalization(L.Conv2D(4, 3), power_iterations=2)(x)
    y = L.Flatten()(L.LeakyReLU(0.2)(y))
    y = tfa.layers.SpectralNormalization(L.Dense(1))(y)
    model = tf.keras.Model(x, y)
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 6, 6, 3)), np.ones((4, 1)), verbose=0)
    return model


def weight_normalization():
    """Weight normalization, with and without its start from data."""
    x = L.Input((8, 8, 3))
    y = tfa.layers.WeightNormalization(L.Conv2D(4, 3, activation="relu"))(x)
    y = L.Flatten()(y)
    y = tfa.layers.WeightNormalization(L.Dense(5), data_init=False)(y)
    model = tf.keras.Model(x, y)
    model(np.random.default_rng(3).normal(size=(4, 8, 8, 3)))  # which sets the lengths
    return model


def adaptive_pooling():
    """Pooling to a size, of each kind and rank, channels first and last."""
    a, b, c = L.Input((6, 3)), L.Input((6, 8, 3)), L.Input((4, 6, 8, 2))
    T = tfa.layers
    y = [
        T.AdaptiveAveragePooling1D(3)(a),
        T.AdaptiveMaxPooling1D(2)(a),
        T.AdaptiveAveragePooling2D((3, 2))(b),
        T.AdaptiveMaxPooling2D((2, 4), data_format="channels_last")(b),
        T.AdaptiveMaxPooling2D((4, 3), data_format="channels_first")(b),
        T.AdaptiveAveragePooling3D((2, 3, 4))(c),
        T.AdaptiveMaxPooling3D((2, 2, 2))(c),
    ]
    return tf.keras.Model([a, b, c], y)


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


MODELS = {
    function.__name__: function
    for function in (
        activations,
        adaptive_pooling,
        gelu,
        raw_operations,
        spectral,
        weight_normalization,
        channels_first,
        generator,
        recurrent,
        sequential_first,
        shared_and_nested,
        operators,
        half_precision,
        compiled,
    )
}


# Of what else Addons had, in a folder of their own, and without their weights alone.
OTHERS = (
    activations,
    adaptive_pooling,
    gelu,
    raw_operations,
    spectral,
    weight_normalization,
)


def training(name):
    """A network whose optimizer, loss or metrics are of Addons, and its labels."""
    kinds, old = tfa.optimizers, tf.keras.optimizers.legacy
    compilation = {
        "adamw": {"optimizer": kinds.AdamW(1e-3, 0.01)},
        "sgdw": {"optimizer": kinds.SGDW(1e-3, 0.05, momentum=0.9)},
        "lamb": {"optimizer": kinds.LAMB(0.01)},
        "lookahead": {"optimizer": kinds.Lookahead(old.Adam(0.01), sync_period=3)},
        "moving_average": {"optimizer": kinds.MovingAverage(old.SGD(0.1))},
        "swa": {"optimizer": kinds.SWA(old.SGD(0.1), 1, 2)},
        "yogi": {"optimizer": kinds.Yogi(0.01)},
        "focal": {"loss": tfa.losses.SigmoidFocalCrossEntropy(alpha=0.3, gamma=1.5)},
        "scores": {
            "metrics": [
                tfa.metrics.F1Score(3, average="macro"),
                tfa.metrics.FBetaScore(3, "weighted", beta=2.0, threshold=0.4),
                tfa.metrics.RSquare(),
            ]
        },
        "correlation": {"metrics": [tfa.metrics.PearsonsCorrelation()]},
    }[name]
    units = 1 if name == "focal" else 3
    kind = "sigmoid" if units == 1 else "softmax"
    model = tf.keras.Sequential(
        [L.Dense(6, input_shape=(4,)), Group(groups=3), L.Dense(units, kind)]
    )
    model.compile(**{"optimizer": "sgd", "loss": "mse", **compilation})
    rng = np.random.default_rng(5)
    x = rng.normal(size=(12, 4)).astype("float32")
    wanted = rng.integers(0, 3, 12)
    labels = np.eye(3)[wanted] if units == 3 else (wanted[:, None] > 1)
    return model, x, labels.astype("float32")


TRAINED = (
    "adamw",
    "correlation",
    "focal",
    "lamb",
    "lookahead",
    "moving_average",
    "scores",
    "sgdw",
    "swa",
    "yogi",
)


def write_training(name, folder):
    """Two steps, the file, then a third step: `logs` of it, and `w0`, ... after it."""
    tf.keras.utils.set_random_seed(3)
    model, x, labels = training(name)
    model.fit(x, labels, batch_size=12, epochs=2, verbose=0)
    model.save(folder / f"{name}.h5")
    logs = model.train_on_batch(x, labels)
    weights = {f"w{i}": w for i, w in enumerate(model.get_weights())}
    np.savez_compressed(
        folder / f"{name}.npz", x=x, labels=labels, logs=np.atleast_1d(logs), **weights
    )


def random_input(tensor, rng):
    # Sizes that are unknown differ from each other, so that mixing them up shows.
    sizes = iter((12, 16, 20))
    shape = [2, *(next(sizes) if n is None else n for n in tensor.shape[1:])]
    if tensor.dtype.is_integer:
        x = rng.integers(1, 20, shape).astype("int32")
        x[0, -3:] = 0
        return x
    return rng.normal(1, 2, shape).astype("float32")


def write(name, folder):
    tf.keras.utils.set_random_seed(sum(map(ord, name)))
    rng = np.random.default_rng(7)
    model = MODELS[name]()
    # Initial weights are so regular that a mistake in them could pass unseen.
    model.set_weights(
        [
            np.abs(w) + rng.uniform(0.1, 0.9, w.shape).astype(w.dtype)
            if (w.ndim == 1)
            else w
            for w in model.get_weights()
        ]
    )
    x = [random_input(tensor, rng) for tensor in model.inputs]
    y = model.predict(x if len(x) > 1 else x[0], verbose=0)
    y = y if isinstance(y, list) else [y]
    named = {
        f"{letter}{i if len(arrays) > 1 else ''}": array
        for letter, arrays in (("x", x), ("y", y))
        for i, array in enumerate(arrays)
    }
    np.savez_compressed(folder / f"{name}.npz", **named)
    model.save(folder / f"{name}.h5")
    if name != "raw_operations":  # of a time before that format
        model.save(folder / f"{name}.keras")
    if MODELS[name] in OTHERS:
        return
    model.save_weights(folder / f"{name}.weights.h5")
    if name == "generator":
        model.save(folder / f"{name}_savedmodel", include_optimizer=False)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURES
    others = folder.with_name(f"{folder.name}_others")
    for path in (folder, others):
        path.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or (*MODELS, *TRAINED):
        if name in TRAINED:
            write_training(name, others)
        else:
            write(name, others if MODELS[name] in OTHERS else folder)
