"""Models with the layer leave the house: SavedModel, TensorFlow Lite, ONNX.

What is written holds plain operations only. A process that has neither this package
nor its kernel serves it, and gives the numbers that the model gave here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import exported
import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import groupnorm
from groupnorm import GroupNormalization, InstanceNormalization

# Relative to the largest output: a few roundings of float32.
_ROUNDING = 1e-6

# Other engines add up convolutions in another order, and training magnifies that.
_LIMITS = {"trained": 5e-6}

# --- Models --------------------------------------------------------------------------


def _random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _with_random_weights(*layers):
    model = keras.Sequential(layers)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


def _alone():
    """The layer and nothing else: this is compared with the definition."""
    layer = GroupNormalization(4)
    return _with_random_weights(keras.Input((6, 7, 8)), layer), _random(3, 6, 7, 8)


def _trained():
    """A functional model after some steps of training."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 7, 3))
    x = keras.layers.Conv2D(8, 3)(inputs)
    x = GroupNormalization(4, name="norm")(x)
    x = InstanceNormalization()(keras.layers.ReLU()(x))
    x = keras.layers.GlobalMaxPooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(_random(16, 9, 7, 3), _random(16, 2), epochs=3, verbose=0)
    norm = model.get_layer("norm")
    assert np.abs(norm.gamma - 1).max() > 0.05
    assert np.abs(norm.beta).max() > 0.05
    return model, _random(5, 9, 7, 3)


def _sequence():
    """Of any length."""
    layers = keras.Input((None, 8)), GroupNormalization(4)
    return _with_random_weights(*layers), _random(3, 7, 8)


def _any_size():
    layers = keras.Input((None, None, 8)), GroupNormalization(4)
    return _with_random_weights(*layers), _random(3, 5, 4, 8)


def _channels_first():
    layers = keras.Input((8, 6, 7)), GroupNormalization(4, axis=1)
    return _with_random_weights(*layers), _random(3, 8, 6, 7)


def _masked():
    model = _with_random_weights(
        keras.Input((None,), dtype="int32"),
        keras.layers.Embedding(10, 4, mask_zero=True),
        GroupNormalization(2, use_mask=True),
    )
    tokens = [[1, 2, 3, 0, 0], [4, 5, 0, 0, 0], [0, 0, 0, 0, 0]]
    return model, np.array(tokens, np.int32)


def _mixed_float16():
    return _with_random_weights(
        keras.Input((6, 7, 3)),
        keras.layers.Conv2D(8, 3, dtype="mixed_float16"),
        GroupNormalization(4, dtype="mixed_float16"),
        keras.layers.Flatten(),
        keras.layers.Dense(2),
    ), _random(3, 6, 7, 3)


_MODELS = {
    "alone": _alone,
    "trained": _trained,
    "sequence": _sequence,
    "any_size": _any_size,
    "channels_first": _channels_first,
    "masked": _masked,
    "mixed_float16": _mixed_float16,
}


@pytest.fixture(scope="module")
def models():
    """Each model, its input, and what it predicts in this process."""
    found = {}
    for name, make in _MODELS.items():
        model, x = make()
        found[name] = model, x, model.predict(x, verbose=0)
    return found


def test_the_model_alone_is_the_definition(models):
    model, x, expected = models["alone"]
    gamma, beta = model.get_weights()
    definition = oracle.group_normalization(x, 4, gamma, beta)
    assert oracle.relative_error(expected, definition) < _ROUNDING


def test_what_computes_here_is_the_kernel(models):
    """Without it, that the kernel is not in a file would say nothing."""
    if groupnorm.implementation().name != "native":
        pytest.skip(groupnorm.implementation().reason)
    model, x, _ = models["alone"]
    run = tf.function(model)
    run(x)
    graph = run.get_concrete_function(x).graph  # traced in order to compute
    assert _foreign({operation.type for operation in graph.get_operations()})


def _foreign(operations):
    """Those that are not TensorFlow's own."""
    return {name for name in operations if name.lower().startswith("groupnorm")}


# --- SavedModel ----------------------------------------------------------------------

_SERVER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "groupnorm":
            raise ModuleNotFoundError(f"{name} is not here", name=name)

sys.meta_path.insert(0, Blocked())
try:
    import groupnorm
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("groupnorm can be imported")

import json
from pathlib import Path
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

folder = Path(sys.argv[1])
for name in json.loads(sys.argv[2]):
    served = tf.saved_model.load(str(folder / name)).signatures["serving_default"]
    ((argument, spec),) = served.structured_input_signature[1].items()
    x = tf.cast(np.load(folder / f"{name}.x.npy"), spec.dtype)
    (y,) = served(**{argument: x}).values()
    np.save(folder / f"{name}.y.npy", y.numpy())

assert op_def_registry.get("GroupnormForward") is None
assert "groupnorm" not in Path("/proc/self/maps").read_text()
"""


def _export(model, x, folder):
    model.export(folder)


def _save(model, x, folder):
    tf.saved_model.save(model, folder)


def _save_signature(model, x, folder):
    """As many tutorials have it: the graph first, then the file."""
    run = tf.function(lambda x: {"y": model(x)})
    spec = tf.TensorSpec([None, *x.shape[1:]], x.dtype)
    tf.saved_model.save(model, folder, signatures=run.get_concrete_function(spec))


_WAYS = {
    **{f"{name}-export": (name, _export) for name in _MODELS},
    "alone-save": ("alone", _save),
    "alone-signature": ("alone", _save_signature),
}


@pytest.fixture(scope="module")
def served(models, tmp_path_factory):
    """The folder with the models, and beside each what a bare process made of it."""
    folder = tmp_path_factory.mktemp("served")
    for name, (of, write) in _WAYS.items():
        model, x, _ = models[of]
        write(model, x, str(folder / name))
        np.save(folder / f"{name}.x.npy", x)
    run = subprocess.run(
        [sys.executable, "-I", "-c", _SERVER, folder, json.dumps(list(_WAYS))],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


@pytest.mark.parametrize("way", _WAYS)
def test_a_process_without_the_package_serves_it(models, served, way):
    name = _WAYS[way][0]
    expected = models[name][2]
    y = np.load(served / f"{way}.y.npy")
    # A step of float16, where that is what the model computes with.
    narrow = name.startswith("mixed")
    tolerance = 1e-3 if narrow else _LIMITS.get(name, _ROUNDING)
    assert oracle.relative_error(y, expected) < tolerance


@pytest.mark.parametrize("way", _WAYS)
def test_a_saved_model_holds_operations_of_tensorflow_only(served, way):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((served / way / "saved_model.pb").read_bytes())
    (graph,) = (meta.graph_def for meta in saved.meta_graphs)
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    operations = {node.op for node in nodes}
    assert "Rsqrt" in operations
    assert not _foreign(operations)


def test_the_older_keras_saves_and_serves_alike(tmp_path):
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    from groupnorm import legacy

    layers = tf_keras.layers.Conv2D(8, 3), legacy.GroupNormalization(4)
    model = tf_keras.Sequential([tf_keras.Input((6, 7, 3)), *layers])
    rng, x = np.random.default_rng(1), _random(3, 6, 7, 3)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    model.export(str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    expected = model.predict(x, verbose=0)
    assert oracle.relative_error(loaded.serve(x), expected) < _ROUNDING


# --- TensorFlow Lite -----------------------------------------------------------------

_deprecated = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")


def _convert(saved_model):
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    # What has no counterpart in TensorFlow Lite itself is an error then.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


@_deprecated
@pytest.mark.parametrize(
    "name",
    [
        "alone",
        "trained",
        "channels_first",
        "masked",
        pytest.param("any_size", marks=pytest.mark.full),
    ],
)
def test_tensorflow_lite_computes_the_same(models, served, name):
    _, x, expected = models[name]
    error = oracle.relative_error(
        exported.run_lite(_convert(served / f"{name}-export"), x), expected
    )
    assert error < _LIMITS.get(name, _ROUNDING)


@_deprecated
def test_tensorflow_lite_takes_sequences_of_any_length(models, served):
    model, lite = models["sequence"][0], _convert(served / "sequence-export")
    for length in (1, 7, 1024, 2053):
        x = _random(2, length, 8)
        y = exported.run_lite(lite, x)
        assert oracle.relative_error(y, model(x)) < _ROUNDING


@_deprecated
def test_keras_exports_to_tensorflow_lite(models, tmp_path):
    exported.skip_without_format("litert")
    model, x, expected = models["channels_first"]
    file = tmp_path / "model.tflite"
    model.export(file, format="litert", verbose=False)
    assert (
        oracle.relative_error(exported.run_lite(file.read_bytes(), x), expected)
        < _ROUNDING
    )


# --- ONNX ----------------------------------------------------------------------------


# tf2onnx asks NumPy for what older versions had.
_asks_numpy = pytest.mark.filterwarnings("ignore:.*np.object.*:FutureWarning")


@_asks_numpy
@pytest.mark.parametrize(
    "name",
    [
        "trained",
        pytest.param("alone", marks=pytest.mark.full),
        pytest.param("masked", marks=pytest.mark.full),
        pytest.param("sequence", marks=pytest.mark.full),
        pytest.param("any_size", marks=pytest.mark.full),
    ],
)
def test_keras_exports_to_onnx(models, tmp_path, name):
    exported.skip_without_format("onnx")
    exported.skip_without_onnx()
    model, x, expected = models[name]
    file = tmp_path / "model.onnx"
    model.export(file, format="onnx", verbose=False)
    error = oracle.relative_error(exported.run_onnx(file, x), expected)
    assert error < _LIMITS.get(name, _ROUNDING)


@_asks_numpy
def test_tf2onnx_converts_a_function(models, tmp_path):
    exported.skip_without_onnx()
    import tf2onnx

    model, x, expected = models["channels_first"]
    file = tmp_path / "model.onnx"
    spec = tf.TensorSpec([None, *x.shape[1:]], x.dtype)
    tf2onnx.convert.from_function(tf.function(model), [spec], output_path=str(file))
    assert oracle.relative_error(exported.run_onnx(file, x), expected) < _ROUNDING
