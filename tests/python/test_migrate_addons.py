"""What else TensorFlow Addons had: held against files and outputs of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

tf_keras = pytest.importorskip(
    "tf_keras", reason="tf_keras, the older Keras generation, is not installed"
)

import keras  # noqa: E402

import groupnorm  # noqa: E402

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "tfaddons_others"
LAYERS = ("activations", "adaptive_pooling", "gelu", "spectral", "weight_normalization")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new.keras"


def arrays(name, letter):
    with np.load(FIXTURES / f"{name}.npz") as data:
        keys = sorted(key for key in data if key.rstrip("0123456789") == letter)
        return [data[key] for key in keys]


def several(values):
    return values if isinstance(values, list) else [values]


@pytest.mark.parametrize("extension", ["h5", "keras"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_predict_what_they_predicted_there(name, extension, target):
    groupnorm.migrate(FIXTURES / f"{name}.{extension}", target)
    model = keras.models.load_model(target)
    x, expected = arrays(name, "x"), arrays(name, "y")
    got = several(model.predict(x if len(x) > 1 else x[0], verbose=0))
    for actual, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-5)
    assert "Addons" not in model.to_json()


def trained(name, target):
    """The new model after the step whose outcome the fixture has, and its logs."""
    report = groupnorm.migrate(FIXTURES / f"{name}.h5", target)
    model = keras.models.load_model(target)
    (x,), (labels,) = arrays(name, "x"), arrays(name, "labels")
    logs = np.atleast_1d(model.train_on_batch(x, labels))
    return report, model, logs


@pytest.mark.parametrize("name", ["adamw", "sgdw", "lamb", "focal", "scores"])
def test_training_goes_on_as_it_did_there(name, target):
    report, model, logs = trained(name, target)
    assert "goes on from the step after 2" in str(report)
    for actual, wanted in zip(model.get_weights(), arrays(name, "w"), strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-6)
    np.testing.assert_allclose(logs, arrays(name, "logs")[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "inner"),
    [("lookahead", "Adam"), ("moving_average", "SGD"), ("swa", "SGD")],
)
def test_of_a_wrapper_the_inner_optimizer_is_left(name, inner, target):
    report, model, _ = trained(name, target)
    assert type(model.optimizer).__name__ == inner
    assert "TensorFlow Addons is gone" in str(report)


@pytest.mark.parametrize(
    ("name", "words"),
    [("yogi", "no equal of Yogi"), ("correlation", "no equal of PearsonsCorrelation")],
)
def test_what_has_no_equal_is_left_out_by_name(name, words, target):
    report = groupnorm.migrate(FIXTURES / f"{name}.h5", target)
    assert f"It is not compiled, as Keras 3 has {words}" in str(report)
    assert "custom_objects={'Addons>" in str(report)


def test_operations_of_tensorflow_2_3(target):
    report = groupnorm.migrate(FIXTURES / "raw_operations.h5", target)
    (x,), expected = arrays("raw_operations", "x"), arrays("raw_operations", "y")
    with np.load(FIXTURES / "raw_operations.npz") as data:
        expected = [data[f"y{i}"] for i in range(len(expected))]
    got = keras.models.load_model(target).predict(x, verbose=0)
    assert len(got) == 23
    for actual, wanted in zip(got, expected, strict=True):
        assert actual.dtype == wanted.dtype
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)
    assert "the operation AddV2 is now Keras 3's operation Add" in str(report)
