"""One training step of a small convolutional network, through `fit()`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import timing
from implementations import OURS, THEIRS, native_kernel

CHANNELS = (64, 64, 128, 128, 256, 256)
BATCH = 32
GROUPS = 32
MILLISECOND = 1e-3

Layer = keras.layers.Layer
# Of each model: its normalization, and whether the native kernel may be used.
MODELS: dict[str, tuple[Callable[[], Layer] | None, bool]] = {
    "none": (None, False),
    "BatchNormalization": (keras.layers.BatchNormalization, False),
    "keras, graph": (lambda: THEIRS(GROUPS), False),
    "ours, native": (lambda: OURS(GROUPS), True),
    "ours, TensorFlow": (lambda: OURS(GROUPS), False),
}


def measure(quick: bool) -> dict[str, Any]:
    """Milliseconds of a step, and the ratio to the model without normalization."""
    rounds, steps = (1, 1) if quick else (8, 5)
    trainers = {name: _Trainer(*kind, steps) for name, kind in MODELS.items()}
    for trainer in trainers.values():
        trainer.steps()  # traces
    # Medians of a few steps are compared within a round, rounds across the run.
    samples: timing.Samples = {name: [] for name in trainers}
    for _ in range(rounds):
        for name, trainer in trainers.items():
            samples[name].append(float(np.median(trainer.steps())))
    return {
        "channels": CHANNELS,
        "batch": BATCH,
        "groups": GROUPS,
        "rounds": rounds,
        "milliseconds": {
            name: timing.summary(times, MILLISECOND) for name, times in samples.items()
        },
        "relative_to_none": timing.ratios(samples, "none"),
    }


class _Trainer:
    def __init__(
        self, normalization: Callable[[], Layer] | None, native: bool, steps: int
    ) -> None:
        self._native = native
        self._model = _network(normalization)
        # In graph mode, which Keras itself chooses on a machine with CPUs only; said
        # here so that a GPU does not change what is measured.
        self._model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
        random = np.random.default_rng(1)
        self._x = random.standard_normal((BATCH * steps, 32, 32, 3), np.float32)
        self._y = random.integers(0, 10, BATCH * steps)
        self._clock = _Clock()

    def steps(self) -> list[float]:
        """Seconds of each step of an epoch."""
        self._clock.times.clear()
        with native_kernel(self._native):
            self._model.fit(
                self._x,
                self._y,
                batch_size=BATCH,
                verbose=0,
                shuffle=False,
                callbacks=[self._clock],
            )
        return list(self._clock.times)


class _Clock(keras.callbacks.Callback):
    """Times of the steps alone: an epoch has costs of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_batch_begin(self, batch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter() - self._start)


def _network(normalization: Callable[[], Layer] | None) -> keras.Model:
    keras.utils.set_random_seed(1)
    layers: list[Layer] = [keras.layers.Input((32, 32, 3))]
    for i, channels in enumerate(CHANNELS):
        layers.append(keras.layers.Conv2D(channels, 3, padding="same"))
        if normalization is not None:
            layers.append(normalization())
        layers.append(keras.layers.Activation("relu"))
        if i % 2 == 1:
            layers.append(keras.layers.MaxPooling2D())
    layers.append(keras.layers.GlobalAveragePooling2D())
    layers.append(keras.layers.Dense(10, activation="softmax"))
    return keras.Sequential(layers)
