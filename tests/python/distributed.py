"""Train small models on one and on several devices: a program of test_distribution.py.

    python distributed.py devices|worker FILE

`devices` splits the CPU into two logical devices; `worker` is one of the processes that
the environment variable TF_CONFIG names. Both are for TensorFlow to know before it
starts. FILE, of NumPy's kind `.npz`, gets the arrays that were found.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys

import keras
import numpy as np
import tensorflow as tf

from groupnorm import GroupNormalization

BATCH, EPOCHS = 8, 2
_rng = np.random.default_rng(0)
_X = _rng.normal(size=(32, 8, 8, 3)).astype(np.float32)
_Y = _rng.normal(size=(32, 1)).astype(np.float32)


def main(role: str, file: str) -> None:
    found = {}
    if role == "devices":
        cpu = tf.config.list_physical_devices("CPU")[0]
        half = tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [half, half])
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        found |= _weights("one", None, fit=True) | _weights("many", strategy, fit=True)
        found |= _outputs(strategy) | _under_keras_distribution()
    else:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        # Keras 3 itself does not: its `fit` stops with an error under this strategy.
        found |= _weights("many", strategy, fit=False)
    assert strategy.num_replicas_in_sync == 2
    np.savez(file, **found)


def _weights(where, strategy, fit):
    """Trained weights: `<where>/<how>/<number>`."""
    trained = {"loop": _loop(strategy)}
    if fit:
        trained["fit"] = _fit(keras, GroupNormalization(4), strategy)
        trained["fit plain"] = _fit(keras, keras.layers.ReLU(), strategy)
        trained["fit batch"] = _fit(keras, keras.layers.BatchNormalization(), strategy)
    if importlib.util.find_spec("tf_keras") is not None:
        import tf_keras

        from groupnorm import legacy

        trained["fit legacy"] = _fit(tf_keras, legacy.GroupNormalization(4), strategy)
    return {
        f"{where}/{how}/{number}": weight
        for how, weights in trained.items()
        for number, weight in enumerate(weights)
    }


def _scope(strategy):
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _model(keras, norm):
    """A fresh one: the layer that is given says what it is."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3),
            type(norm).from_config(norm.get_config()),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )


def _data():
    options = tf.data.Options()
    # What is in memory has no files to be divided.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    whole = tf.data.Dataset.from_tensor_slices((_X, _Y))
    return whole.batch(BATCH).with_options(options)


def _fit(keras, norm, strategy):
    with _scope(strategy):
        model = _model(keras, norm)
        model.compile(keras.optimizers.SGD(0.02, momentum=0.9), "mse")
    model.fit(_data(), epochs=EPOCHS, verbose=0)
    return model.get_weights()


def _loop(strategy):
    """A training loop of one's own, with the layer and the optimizer of Keras 3."""
    with _scope(strategy):
        model = _model(keras, GroupNormalization(4))
        optimizer = keras.optimizers.SGD(0.02, momentum=0.9)
        optimizer.build(model.trainable_variables)

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(x, training=True) - y)) / BATCH
        gradients = tape.gradient(loss, model.trainable_variables)
        # It adds up the gradients of the replicas.
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )

    @tf.function
    def steps(data):
        for batch in data:
            if strategy is None:
                step(*batch)
            else:
                strategy.run(step, batch)

    data = _data()
    if strategy is not None:
        data = strategy.experimental_distribute_dataset(data)
    for _ in range(EPOCHS):
        steps(data)
    return [weight.numpy() for weight in model.weights]


def _outputs(strategy):
    """Of layers in training, for a batch on one device and divided between two."""
    found = {}
    for name, make, arguments in (
        ("group", lambda: GroupNormalization(4), {}),
        ("batch", keras.layers.BatchNormalization, {"training": True}),
        (
            "synchronized",
            lambda: keras.layers.BatchNormalization(synchronized=True),
            {"training": True},
        ),
    ):
        layer = make()
        with strategy.scope():
            mirrored = make()
            mirrored.build((*_X.shape[:-1], 8))
        x = np.tile(_X[:BATCH] * 10 + 5, 3)[..., :8]
        divided = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)
        divided = strategy.experimental_distribute_dataset(divided)
        run = tf.function(
            lambda x, mirrored=mirrored, arguments=arguments: strategy.run(
                lambda x: mirrored(x, **arguments), (x,)
            )
        )
        parts = strategy.experimental_local_results(run(next(iter(divided))))
        assert [part.shape[0] for part in parts] == [BATCH // 2] * 2
        found[f"whole/{name}"] = layer(x, **arguments).numpy()
        found[f"parts/{name}"] = np.concatenate([part.numpy() for part in parts])
    return found


def _under_keras_distribution():
    """Trained weights, where Keras has `DataParallel` for TensorFlow."""
    try:
        parallel = keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"])
    except AttributeError as error:
        return {"no keras.distribution": str(error)}
    with parallel.scope():
        weights = _fit(keras, GroupNormalization(4), None)
    return {f"parallel/fit/{number}": weight for number, weight in enumerate(weights)}


if __name__ == "__main__":
    main(*sys.argv[1:])
