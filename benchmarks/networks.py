"""The networks whose training steps are timed, each with any normalization or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

CLASSES = 10
# From a tensor and its mask, or None, to the normalized tensor.
Normalize = Callable[[Any, Any], Any]


class Network(NamedTuple):
    """Its name, what comes in, and the layers between that and the classes."""

    name: str
    input_shape: tuple[int, ...]
    batch: int
    features: Callable[[Any, Normalize], Any]
    padded: bool = False
    rounds_and_steps: tuple[int, int] = (8, 5)  # fewer of steps that take long

    def model(self, normalize: Normalize) -> keras.Model:
        """A model that tells ten classes apart, with the same weights each time."""
        keras.utils.set_random_seed(1)
        x = keras.Input(self.input_shape)
        features = self.features(x, normalize)
        return keras.Model(x, keras.layers.Dense(CLASSES, "softmax")(features))

    def data(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers for so many batches; sequences end at any length after the half."""
        random = np.random.default_rng(1)
        samples = self.batch * steps
        x = random.standard_normal((samples, *self.input_shape), np.float32)
        if self.padded:
            length = self.input_shape[0]
            ends = random.integers(length // 2, length + 1, samples)
            x[np.arange(length) >= ends[:, np.newaxis]] = 0
        return x, random.integers(0, CLASSES, samples)


def _six_convolutions(x: Any, normalize: Normalize) -> Any:
    for i, channels in enumerate((64, 64, 128, 128, 256, 256)):
        x = keras.layers.Conv2D(channels, 3, padding="same")(x)
        x = keras.ops.relu(normalize(x, None))
        if i % 2 == 1:
            x = keras.layers.MaxPooling2D()(x)
    return keras.layers.GlobalAveragePooling2D()(x)


def _dense(x: Any, normalize: Normalize) -> Any:
    for _ in range(4):
        x = keras.ops.relu(normalize(keras.layers.Dense(512)(x), None))
    return x


def _residual(x: Any, normalize: Normalize) -> Any:
    """As ResNet-18 for small images: four stages of two blocks."""
    x = keras.layers.Conv2D(64, 3, padding="same", use_bias=False)(x)
    x = keras.ops.relu(normalize(x, None))
    for stage, channels in enumerate((64, 128, 256, 512)):
        for block in range(2):
            x = _block(x, channels, 2 if stage and not block else 1, normalize)
    return keras.layers.GlobalAveragePooling2D()(x)


def _block(x: Any, channels: int, strides: int, normalize: Normalize) -> Any:
    def convolution(x: Any, size: int, strides: int) -> Any:
        layer = keras.layers.Conv2D(
            channels, size, strides, padding="same", use_bias=False
        )
        return normalize(layer(x), None)

    inside = keras.ops.relu(convolution(x, 3, strides))
    inside = convolution(inside, 3, 1)
    if strides > 1:
        x = convolution(x, 1, strides)
    return keras.ops.relu(x + inside)


def _masked_sequences(x: Any, normalize: Normalize) -> Any:
    mask = keras.ops.any(keras.ops.not_equal(x, 0), -1)
    for _ in range(4):
        x = keras.layers.Conv1D(128, 5, padding="same")(x)
        x = keras.ops.relu(normalize(x, mask))
    return keras.layers.GlobalAveragePooling1D()(x, mask=mask)


NETWORKS = (
    Network("six convolutions", (32, 32, 3), 32, _six_convolutions),
    Network(
        "dense, four layers of 512", (512,), 256, _dense, rounds_and_steps=(24, 10)
    ),
    Network("ResNet-18-like", (32, 32, 3), 32, _residual, rounds_and_steps=(4, 3)),
    Network("1-d convolutions, masked", (256, 40), 32, _masked_sequences, padded=True),
)
