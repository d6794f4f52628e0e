"""Training goes on where it stopped, older spellings, Keras's own layers, dry runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

tf_keras = pytest.importorskip(
    "tf_keras", reason="tf_keras, the older Keras generation, is not installed"
)

import h5py  # noqa: E402
import keras  # noqa: E402
from turns import by_turns  # noqa: E402

import groupnorm  # noqa: E402
from groupnorm.legacy import GroupNormalization  # noqa: E402
from groupnorm.migration import MigrationError  # noqa: E402

L, O = tf_keras.layers, tf_keras.optimizers  # noqa: E741
Older = O.legacy
scaled = tf_keras.mixed_precision.LossScaleOptimizer
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "tfaddons"
EXTENSIONS = (".h5", ".keras", "")  # the last is a SavedModel folder


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new.keras"


def trained(optimizer):
    """A network after three steps, and what it was trained on."""
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential(
        [tf_keras.Input((4,)), L.Dense(3, activation="tanh"), L.Dense(2)]
    )
    model.compile(optimizer, "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 2))
    model.fit(x, y, epochs=3, batch_size=8, verbose=0)
    return model, x, y


def next_steps_agree(old, new, x, y):
    for model in (old, new):
        model.fit(x, y, epochs=1, batch_size=8, verbose=0)
    for weight, wanted in zip(new.get_weights(), old.get_weights(), strict=True):
        np.testing.assert_allclose(weight, wanted, atol=1e-6)


NEWER = {
    "SGD": lambda: O.SGD(0.1),
    "momentum": lambda: O.SGD(0.1, momentum=0.9),
    "Nesterov": lambda: O.SGD(0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda: O.RMSprop(0.01),
    "centered": lambda: O.RMSprop(0.01, momentum=0.9, centered=True),
    "Adagrad": lambda: O.Adagrad(0.1),
    "Adadelta": lambda: O.Adadelta(0.1),
    "Ftrl": lambda: O.Ftrl(0.1),
    "Adamax": lambda: O.Adamax(0.01),
    "Lion": lambda: O.Lion(0.01),
    "Adafactor": lambda: O.Adafactor(0.01),
    "AdamW": lambda: O.AdamW(0.01),
    "Adam": lambda: O.Adam(0.01),
    "amsgrad": lambda: O.Adam(0.01, amsgrad=True),
    "average": lambda: O.Adam(0.01, use_ema=True),
    "scaled": lambda: scaled(O.Adam(0.01)),
    "scaled SGD": lambda: scaled(O.SGD(0.1, momentum=0.9)),
}
OLDER = {
    "Adamax": lambda: Older.Adamax(0.01),
    "Ftrl": lambda: Older.Ftrl(0.1),
    "Adadelta": lambda: Older.Adadelta(0.1),
    "Adagrad": lambda: Older.Adagrad(0.1),
    "centered": lambda: Older.RMSprop(0.01, momentum=0.9, centered=True),
    "momentum": lambda: Older.SGD(0.1, momentum=0.9),
    "decay": lambda: Older.SGD(0.1, decay=0.1),
    "SGD": lambda: Older.SGD(0.1),
    "Nesterov": lambda: Older.SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: Older.Adam(0.01),
    "amsgrad": lambda: Older.Adam(0.01, amsgrad=True),
    "scaled": lambda: scaled(Older.Adam(0.01)),
    "scaled SGD": lambda: scaled(Older.SGD(0.1, momentum=0.9)),
}


def migrated(optimizer, extension, tmp_path, target):
    """A trained network, what it was trained on, and the report on its migration."""
    old, x, y = trained(optimizer)
    old.save(tmp_path / f"old{extension}")
    report = groupnorm.migrate(tmp_path / f"old{extension}", target)
    return old, x, y, str(report)


@pytest.mark.parametrize(("name", "extension"), by_turns(NEWER, EXTENSIONS, 3))
def test_the_next_step_is_the_one_tf_keras_takes(name, extension, tmp_path, target):
    old, x, y, report = migrated(NEWER[name](), extension, tmp_path, target)
    assert "goes on from the step after 3" in report
    next_steps_agree(old, keras.models.load_model(target), x, y)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_an_optimizer_by_its_name_goes_on_from_a_keras_file(name, tmp_path, target):
    old, x, y, report = migrated(name, ".keras", tmp_path, target)
    assert "goes on from the step after 3" in report
    next_steps_agree(old, keras.models.load_model(target), x, y)


@pytest.mark.parametrize(("name", "extension"), by_turns(OLDER, (".h5", ""), 3))
def test_optimizers_of_keras_2_10_and_before(name, extension, tmp_path, target):
    old, x, y, report = migrated(OLDER[name](), extension, tmp_path, target)
    assert "goes on from the step after 3" in report
    next_steps_agree(old, keras.models.load_model(target), x, y)


# What of a state cannot be carried over, and how the report says so.
REPORTED = {
    **{
        f"older {name}": (make, ".keras", "state starts anew, as Keras 2 wrote none")
        for name, make in OLDER.items()
    },
    **{
        f"{kind} Nadam{extension}": (make, extension, "the momentum starts anew")
        for kind, make in (
            ("newer", lambda: O.Nadam(0.01)),
            ("older", lambda: Older.Nadam(0.01)),
        )
        for extension in EXTENSIONS
        if (kind, extension) != ("older", ".keras")
    },
    **{
        f"older RMSprop{extension}": (
            lambda: Older.RMSprop(0.01),
            extension,
            "added epsilon outside the root",
        )
        for extension in (".h5", "")
    },
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if i % 4 == 0 else pytest.mark.full)
        for i, name in enumerate(REPORTED)
    ],
)
def test_what_cannot_be_carried_over_is_said(name, tmp_path, target):
    make, extension, words = REPORTED[name]
    assert words in migrated(make(), extension, tmp_path, target)[-1]


# Older spellings.


def edited(path, change):
    """The file, with its configurations of model and training changed."""
    with h5py.File(path, "r+") as file:
        for name in ("model_config", "training_config"):
            config = json.loads(file.attrs[name])
            change(config)
            file.attrs[name] = json.dumps(config)
    return path


def everywhere(value, change):
    if isinstance(value, dict):
        change(value)
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        everywhere(item, change)


def with_integers(item):
    for name in ("learning_rate", "momentum"):
        if name in item:
            item[name] = round(item[name])


def with_policies(item):
    if item.get("dtype") == "float32":
        policy = {"name": "float32", "loss_scale": None}
        item["dtype"] = {"class_name": "PolicyV1", "config": policy}


def with_shared_ids(item):
    if "class_name" in item:
        item["shared_object_id"] = id(item) % 1000003


def as_model(item):
    if item.get("class_name") == "Functional":
        item["class_name"] = "Model"


@pytest.mark.parametrize(
    "change", [with_integers, with_policies, with_shared_ids, as_model]
)
def test_older_spellings(change, tmp_path, target):
    x = tf_keras.Input((4,))
    old = tf_keras.Model(x, L.Dense(2, kernel_regularizer="l2")(x))
    old.compile(O.SGD(1.0, momentum=0.0), "mse", ["mae"])
    old.save(tmp_path / "old.h5")
    path = edited(tmp_path / "old.h5", lambda config: everywhere(config, change))
    report = groupnorm.migrate(path, target)
    assert "is compiled with SGD" in str(report)
    new = keras.models.load_model(target)
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(new(x), old(x), atol=1e-6)
    assert new.optimizer.learning_rate.numpy() == 1.0


# Keras's own layers.


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("generator", "tensorflow"),
        pytest.param("channels_first", "tensorflow", marks=pytest.mark.full),
        ("tfa_dense_sequential", "numpy"),
        pytest.param("tfa_convnet", "torch", marks=pytest.mark.full),
    ],
)
def test_keras_s_own_layers_open_without_this_package(name, backend, target):
    needed = {"numpy": "scipy"}.get(backend, backend)
    pytest.importorskip(needed, reason=f"{needed}, for {backend}, is not installed")
    groupnorm.migrate(FIXTURES / f"{name}.h5", target, layers="keras")
    code = (
        "import sys, numpy as np; sys.modules['groupnorm'] = None\n"
        f"import keras; assert keras.config.backend() == {backend!r}\n"
        "data = np.load(sys.argv[2]); model = keras.models.load_model(sys.argv[1])\n"
        "got = model.predict(data['x'], verbose=0)\n"
        "np.testing.assert_allclose(got, data['y'], atol=1e-5)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(target), str(FIXTURES / f"{name}.npz")],
        env={**os.environ, "KERAS_BACKEND": backend},
        check=True,
    )


def test_keras_s_own_layer_has_no_use_mask(tmp_path, target):
    x = tf_keras.Input((5, 4))
    layer = GroupNormalization(2, use_mask=True, name="masked")
    tf_keras.Model(x, layer(x)).save(tmp_path / "old.h5")
    with pytest.raises(MigrationError, match="'masked' has use_mask=True"):
        groupnorm.migrate(tmp_path / "old.h5", target, layers="keras")
    assert not target.exists()


def test_layers_of_nobody(target):
    with pytest.raises(MigrationError, match="`layers` must be 'groupnorm'"):
        groupnorm.migrate(FIXTURES / "generator.h5", target, layers="torch")


# Dry runs.


@pytest.mark.parametrize("has_target", [True, False])
def test_a_dry_run_writes_nothing(has_target, target):
    new = target if has_target else None
    report = groupnorm.migrate(FIXTURES / "compiled.h5", new, dry_run=True)
    assert "nothing was written" in str(report)
    assert report.largest_difference < 1e-5
    assert not report.written
    assert not list(target.parent.iterdir())


def test_without_a_target_there_is_but_a_dry_run():
    with pytest.raises(MigrationError, match="dry_run=True"):
        groupnorm.migrate(FIXTURES / "compiled.h5", None)
