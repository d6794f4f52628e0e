"""Bringing files of Keras 2 over to Keras 3.

What the new file must predict is what TensorFlow Addons, or tf_keras, predicted.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

tf_keras = pytest.importorskip(
    "tf_keras", reason="tf_keras, the older Keras generation, is not installed"
)

import h5py  # noqa: E402
import keras  # noqa: E402
import legacy_models  # noqa: E402
import tensorflow as tf  # noqa: E402
from turns import by_turns  # noqa: E402

import groupnorm  # noqa: E402
from groupnorm import layers  # noqa: E402
from groupnorm.migration import MigrationError, progress, proof, weights  # noqa: E402

L = tf_keras.layers
O, S, M = tf_keras.optimizers, tf_keras.losses, tf_keras.metrics  # noqa: E741
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "tfaddons"
SAVED = sorted(path.stem for path in FIXTURES.glob("*.keras"))
TOLERANCE = {"half_precision": 1e-2}  # written with statistics in float16
OLDEST_KERAS = keras.__version__.startswith("3.3.")
# What it computes otherwise or cannot read back, and how migrate refuses it.
BEYOND_OLDEST_KERAS = {
    "activations_and_names": "which Keras 3.10 and later read as an activation",
    "convolutions": "does not predict",  # as output_padding is not saved
    "model_over_time": "at each step, which Keras 3.5 and later can",
    "shared_frozen_model": "does not read it back",
}


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new.keras"


def files(folder):
    return sorted(path.name for path in Path(folder).rglob("*"))


def written(model, path):
    """The path, with the model saved there."""
    model.save(path)
    return path


def dense():
    return tf_keras.Sequential([tf_keras.Input((4,)), L.Dense(3, name="dense")])


@pytest.mark.parametrize(
    ("stem", "end"),
    [
        *by_turns([name for name in SAVED if name != "recurrent"], (".h5", ".keras")),
        ("generator", "_savedmodel"),
        # These layers take longest; `test_each_kind_of_model` has them each day.
        pytest.param("recurrent", ".h5", marks=pytest.mark.full),
        pytest.param("recurrent", ".keras", marks=pytest.mark.full),
    ],
)
def test_what_addons_saved_predicts_the_same_under_keras_3(stem, end, target):
    groupnorm.migrate(FIXTURES / f"{stem}{end}", target)
    with np.load(FIXTURES / f"{stem}.npz") as data:
        x = [data[key] for key in sorted(data) if key[0] == "x"]
        y = [data[key] for key in sorted(data) if key[0] == "y"]
    model = keras.models.load_model(target)
    got = model.predict(x if len(x) > 1 else x[0], verbose=0)
    for actual, expected in zip(got if len(y) > 1 else [got], y, strict=True):
        np.testing.assert_allclose(actual, expected, atol=TOLERANCE.get(stem, 1e-5))
    own = [layer for layer in flat(model) if type(layer).__module__ == layers.__name__]
    assert own
    assert "Addons" not in model.to_json()


def flat(model):
    return [layer for layer in model._flatten_layers() if layer is not model]


@pytest.mark.parametrize(
    ("name", "extension"),
    [(name, ("h5", "keras")[i % 2]) for i, name in enumerate(legacy_models.MODELS)],
)
def test_each_kind_of_model(name, extension, tmp_path, target):
    if OLDEST_KERAS and name in BEYOND_OLDEST_KERAS:
        old = legacy_models.make(name)
        with pytest.raises(MigrationError, match=BEYOND_OLDEST_KERAS[name]):
            groupnorm.migrate(written(old, tmp_path / f"old.{extension}"), target)
        assert not target.exists()
        return
    old = legacy_models.make(name)
    x = legacy_models.sample(old)
    expected = tf.nest.flatten(old(x, training=False))
    groupnorm.migrate(written(old, tmp_path / f"old.{extension}"), target)
    new = keras.models.load_model(target)
    got = tf.nest.flatten(new(x, training=False))
    assert len(got) == len(expected)
    for actual, wanted in zip(got, expected, strict=True):
        if wanted.dtype.is_floating:  # Keras 3 counts in int32
            assert actual.dtype == wanted.dtype
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
    trained = [len(model.trainable_weights) for model in (old, new)]
    assert trained[0] == trained[1]


@pytest.mark.full
def test_a_savedmodel_of_tf_keras(tmp_path, target):
    old = legacy_models.make("one_dimensional")
    x = legacy_models.sample(old)
    groupnorm.migrate(written(old, tmp_path / "saved"), target)
    np.testing.assert_allclose(keras.models.load_model(target)(x), old(x), atol=1e-5)


def test_report_names_each_change(tmp_path, target):
    report = groupnorm.migrate(FIXTURES / "generator.h5", target)
    assert report.changes["conv2d_transpose"] == [
        "argument groups=1 dropped: Keras 3 has none"
    ]
    assert report.changes["leaky_re_lu"] == [
        "argument alpha is now called negative_slope"
    ]
    assert report.changes["instance_normalization_1"] == [
        "class Addons>InstanceNormalization is now groupnorm>InstanceNormalization"
    ]
    assert "conv2d" not in report.changes
    assert report.unchanged == 13
    assert report.largest_difference < 1e-6
    for words in ("conv2d_transpose", "groups=1", "predict the same", str(target)):
        assert words in str(report)


def test_a_file_with_no_such_layer_is_migrated_and_said_so(tmp_path, target):
    report = groupnorm.migrate(written(dense(), tmp_path / "old.h5"), target)
    assert "no layer of TensorFlow Addons" in str(report)
    assert target.exists()


def test_the_input_is_not_touched(tmp_path, target):
    old = tmp_path / "old.h5"
    old.write_bytes((FIXTURES / "compiled.h5").read_bytes())
    old.chmod(0o444)
    before = old.read_bytes(), old.stat().st_mtime_ns
    groupnorm.migrate(old, target)
    assert (old.read_bytes(), old.stat().st_mtime_ns) == before
    assert files(tmp_path) == ["new.keras", "old.h5"]


# Training on.


@pytest.mark.parametrize("extension", ["h5", "keras"])
def test_optimizer_loss_and_metrics_are_carried_over(extension, target):
    report = groupnorm.migrate(FIXTURES / f"compiled.{extension}", target)
    model = keras.models.load_model(target)
    assert "compiled with Adam" in str(report)
    assert model.optimizer.learning_rate.numpy() == pytest.approx(0.01)
    history = model.fit(np.ones((4, 5)), np.ones((4, 1)), epochs=2, verbose=0).history
    assert set(history) in ({"loss", "mae"}, {"loss", "mean_absolute_error"})


def two_outputs():
    x = tf_keras.Input((4,))
    return tf_keras.Model(x, [L.Dense(3, name="a")(x), L.Dense(3, name="b")(x)])


def last(history):
    """Loss and metrics by size: names differ, and Keras 3.3 has no outputs' losses."""
    whole = [name for name in history if not name.endswith("_loss")]
    return sorted(history[name][-1] for name in whole)


COMPILATIONS = {
    "objects": (
        dense,
        lambda: {
            "loss": S.MeanSquaredError(),
            "metrics": [M.MeanAbsoluteError("err")],
        },
    ),
    "sum": (
        dense,
        lambda: {"optimizer": O.AdamW(0.1, clipnorm=0.5), "loss": S.Hinge("sum")},
    ),
    "logits": (
        dense,
        lambda: {
            "loss": S.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
            "metrics": ["accuracy", M.TopKCategoricalAccuracy(k=2)],
            "weighted_metrics": ["mae"],
        },
    ),
    "decay": (
        dense,
        lambda: {
            "optimizer": O.SGD(O.schedules.ExponentialDecay(0.1, 2, 0.5)),
            "loss": "mse",
        },
    ),
    "cosine": (
        dense,
        lambda: {
            "optimizer": O.Adam(O.schedules.CosineDecay(0.1, 5)),
            "loss": "mse",
        },
    ),
    "in a list": (
        two_outputs,
        lambda: {
            "loss": ["mse", "mae"],
            "metrics": [["mae"], ["mse"]],
            "loss_weights": [0.3, 2.0],
        },
    ),
    "by name": (
        two_outputs,
        lambda: {
            "optimizer": O.SGD(0.1, momentum=0.9, nesterov=True),
            "loss": {"a": "mse", "b": S.Huber()},
            "metrics": {"a": ["mae"], "b": M.RootMeanSquaredError()},
            "loss_weights": {"a": 0.3, "b": 2.0},
        },
    ),
}


@pytest.mark.parametrize(("name", "extension"), by_turns(COMPILATIONS, ("h5", "keras")))
def test_training_goes_on_as_tf_keras_trains(name, extension, tmp_path, target):
    make, compilation = COMPILATIONS[name]
    keras.utils.set_random_seed(1)
    old = make()
    old.compile(**{"optimizer": "sgd"} | compilation())
    report = groupnorm.migrate(written(old, tmp_path / f"old.{extension}"), target)
    assert "is compiled with" in str(report)
    new = keras.models.load_model(target)
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(6, 4)), np.eye(3)[random.integers(0, 3, 6)]
    y = labels if make is dense else [labels, -labels]
    theirs, ours = (
        model.fit(x, y, epochs=3, batch_size=6, verbose=0).history
        for model in (old, new)
    )
    np.testing.assert_allclose(last(ours), last(theirs), rtol=1e-5)
    for weight, expected in zip(new.get_weights(), old.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)


def my_loss(y, prediction):
    return tf.reduce_mean(tf.abs(y - prediction))


class MyLoss(S.Loss):
    def call(self, y, prediction):
        return my_loss(y, prediction)


@pytest.mark.parametrize("extension", ["h5", "keras"])
@pytest.mark.parametrize(
    ("optimizer", "loss", "metrics", "words"),
    [
        (lambda: "sgd", my_loss, [], "my_loss"),
        (lambda: "sgd", MyLoss(), [], "'MyLoss' is not of Keras"),
        (lambda: "sgd", "mse", [my_loss], "my_loss"),
        (lambda: "sgd", "mse", [M.MeanRelativeError([1, 2, 3])], "'MeanRelativeError'"),
        (
            lambda: tf_keras.mixed_precision.LossScaleOptimizer(
                O.SGD(0.1), dynamic=False, initial_scale=8
            ),
            "mse",
            [],
            "no LossScaleOptimizer of a fixed scale",
        ),
        # Its file would have no delta, and Keras would read another loss.
        (lambda: "sgd", S.Huber(delta=0.5), [], "does not save delta=0.5 of 'Huber'"),
    ],
)
def test_what_is_not_keras_s_is_left_out_and_said_so(
    optimizer, loss, metrics, words, extension, tmp_path, target
):
    old = dense()
    old.compile(optimizer(), loss, metrics)
    report = groupnorm.migrate(written(old, tmp_path / f"old.{extension}"), target)
    assert re.search(f"not compiled, as .*{words}", str(report))
    assert getattr(keras.models.load_model(target), "optimizer", None) is None


NOT_KERAS = {"class_name": "Mark", "config": {}, "module": "marker"}


@pytest.mark.parametrize(
    "damage",
    [
        {"loss": {"class_name": "deserialize", "config": {}}},
        {"loss": {"class_name": "Huber", "config": ["delta"]}},
        {"loss": {"class_name": "Huber", "config": {"delta": NOT_KERAS}}},
        {"loss": 7},
        {"metrics": [{"class_name": "Mean"}]},
        {"metrics": [{"class_name": "Mean", "config": {"dtype": NOT_KERAS}}]},
        {"optimizer_config": {"class_name": 7, "config": {}}},
        {"optimizer_config": {"class_name": "schedules", "config": {}}},
        {
            "optimizer_config": {
                "class_name": "SGD",
                "config": {"learning_rate": NOT_KERAS},
            }
        },
        {"optimizer_config": 7},
        ["sgd"],
    ],
    ids=str,
)
def test_a_damaged_compilation_is_left_out_and_said_so(
    damage, tmp_path, target, monkeypatch
):
    (tmp_path / "marker.py").write_text("class Mark: pass")
    monkeypatch.syspath_prepend(tmp_path)
    old = dense()
    old.compile("sgd", "mse")
    path = written(old, tmp_path / "old.h5")
    with h5py.File(path, "r+") as file:
        training = json.loads(file.attrs["training_config"])
        training = training | damage if isinstance(damage, dict) else damage
        file.attrs["training_config"] = json.dumps(training)
    assert "It is not compiled, as" in str(groupnorm.migrate(path, target))
    assert "marker" not in sys.modules
    assert getattr(keras.models.load_model(target), "optimizer", None) is None


# What is refused, and what is left behind then: nothing.


def refuse(path, target, match, error=MigrationError, **arguments):
    before = files(target.parent)
    with pytest.raises(error, match=match) as caught:
        groupnorm.migrate(path, target, **arguments)
    assert files(target.parent) == before
    return str(caught.value)


def test_missing_file(tmp_path, target):
    refuse(tmp_path / "none.h5", target, r"none\.h5", FileNotFoundError)


@pytest.mark.parametrize("name", ["tfa_convnet.h5", "tfa_convnet.keras"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.98])
def test_truncated_file(name, kept, tmp_path, target):
    content = (FIXTURES / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(kept * len(content))])
    refuse(path, target, "damaged|truncated")


def test_damaged_content(tmp_path, target):
    path = tmp_path / "old.keras"
    with zipfile.ZipFile(FIXTURES / "tfa_convnet.keras") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts["model.weights.h5"] = parts["model.weights.h5"][:5000]
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    refuse(path, target, "damaged")


def test_text_is_no_model(tmp_path, target):
    path = tmp_path / "old.h5"
    path.write_text("no model")
    refuse(path, target, "neither an HDF5 file")


@pytest.mark.parametrize("name", ["tfa_convnet.weights.h5", "legacy"])
def test_weights_alone(name, tmp_path, target):
    path = FIXTURES / name
    if name == "legacy":
        path = tmp_path / "weights.h5"
        dense().save_weights(path)
    refuse(path, target, r"weights alone.*load_weights")


def test_a_folder_that_holds_no_keras_model(tmp_path, target):
    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"))
    refuse(tmp_path / "saved", target, "no Keras model")


@pytest.mark.parametrize("extension", ["h5", "keras"])
def test_a_file_of_keras_3_needs_no_migration(extension, tmp_path, target):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    path = written(model, tmp_path / f"old.{extension}")
    refuse(path, target, "nothing to\\s+migrate")


def test_existing_output(target):
    target.write_text("precious")
    refuse(FIXTURES / "tfa_convnet.h5", target, "overwrite", FileExistsError)
    assert target.read_text() == "precious"
    groupnorm.migrate(FIXTURES / "tfa_convnet.h5", target, overwrite=True)
    assert keras.models.load_model(target).count_params() > 0


def test_a_failure_leaves_an_existing_output_alone(tmp_path, target, monkeypatch):
    target.write_text("precious")
    monkeypatch.setattr(proof, "_relative_difference", lambda *_: 1.0)
    path = FIXTURES / "tfa_convnet.h5"
    refuse(path, target, "does not predict", overwrite=True)
    assert target.read_text() == "precious"


def test_a_failure_while_writing_leaves_nothing(target, monkeypatch):
    def fail(model, path):
        Path(path).write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(keras.Model, "save", fail)
    refuse(FIXTURES / "tfa_convnet.h5", target, "disk full", OSError)


def test_a_folder_that_cannot_be_written_in(target, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    refuse(FIXTURES / "tfa_convnet.h5", target, "Cannot write", PermissionError)


@pytest.mark.parametrize("name", ["new.h5", "new", "new.keras.zip"])
def test_output_of_another_kind(name, tmp_path):
    refuse(FIXTURES / "tfa_convnet.h5", tmp_path / name, r"\.keras files")


def test_output_over_input(tmp_path):
    path = written(dense(), tmp_path / "model.keras")
    refuse(path, path, "never changed", overwrite=True)


def test_output_in_no_folder(tmp_path):
    target = tmp_path / "none" / "new.keras"
    with pytest.raises(FileNotFoundError, match="none"):
        groupnorm.migrate(FIXTURES / "tfa_convnet.h5", target)


def test_a_wrong_weight_does_not_pass(tmp_path, target, monkeypatch):
    def transfer(pairs):
        right(pairs)
        last = pairs[-1][1]
        last.set_weights([1.01 * w for w in last.get_weights()])

    right = weights.transfer
    monkeypatch.setattr(weights, "transfer", transfer)
    refuse(FIXTURES / "tfa_convnet.h5", target, "does not predict")


def test_without_tf_keras(target, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    refuse(FIXTURES / "tfa_convnet.h5", target, r"groupnorm\[tf-keras\]", ImportError)


def changed(extension, change, tmp_path):
    """A file of one Dense layer, with its configuration changed."""
    path = written(dense(), tmp_path / f"old.{extension}")
    if extension == "h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config["config"]["layers"][1])
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    config = json.loads(parts["config.json"])
    change(config["config"]["layers"][1])
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    return path


@pytest.mark.parametrize("extension", ["h5", "keras"])
def test_a_module_that_the_file_names_is_not_imported(extension, tmp_path, target):
    (tmp_path / "groupnorm_trap.py").write_text("raise SystemExit('it was imported')")

    def change(layer):
        layer["config"]["kernel_initializer"] = {
            "module": "groupnorm_trap",
            "class_name": "Zeros",
            "config": {},
            "registered_name": None,
        }

    sys.path.insert(0, str(tmp_path))
    try:
        message = refuse(
            changed(extension, change, tmp_path), target, "neither Keras's"
        )
    finally:
        sys.path.remove(str(tmp_path))
    assert "'dense'" in message
    assert "groupnorm_trap" not in sys.modules


@pytest.mark.parametrize("extension", ["h5", "keras"])
def test_a_function_that_is_no_activation_is_not_called(extension, tmp_path, target):
    def change(layer):
        layer["config"]["activation"] = {
            "module": "keras.utils",
            "class_name": "function",
            "config": "get_file",
            "registered_name": "get_file",
        }

    message = refuse(changed(extension, change, tmp_path), target, "get_file")
    assert "'dense'" in message


@pytest.mark.parametrize("extension", ["h5", "keras"])
def test_lambda_layers_are_refused_and_not_run(extension, tmp_path, target):
    old = tf_keras.Sequential(
        [tf_keras.Input((4,)), L.Lambda(lambda x: x + 1, name="add_one")]
    )
    path = written(old, tmp_path / f"old.{extension}")
    message = refuse(path, target, "Lambda")
    assert "'add_one'" in message


def functional(outputs_of):
    x = tf_keras.Input((4, 4))
    return tf_keras.Model(x, outputs_of(x))


class Own(L.Layer):
    pass


@pytest.mark.parametrize(
    ("outputs_of", "words"),
    [
        (Own(name="mine"), ["'mine'", "'Own'", "registered"]),
        (
            L.Conv1DTranspose(2, 1, groups=2, name="up"),
            ["'up'", "groups=2", "Conv1DTranspose"],
        ),
        (L.LSTM(2, time_major=True, name="rnn"), ["'rnn'", "time_major=True"]),
        (
            L.Dense(2, "hard_sigmoid", name="hard"),
            ["'hard'", "activation='hard_sigmoid'"],
        ),
        (L.LocallyConnected1D(2, 2, name="local"), ["'local'", "LocallyConnected1D"]),
        (lambda x: tf.linalg.inv(x), ["tf.linalg.inv", "keras.ops"]),
        (
            lambda x: tf.image.resize(
                L.Reshape((4, 4, 1))(x), (8, 7), preserve_aspect_ratio=True
            ),
            ["tf.image.resize", "preserve_aspect_ratio"],
        ),
        (
            L.Dense(2, kernel_initializer=tf_keras.initializers.Constant(np.nan)),
            ["no finite numbers"],
        ),
    ],
    ids=[
        "own",
        "groups",
        "time_major",
        "activation",
        "retired",
        "function",
        "argument",
        "NaN",
    ],
)
def test_what_keras_3_cannot_do_is_named(outputs_of, words, tmp_path, target):
    path = written(functional(outputs_of), tmp_path / "old.h5")
    message = refuse(path, target, words[0])
    for word in words[1:]:
        assert word in message


@pytest.mark.parametrize(
    ("kind", "shape", "layer"),
    [("sparse", (4,), L.Dense(2)), ("ragged", (None, 4), L.LSTM(2))],
)
def test_sparse_and_ragged_input_is_refused(kind, shape, layer, tmp_path, target):
    x = tf_keras.Input(shape, name="odd", **{kind: True})
    model = tf_keras.Model(x, layer(x))
    message = refuse(written(model, tmp_path / "old.h5"), target, "'odd'")
    assert f"{kind}=True" in message


def test_a_vocabulary_in_another_file_is_refused(tmp_path, target):
    words = tmp_path / "words.txt"
    words.write_text("one\ntwo\n")
    x = tf_keras.Input((1,), dtype="string")
    model = tf_keras.Model(x, L.StringLookup(vocabulary=str(words))(x))
    refuse(written(model, tmp_path / "old.h5"), target, "words.txt")


def test_constants_of_a_recurrent_layer_are_refused(tmp_path, target):
    def cell(base):
        class Plus(base):
            units = state_size = output_size = 4

            def call(self, inputs, states, constants=(0,)):
                return inputs + constants[0], states

        return Plus

    tf_keras.utils.register_keras_serializable("mine")(cell(L.Layer))
    keras.saving.register_keras_serializable("mine")(cell(keras.layers.Layer))
    x, constant = tf_keras.Input((4, 4)), tf_keras.Input((4,))
    own = tf_keras.utils.get_custom_objects()["mine>Plus"]()
    y = L.RNN(own, name="rnn")(x, constants=constant)
    path = written(tf_keras.Model([x, constant], y), tmp_path / "old.keras")
    assert "constants=" in refuse(path, target, "'rnn'")


@pytest.mark.parametrize("extension", ["h5", "keras"])
def test_frozen_layers_stay_frozen(extension, tmp_path, target):
    old = dense()
    old.add(L.BatchNormalization(trainable=False))
    inner = tf_keras.Sequential([L.Dense(2)])
    inner.trainable = False
    old.add(inner)
    groupnorm.migrate(written(old, tmp_path / f"old.{extension}"), target)
    new = keras.models.load_model(target)
    assert [w.shape for w in new.trainable_weights] == [(4, 3), (3,)]
    assert len(new.weights) == 8


def test_a_model_class_of_ones_own_is_refused(tmp_path, target):
    class Mine(tf_keras.Model):
        def call(self, inputs):
            return inputs

    model = Mine()
    model(np.ones((1, 2)))
    refuse(written(model, tmp_path / "saved"), target, "Mine")


def test_text_input_is_refused(tmp_path, target):
    x = tf_keras.Input((1,), dtype="string", name="words")
    model = tf_keras.Model(x, L.Reshape((1, 1))(x))
    refuse(written(model, tmp_path / "old.h5"), target, "words")


def test_a_registered_layer_of_ones_own_is_brought_over(tmp_path, target):
    def double(base):
        class Double(base):
            def call(self, inputs):
                return 2 * inputs

        return Double

    tf_keras.utils.register_keras_serializable("mine")(double(L.Layer))
    keras.saving.register_keras_serializable("mine")(double(keras.layers.Layer))
    own = tf_keras.utils.get_custom_objects()["mine>Double"]
    groupnorm.migrate(written(functional(own()), tmp_path / "old.keras"), target)
    x = np.ones((2, 4, 4))
    np.testing.assert_array_equal(keras.models.load_model(target)(x), 2 * x)


@pytest.mark.parametrize("is_large", [True, False])
def test_a_large_file_has_a_progress_bar(is_large, target, monkeypatch, capsys):
    path = FIXTURES / "tfa_dense_sequential.h5"
    size = path.stat().st_size
    monkeypatch.setattr(progress, "_LARGE", size if is_large else size + 1)
    groupnorm.migrate(path, target)
    printed = capsys.readouterr().out
    # Between the two it is drawn no more often than Keras likes.
    assert ("0/8" in printed) is is_large
    assert ("8/8" in printed) is is_large
