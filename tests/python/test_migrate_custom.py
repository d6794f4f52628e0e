"""What is the user's own in a file: classes, functions, Lambda layers."""

from __future__ import annotations

import numpy as np
import pytest

tf_keras = pytest.importorskip(
    "tf_keras", reason="tf_keras, the older Keras generation, is not installed"
)

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from turns import by_turns  # noqa: E402

import groupnorm  # noqa: E402
from groupnorm.__main__ import main  # noqa: E402
from groupnorm.legacy import GroupNormalization  # noqa: E402
from groupnorm.migration import MigrationError  # noqa: E402

L = tf_keras.layers
EXTENSIONS = (".h5", ".keras", "")  # the last is a SavedModel folder


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new.keras"


def padding(generation, pad):
    """CycleGAN's layer, as each script has it, for a generation of Keras."""

    class ReflectionPadding2D(generation.layers.Layer):
        def __init__(self, padding=(1, 1), **kwargs):
            super().__init__(**kwargs)
            self.padding = tuple(padding)

        def call(self, inputs):
            width, height = self.padding
            return pad(inputs, [[0, 0], [height] * 2, [width] * 2, [0, 0]])

        def get_config(self):
            return {**super().get_config(), "padding": self.padding}

    return ReflectionPadding2D


OLD_PADDING = padding(tf_keras, lambda x, sizes: tf.pad(x, sizes, "REFLECT"))
NEW_PADDING = padding(keras, lambda x, sizes: keras.ops.pad(x, sizes, "reflect"))
WRONG_PADDING = padding(keras, lambda x, sizes: keras.ops.pad(x, sizes))


def block(generation):
    """A layer with weights of its own, a list of layers and a whole model in it."""

    class Block(generation.layers.Layer):
        def __init__(self, units=3, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.zoom = generation.layers.Dense(units)
            self.blocks = [
                generation.layers.Dense(units),
                generation.layers.BatchNormalization(),
            ]
            self.net = generation.Sequential([generation.layers.Dense(units)])

        def build(self, input_shape):
            self.gain = self.add_weight(name="gain", shape=(input_shape[-1],))
            self.count = self.add_weight(name="seen", shape=(), trainable=False)
            super().build(input_shape)

        def call(self, inputs, training=None):
            y = inputs * self.gain
            for layer in (self.zoom, *self.blocks, self.net):
                y = layer(y)
            return y + self.count

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    return Block


def saved(model, tmp_path, extension):
    """The file, of a model with weights unlike those that it starts with."""
    rng = np.random.default_rng(4)
    model.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
    path = tmp_path / f"old{extension}"
    model.save(path)
    return path


def generator():
    x = tf_keras.Input((None, None, 3))
    y = L.Conv2D(4, 3)(OLD_PADDING((2, 1), name="pad")(x))
    return tf_keras.Model(x, y)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("given", [NEW_PADDING, (OLD_PADDING, NEW_PADDING)])
def test_a_layer_of_ones_own(given, extension, tmp_path, target):
    model = generator()
    path = saved(model, tmp_path, extension)
    custom = {"ReflectionPadding2D": given}
    report = groupnorm.migrate(path, target, custom_objects=custom)
    assert report.needs == ["ReflectionPadding2D"]
    assert ("pad by itself" in str(report)) == (given is NEW_PADDING)
    new = keras.models.load_model(
        target, custom_objects={"ReflectionPadding2D": NEW_PADDING}
    )
    x = np.random.default_rng(0).normal(size=(2, 7, 9, 3)).astype("float32")
    np.testing.assert_allclose(new(x), model(x), atol=1e-6)


def scaling(generation, default, has_config=True):
    """A layer with an argument, which a SavedModel lacks if the class says none."""

    class Scaling(generation.layers.Layer):
        def __init__(self, by=default, **kwargs):
            super().__init__(**kwargs)
            self.by = by

        def build(self, input_shape):
            self.gain = self.add_weight(name="gain", shape=(input_shape[-1],))

        def call(self, inputs):
            return inputs * self.gain * self.by

        def get_config(self):
            if not has_config:
                raise NotImplementedError
            return {**super().get_config(), "by": self.by}

    return Scaling


@pytest.mark.parametrize("is_pair", [True, False])
def test_a_layer_that_was_saved_without_its_arguments(is_pair, tmp_path, target):
    x = tf_keras.Input((3,))
    model = tf_keras.Model(x, scaling(tf_keras, 1.0, False)(5.0, name="mine")(x))
    path = saved(model, tmp_path, "")
    with pytest.raises(MigrationError, match="'mine' is, or uses, the class 'Scaling'"):
        groupnorm.migrate(path, target)
    old, new = scaling(tf_keras, 5.0), scaling(keras, 5.0)
    silent = scaling(tf_keras, 5.0, False)
    with pytest.raises(MigrationError, match=r"'mine'.*has no get_config\(\)"):
        groupnorm.migrate(path, target, custom_objects={"Scaling": (silent, new)})
    custom = {"Scaling": (old, new) if is_pair else new}
    report = groupnorm.migrate(path, target, custom_objects=custom)
    assert "mine: its arguments are not in the file" in str(report)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    got = keras.models.load_model(target, custom_objects={"Scaling": new})
    np.testing.assert_allclose(got(x), model(x), atol=1e-6)


def weighing(generation):
    """A layer of several inputs."""

    class Weighing(generation.layers.Layer):
        def call(self, inputs):
            first, second = inputs
            return first + 0.5 * second

    return Weighing


@pytest.mark.parametrize("is_pair", [True, False])
def test_a_layer_of_several_inputs(is_pair, tmp_path, target):
    old, new = weighing(tf_keras), weighing(keras)
    x = [tf_keras.Input((3,)), tf_keras.Input((3,))]
    model = tf_keras.Model(x, L.Dense(2)(old()([x[1], x[0]])))
    path = saved(model, tmp_path, ".h5")
    custom = {"Weighing": (old, new) if is_pair else new}
    groupnorm.migrate(path, target, custom_objects=custom)
    got = keras.models.load_model(target, custom_objects={"Weighing": new})
    x = list(np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32"))
    np.testing.assert_allclose(got(x), model(x), atol=1e-6)


def test_a_pair_that_differs_does_not_pass(tmp_path, target):
    path = saved(generator(), tmp_path, ".h5")
    custom = {"ReflectionPadding2D": (OLD_PADDING, WRONG_PADDING)}
    with pytest.raises(MigrationError, match="does not predict"):
        groupnorm.migrate(path, target, custom_objects=custom)
    assert not target.exists()


GIVEN = {
    "pair": (True, True),
    "frozen pair": (True, False),
    "class": (False, True),
    "frozen class": (False, False),
}


@pytest.mark.parametrize(("name", "extension"), by_turns(GIVEN, EXTENSIONS))
def test_weights_of_layers_inside_a_layer(name, extension, tmp_path, target):
    is_pair, trainable = GIVEN[name]
    old, new = block(tf_keras), block(keras)
    x = tf_keras.Input((3,))
    model = tf_keras.Model(x, L.Dense(2)(old(name="mine", trainable=trainable)(x)))
    path = saved(model, tmp_path, extension)
    custom = {"Block": (old, new) if is_pair else new}
    report = groupnorm.migrate(path, target, custom_objects=custom)
    got = keras.models.load_model(target, custom_objects={"Block": new})
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    np.testing.assert_allclose(got(x), model(x, training=False), atol=1e-5)
    freezes = "layer = model.get_layer('mine'); layer.trainable = True; "
    assert (freezes in str(report)) == (not trainable)
    if not trainable:  # as the report says
        layer = got.get_layer("mine")
        layer.trainable = True
        layer.trainable = False
    assert len(got.trainable_weights) == len(model.trainable_weights)


WRAPPERS = {
    "Bidirectional": lambda: L.Bidirectional(L.LSTM(3), trainable=False),
    "TimeDistributed": lambda: L.TimeDistributed(L.Dense(3), trainable=False),
    "RNN": lambda: L.RNN(L.GRUCell(3), trainable=False),
}


@pytest.mark.parametrize(("name", "extension"), by_turns(WRAPPERS, EXTENSIONS))
def test_what_a_frozen_layer_wraps_stays_frozen(name, extension, tmp_path, target):
    x = tf_keras.Input((4, 3))
    y = WRAPPERS[name]()(x)
    path = saved(tf_keras.Model(x, L.Dense(2)(y)), tmp_path, extension)
    report = groupnorm.migrate(path, target)
    assert len(keras.models.load_model(target).trainable_weights) == 2
    assert "is frozen" not in str(report)


def own_activation(x):
    return keras.ops.tanh(x) * 0.5


class OwnInitializer(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.ones(shape, dtype)


class OldInitializer(tf_keras.initializers.Initializer):
    def __call__(self, shape, dtype=None, **kwargs):
        return tf.ones(shape, dtype)


OldInitializer.__name__ = "OwnInitializer"


class OwnRegularizer(keras.regularizers.Regularizer):
    def __call__(self, x):
        return keras.ops.sum(x)

    def get_config(self):
        return {}


class OldRegularizer(tf_keras.regularizers.Regularizer):
    def __call__(self, x):
        return tf.reduce_sum(x)

    def get_config(self):
        return {}


OldRegularizer.__name__ = "OwnRegularizer"


def own_loss(y, prediction):
    return keras.ops.mean(keras.ops.abs(y - prediction), axis=-1)


def own_metric(y, prediction):
    return keras.ops.mean(keras.ops.square(y - prediction), axis=-1)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_functions_initializers_losses_and_metrics(extension, tmp_path, target):
    layer = L.Dense(
        3,
        activation=own_activation,
        kernel_initializer=OldInitializer(),
        bias_regularizer=OldRegularizer(),
    )
    model = tf_keras.Sequential([tf_keras.Input((4,)), layer])
    model.compile(tf_keras.optimizers.SGD(1), own_loss, [own_metric])
    path = saved(model, tmp_path, extension)
    custom = {
        "own_activation": own_activation,
        "OwnInitializer": OwnInitializer,
        "OwnRegularizer": OwnRegularizer,
        "own_loss": own_loss,
        "own_metric": own_metric,
    }
    report = groupnorm.migrate(path, target, custom_objects=custom)
    assert "It is compiled with SGD" in str(report)
    for name in custom:
        # A loss says nothing of a prediction: only what does is used on both sides.
        is_used = name == "own_activation"
        said = f"{name!r} by itself: the old" if is_used else f"{name!r}: the "
        assert said in "".join(report.not_proved)
    new = keras.models.load_model(target, custom_objects=custom)
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(6, n)).astype("float32") for n in (4, 3))
    theirs, ours = (m.train_on_batch(x, y) for m in (model, new))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for weight, wanted in zip(new.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, wanted, atol=1e-6)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_function_takes_the_place_of_a_lambda_layer(extension, tmp_path, target):
    model = tf_keras.Sequential(
        [
            tf_keras.Input((4, 3)),
            L.Lambda(lambda x, by: x * by, arguments={"by": 3.0}, name="times"),
            L.Dense(2),
        ]
    )
    path = saved(model, tmp_path, extension)
    custom = {"times": lambda x, by: keras.ops.multiply(x, by)}
    report = groupnorm.migrate(path, target, custom_objects=custom)
    assert report.needs == []
    (line,) = report.not_proved
    assert line.startswith("times by itself: ")
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    np.testing.assert_allclose(keras.models.load_model(target)(x), model(x), atol=1e-6)


def test_a_function_for_a_lambda_layer_at_each_step(tmp_path, target):
    turn = L.Lambda(lambda x: tf.reverse(x, [-1]), name="turn")
    model = tf_keras.Sequential([tf_keras.Input((4, 3)), L.TimeDistributed(turn)])
    path = saved(model, tmp_path, ".h5")
    custom = {"turn": lambda x: keras.ops.flip(x, axis=-1)}
    if keras.__version__.startswith(("3.3.", "3.4.")):
        with pytest.raises(MigrationError, match=r"at each step, which Keras 3\.5"):
            groupnorm.migrate(path, target, custom_objects=custom)
        return
    report = groupnorm.migrate(path, target, custom_objects=custom)
    (line,) = report.not_proved
    assert line.startswith("turn by itself: ")
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    np.testing.assert_allclose(keras.models.load_model(target)(x), model(x), atol=1e-6)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    np.testing.assert_allclose(keras.models.load_model(target)(x), model(x), atol=1e-6)


def test_a_function_of_tensorflow_for_a_lambda_layer_is_an_error(tmp_path, target):
    model = tf_keras.Sequential(
        [tf_keras.Input((4,)), L.Lambda(lambda x: tf.abs(x), name="f")]
    )
    path = saved(model, tmp_path, ".h5")
    with pytest.raises(MigrationError, match=r"'f'.*keras\.ops"):
        groupnorm.migrate(path, target, custom_objects={"f": lambda x: tf.abs(x)})
    pair = (lambda x: tf.abs(x), keras.ops.abs)
    report = groupnorm.migrate(path, target, custom_objects={"f": pair})
    assert not report.not_proved


def test_names_with_a_package(tmp_path, target):
    old = tf_keras.utils.register_keras_serializable("somebody")(block(tf_keras))
    new = block(keras)
    x = tf_keras.Input((3,))
    path = saved(tf_keras.Model(x, old()(x)), tmp_path, ".keras")
    del tf_keras.utils.get_custom_objects()["somebody>Block"]
    for name in ("Block", "somebody>Block"):
        report = groupnorm.migrate(path, target, True, custom_objects={name: new})
        assert "by itself" in str(report)


def test_all_that_is_missing_is_named_with_the_call(tmp_path, target):
    x = tf_keras.Input((4, 4, 3))
    y = L.Conv2D(3, 1, activation=own_activation)(OLD_PADDING()(x))
    y = L.Lambda(lambda x: x, name="same")(y)
    path = saved(tf_keras.Model(x, y), tmp_path, ".h5")
    with pytest.raises(MigrationError) as caught:
        groupnorm.migrate(path, target)
    message = str(caught.value)
    names = ("ReflectionPadding2D", "own_activation", "same")
    assert all(f"{name!r}: {name}" in message for name in names)
    assert all(f"{name} = {name}" in message for name in names)
    assert "--custom-objects" in message


@pytest.mark.parametrize(
    "given", [{"A": 1}, {1: own_loss}, {"A": OLD_PADDING}, [own_loss], {"A": (1, 2)}]
)
def test_what_is_no_class_or_function_is_an_error(given, tmp_path, target):
    path = saved(generator(), tmp_path, ".h5")
    with pytest.raises(MigrationError, match="`custom_objects` must"):
        groupnorm.migrate(path, target, custom_objects=given)


SCRIPT = """
import keras
from keras import ops

class ReflectionPadding2D(keras.layers.Layer):
    def __init__(self, padding=(1, 1), **kwargs):
        super().__init__(**kwargs)
        self.padding = tuple(padding)

    def call(self, x):
        w, h = self.padding
        return ops.pad(x, [[0, 0], [h, h], [w, w], [0, 0]], mode="reflect")

    def get_config(self):
        return {**super().get_config(), "padding": self.padding}
"""


@pytest.mark.parametrize(
    "end", ["", "custom_objects = {'ReflectionPadding2D': ReflectionPadding2D}\n"]
)
def test_a_script_in_the_shell(end, tmp_path, target, capsys):
    path = saved(generator(), tmp_path, ".h5")
    script = tmp_path / "own.py"
    script.write_text(SCRIPT + end)
    arguments = ["migrate", str(path), str(target)]
    assert main(arguments) == 1
    assert "--custom-objects" in capsys.readouterr().err
    assert main([*arguments, "--custom-objects", str(script), "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not target.exists()
    assert main([*arguments, "--custom-objects", str(script)]) == 0
    assert target.exists()


@pytest.mark.parametrize("extension", [".keras", ""])
def test_a_script_for_a_lambda_layer_in_the_shell(extension, tmp_path, target, capsys):
    layers = [L.Lambda(lambda x: x * 2.0, name="double"), GroupNormalization(2)]
    model = tf_keras.Sequential([tf_keras.Input((3, 4)), *layers])
    path = saved(model, tmp_path, extension)
    script = tmp_path / "own.py"
    script.write_text("custom_objects = {'double': lambda x: x * 2.0}\n")
    arguments = ["migrate", str(path), str(target), "--layers", "keras"]
    assert main(arguments) == 1
    assert "'double' is a Lambda layer" in capsys.readouterr().err
    assert main([*arguments, "--custom-objects", str(script)]) == 0
    new = keras.models.load_model(target)
    assert type(new.layers[-1]) is keras.layers.GroupNormalization
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    np.testing.assert_allclose(new(x), model(x), atol=1e-6)
