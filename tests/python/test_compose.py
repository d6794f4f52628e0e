"""Composing a layer onto an object, the Python half of the R functions."""

from __future__ import annotations

import keras
import numpy as np
import oracle
import pytest

from groupnorm import GroupNormalization, InstanceNormalization
from groupnorm.compose import compose


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 4, 6)).astype(np.float32)


def test_nothing_gives_the_layer():
    assert type(compose("GroupNormalization", None, groups=3)) is GroupNormalization
    assert type(compose("InstanceNormalization")) is InstanceNormalization


def test_a_sequential_model_is_added_to(x):
    model = keras.Sequential([keras.Input((4, 6))])
    assert compose("GroupNormalization", model, groups=3) is model
    assert oracle.relative_error(model(x), oracle.group_normalization(x, 3)) < 1e-6


def test_a_sequential_model_without_a_shape_is_added_to(x):
    model = keras.Sequential()
    compose("GroupNormalization", model, groups=3)
    assert oracle.relative_error(model(x), oracle.group_normalization(x, 3)) < 1e-6


def test_batch_size_begins_a_sequential_model():
    model = compose(
        "GroupNormalization", keras.Sequential(), input_shape=(None, 6), batch_size=5
    )
    assert model.input_shape == (5, None, 6)


def test_tensors_give_tensors(x):
    expected = oracle.group_normalization(x, 3)
    for value in (x, keras.ops.convert_to_tensor(x), x.astype(np.float64)):
        y = compose("GroupNormalization", value, groups=3)
        assert oracle.relative_error(y, expected) < 1e-6
    symbolic = compose("GroupNormalization", keras.Input((4, 6)), groups=3)
    assert keras.utils.is_keras_tensor(symbolic)


def test_models_and_layers_pass_their_output_on(x):
    inputs = keras.Input((4, 6))
    dense = keras.layers.Dense(8)
    model = keras.Model(inputs, dense(inputs))
    for value in (model, dense):
        y = keras.Model(inputs, compose("GroupNormalization", value, groups=4))
        assert (
            oracle.relative_error(y(x), oracle.group_normalization(model(x), 4)) < 1e-5
        )


def _called_twice():
    layer = keras.layers.Dense(2)
    layer(keras.Input((4, 6)))
    layer(keras.Input((4, 6)))
    return layer


def _two_outputs():
    inputs = keras.Input((4, 6))
    return keras.Model(inputs, [inputs, keras.layers.Dense(2)(inputs)])


def _lstm_with_states():
    layer = keras.layers.LSTM(4, return_state=True)
    layer(keras.Input((4, 6)))
    return layer


@pytest.mark.parametrize(
    "make",
    [
        lambda: "model",
        lambda: 1,
        lambda: [1, 2],
        lambda: {"a": 1},
        lambda: keras.layers.Dense(2),
        lambda: keras.optimizers.Adam(),
        _called_twice,
        _two_outputs,
        _lstm_with_states,
    ],
)
def test_anything_else_is_refused_with_the_list(make):
    with pytest.raises(ValueError, match=r"`object`.*called exactly once"):
        compose("GroupNormalization", make())


def _break_initializer(shape, dtype=None):
    raise ArithmeticError("broken")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"groups": 4}, ValueError),
        ({"axis": 5}, ValueError),
        ({"groups": 0}, ValueError),
        ({"name": "taken"}, ValueError),
        ({"gamma_initializer": _break_initializer}, ArithmeticError),
    ],
)
@pytest.mark.parametrize("start", ["built", "input only"])
def test_a_failing_call_leaves_the_model_as_it_was(x, arguments, error, start):
    if start == "built":
        layers = [keras.Input((4, 6)), keras.layers.Dense(6, name="taken")]
    else:
        layers = [keras.Input((4, 6), name="taken")]
    model = keras.Sequential(layers)
    layers, built = list(model._layers), model.built
    before = model(x).numpy() if built else None
    with pytest.raises(error):
        compose("GroupNormalization", model, **arguments)
    assert model._layers == layers
    assert model.built == built
    if built:
        assert model.output_shape == (None, 4, 6)
        assert np.array_equal(model(x), before)


def test_a_failing_call_leaves_an_empty_model_empty():
    model = keras.Sequential()
    for arguments in (
        {"groups": 4, "input_shape": (4, 6)},
        {"groups": 4, "input_shape": (4, 6), "batch_size": 3},
        {"gamma_initializer": _break_initializer, "input_shape": (4, 6)},
    ):
        with pytest.raises((ValueError, ArithmeticError)):
            compose("GroupNormalization", model, **arguments)
        assert model._layers == []
        assert not model.built


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, "2"])
def test_batch_size_is_checked(batch_size):
    with pytest.raises(ValueError, match="`batch_size`, expected a positive integer"):
        compose("GroupNormalization", None, batch_size=batch_size)
