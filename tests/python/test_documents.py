"""The Python code that README, articles and docstrings show: it is run."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import exported
import h5py
import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from documents import ARTICLES, README, ROOT, blocks

from groupnorm import GroupNormalization

DEPLOYING = ARTICLES / "deploying.Rmd"
MIGRATING = ARTICLES / "migrating.Rmd"
DOCUMENTS = [README, *sorted(ARTICLES.glob("*.Rmd"))]


def run(file: Path, **names):
    """The names that all blocks of a document leave, run one after the other."""
    found = blocks(file)
    assert found, f"there is no Python code in {file.name}"
    for code in found:
        exec(compile(code, file.name, "exec"), names)
    return names


def test_readme():
    model = run(README)["model"]
    assert model.count_params() == 32 * 9 + 2 * 32 + 33 * 10
    assert model.predict(np.zeros((2, 28, 28, 1)), verbose=0).shape == (2, 10)


def test_the_front_page_shows_the_figure_of_the_run_that_is_told_of():
    shown = ROOT / "man/figures/benchmark.png"
    assert shown.read_bytes() == (ROOT / "benchmarks/results/figure.png").read_bytes()


def test_the_article_for_a_start():
    digits = ROOT / "inst/extdata/digits.csv.gz"
    names = run(ARTICLES / "get-started-python.Rmd", digits_file=digits)
    right = names["probability"].argmax(1) == names["labels"][names["test"]]
    assert right.mean() > 0.95
    again = names["again"].predict(names["images"][names["test"]], verbose=0)
    np.testing.assert_array_equal(again, names["probability"])


def test_the_article_names_a_file_that_is_there():
    text = (ARTICLES / "get-started-python.Rmd").read_text()
    (named,) = re.findall(r'^digits_file = "(.*)"$', text, re.M)
    assert (ROOT / named).is_file()


# --- The article on deployment -------------------------------------------------------


@pytest.fixture
def to_deploy(tmp_path, monkeypatch):
    """The names that the article on deployment starts from, and its blocks."""
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential([keras.Input((6, 7, 8)), GroupNormalization(4)])
    x = np.random.default_rng(0).normal(size=(3, 6, 7, 8)).astype(np.float32)
    return {"model": model, "x": x, "tf": tf}, blocks(DEPLOYING)


def expect_the_model(names, y):
    assert oracle.relative_error(y, names["model"](names["x"])) < 1e-6


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_the_article_serves_and_writes_for_tensorflow_lite(to_deploy, tmp_path):
    exported.skip_without_format("litert")
    names, (serve, write, convert, *_) = to_deploy
    for code in (serve, write, convert):
        exec(code, names)
    expect_the_model(names, names["served"].serve(names["x"]))
    for lite in (names["lite"], (tmp_path / "model.tflite").read_bytes()):
        expect_the_model(names, exported.run_lite(lite, names["x"]))


@pytest.mark.filterwarnings("ignore:.*np.object.*:FutureWarning")
@pytest.mark.parametrize("way", [3, 4], ids=["keras", "tf2onnx"])
def test_the_article_writes_onnx(to_deploy, tmp_path, way):
    exported.skip_without_format("onnx")
    exported.skip_without_onnx()
    names, found = to_deploy
    exec(f"import tf2onnx\n{found[way]}", names)
    expect_the_model(names, exported.run_onnx(tmp_path / "model.onnx", names["x"]))


def test_the_article_trains_in_a_loop_of_its_own(tmp_path):
    # In a process of its own, because a strategy changes how TensorFlow works. Alone it
    # is one worker: test_distribution.py has two.
    code = f"""
import keras, numpy as np, tensorflow as tf
from groupnorm import GroupNormalization

def make_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((6, 8)), GroupNormalization(4), keras.layers.Dense(1)
    ])

images, targets = np.random.default_rng(0).normal(size=(2, 32, 6, 8)).astype("f")
targets = targets[..., :1]
batch_size = 8
dataset = tf.data.Dataset.from_tensor_slices((images, targets)).batch(batch_size)
{blocks(DEPLOYING)[5]}
epoch(data)

alone = make_model()
optimizer = keras.optimizers.SGD(0.02)
for x, y in dataset:
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(alone(x) - y)) / batch_size
    gradients = tape.gradient(loss, alone.trainable_variables)
    optimizer.apply_gradients(zip(gradients, alone.trainable_variables))
for one, other in zip(model.get_weights(), alone.get_weights(), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)
"""
    env = {name: v for name, v in os.environ.items() if name != "TF_CONFIG"}
    # A file, because AutoGraph reads the source of what it traces.
    program = tmp_path / "loop.py"
    program.write_text(code)
    subprocess.run([sys.executable, program], env=env, check=True, timeout=300)


# --- A CycleGAN, in Python and in a shell --------------------------------------------


def save_generator(path):
    """Save a generator as scripts of Keras 2 have it, with a class of their own.

    Returns: what it predicts for an input of ones and zeros.
    """
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    from groupnorm.legacy import InstanceNormalization

    class ReflectionPadding2D(tf_keras.layers.Layer):
        def __init__(self, padding=(1, 1), **kwargs):
            super().__init__(**kwargs)
            self.padding = tuple(padding)

        def call(self, inputs):
            width, height = self.padding
            return tf.pad(
                inputs, [[0, 0], [height] * 2, [width] * 2, [0, 0]], "REFLECT"
            )

        def get_config(self):
            return {**super().get_config(), "padding": self.padding}

    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.Input((6, 8, 2)),
            ReflectionPadding2D((2, 1)),
            layers.Conv2D(4, 3),
            InstanceNormalization(),
            layers.ReLU(),
        ]
    )
    model.save(path)
    with h5py.File(path, "r+") as file:  # by the name that Addons gave the layer
        config = file.attrs["model_config"]
        file.attrs["model_config"] = config.replace("groupnorm>", "Addons>")
    return model(IMAGES).numpy()


IMAGES = np.indices((2, 6, 8, 2)).sum(0).astype("float32") % 5


def test_the_article_moves_a_cyclegan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = save_generator("generator.h5")
    (code,) = (code for code in blocks(MIGRATING) if "ReflectionPadding2D" in code)
    names = {"__name__": "script"}
    exec(code, names)
    assert oracle.relative_error(names["model"](IMAGES), expected) < 1e-6

    os.remove("generator.keras")
    Path("script.py").write_text(code[: code.index("own = ")])
    _command, of_cyclegan = blocks(MIGRATING, "sh")
    run_in_a_shell(of_cyclegan, tmp_path)
    model = keras.models.load_model("generator.keras", custom_objects=names["own"])
    assert oracle.relative_error(model(IMAGES), expected) < 1e-6


# --- Shells --------------------------------------------------------------------------


def run_in_a_shell(command, folder):
    python, *arguments = shlex.split(command)
    assert python == "python"
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True)


def test_the_command_that_migrates(tmp_path):
    command, _of_cyclegan = blocks(MIGRATING, "sh")
    old = ROOT / "tests/fixtures/tfaddons/tfa_convnet.h5"
    (tmp_path / "old.h5").write_bytes(old.read_bytes())
    run_in_a_shell(command, tmp_path)
    model = keras.models.load_model(tmp_path / "new.keras")
    assert any(isinstance(layer, GroupNormalization) for layer in model.layers)


# --- What is only shown --------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_what_is_only_shown_is_python(document):
    for code in blocks(document):
        compile(code, document.name, "exec")


@pytest.mark.parametrize("module", ["layers", "legacy", "op.function"])
def test_docstrings(module):
    if module == "legacy":
        pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    found = doctest.testmod(importlib.import_module(f"groupnorm.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
