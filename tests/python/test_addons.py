"""Opening what TensorFlow Addons saved, held against what it predicted itself."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

tf_keras = pytest.importorskip(
    "tf_keras", reason="tf_keras, the older Keras generation, is not installed"
)

import keras  # noqa: E402

from groupnorm import layers, legacy  # noqa: E402
from groupnorm.layers import addons  # noqa: E402

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "tfaddons"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.npz"))
# The others hold stock layers, or a numbering, that Keras 3 cannot read: see `migrate`.
KERAS_3_NAMES = ["channels_first", "tfa_convnet", "tfa_dense_sequential"]
# Written with statistics in float16 there.
TOLERANCE = {"half_precision": 1e-2}


def recorded(name):
    """The inputs of a fixture, and what TensorFlow Addons made of them."""
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        return [
            [arrays[key] for key in sorted(arrays) if key.startswith(letter)]
            for letter in "xy"
        ]


def assert_predicts_as_recorded(model, name):
    x, y = recorded(name)
    got = model.predict(x if len(x) > 1 else x[0], verbose=0)
    got = got if isinstance(got, list) else [got]
    assert len(got) == len(y)
    for actual, expected in zip(got, y, strict=True):
        np.testing.assert_allclose(actual, expected, atol=TOLERANCE.get(name, 1e-5))


def test_every_fixture_is_there():
    assert len(NAMES) == 10


# The recurrent one takes as long as all the others.
@pytest.mark.parametrize(
    ("name", "extension"),
    [
        pytest.param(
            name, extension, marks=pytest.mark.full if name == "recurrent" else ()
        )
        for name in NAMES
        for extension in ("h5", "keras")
    ],
)
def test_tf_keras_opens(name, extension):
    model = tf_keras.models.load_model(FIXTURES / f"{name}.{extension}")
    assert_predicts_as_recorded(model, name)


def test_tf_keras_opens_a_savedmodel():
    model = tf_keras.models.load_model(FIXTURES / "generator_savedmodel")
    assert_predicts_as_recorded(model, "generator")


def keras_3_drops_axis():
    return tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15)


def opened(library, path):
    """The model of an .h5 file, with the warning that belongs to the version."""
    if library is tf_keras or not keras_3_drops_axis():
        return library.models.load_model(path)
    with pytest.warns(UserWarning, match="drops the argument `axis`"):
        return library.models.load_model(path)


def test_an_axis_that_keras_dropped_is_warned_of():
    reader = keras.utils.get_custom_objects()["Addons>GroupNormalization"]
    with pytest.warns(UserWarning, match=r"drops the argument `axis`.*'gn'"):
        layer = reader.from_config({"name": "gn", "groups": 2})
    assert layer.axis == -1


@pytest.mark.parametrize("name", KERAS_3_NAMES)
def test_keras_3_opens_h5(name):
    if name == "channels_first" and keras_3_drops_axis():
        pytest.skip(f"Keras {keras.__version__} drops the argument axis of .h5 files")
    model = opened(keras, FIXTURES / f"{name}.h5")
    assert_predicts_as_recorded(model, name)


@pytest.mark.parametrize("name", ["tfa_convnet", "tfa_dense_sequential"])
@pytest.mark.parametrize("library", [keras, tf_keras])
def test_weights_alone_are_opened(library, name):
    model = opened(library, FIXTURES / f"{name}.h5")
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    model.load_weights(FIXTURES / f"{name}.weights.h5")
    assert_predicts_as_recorded(model, name)


@pytest.mark.parametrize(("library", "own"), [(keras, layers), (tf_keras, legacy)])
def test_saved_again_it_carries_our_own_names(library, own, tmp_path):
    if library is keras and keras_3_drops_axis():
        pytest.skip(f"Keras {keras.__version__} drops the argument axis of .h5 files")
    model = library.models.load_model(FIXTURES / "channels_first.h5")
    group, instance = model.layers[1:3]
    assert type(group) is own.GroupNormalization
    assert type(instance) is own.InstanceNormalization
    assert (group.groups, group.axis, instance.epsilon) == (3, 1, 1e-5)
    model.save(tmp_path / "again.keras")
    again = library.models.load_model(tmp_path / "again.keras")
    assert "Addons" not in model.to_json()
    assert_predicts_as_recorded(again, "channels_first")


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_only_two_names_of_addons_are_claimed(library):
    claimed = {
        name for name in library.utils.get_custom_objects() if name.startswith("Addons")
    }
    assert claimed == {"Addons>GroupNormalization", "Addons>InstanceNormalization"}


def test_what_addons_registered_is_left_to_it(monkeypatch):
    theirs = object()
    objects = tf_keras.utils.get_custom_objects()
    monkeypatch.setitem(objects, "Addons>GroupNormalization", theirs)
    addons.register(tf_keras, legacy.GroupNormalization)
    assert objects["Addons>GroupNormalization"] is theirs


def test_what_addons_got_wrong_is_refused():
    config = {"name": "inst", "axis": -2, "groups": 4}
    reader = tf_keras.utils.get_custom_objects()["Addons>InstanceNormalization"]
    with pytest.raises(ValueError, match=r"'inst'.*axis=-2"):
        reader.from_config(config)


OPEN = """
import numpy as np
model = tf_keras.models.load_model({path!r} + ".h5")
data = np.load({path!r} + ".npz")
print(np.abs(model.predict(data["x"], verbose=0) - data["y"]).max() < 1e-5)
print(type(model.layers[2]).__module__)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import groupnorm, tf_keras",
        pytest.param("import tf_keras, groupnorm", marks=pytest.mark.full),
        pytest.param(
            "import groupnorm, tensorflow as tf; tf_keras = tf.keras",
            marks=pytest.mark.full,
        ),
    ],
)
def test_any_order_of_imports_will_do(imports):
    code = imports + OPEN.format(path=str(FIXTURES / "tfa_convnet"))
    lines = run(code + "print(groupnorm.GroupNormalization.__module__)")
    assert lines == ["True", "groupnorm.legacy", "groupnorm.legacy"]


# Addons asks `keras` for a module that only tf_keras has still: as it is, it can no
# longer be imported where this package can.
LEND_KERAS = """
import sys, keras, tf_keras
import tf_keras.src.engine.keras_tensor as tensor
sys.modules["keras.src.engine"] = tf_keras.src.engine
sys.modules["keras.src.engine.keras_tensor"] = tensor
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import groupnorm, tensorflow_addons as tfa",
        "import tensorflow_addons as tfa, groupnorm",
    ],
)
def test_addons_in_the_same_process(imports):
    if importlib.util.find_spec("tensorflow_addons") is None:
        pytest.skip("TensorFlow Addons is not installed")
    code = LEND_KERAS + imports + OPEN
    code += (
        "ours, theirs = groupnorm.GroupNormalization(4), "
        "tfa.layers.GroupNormalization(4)\n"
        "x = data['x'][..., :1] * np.arange(1, 9, dtype='float32')\n"
        "print(np.abs(ours(x) - theirs(x)).max() < 1e-5)"
    )
    lines = run(code.replace("{path!r}", repr(str(FIXTURES / "tfa_convnet"))))
    assert lines == ["True", "tensorflow_addons.layers.normalizations", "True"]


def run(code):
    """The lines that the code prints in a Python of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
