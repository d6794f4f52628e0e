"""What TensorFlow Addons had besides, for `make_addons_fixtures.py`."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

L = tf.keras.layers
Group = tfa.layers.GroupNormalization


def gelu():
    """The layer GELU, approximate as it is by default, and exact."""
    x = L.Input((5, 4))
    y = tfa.layers.GELU()(x)
    y = L.Dense(3)(y)
    y = Group(groups=3)(tfa.layers.GELU(approximate=False)(y))
    return tf.keras.Model(x, y)


def activations():
    """Activations that Keras 3 has too, by their names in a file."""
    x = L.Input((6,))
    kinds = tfa.activations
    names = (kinds.mish, kinds.hardshrink, kinds.softshrink, kinds.tanhshrink)
    y = [L.Dense(6, activation=kind)(x) for kind in (*names, kinds.sparsemax)]
    return tf.keras.Model(x, [*y, tfa.layers.Sparsemax()(L.Rescaling(0.1)(x))])


def spectral():
    """Spectral normalization, after a step of training."""
    x = L.Input((6, 6, 3))
    y = tfa.layers.SpectralNormalization(L.Conv2D(4, 3), power_iterations=2)(x)
    y = L.Flatten()(L.LeakyReLU(0.2)(y))
    y = tfa.layers.SpectralNormalization(L.Dense(1))(y)
    model = tf.keras.Model(x, y)
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 6, 6, 3)), np.ones((4, 1)), verbose=0)
    return model


def weight_normalization():
    """Weight normalization, with and without its start from data."""
    x = L.Input((8, 8, 3))
    y = tfa.layers.WeightNormalization(L.Conv2D(4, 3, activation="relu"))(x)
    y = L.Flatten()(y)
    y = tfa.layers.WeightNormalization(L.Dense(5), data_init=False)(y)
    model = tf.keras.Model(x, y)
    model(np.random.default_rng(3).normal(size=(4, 8, 8, 3)))  # which sets the lengths
    return model


def frozen():
    """Wrappers that are frozen, from the start and later; the last layer is trained."""
    x = L.Input((6, 3))
    spectral = tfa.layers.SpectralNormalization(L.Dense(4), trainable=False)
    weight = tfa.layers.WeightNormalization(L.Conv1D(4, 3), data_init=False)
    y = tfa.layers.WeightNormalization(L.Dense(4), trainable=False)(spectral(x))
    model = tf.keras.Model(x, L.Dense(2)(weight(y)))
    weight.trainable = False
    model(np.random.default_rng(3).normal(size=(4, 6, 3)))  # which sets the lengths
    return model


def adaptive_pooling():
    """Pooling to a size, of each kind and rank, channels first and last."""
    a, b, c = L.Input((6, 3)), L.Input((6, 8, 3)), L.Input((4, 6, 8, 2))
    T = tfa.layers
    y = [
        T.AdaptiveAveragePooling1D(3)(a),
        T.AdaptiveMaxPooling1D(2)(a),
        T.AdaptiveAveragePooling2D((3, 2))(b),
        T.AdaptiveMaxPooling2D((2, 4), data_format="channels_last")(b),
        T.AdaptiveMaxPooling2D((4, 3), data_format="channels_first")(b),
        T.AdaptiveAveragePooling3D((2, 3, 4))(c),
        T.AdaptiveMaxPooling3D((2, 2, 2))(c),
    ]
    return tf.keras.Model([a, b, c], y)


LAYERS = {
    function.__name__: function
    for function in (
        activations,
        adaptive_pooling,
        frozen,
        gelu,
        spectral,
        weight_normalization,
    )
}
TRAINED = {
    "adamw": lambda: {"optimizer": tfa.optimizers.AdamW(1e-3, 0.01)},
    "sgdw": lambda: {"optimizer": tfa.optimizers.SGDW(1e-3, 0.05, momentum=0.9)},
    "lamb": lambda: {"optimizer": tfa.optimizers.LAMB(0.01)},
    "lookahead": lambda: {
        "optimizer": tfa.optimizers.Lookahead(
            tf.keras.optimizers.legacy.Adam(0.01), sync_period=3
        )
    },
    "moving_average": lambda: {
        "optimizer": tfa.optimizers.MovingAverage(tf.keras.optimizers.legacy.SGD(0.1))
    },
    "swa": lambda: {
        "optimizer": tfa.optimizers.SWA(tf.keras.optimizers.legacy.SGD(0.1), 1, 2)
    },
    "yogi": lambda: {"optimizer": tfa.optimizers.Yogi(0.01)},
    "focal": lambda: {
        "loss": tfa.losses.SigmoidFocalCrossEntropy(alpha=0.3, gamma=1.5)
    },
    "scores": lambda: {
        "metrics": [
            tfa.metrics.F1Score(3, average="macro"),
            tfa.metrics.FBetaScore(3, "weighted", beta=2.0, threshold=0.4),
            tfa.metrics.RSquare(),
        ]
    },
    "correlation": lambda: {"metrics": [tfa.metrics.PearsonsCorrelation()]},
}


def training(name):
    """A network whose optimizer, loss or metrics are of Addons, and its labels."""
    units = 1 if name == "focal" else 3
    kind = "sigmoid" if units == 1 else "softmax"
    model = tf.keras.Sequential(
        [L.Dense(6, input_shape=(4,)), Group(groups=3), L.Dense(units, kind)]
    )
    model.compile(**{"optimizer": "sgd", "loss": "mse", **TRAINED[name]()})
    rng = np.random.default_rng(5)
    x = rng.normal(size=(12, 4)).astype("float32")
    wanted = rng.integers(0, 3, 12)
    labels = np.eye(3)[wanted] if units == 3 else (wanted[:, None] > 1)
    return model, x, labels.astype("float32")
