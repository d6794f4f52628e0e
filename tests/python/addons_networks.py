"""Networks of the kinds that people have, for `make_addons_fixtures.py`.

What is of their authors in them has a counterpart for Keras 3 in `own_parts.py`.
"""

from __future__ import annotations

import tensorflow as tf
import tensorflow_addons as tfa

L = tf.keras.layers
Group = tfa.layers.GroupNormalization


def gesture_loss(wanted, prediction):
    """Of the author's own: errors above are worse than errors below."""
    error = prediction - wanted
    return tf.reduce_mean(tf.where(error > 0, 2.0, 1.0) * tf.square(error), axis=-1)


def gesture():
    """Nine normalizations, three outputs, a loss of one's own, an integer rate.

    Not trained before it was saved: so the rate is in the file as it was given.
    """
    x = y = L.Input((12, 6))
    for i in range(9):
        y = L.Conv1D(4, 3, padding="same", dilation_rate=1 + i % 2)(y)
        y = L.Activation("relu")(Group(groups=2)(y))
    y = L.GlobalAveragePooling1D()(y)
    names = ("hand", "finger", "motion")
    model = tf.keras.Model(x, [L.Dense(2, name=name)(y) for name in names])
    model.compile(
        tf.keras.optimizers.legacy.SGD(learning_rate=1),
        dict.fromkeys(names, gesture_loss),
        loss_weights={"hand": 1, "finger": 0.5, "motion": 0.25},
    )
    return model


class Mirror(L.Layer):
    """Padding with the image's own rows and columns."""

    def __init__(self, by=1, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, inputs):
        sizes = [[0, 0], [self.by] * 2, [self.by] * 2, [0, 0]]
        return tf.pad(inputs, sizes, "REFLECT")

    def get_config(self):
        return {**super().get_config(), "by": self.by}


class Gate(L.Layer):
    """Channels weighted by a network of their means, which is inside the layer."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.squeeze = L.Dense(units, activation="relu", name="squeeze")

    def build(self, input_shape):
        self.excite = L.Dense(input_shape[-1], activation="sigmoid", name="excite")
        super().build(input_shape)

    def call(self, inputs):
        means = tf.reduce_mean(inputs, axis=[1, 2], keepdims=True)
        return inputs * self.excite(self.squeeze(means))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Scale(L.Layer):
    """A factor for each channel."""

    def build(self, input_shape):
        self.factor = self.add_weight(
            "factor", shape=(input_shape[-1],), initializer="ones"
        )

    def call(self, inputs):
        return inputs * self.factor


class Merge(L.Layer):
    """The sum of two tensors, one of them weighted."""

    def __init__(self, weight=0.5, **kwargs):
        super().__init__(**kwargs)
        self.weight = weight

    def call(self, inputs):
        first, second = inputs
        return first + self.weight * second

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


def satellite():
    """34 normalizations, four layers of the author's own, three Lambda layers."""
    x = L.Input((None, None, 3))
    y = L.Lambda(lambda x: x / 4.0 - 0.5, name="to_range")(x)
    y = Group(groups=2, name="first")(L.Conv2D(4, 1)(y))
    for _ in range(16):
        z = L.Conv2D(4, 3)(Mirror()(y))
        z = L.Conv2D(4, 1)(L.ReLU()(Group(groups=2)(z)))
        y = Merge()([y, Gate()(Group(groups=4)(z))])
    y = L.Lambda(lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID"), name="halve")(y)
    y = Group(groups=2)(Scale()(y))
    y = L.Lambda(lambda x, by: tf.tanh(x) * by, arguments={"by": 2.0}, name="squash")(y)
    return tf.keras.Model(x, L.Conv2D(2, 1)(y))
