"""What else TensorFlow Addons had: held against files and outputs of its own."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

tf_keras = pytest.importorskip(
    "tf_keras", reason="tf_keras, the older Keras generation, is not installed"
)

import keras  # noqa: E402
import own_parts  # noqa: E402
from turns import by_turns  # noqa: E402

import groupnorm  # noqa: E402
from groupnorm.migration import MigrationError  # noqa: E402

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "tfaddons_others"
LAYERS = ("activations", "adaptive_pooling", "gelu", "spectral", "weight_normalization")
# What is refused before the version of Keras that has it, and how.
SINCE = {
    "activations": ((3, 10), "Update it to 3.7, or|Keras 3.10 and later read as"),
    "adaptive_pooling": ((3, 13), "Pooling1D .* has no equal. Update it to 3.13, or"),
    "lamb": ((3, 5), "has no Lamb, which Keras 3.5 and later have: update it"),
}
VERSION = tuple(map(int, keras.__version__.split(".")[:2]))


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new.keras"


def arrays(name, letter):
    with np.load(FIXTURES / f"{name}.npz") as data:
        keys = [key for key in data if key.rstrip("0123456789") == letter]
        # w2 before w10
        return [data[key] for key in sorted(keys, key=lambda key: (len(key), key))]


def several(values):
    return values if isinstance(values, list) else [values]


def predicts_the_same(model, name):
    x, expected = arrays(name, "x"), arrays(name, "y")
    got = several(model.predict(x if len(x) > 1 else x[0], verbose=0))
    for actual, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)
    assert "Addons" not in model.to_json()


def has_the_weights(model, name):
    for actual, wanted in zip(model.get_weights(), arrays(name, "w"), strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "end"), by_turns(LAYERS, (".h5", ".keras", "_savedmodel"))
)
def test_layers_predict_what_they_predicted_there(name, end, target):
    since, words = SINCE.get(name, ((3, 0), ""))
    if since > VERSION:
        with pytest.raises(MigrationError, match=words):
            groupnorm.migrate(FIXTURES / f"{name}{end}", target)
        return
    groupnorm.migrate(FIXTURES / f"{name}{end}", target)
    predicts_the_same(keras.models.load_model(target), name)


@pytest.mark.parametrize("end", [".h5", ".keras", "_savedmodel"])
def test_what_a_frozen_wrapper_holds_stays_frozen(end, target):
    report = groupnorm.migrate(FIXTURES / f"frozen{end}", target)
    model = keras.models.load_model(target)
    predicts_the_same(model, "frozen")
    assert model.trainable_weights == model.layers[-1].weights
    assert "is frozen" not in str(report)
    (x,), (labels,), (after,) = (arrays("frozen", of) for of in ("x", "labels", "z"))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    logs = np.atleast_1d(model.train_on_batch(x, labels))
    np.testing.assert_allclose(logs, arrays("frozen", "logs")[0], rtol=1e-5)
    got = model.predict(x, verbose=0)
    np.testing.assert_allclose(got, after, rtol=1e-5, atol=1e-5)


def test_a_gesture_network(target):
    custom = {"gesture_loss": own_parts.gesture_loss}
    report = groupnorm.migrate(FIXTURES / "gesture.h5", target, custom_objects=custom)
    assert "starts anew, as the file does not have it" in str(report)  # not trained
    model = keras.models.load_model(target, custom_objects=custom)
    model.run_eagerly = True  # which is quicker for one step
    predicts_the_same(model, "gesture")
    (x,), labels = arrays("gesture", "x"), arrays("gesture", "labels")
    logs = np.atleast_1d(model.train_on_batch(x, labels))
    np.testing.assert_allclose(logs[0], arrays("gesture", "logs")[0][0], rtol=1e-5)
    has_the_weights(model, "gesture")


@pytest.mark.full
def test_a_satellite_network(tmp_path, target):
    path = tmp_path / "old.h5"
    path.write_bytes(gzip.decompress((FIXTURES / "satellite.h5.gz").read_bytes()))
    with pytest.raises(MigrationError) as caught:
        groupnorm.migrate(path, target)
    assert all(f"{name!r}: " in str(caught.value) for name in own_parts.SATELLITE)
    report = groupnorm.migrate(path, target, custom_objects=own_parts.SATELLITE)
    own = {name: own_parts.SATELLITE[name] for name in report.needs}
    assert sorted(own) == ["Gate", "Merge", "Mirror", "Scale"]
    model = keras.models.load_model(target, custom_objects=own)
    predicts_the_same(model, "satellite")
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("GroupNormalization") == 34


def trained(name, target):
    """The new model after the step whose outcome the fixture has, and its logs."""
    report = groupnorm.migrate(FIXTURES / f"{name}.h5", target)
    model = keras.models.load_model(target)
    (x,), (labels,) = arrays(name, "x"), arrays(name, "labels")
    logs = np.atleast_1d(model.train_on_batch(x, labels))
    return report, model, logs


@pytest.mark.parametrize("name", ["adamw", "sgdw", "lamb", "focal", "scores"])
def test_training_goes_on_as_it_did_there(name, target):
    since, words = SINCE.get(name, ((3, 0), ""))
    if since > VERSION:
        report = groupnorm.migrate(FIXTURES / f"{name}.h5", target)
        assert re.search(f"It is not compiled, as .*{words}", str(report))
        return
    report, model, logs = trained(name, target)
    assert "goes on from the step after 2" in str(report)
    has_the_weights(model, name)
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
    assert "give one as 'Addons>" in str(report)


def test_operations_of_tensorflow_2_3(target):
    report = groupnorm.migrate(FIXTURES / "raw_operations.h5", target)
    (x,), expected = arrays("raw_operations", "x"), arrays("raw_operations", "y")
    got = keras.models.load_model(target).predict(x, verbose=0)
    assert len(got) == 23
    for actual, wanted in zip(got, expected, strict=True):
        assert actual.dtype == wanted.dtype
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)
    assert "the operation AddV2 is now Keras 3's operation Add" in str(report)
