"""Write the fixtures that TensorFlow Addons itself must write.

Run under TensorFlow Addons 0.23 (TensorFlow 2.15, Python 3.11):

    python tests/python/make_addons_fixtures.py [FOLDER [NAME ...]]

For each NAME below: `NAME.h5` and `NAME.keras` (the whole model), `NAME.weights.h5`
(its weights alone) and `NAME.npz`: `x` (or `x0`, `x1`, ...), an input, and `y` (or
`y0`, `y1`, ...), what `predict` gave for it there. `generator` is there as a SavedModel
folder too.

What Addons had besides is in a folder beside, `..._others`. Of layers there are
SavedModels too, whose graphs (`saved_model.pb`) are left empty, as migrate does not run
them. Of what was trained (TRAINED) the `.npz` has `x`, `labels`, and what one more step
gave: `logs`, and the weights `w0`, `w1`, ... NETWORKS are `.h5` alone, and
`satellite` is compressed; of `gesture` there is what one step gave, too. So there is
of `frozen`, whose weights Keras 3 has in another order: `z`, predictions after it.

`tfa_convnet` and `tfa_dense_sequential` were made elsewhere, likewise.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
from addons_networks import gesture, satellite
from addons_others import LAYERS, TRAINED, training
from addons_raw_operations import raw_operations

L = tf.keras.layers
Group = tfa.layers.GroupNormalization
Instance = tfa.layers.InstanceNormalization
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "tfaddons"


def channels_first():
    """Group and instance normalization of NCHW tensors, counted from the front."""
    x = L.Input((6, 5, 4))
    y = Group(groups=3, axis=1)(x)
    y = Instance(axis=1, epsilon=1e-5)(y)
    y = L.Permute((2, 3, 1))(y)
    return tf.keras.Model(x, L.Conv2D(2, 3)(y))


def generator():
    """A CycleGAN generator: any image size, residual blocks, transposed convolution."""

    def block(x, filters, strides=1):
        x = L.Conv2D(filters, 3, strides, "same", use_bias=False)(x)
        return L.ReLU()(Instance(axis=-1, gamma_initializer="random_normal")(x))

    image = L.Input((None, None, 3))
    x = block(image, 8)
    x = block(x, 12, strides=2)
    for _ in range(2):
        y = block(x, 12)
        y = L.Conv2D(12, 3, padding="same", use_bias=False)(y)
        x = L.Add()([x, Instance(center=False)(y)])
    x = L.Conv2DTranspose(8, 3, 2, "same", use_bias=False)(x)
    x = L.LeakyReLU(0.2)(Instance()(x))
    return tf.keras.Model(image, L.Conv2D(3, 3, padding="same", activation="tanh")(x))


def recurrent():
    """Tokens of any number, padding masked, through recurrent layers."""
    x = L.Input((None,), dtype="int32")
    y = L.Embedding(20, 8, mask_zero=True)(x)
    y = Group(groups=2)(y)
    y = L.Bidirectional(L.GRU(6, return_sequences=True))(y)
    y = L.TimeDistributed(L.Dense(8))(y)
    y = Group(groups=4, scale=False)(y)
    return tf.keras.Model(x, L.Dense(2)(L.LSTM(5)(y)))


def sequential_first():
    """The layer comes first, so that it carries the shape of the model's input."""
    return tf.keras.Sequential(
        [
            Group(groups=3, center=False, scale=False, input_shape=(None, 6)),
            L.SeparableConv1D(4, 3, padding="same"),
            Group(groups=-1),
            L.GlobalMaxPooling1D(),
            L.Dense(3, activation="softmax"),
        ]
    )


def shared_and_nested():
    """Two inputs, two outputs, one layer used twice, a model in a model."""
    inner_input = L.Input((7, 4))
    inner = tf.keras.Model(inner_input, Group(groups=2)(L.Dense(6)(inner_input)))
    a, b = L.Input((7, 4)), L.Input((7, 6))
    shared = Group(groups=3, name="shared")
    y, z = shared(inner(a)), shared(b)
    merged = L.Concatenate()([y, L.LayerNormalization()(z)])
    pooled = L.GlobalAveragePooling1D()(L.BatchNormalization()(merged))
    return tf.keras.Model([a, b], [L.Dense(1)(pooled), L.Multiply()([y, z])])


def operators():
    """Plain TensorFlow on symbolic tensors, as scripts of the time wrote it."""
    x = L.Input((8, 8, 4))
    y = tf.nn.relu(Group(groups=2)(x)) * 0.5 + x
    y = tf.concat([y, tf.math.sqrt(tf.abs(y) + 1.0)], axis=-1)
    return tf.keras.Model(x, L.Dense(3)(tf.reduce_mean(y, axis=[1, 2])))


def half_precision():
    """Under the policy mixed_float16."""
    x = L.Input((6, 6, 8))
    y = Group(groups=4, dtype="mixed_float16")(x)
    y = L.Conv2D(4, 3, dtype="mixed_float16")(y)
    return tf.keras.Model(x, L.Activation("linear", dtype="float32")(y))


def compiled():
    """A model with an optimizer, a loss, a metric and a step of training behind it."""
    model = tf.keras.Sequential(
        [L.Dense(8, input_shape=(5,)), Group(groups=4), L.ELU(), L.Dense(1)]
    )
    model.compile(tf.keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    model.fit(np.ones((4, 5)), np.ones((4, 1)), verbose=0)
    return model


MODELS = {
    function.__name__: function
    for function in (
        channels_first,
        generator,
        recurrent,
        sequential_first,
        shared_and_nested,
        operators,
        half_precision,
        compiled,
    )
}
NETWORKS = {
    "gesture": gesture,
    "raw_operations": raw_operations,
    "satellite": satellite,
}


def write_training(name, folder):
    """Two steps, the file, then a third step."""
    tf.keras.utils.set_random_seed(3)
    model, x, labels = training(name)
    model.fit(x, labels, batch_size=12, epochs=2, verbose=0)
    model.save(folder / f"{name}.h5")
    outcome = a_step(model, x, labels)
    np.savez_compressed(folder / f"{name}.npz", x=x, labels=labels, **outcome)


def a_step(model, x, labels):
    """What a step gives: `logs` of it, and the weights `w0`, ... after it."""
    logs = model.train_on_batch(x, labels)
    weights = {f"w{i}": w for i, w in enumerate(model.get_weights())}
    return {"logs": np.atleast_1d(logs), **weights}


def random_input(tensor, rng):
    # Sizes that are unknown differ from each other, so that mixing them up shows.
    sizes = iter((12, 16, 20))
    shape = [2, *(next(sizes) if n is None else n for n in tensor.shape[1:])]
    if tensor.dtype.is_integer:
        x = rng.integers(1, 20, shape).astype("int32")
        x[0, -3:] = 0
        return x
    return rng.normal(1, 2, shape).astype("float32")


def made(name, kind):
    """The model, with weights unlike those that it starts with, and what it predicts.

    Initial weights are so regular that a mistake in them could pass unseen.
    """
    tf.keras.utils.set_random_seed(sum(map(ord, name)))
    rng = np.random.default_rng(7)
    model = kind()
    model.set_weights(
        [
            np.abs(w) + rng.uniform(0.1, 0.9, w.shape).astype(w.dtype)
            if (w.ndim == 1)
            else w
            for w in model.get_weights()
        ]
    )
    x = [random_input(tensor, rng) for tensor in model.inputs]
    y = model.predict(x if len(x) > 1 else x[0], verbose=0)
    y = y if isinstance(y, list) else [y]
    return model, {
        f"{letter}{i if len(arrays) > 1 else ''}": array
        for letter, arrays in (("x", x), ("y", y))
        for i, array in enumerate(arrays)
    }


def write_layers(name, folder):
    model, arrays = made(name, LAYERS[name])
    model.save(folder / f"{name}.h5")
    model.save(folder / f"{name}.keras")
    model.save(folder / f"{name}_savedmodel", include_optimizer=False)
    (folder / f"{name}_savedmodel" / "fingerprint.pb").unlink()
    (folder / f"{name}_savedmodel" / "saved_model.pb").write_bytes(b"")
    if name == "frozen":  # which shows in training alone
        labels = np.roll(arrays["y"], 1, axis=0)
        model.compile(tf.keras.optimizers.SGD(0.5), "mse")
        logs = np.atleast_1d(model.train_on_batch(arrays["x"], labels))
        after = model.predict(arrays["x"], verbose=0)
        arrays |= {"labels": labels, "logs": logs, "z": after}
    np.savez_compressed(folder / f"{name}.npz", **arrays)


def write_network(name, folder):
    model, arrays = made(name, NETWORKS[name])
    model.save(folder / f"{name}.h5")
    if name == "satellite":  # of many small layers, and so mostly empty space
        content = (folder / f"{name}.h5").read_bytes()
        (folder / f"{name}.h5.gz").write_bytes(gzip.compress(content, mtime=0))
        (folder / f"{name}.h5").unlink()
    if name == "gesture":
        labels = [np.roll(arrays[f"y{i}"], 1, axis=0) for i in range(3)]
        named = {f"labels{i}": label for i, label in enumerate(labels)}
        arrays |= {**named, **a_step(model, arrays["x"], labels)}
    np.savez_compressed(folder / f"{name}.npz", **arrays)


def write_model(name, folder):
    model, arrays = made(name, MODELS[name])
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    model.save(folder / f"{name}.h5")
    model.save(folder / f"{name}.keras")
    model.save_weights(folder / f"{name}.weights.h5")
    if name == "generator":
        model.save(folder / f"{name}_savedmodel", include_optimizer=False)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURES
    others = folder.with_name(f"{folder.name}_others")
    for path in (folder, others):
        path.mkdir(parents=True, exist_ok=True)
    writers = {
        **dict.fromkeys(MODELS, (write_model, folder)),
        **dict.fromkeys(LAYERS, (write_layers, others)),
        **dict.fromkeys(NETWORKS, (write_network, others)),
        **dict.fromkeys(TRAINED, (write_training, others)),
    }
    for name in sys.argv[2:] or writers:
        write, place = writers[name]
        write(name, place)
