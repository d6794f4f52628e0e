"""Training steps of networks, through `fit()`."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

import timing
from implementations import OURS, THEIRS, native_kernel
from networks import NETWORKS, Network, Normalize

GROUPS = 32
MILLISECOND = 1e-3


class Kind(NamedTuple):
    """A normalization: its layer, and whether it is told the mask and may be native."""

    layer: Callable[[], keras.layers.Layer]
    masked: bool = False
    native: bool = False

    def __call__(self, x: Any, mask: Any) -> Any:
        """The normalized tensor."""
        if mask is None or not self.masked:
            return self.layer()(x)
        return self.layer()(x, mask=mask)


class ScaleAndShift(keras.layers.Layer):
    """Gamma and beta without any statistics: what a normalization cannot go below."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the two weights."""
        self.gamma = self.add_weight(shape=input_shape[-1:], initializer="ones")
        self.beta = self.add_weight(shape=input_shape[-1:], initializer="zeros")

    def call(self, inputs: Any) -> Any:
        """The scaled and shifted tensor."""
        return inputs * self.gamma + self.beta


def _ours() -> keras.layers.Layer:
    return OURS(GROUPS, use_mask=True)  # which without a mask changes nothing


KINDS: dict[str, Kind | None] = {
    "none": None,
    "one more relu": Kind(keras.layers.ReLU),  # what any operation costs there
    "gamma and beta alone": Kind(ScaleAndShift),
    "BatchNormalization": Kind(keras.layers.BatchNormalization, masked=True),
    "keras, graph": Kind(lambda: THEIRS(GROUPS)),  # knows no masks
    "ours, native": Kind(_ours, masked=True, native=True),
    "ours, TensorFlow": Kind(_ours, masked=True),
}


def measure(quick: bool) -> list[dict[str, Any]]:
    """Milliseconds of a step, and ratios to the network without normalization."""
    return [_measure(network, quick) for network in NETWORKS]


def _measure(network: Network, quick: bool) -> dict[str, Any]:
    rounds, steps = (1, 1) if quick else network.rounds_and_steps
    trainers = {name: _Trainer(network, kind, steps) for name, kind in KINDS.items()}
    for trainer in trainers.values():
        trainer.steps()  # traces
    # Medians of a few steps are compared within a round, rounds across the run.
    samples: timing.Samples = {name: [] for name in trainers}
    for _ in range(rounds):
        for name, trainer in trainers.items():
            samples[name].append(float(np.median(trainer.steps())))
    del trainers
    gc.collect()
    entry = {
        "network": network.name,
        "batch": network.batch,
        "groups": GROUPS,
        "rounds": rounds,
        "milliseconds": {
            name: timing.summary(times, MILLISECOND) for name, times in samples.items()
        },
        "relative_to_none": timing.ratios(samples, "none"),
    }
    ratios = {n: round(r["median"], 2) for n, r in entry["relative_to_none"].items()}
    print(f"{network.name}: {ratios}", flush=True)
    return entry


class _Trainer:
    def __init__(self, network: Network, kind: Kind | None, steps: int) -> None:
        self._native = kind is not None and kind.native
        self._batch = network.batch
        normalize: Normalize = kind or _nothing
        self._model = network.model(normalize)
        # In graph mode, which Keras itself chooses on a machine with CPUs only; said
        # here so that a GPU does not change what is measured.
        self._model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
        self._x, self._y = network.data(steps)
        self._clock = _Clock()

    def steps(self) -> list[float]:
        """Seconds of each step of an epoch."""
        self._clock.times.clear()
        with native_kernel(self._native):
            self._model.fit(
                self._x,
                self._y,
                batch_size=self._batch,
                verbose=0,
                shuffle=False,
                callbacks=[self._clock],
            )
        return list(self._clock.times)


def _nothing(x: Any, _mask: Any) -> Any:
    return x


class _Clock(keras.callbacks.Callback):
    """Times of the steps alone: an epoch has costs of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_batch_begin(self, batch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter() - self._start)
