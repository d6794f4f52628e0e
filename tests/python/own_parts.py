"""For Keras 3, what is of their authors in the networks of `addons_networks.py`."""

from __future__ import annotations

import keras
from keras import ops

L = keras.layers


def gesture_loss(wanted, prediction):
    error = prediction - wanted
    return ops.mean(ops.where(error > 0, 2.0, 1.0) * ops.square(error), axis=-1)


class Mirror(L.Layer):
    def __init__(self, by=1, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, inputs):
        sizes = [[0, 0], [self.by] * 2, [self.by] * 2, [0, 0]]
        return ops.pad(inputs, sizes, mode="reflect")

    def get_config(self):
        return {**super().get_config(), "by": self.by}


class Gate(L.Layer):
    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.squeeze = L.Dense(units, activation="relu")

    def build(self, input_shape):
        self.excite = L.Dense(input_shape[-1], activation="sigmoid")
        self.squeeze.build((None, 1, 1, input_shape[-1]))
        self.excite.build((None, 1, 1, self.units))

    def call(self, inputs):
        means = ops.mean(inputs, axis=[1, 2], keepdims=True)
        return inputs * self.excite(self.squeeze(means))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Scale(L.Layer):
    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],), name="factor")

    def call(self, inputs):
        return inputs * self.factor


class Merge(L.Layer):
    def __init__(self, weight=0.5, **kwargs):
        super().__init__(**kwargs)
        self.weight = weight

    def call(self, inputs):
        first, second = inputs
        return first + self.weight * second

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


SATELLITE = {
    **{kind.__name__: kind for kind in (Mirror, Gate, Scale, Merge)},
    "to_range": lambda x: x / 4.0 - 0.5,
    "halve": lambda x: ops.average_pool(x, 2),
    "squash": lambda x, by: ops.tanh(x) * by,
}
