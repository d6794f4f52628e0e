"""Every way in which TensorFlow and Keras run a model with the layer in it.

The reference is the same model with `Definition` in the layer's place, trained by a
loop that is written out here: plain operations, eager, and in float64 like all but the
tests of mixed precision.
"""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf

import groupnorm
from groupnorm import GroupNormalization, group_normalization

RATE = 0.03125  # without rounding in any dtype


def full(value):
    """A parameter for the full run only."""
    return pytest.param(value, marks=pytest.mark.full)


class Definition(keras.layers.Layer):
    """Group normalization, channels last, as TensorFlow differentiates it by itself."""

    def __init__(self, groups, use_mask=False):
        super().__init__()
        self.groups, self.use_mask, self.supports_masking = groups, use_mask, True

    def build(self, shape):
        self.gamma = self.add_weight(name="gamma", shape=shape[-1:], initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape[-1:], initializer="zeros")

    def call(self, inputs, mask=None):
        x = tf.cast(inputs, tf.float64)
        shape = tf.shape(x)
        x = tf.reshape(x, [shape[0], -1, self.groups, inputs.shape[-1] // self.groups])
        counts = tf.ones_like(x)
        if self.use_mask and mask is not None:
            counts *= tf.cast(mask, tf.float64)[:, :, tf.newaxis, tf.newaxis]

        def mean(values):
            total = tf.reduce_sum(counts * values, [1, 3], keepdims=True)
            return total / tf.reduce_sum(counts, [1, 3], keepdims=True)

        centered = x - mean(x)
        z = tf.reshape(centered / tf.sqrt(mean(centered**2) + 1e-3), shape)
        return tf.cast(z, self.compute_dtype) * self.gamma + self.beta


@pytest.fixture(
    params=["in use", full("plain TensorFlow")],
    autouse=True,
)
def implementation(request, monkeypatch):
    """What is in use on this machine, the native kernel if it is built; or without."""
    if request.param == "plain TensorFlow":
        monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    return groupnorm.implementation().name


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.fixture
def data(rng):
    return rng.normal(3, 2, size=(12, 6, 4)), rng.normal(size=(12, 1))


def batches(x, y, size=4):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def seeded(build, layer_class):
    """A model of the same random weights every time, gamma and beta among them."""
    model, rng = build(layer_class), np.random.default_rng(7)
    model.set_weights([0.5 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def trained_by_hand(model, steps):
    """Stochastic gradient descent on the mean squared error."""
    for x, y in steps:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        weights = [w.value for w in model.trainable_weights]
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(RATE * tf.convert_to_tensor(gradient))
    return model.get_weights()


def compiled(model, **arguments):
    arguments = {"jit_compile": False, **arguments}
    model.compile(keras.optimizers.SGD(RATE), "mse", **arguments)
    return model


def assert_same(actual, expected, tolerance=1e-11):
    for got, want in zip(actual, expected, strict=True):
        assert oracle.relative_error(got, want) < tolerance


# --- Models --------------------------------------------------------------------------


def sequential(layer_class):
    return keras.Sequential(
        [
            keras.Input((None, 4)),
            keras.layers.Conv1D(8, 3),
            layer_class(groups=4),
            keras.layers.Activation("tanh"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )


def nested(layer_class):
    inner = keras.Sequential([keras.Input((None, 4)), layer_class(groups=2)])
    block = keras.Sequential([inner, keras.layers.Conv1D(4, 3, padding="same")])
    inputs = keras.Input((6, 4))
    x = keras.layers.Add()([inputs, block(inputs)])
    x = keras.layers.GlobalMaxPooling1D()(layer_class(groups=1)(x))
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def shared(layer_class):
    norm, dense = layer_class(groups=2), keras.layers.Dense(4, "tanh")
    inputs = keras.Input((6, 4))
    x = norm(dense(norm(dense(norm(inputs)))))
    x = keras.layers.Concatenate()([keras.layers.Flatten()(v) for v in (x, inputs)])
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def subclassed(layer_class):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [
                (keras.layers.Dense(size, "tanh"), layer_class(groups=2))
                for size in (6, 4)
            ]
            self.head = keras.layers.Dense(1)

        def call(self, x, training=False):
            for dense, norm in self.blocks:
                x = norm(dense(x))
            return self.head(tf.reduce_max(x, 1))

    model = Model()
    model(np.zeros((1, 6, 4)))
    return model


def frozen(layer_class):
    model = sequential(layer_class)
    model.layers[1].trainable = False
    return model


@pytest.mark.parametrize("build", [sequential, nested, shared, subclassed, frozen])
def test_every_kind_of_model_trains(float64, data, build):
    x, y = data
    expected = trained_by_hand(seeded(build, Definition), batches(x, y))
    model = compiled(seeded(build, GroupNormalization))
    before = model.get_weights()
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert_same(model.get_weights(), expected)
    kept = [np.array_equal(*pair) for pair in zip(before, expected, strict=True)]
    assert sum(kept) == (2 if build is frozen else 0)  # gamma and beta
    assert_same([model.predict(x, batch_size=5, verbose=0)], [model(x)])


def test_trains_like_the_layer_of_keras(data):
    x, y = data
    found = []
    for layer_class in (GroupNormalization, keras.layers.GroupNormalization):
        model = compiled(seeded(sequential, layer_class))
        model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
        found.append(model.get_weights())
    assert_same(*found, tolerance=1e-5)


# --- Ways of training ----------------------------------------------------------------


def fit(model, x, y, **arguments):
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, **arguments)


def on_batches(model, x, y):
    for batch in batches(x, y):
        model.train_on_batch(*batch)


def on_a_stream(model, x, y):
    """Batches of a number that nobody knows, and of a size that nobody knows."""
    stream = tf.data.Dataset.from_generator(
        lambda: iter(batches(x, y)),
        output_signature=(
            tf.TensorSpec((None, None, 4), tf.float64),
            tf.TensorSpec((None, 1), tf.float64),
        ),
    )
    assert stream.cardinality() == tf.data.UNKNOWN_CARDINALITY
    model.fit(stream, verbose=0)


def in_a_loop_of_ones_own(model, x, y):
    optimizer = model.optimizer

    @tf.function
    def epoch(stream):
        for x, y in stream:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            weights = model.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)

    optimizer.build(model.trainable_variables)
    epoch(tf.data.Dataset.from_tensor_slices((x, y)).batch(4))


WAYS = {
    "fit": (fit, {}),
    "eager": (fit, {"run_eagerly": True}),
    "XLA": (fit, {"jit_compile": True}),
    "three steps at once": (fit, {"steps_per_execution": 3}),
    "two steps at once, and one": (fit, {"steps_per_execution": 2}),
    "batch by batch": (on_batches, {}),
    "stream": (on_a_stream, {}),
    "own loop": (in_a_loop_of_ones_own, {}),
}


@pytest.mark.parametrize(
    "way", [full(way) if way.startswith("two") else way for way in WAYS]
)
def test_every_way_of_training_is_the_same(float64, data, way):
    run, arguments = WAYS[way]
    expected = trained_by_hand(seeded(sequential, Definition), batches(*data))
    model = compiled(seeded(sequential, GroupNormalization), **arguments)
    run(model, *data)
    assert_same(model.get_weights(), expected)


# --- Sequences of different lengths --------------------------------------------------


def for_sequences(layer_class):
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(10, 4, mask_zero=True),
            layer_class(groups=2, use_mask=True),
            keras.layers.GlobalAveragePooling1D(),  # of what is not masked
            keras.layers.Dense(1),
        ]
    )


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_ragged_batches_train_like_their_sequences_alone(
    float64, rng, padding, jit_compile
):
    sequences = tf.ragged.constant(
        [rng.integers(1, 10, size=n).tolist() for n in (3, 7, 1, 5)]
    )
    y = rng.normal(size=(4, 1))
    # The mean loss of a batch has the mean of the gradients that each sequence has.
    model = seeded(for_sequences, Definition)
    before, alone = model.get_weights(), []
    for sequence, target in zip(sequences, y, strict=True):
        model.set_weights(before)
        alone.append(trained_by_hand(model, [(sequence[tf.newaxis], target)]))
    expected = [np.mean(weights, 0) for weights in zip(*alone, strict=True)]

    model = compiled(seeded(for_sequences, GroupNormalization), jit_compile=jit_compile)
    longest = int(sequences.bounding_shape()[1])
    model.train_on_batch(sequences.to_tensor(shape=[None, longest + padding]), y)
    assert_same(model.get_weights(), expected)


# --- Precision -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("mixed_float16", 0.02), ("mixed_bfloat16", 0.1)]
)
def test_mixed_precision_takes_the_same_step(data, policy, tolerance):
    x, y = data
    exact = seeded(sequential, Definition)
    before = exact.get_weights()
    expected = trained_by_hand(exact, [(x, y)])
    keras.config.set_dtype_policy(policy)
    model = compiled(seeded(sequential, GroupNormalization))
    assert model.layers[1].compute_dtype == policy.removeprefix("mixed_")
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    model.train_on_batch(x, y)
    for start, got, want in zip(before, model.get_weights(), expected, strict=True):
        assert got.dtype == np.float32
        assert oracle.relative_error(got - start, want - start) < tolerance


def test_a_loss_scaled_too_far_skips_the_step(data):
    keras.config.set_dtype_policy("mixed_float16")
    model = seeded(sequential, GroupNormalization)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(RATE), initial_scale=2.0**60
    )
    model.compile(optimizer, "mse", jit_compile=False)
    before = model.get_weights()
    model.train_on_batch(*data)
    assert all(map(np.array_equal, model.get_weights(), before))
    assert keras.ops.convert_to_numpy(optimizer.dynamic_scale) == 2.0**59


# --- Derivatives of a model ----------------------------------------------------------


def critic(layer_class):
    return keras.Sequential(
        [
            keras.Input((6, 4)),
            layer_class(groups=2),
            keras.layers.Conv1D(6, 3, activation="tanh"),
            layer_class(groups=6),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )


def generator(layer_class):
    return keras.Sequential(
        [
            keras.Input((6, 4)),
            keras.layers.Dense(4),
            layer_class(groups=4),
            keras.layers.Dense(4),
        ]
    )


def wgan_gp_step(critic, generator, real, noise, share):
    """Gulrajani et al. 2017: the step of the critic, then that of the generator."""
    weights = [[w.value for w in m.trainable_weights] for m in (critic, generator)]
    with tf.GradientTape() as tape:
        fake = generator(noise)
        between = share * real + (1 - share) * fake
        with tf.GradientTape() as inner:
            inner.watch(between)
            score = critic(between)
        slope = inner.gradient(score, between)
        norm = tf.sqrt(tf.reduce_sum(slope**2, [1, 2]))
        loss = tf.reduce_mean(critic(fake) - critic(real))
        loss += 10 * tf.reduce_mean((norm - 1) ** 2)
    descend(tape, loss, weights[0])
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(critic(generator(noise)))
    descend(tape, loss, weights[1])


def descend(tape, loss, weights):
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        weight.assign_sub(2.0**-6 * gradient)


@pytest.mark.parametrize("mode", [full("eager"), "graph", full("XLA")])
def test_wgan_gp(float64, rng, mode):
    real, noise = map(tf.constant, rng.normal(size=(2, 3, 6, 4)))
    share = tf.constant(rng.uniform(size=(3, 1, 1)))

    def weights_after(layer_class, step):
        models = [seeded(build, layer_class) for build in (critic, generator)]
        for _ in range(2):
            step(*models, real, noise, share)
        return [w for model in models for w in model.get_weights()]

    step = wgan_gp_step
    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "XLA", autograph=False)
    expected = weights_after(Definition, wgan_gp_step)
    assert_same(weights_after(GroupNormalization, step), expected, 1e-10)


def per_sample_gradients(model, x):
    weights = [w.value for w in model.trainable_weights]
    with tf.GradientTape() as tape:
        y = model(x)
    return tape.jacobian(y, weights)


def input_jacobian(model, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    return [tape.batch_jacobian(y, x)]


def directional(model, x):
    """Along every weight at once, which forward mode gives in one pass."""
    weights = [w.value for w in model.trainable_weights]
    directions = [tf.cos(w * 5) for w in weights]
    with tf.autodiff.ForwardAccumulator(weights, directions) as accumulator:
        y = model(x)
    return [accumulator.jvp(y)]


def hessian_product(model, x):
    """Forward over backward."""
    with tf.autodiff.ForwardAccumulator(x, tf.sin(x)) as accumulator:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(model(x) ** 2)
        gradient = tape.gradient(loss, x)
    return [accumulator.jvp(gradient)]


def recomputed(model, x):
    weights = [w.value for w in model.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.sin(tf.recompute_grad(model)(x)))
    return tape.gradient(loss, [x, *weights])


@pytest.mark.parametrize("mode", [full("eager"), "graph"])
@pytest.mark.parametrize(
    "derivative",
    [
        per_sample_gradients,
        input_jacobian,
        directional,
        full(hessian_product),
        recomputed,
    ],
)
def test_derivatives_of_a_model(float64, rng, derivative, mode):
    x = tf.constant(rng.normal(size=(3, 6, 4)))
    expected = derivative(seeded(critic, Definition), x)
    model = seeded(critic, GroupNormalization)
    run = derivative if mode == "eager" else tf.function(derivative, autograph=False)
    assert_same(run(model, x), expected)


# --- Inside other functions ----------------------------------------------------------


@pytest.mark.parametrize("mode", ["eager", "graph", "XLA"])
def test_map_fn(rng, mode):
    x, dy = rng.normal(size=(2, 4, 5, 6))
    gamma, beta = rng.normal(size=(2, 6))

    def run(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.map_fn(
                lambda sample: group_normalization(sample[tf.newaxis], 3, gamma, beta)[
                    0
                ],
                x,
            )
        return y, tape.gradient(y, x, dy)

    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "XLA", autograph=False)
    y, dx = run(tf.constant(x), tf.constant(dy))
    assert_same([y], [oracle.group_normalization(x, 3, gamma, beta)])
    expected, _, _ = oracle.gradients(x, 3, gamma, beta, dy)
    assert_same([dx], [expected], 1e-7)


def test_time_distributed(float64, rng):
    x = rng.normal(size=(2, 3, 5, 6))
    y = keras.layers.TimeDistributed(GroupNormalization(groups=3))(x)
    expected = oracle.group_normalization(x.reshape(6, 5, 6), 3).reshape(x.shape)
    assert_same([y], [expected])


# --- Determinism ---------------------------------------------------------------------

_TWICE = """
import keras, numpy as np, tensorflow as tf
from groupnorm import GroupNormalization, implementation

tf.config.threading.set_intra_op_parallelism_threads(4)
tf.config.experimental.enable_op_determinism()
rng = np.random.default_rng(0)
x, y = rng.normal(size=(16, 40, 40, 3)), rng.normal(size=(16, 38, 38, 16))
found = []
for _ in range(2):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([
        keras.Input((None, None, 3)), keras.layers.Conv2D(16, 3),
        GroupNormalization(4), GroupNormalization(-1, use_mask=True),
    ])
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    found.append(model.get_weights())
assert all(map(np.array_equal, *found))
assert not np.array_equal(found[0][2], np.ones(16))
print("ran on", implementation().name)
"""


@pytest.mark.full
def test_with_determinism_switched_on(implementation):
    found = subprocess.run(
        [sys.executable, "-c", _TWICE], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split()[-1] == implementation
