"""What the experiments share: normalizations, training, learning rates."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from groupnorm import GroupNormalization, InstanceNormalization, implementation
from runs import FOLDER, Run, do_runs, finished

# One thread: the tensors are too small for more, and a seed then gives the same weights
# each time.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

NORMALIZATIONS = ("batch", "group", "layer", "instance", "none")
SEEDS = (1, 2, 3, 4, 5)
SELECTION_SEEDS = (101, 102)  # not those of the runs that count
GROUPS = 4

# --- Networks -------------------------------------------------------------------------


def layer(
    normalization: str, batch_size: int, use_mask: bool = False
) -> keras.Layer | None:
    """Return the layer; batch normalization's looks back over equally many samples."""
    match normalization:
        case "batch":
            momentum = 0.9 ** (batch_size / 32)
            return keras.layers.BatchNormalization(momentum=momentum)
        case "group":
            return GroupNormalization(groups=GROUPS, use_mask=use_mask)
        case "layer":
            return GroupNormalization(groups=1, use_mask=use_mask)
        case "instance":
            return InstanceNormalization(use_mask=use_mask)
    return None


def normalized(x: Any, normalization: str, batch_size: int) -> Any:
    """Return `x` normalized."""
    own = layer(normalization, batch_size)
    return x if own is None else own(x)


# --- Training -------------------------------------------------------------------------


class Trainer:
    """Trains a network anew for each seed; it is traced once.

    Args:
        build: makes the network; its weights are those of Keras's current seed.
    """

    def __init__(self, build: Callable[[], keras.Model]) -> None:
        keras.backend.clear_session()
        self._build = build
        self.model = build()
        self._optimizer = keras.optimizers.SGD(momentum=0.9)
        self._optimizer.build(self.model.trainable_variables)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._epoch = tf.function(self._steps, reduce_retracing=True)
        self._logits = tf.function(self._predict, reduce_retracing=True)

    def train(
        self,
        x: np.ndarray,
        y: np.ndarray,
        orders: Iterable[np.ndarray],
        rate: float,
        seed: int,
    ) -> list[float]:
        """Return the mean loss of each epoch.

        Args:
            x: the samples.
            y: their classes.
            orders: of each epoch, which samples a batch has, a row a batch.
            rate: the learning rate, which falls to zero along a cosine.
            seed: of the weights.
        """
        keras.utils.set_random_seed(seed)
        self.model.set_weights(self._build().get_weights())
        for variable in self._optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        orders = list(orders)
        x, y = tf.constant(x), tf.constant(y)
        losses = []
        for i, order in enumerate(orders):
            self._optimizer.learning_rate = (
                rate * (1 + np.cos(np.pi * i / len(orders))) / 2
            )
            losses.append(float(self._epoch(x, y, tf.constant(order))))
        return losses

    def _steps(self, x: tf.Tensor, y: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for batch in order:
            with tf.GradientTape() as tape:
                logits = self.model(tf.gather(x, batch), training=True)
                loss = self._loss(tf.gather(y, batch), logits)
            variables = self.model.trainable_variables
            self._optimizer.apply(tape.gradient(loss, variables), variables)
            total += loss
        return total / tf.cast(tf.shape(order)[0], tf.float32)

    def _predict(self, x: tf.Tensor) -> tf.Tensor:
        return self.model(x, training=False)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Return what the network says of `x`, which need not fit in one batch."""
        parts = [x[i : i + 256] for i in range(0, len(x), 256)]
        return np.concatenate([self._logits(tf.constant(part)) for part in parts])

    def error(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the share of `x` that is not recognized, in percent."""
        logits = self.logits(x)
        # A network that diverged recognizes nothing.
        right = np.isfinite(logits).all(-1) & (logits.argmax(-1) == y)
        return round(100 * float(1 - right.mean()), 3)


def shuffled(count: int, batch_size: int, random: np.random.Generator) -> np.ndarray:
    """Return an order of `count` samples; those that fill no batch are left out."""
    rows = random.permutation(count)[: count // batch_size * batch_size]
    return rows.reshape(-1, batch_size).astype(np.int32)


# --- Learning rates -------------------------------------------------------------------


def choose_rates(
    wanted: list[Run],
    rates: Iterable[float],
    file: str,
    one: Callable[[Run], Run],
    seeds: Iterable[int] = SELECTION_SEEDS,
) -> dict[tuple[str, ...], float]:
    """Return the best learning rate for each row of `wanted`, by its values.

    It is the one with the lowest mean error on validation data; of equals, the one with
    the lower loss there.

    Args:
        wanted: what is to have a rate of its own.
        rates: those that are tried.
        file: where the runs are kept.
        one: does a run, and returns its `error` and `loss` on validation data.
        seeds: which are tried.
    """
    rates, seeds = tuple(rates), tuple(seeds)
    do_runs(
        [
            {**run, "rate": rate, "seed": seed}
            for run in wanted
            for rate in rates
            for seed in seeds
        ],
        file,
        one,
    )
    tried = finished(file)
    best = {}
    for run in wanted:
        own = [line for line in tried if all(line[k] == str(run[k]) for k in run)]
        scores = {}
        for rate in rates:
            lines = [line for line in own if line["rate"] == str(rate)]
            scores[rate] = tuple(
                round(float(np.mean([float(line[what]) for line in lines])), 3)
                for what in ("error", "loss")
            )
        best[tuple(map(str, run.values()))] = min(rates, key=scores.__getitem__)
    return best


def validation(trainer: Trainer, x: np.ndarray, y: np.ndarray) -> Run:
    """Return what `choose_rates` compares."""
    logits = np.clip(np.nan_to_num(trainer.logits(x), nan=0), -1e4, 1e4)
    logits = logits - logits.max(-1, keepdims=True)
    own = np.take_along_axis(logits, y[:, None], -1)[:, 0]
    loss = float(np.mean(np.log(np.exp(logits).sum(-1)) - own))
    return {"error": trainer.error(x, y), "loss": round(loss, 4)}


def write_versions(file: str) -> None:
    """Write with what the runs are done.

    Args:
        file: its name in `vignettes/data`.
    """
    versions = {
        "TensorFlow": tf.__version__,
        "Keras": keras.__version__,
        "groupnorm": metadata.version("groupnorm"),
        "Python": sys.version.split()[0],
        "implementation": implementation().name,
        "cores": os.cpu_count(),
    }
    with (FOLDER / file).open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["what", "value"])
        writer.writerows(versions.items())
