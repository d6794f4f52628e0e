"""The tf_keras layers, and the layer class that follows the object."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

tf_keras = pytest.importorskip(
    "tf_keras", reason="tf_keras, the older Keras generation, is not installed"
)

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

import groupnorm  # noqa: E402
from groupnorm import layers, legacy  # noqa: E402
from groupnorm.compose import compose  # noqa: E402


def reference(x, groups, axis=-1, epsilon=1e-3, gamma=None, beta=None, mask=None):
    """Equations 1 to 7 of the paper in float64, one sample and group at a time."""
    y = np.moveaxis(np.asarray(x, np.float64), axis, -1).copy()
    size = y.shape[-1] // groups
    for n in range(len(y)):
        for g in range(groups):
            part = y[n, ..., g * size : (g + 1) * size]
            counted = part if mask is None else part[mask[n]]
            part[...] = (part - counted.mean()) / np.sqrt(counted.var() + epsilon)
    y = y * (1 if gamma is None else gamma) + (0 if beta is None else beta)
    return np.moveaxis(y, -1, axis)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(3, 2, (4, 5, 6)).astype("float32")


@pytest.fixture
def no_policy_left():
    yield
    tf_keras.mixed_precision.set_global_policy("float32")


def randomized(layer, x):
    """The layer, built, with weights unlike those that it starts with."""
    layer(x)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(1, 0.3, w.shape) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize(("groups", "axis"), [(1, -1), (2, -1), (3, 2), (5, 1)])
def test_computes_the_paper(x, groups, axis):
    layer = randomized(legacy.GroupNormalization(groups, axis), x)
    gamma, beta = layer.get_weights()
    expected = reference(x, groups, axis, gamma=gamma, beta=beta)
    np.testing.assert_allclose(layer(x), expected, atol=2e-6)


def test_a_print_says_what_the_layer_is(x):
    layer = legacy.GroupNormalization(3, name="mine")
    start = "<GroupNormalization name=mine, groups=3, axis=-1"
    assert repr(layer) == str(layer) == f"{start}, built=False>"
    layer(x)
    computing = groupnorm.implementation().name
    assert repr(layer) == f"{start}, channels=6, computed_by={computing}>"


def test_instance_normalization_has_one_group_per_channel(x):
    np.testing.assert_allclose(
        legacy.InstanceNormalization(epsilon=1e-6)(x),
        reference(x, 6, epsilon=1e-6),
        atol=2e-6,
    )


@pytest.mark.parametrize("name", ["GroupNormalization", "InstanceNormalization"])
def test_config_has_the_keys_of_keras_3(name):
    new = getattr(layers, name)(axis=1).get_config()
    old = getattr(legacy, name)(axis=1).get_config()
    assert set(old) == set(new)
    assert {k: v for k, v in old.items() if isinstance(v, int | float)} == {
        k: v for k, v in new.items() if isinstance(v, int | float)
    }


def test_is_registered_with_tf_keras_alone():
    name = "groupnorm>GroupNormalization"
    assert tf_keras.utils.get_custom_objects()[name] is legacy.GroupNormalization
    assert keras.saving.get_custom_objects()[name] is layers.GroupNormalization


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"groups": 0}, "groups"),
        ({"axis": 0}, "axis"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"center": 1}, "center"),
        ({"beta_initializer": "nonsense"}, "beta_initializer"),
        ({"gamma_regularizer": 3}, "gamma_regularizer"),
    ],
)
def test_arguments_are_checked_as_under_keras_3(arguments, word):
    with pytest.raises(ValueError, match=word) as old:
        legacy.GroupNormalization(**arguments)
    with pytest.raises(ValueError, match=word) as new:
        layers.GroupNormalization(**arguments)
    assert str(old.value) == str(new.value)


def functional(layer):
    inputs = tf_keras.Input((5, 6))
    return tf_keras.Model(inputs, tf_keras.layers.Dense(2)(layer(inputs)))


def sequential(layer):
    return tf_keras.Sequential(
        [tf_keras.Input((5, 6)), layer, tf_keras.layers.Dense(2)]
    )


@pytest.mark.parametrize("extension", ["h5", "keras", "savedmodel", "weights.h5"])
@pytest.mark.parametrize("make", [functional, sequential])
def test_saved_and_opened(make, extension, x, tmp_path):
    model = make(
        legacy.GroupNormalization(
            3,
            epsilon=1e-4,
            gamma_initializer=tf_keras.initializers.RandomNormal(seed=1),
            beta_regularizer="l2",
            gamma_constraint=tf_keras.constraints.NonNeg(),
        )
    )
    expected = model.predict(x, verbose=0)
    path = str(tmp_path / f"model.{extension}")
    if extension == "weights.h5":
        model.save_weights(path)
        opened = tf_keras.models.clone_model(model)
        assert not np.allclose(opened.predict(x, verbose=0), expected)
        opened.load_weights(path)
    else:
        model.save(path)
        opened = tf_keras.models.load_model(path)
    np.testing.assert_allclose(opened.predict(x, verbose=0), expected, atol=1e-6)
    layer = next(layer for layer in opened.layers if "norm" in layer.name)
    assert isinstance(layer, legacy.GroupNormalization)
    assert layer.get_config() == model.get_layer(layer.name).get_config()


def test_trains_in_a_subclassed_model(x):
    class Model(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = legacy.GroupNormalization(2, beta_regularizer="l2")
            self.dense = tf_keras.layers.Dense(1)

        def call(self, inputs):
            return self.dense(self.norm(inputs))

    model = Model()
    model.compile("sgd", "mse")
    target = x.sum(axis=-1, keepdims=True)
    losses = model.fit(x, target, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert all(np.ptp(w) > 0 for w in model.norm.get_weights())
    assert len(model.losses) == 1


def test_mask_is_passed_on_and_used_on_request():
    tokens = np.array([[3, 5, 2, 0, 0], [1, 1, 4, 2, 0]])
    embed = tf_keras.layers.Embedding(9, 6, mask_zero=True)
    layer = legacy.GroupNormalization(2, use_mask=True)
    outputs = layer(embed(tokens))
    np.testing.assert_array_equal(outputs._keras_mask, tokens != 0)
    expected = reference(embed(tokens), 2, mask=tokens != 0)
    np.testing.assert_allclose(outputs, expected, atol=2e-6)
    inputs = tf_keras.Input((None,))
    model = tf_keras.Model(inputs, layer(embed(inputs)))
    np.testing.assert_allclose(model(tokens), expected, atol=2e-6)


def test_mixed_precision_keeps_weights_and_statistics_wide(no_policy_left):
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    x = np.random.default_rng(2).normal(1e5, 2e4, (2, 8, 4)).astype("float32")
    layer = legacy.GroupNormalization(2)
    y = layer(x)  # above the largest float16 number
    assert y.dtype == "float16"
    assert {w.dtype for w in layer.weights} == {tf.float32}
    np.testing.assert_allclose(y, reference(x, 2), atol=2e-3)


def test_from_config_and_time_distributed(x):
    layer = legacy.GroupNormalization.from_config(
        legacy.GroupNormalization(3, name="gn", trainable=False).get_config()
    )
    assert (layer.groups, layer.name, layer.trainable) == (3, "gn", False)
    inputs = tf_keras.Input((4, 5, 6))
    model = tf_keras.Model(inputs, tf_keras.layers.TimeDistributed(layer)(inputs))
    np.testing.assert_allclose(
        model(x[np.newaxis]), reference(x, 3)[np.newaxis], atol=2e-6
    )


# The class follows the object.

GENERATIONS = [(keras, layers), (tf_keras, legacy)]


@pytest.mark.parametrize(("library", "own"), GENERATIONS)
def test_composed_onto_each_kind_of_object(library, own):
    inputs = library.Input((5, 6))
    called = library.layers.Dense(6)
    tensor = called(inputs)
    for object in (tensor, called, library.Model(inputs, tensor)):
        y = compose("GroupNormalization", object, groups=3)
        assert type(library.Model(inputs, y).layers[-1]) is own.GroupNormalization
        assert y.shape == (None, 5, 6)
    model = library.Sequential([inputs])
    assert compose("InstanceNormalization", model) is model
    assert type(model.layers[-1]) is own.InstanceNormalization


@pytest.mark.parametrize(("library", "own"), GENERATIONS)
def test_composed_first_in_a_model_with_a_batch_size(library, own):
    model = library.Sequential()
    compose("GroupNormalization", model, input_shape=(5, 6), batch_size=7)
    assert type(model.layers[0]) is own.GroupNormalization
    assert tuple(model.input_shape) == (7, 5, 6)


@pytest.mark.parametrize(("library", "own"), GENERATIONS)
def test_a_refused_layer_leaves_the_model_as_it_was(library, own):
    model = library.Sequential([library.Input((5, 6)), library.layers.Dense(7)])
    with pytest.raises(ValueError, match="groups"):
        compose("GroupNormalization", model, groups=2)
    assert len(model.layers) == 1
    assert model.built
    compose("GroupNormalization", model, groups=7)
    assert model.predict(np.ones((1, 5, 6)), verbose=0).shape == (1, 5, 7)


@pytest.mark.parametrize(("library", "own"), GENERATIONS)
@pytest.mark.parametrize("times", [0, 2])
def test_a_layer_not_called_once_is_refused(library, own, times):
    layer = library.layers.Dense(6)
    for _ in range(times):
        layer(library.Input((6,)))
    with pytest.raises(ValueError, match=f"called {times} times"):
        compose("GroupNormalization", layer)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [("", "layers"), ("0", "layers"), ("1", "legacy"), ("True", "legacy")],
)
def test_the_default_is_the_generation_of_tf_keras(environment, expected, monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", environment)
    own = importlib.import_module(f"groupnorm.{expected}")
    assert type(compose("GroupNormalization")) is own.GroupNormalization
    assert compose("GroupNormalization", np.ones((2, 4))).shape == (2, 4)


def test_an_object_of_neither_kind_is_refused():
    with pytest.raises(ValueError, match="object"):
        compose("GroupNormalization", "a string")


def run(code, **environment):
    """What the code prints in a Python of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


HIDE = "import sys; sys.modules[{!r}] = None; import groupnorm; "
SHOW = "print(groupnorm.GroupNormalization.__module__)"


def test_the_package_follows_the_environment():
    # Of TF_USE_LEGACY_KERAS=1 `test_addons.py` has it, with the orders of imports.
    # It loads no other Keras than the one that it follows.
    loaded = "print(*(name in sys.modules for name in ('keras', 'tf_keras')))"
    code = f"import sys, groupnorm; {SHOW}; {loaded}"
    printed = run(code, TF_USE_LEGACY_KERAS="").split()
    assert printed == ["groupnorm.layers", "True", "False"]


def test_without_keras_3_the_layers_are_those_of_tf_keras():
    code = HIDE.format("keras") + SHOW
    assert run(code, TF_USE_LEGACY_KERAS="") == "groupnorm.legacy"


def test_without_tf_keras_nothing_is_missed():
    code = HIDE.format("tf_keras") + SHOW
    assert run(code, TF_USE_LEGACY_KERAS="") == "groupnorm.layers"


@pytest.mark.parametrize("version", ["2.15.0", "3.2.1"])
def test_an_unsupported_keras_gets_one_sentence(version):
    code = (
        "import sys, types; old = types.ModuleType('keras')\n"
        f"old.__version__ = {version!r}; sys.modules['keras'] = old\n"
        "sys.modules['tf_keras'] = None\n"
        "try: from groupnorm import GroupNormalization\n"
        "except ImportError as error: print(error)"
    )
    message = run(code, TF_USE_LEGACY_KERAS="")
    assert "Keras 3.3 or later" in message
    assert f"found Keras {version}" in message
