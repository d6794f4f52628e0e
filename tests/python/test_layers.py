"""The Keras 3 layers: arguments, weights, dtypes, masks, saving, training."""

from __future__ import annotations

import copy
import json
import pickle
import re

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf

import groupnorm
from groupnorm import GroupNormalization, InstanceNormalization


def _set_random_weights(layer, rng):
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_output_equals_the_definition(rng, axis, center, scale):
    x = rng.normal(size=(3, 4, 8, 4)).astype(np.float32)
    layer = GroupNormalization(4, axis=axis, center=center, scale=scale, epsilon=1e-2)
    layer.build(x.shape)
    names = ["gamma"] * scale + ["beta"] * center
    assert [w.name for w in layer.weights] == names
    assert all(w.shape == (x.shape[axis],) for w in layer.weights)
    _set_random_weights(layer, rng)
    expected = oracle.group_normalization(
        x, 4, layer.gamma, layer.beta, axis=axis, epsilon=1e-2
    )
    assert oracle.relative_error(layer(x), expected) < 1e-6


def test_fresh_layers_equal_those_of_keras(rng):
    x = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    for ours, theirs in [
        (GroupNormalization(3), keras.layers.GroupNormalization(3)),
        (GroupNormalization(-1), keras.layers.GroupNormalization(-1)),
        (GroupNormalization(1), keras.layers.LayerNormalization([1, 2, 3])),
        (InstanceNormalization(), keras.layers.LayerNormalization([1, 2])),
    ]:
        assert oracle.relative_error(ours(x), theirs(x)) < 1e-6


def test_arguments_reach_the_weights():
    layer = GroupNormalization(
        2,
        beta_initializer=keras.initializers.Constant(0.5),
        gamma_initializer="zeros",
        beta_regularizer="l2",
        gamma_regularizer=keras.regularizers.L1(0.1),
        beta_constraint="non_neg",
        gamma_constraint=keras.constraints.MaxNorm(1.0),
    )
    layer.build((None, 3, 4))
    assert np.array_equal(layer.gamma, np.zeros(4))
    assert np.array_equal(layer.beta, np.full(4, 0.5))
    assert isinstance(layer.beta.regularizer, keras.regularizers.L2)
    assert isinstance(layer.gamma.regularizer, keras.regularizers.L1)
    assert isinstance(layer.beta.constraint, keras.constraints.NonNeg)
    assert isinstance(layer.gamma.constraint, keras.constraints.MaxNorm)
    assert float(sum(layer.losses)) == pytest.approx(0.01 * 4 * 0.25)


# --- What is printed -----------------------------------------------------------------


def test_a_print_says_what_the_layer_is():
    layer = GroupNormalization(4, axis=1, name="mine")
    unbuilt = "<GroupNormalization name=mine, groups=4, axis=1, built=False>"
    assert repr(layer) == str(layer) == unbuilt
    layer.build((None, 8, 3))
    found = re.search("groups=4, axis=1, channels=8, computed_by=(.*)>$", repr(layer))
    assert found[1] == groupnorm.implementation().name
    layer = InstanceNormalization(name="each")
    assert repr(layer) == "<InstanceNormalization name=each, axis=-1, built=False>"


def test_a_print_follows_what_computes(monkeypatch):
    layer = GroupNormalization()
    layer.build((None, 8))
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    assert repr(layer).endswith("channels=8, computed_by=tensorflow>")


def test_a_subclass_prints_its_own_name():
    class Mine(GroupNormalization):
        def build(self, input_shape):
            self.built = True

    layer = Mine(name="mine")
    layer.build((None, 8))
    assert repr(layer) == "<Mine name=mine, groups=2, axis=-1, built=False>"


def test_a_symbolic_output_has_the_name_of_its_layer():
    layer = GroupNormalization(name="mine")
    inputs = keras.Input((3, 4))
    output = layer(inputs)
    assert "shape=(None, 3, 4)" in repr(output)
    assert "name=mine" in repr(output)
    # The name comes again where the layer is used again, or its output is an input.
    x = np.arange(24.0).reshape(2, 3, 4)
    twice = keras.Model(inputs, layer(output))
    assert np.array_equal(twice(x), layer(layer(x)))
    after = keras.Model(output, keras.layers.ReLU()(output))
    assert np.array_equal(after(x), x)


# --- Dtypes --------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_output_has_the_compute_dtype_and_weights_stay_wide(rng, policy):
    layer = GroupNormalization(2, dtype=policy)
    y = layer(rng.normal(size=(2, 3, 4)).astype(np.float32))
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    assert layer.gamma.dtype == "float32"


def test_a_large_float32_input_does_not_overflow_under_mixed_float16(rng):
    keras.config.set_dtype_policy("mixed_float16")
    x = (rng.normal(size=(2, 50, 4)) * 1e7).astype(np.float32)
    y = GroupNormalization(2)(tf.constant(x))
    assert y.dtype == tf.float16
    expected = oracle.group_normalization(x, 2)
    assert oracle.relative_error(tf.cast(y, tf.float64), expected) < 1e-3


def test_float64_is_kept_throughout(rng):
    x = rng.normal(size=(2, 5, 4)) + 1e9
    y = GroupNormalization(2, dtype="float64")(x)
    assert y.dtype == tf.float64
    assert oracle.relative_error(y, oracle.group_normalization(x, 2)) < 1e-6


def test_a_model_in_mixed_precision_trains(rng):
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3),
            GroupNormalization(4),
            keras.layers.Flatten(),
            keras.layers.Dense(1, dtype="float32"),
        ]
    )
    model.compile("adam", "mse")
    x, y = rng.normal(size=(16, 8, 8, 3)), rng.normal(size=(16, 1))
    losses = model.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


# --- Masks ---------------------------------------------------------------------------


def test_a_mask_passes_through_untouched(rng):
    tokens = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]])
    embedded = keras.layers.Embedding(10, 4, mask_zero=True)(tokens)
    for use_mask in (False, True):
        y = GroupNormalization(2, use_mask=use_mask)(embedded)
        assert np.array_equal(y._keras_mask, tokens != 0)


def test_use_mask_leaves_padding_out(rng):
    tokens = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0], [0, 0, 0, 0, 0]])
    model = keras.Sequential(
        [
            keras.layers.Embedding(10, 4, mask_zero=True),
            GroupNormalization(2, use_mask=True),
        ]
    )
    y = model(tokens).numpy()
    embedded = model.layers[0](tokens)
    expected = oracle.group_normalization(embedded, 2, mask=tokens != 0)
    assert oracle.relative_error(y, expected) < 1e-5
    without = GroupNormalization(2)(embedded)
    assert (
        oracle.relative_error(without, oracle.group_normalization(embedded, 2)) < 1e-5
    )


def test_use_mask_in_training_with_a_fully_masked_sample(rng):
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(10, 4, mask_zero=True),
            GroupNormalization(2, use_mask=True),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    tokens = np.array([[1, 2, 3, 0], [0, 0, 0, 0]])
    model.fit(tokens, np.ones((2, 4, 1)), epochs=2, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


# --- Configuration and saving --------------------------------------------------------


def _full_layer(cls=GroupNormalization, **arguments):
    return cls(
        axis=1,
        epsilon=1e-5,
        center=False,
        gamma_initializer=keras.initializers.RandomNormal(seed=1),
        gamma_regularizer="l2",
        gamma_constraint="non_neg",
        use_mask=True,
        name="full",
        dtype="mixed_bfloat16",
        trainable=False,
        **arguments,
    )


@pytest.mark.parametrize(
    "layer",
    [lambda: _full_layer(groups=4), lambda: _full_layer(InstanceNormalization)],
    ids=["group", "instance"],
)
def test_configuration_comes_back(layer):
    layer = layer()
    config = layer.get_config()
    for other in (
        type(layer).from_config(config),
        type(layer).from_config(json.loads(json.dumps(config))),
        type(layer).from_config(pickle.loads(pickle.dumps(config))),
        keras.layers.deserialize(keras.layers.serialize(layer)),
        copy.deepcopy(layer),
    ):
        assert type(other) is type(layer)
        assert other.get_config() == config


def test_configuration_is_as_given_after_building():
    layer = GroupNormalization(-1)
    before = layer.get_config()
    layer.build((None, 4))
    assert layer.get_config() == before
    assert before["groups"] == -1
    assert "groups" not in InstanceNormalization().get_config()


def test_the_configuration_of_keras_fits():
    keras_layer = keras.layers.GroupNormalization(4, gamma_regularizer="l2")
    config = keras_layer.get_config()
    ours = GroupNormalization.from_config(config).get_config()
    assert {key: ours[key] for key in config} == config
    assert ours.keys() - config.keys() == {"use_mask"}


def _small_model():
    inputs = keras.Input((6, 6, 4))
    x = GroupNormalization(2)(inputs)
    x = keras.layers.Conv2D(6, 3)(x)
    x = InstanceNormalization(scale=False)(x)
    model = keras.Model(inputs, x)
    for weight in model.weights:
        weight.assign(keras.random.normal(weight.shape, seed=len(weight.path)))
    return model


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_models_are_saved_and_loaded(rng, tmp_path, suffix):
    model = _small_model()
    model.save(tmp_path / f"model.{suffix}")
    loaded = keras.models.load_model(tmp_path / f"model.{suffix}")
    assert [type(layer) for layer in loaded.layers] == [
        type(layer) for layer in model.layers
    ]
    x = rng.normal(size=(2, 6, 6, 4)).astype(np.float32)
    assert np.array_equal(loaded(x), model(x))


def test_weights_are_saved_and_loaded(rng, tmp_path):
    model, other = _small_model(), _small_model()
    for weight in other.weights:
        weight.assign(weight * 0)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(one, two)


def test_models_are_cloned(rng):
    model = _small_model()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x = rng.normal(size=(2, 6, 6, 4)).astype(np.float32)
    assert np.array_equal(clone(x), model(x))


def test_unknown_sizes_in_a_model(rng):
    model = keras.Sequential([keras.Input((None, None, 4)), GroupNormalization(2)])
    assert model.output_shape == (None, None, None, 4)
    for shape in [(1, 3, 5, 4), (3, 1, 1, 4), (0, 2, 2, 4)]:
        x = rng.normal(size=shape).astype(np.float32)
        y = model(x)
        assert y.shape == shape
        if y.shape[0]:
            expected = oracle.group_normalization(x, 2)
            assert oracle.relative_error(y, expected) < 1e-6


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_in_graph_mode_and_under_xla_agree_with_eager(rng, jit_compile):
    x, y = rng.normal(size=(8, 6, 4)), rng.normal(size=(8, 6, 4))

    def train(**arguments):
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((6, 4)), keras.layers.Dense(4)])
        model.add(GroupNormalization(2))
        model.compile("sgd", "mse", **arguments)
        model.fit(x, y, epochs=2, verbose=0, shuffle=False)
        return model.get_weights()

    eager = train(run_eagerly=True, jit_compile=False)
    for one, other in zip(train(jit_compile=jit_compile), eager, strict=True):
        assert np.allclose(one, other, atol=1e-6)


# --- Bad arguments -------------------------------------------------------------------

GROUPS = "Received an invalid value for argument `groups`, expected a positive integer"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({"groups": g}, GROUPS)
            for g in (0, -3, 2.5, None, "4", True, [2], float("inf"), float("nan"))
        ),
        *(({"axis": a}, "`axis`") for a in (0, 1.5, None, "1", True, [1])),
        *(
            ({"epsilon": e}, "`epsilon`, expected one finite number")
            for e in (-1, None, "small", [1.0, 2.0], float("nan"), float("inf"), True)
        ),
        *(
            ({flag: value}, f"`{flag}`, expected True or False")
            for flag in ("center", "scale", "use_mask")
            for value in (None, "yes", 2, 1, float("nan"))
        ),
        *(
            (
                {f"{w}_{kind}": value},
                f"{kind} identifier for argument `{w}_{kind}`, expected the name",
            )
            for w in ("gamma", "beta")
            for kind in ("initializer", "regularizer", "constraint")
            for value in ("no_such", 3, {"class_name": "NoSuch", "config": {}})
        ),
        ({"gamma_initializer": None}, "`gamma_initializer`"),
        ({"no_such": 1}, "Unrecognized keyword arguments.*no_such"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        GroupNormalization(**arguments)


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        ({"groups": 3}, (None, 8), "must be a multiple"),
        ({"groups": 16}, (None, 8), "cannot be more than the number of channels"),
        ({}, (None, 4, None), "should have a defined dimension"),
        ({"axis": 2}, (None, 8), "Axis 2 is out of bounds"),
        ({"axis": -2}, (None, 8), "is the batch axis"),
        ({}, (8,), "rank 2 or more"),
    ],
)
def test_shapes_that_do_not_fit_are_named(arguments, shape, message):
    for attempt in ("build", "compute_output_shape"):
        layer = GroupNormalization(**arguments)
        with pytest.raises(ValueError, match=message):
            getattr(layer, attempt)(shape)
        assert not layer.built


@pytest.mark.parametrize(
    ("arguments", "shape", "phrase"),
    [
        ({"groups": 0}, None, "Received an invalid value for argument `groups`"),
        ({"groups": 16}, (None, 8), "cannot be more than the number of channels"),
        ({"groups": 3}, (None, 8), "must be a multiple of the number of channels"),
        ({"groups": 2}, (None, None), "should have a defined dimension"),
    ],
)
def test_keras_raises_in_the_same_words(arguments, shape, phrase):
    """Code that matches on Keras's words goes on working."""
    with pytest.raises(ValueError, match=phrase):
        GroupNormalization(**arguments).build(shape)
    with pytest.raises((ValueError, TypeError)) as raised:
        keras.layers.GroupNormalization(**arguments).build(shape)
    if raised.type is TypeError:  # of building for no shape at all
        pytest.skip(f"Keras {keras.__version__} does not check it")
    assert phrase in str(raised.value)


def test_instance_normalization_ignores_groups():
    with pytest.warns(UserWarning, match="`groups` is ignored"):
        layer = InstanceNormalization(groups=2)
    assert layer.get_config().keys() == InstanceNormalization().get_config().keys()
    assert layer.groups == -1


def test_numpy_scalars_are_numbers():
    layer = GroupNormalization(
        np.int64(4), axis=np.int32(1), epsilon=np.float32(0.5), center=np.bool_(False)
    )
    config = layer.get_config()
    assert (config["groups"], config["axis"], config["center"]) == (4, 1, False)
    json.dumps(config)
