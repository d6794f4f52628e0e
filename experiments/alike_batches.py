"""Batches whose samples are alike: what does each normalization lose?"""

from __future__ import annotations

from functools import cache
from typing import Any

import keras
import numpy as np

import harness
import runs
import samples

BATCH = 16
EPOCHS = 12
TRAIN, VALIDATION = 1344, 256  # the test has writers of its own
RATES = (0.0015625, 0.003125, 0.00625, 0.0125, 0.025, 0.05, 0.1, 0.2)
BATCHES = ("shuffled", "half alike", "alike")
RATES_FILE = "alike_batches_rates.csv"


def network(normalization: str) -> keras.Model:
    """Return three convolutions, each normalized."""
    x = inputs = keras.Input((8, 8, 1))
    for filters in (16, 32, 64):
        if filters > 16:
            x = keras.layers.MaxPooling2D()(x)
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer="he_normal",
            use_bias=normalization == "none",  # the others have beta
        )(x)
        x = harness.normalized(x, normalization, BATCH)
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


@cache
def trainer(normalization: str) -> harness.Trainer:
    """Return what trains the network with this normalization."""
    return harness.Trainer(lambda: network(normalization))


def order(classes: np.ndarray, batches: str, random: np.random.Generator) -> np.ndarray:
    """Return an epoch: of each batch, all, half or none are of one class."""
    if batches == "shuffled":
        return harness.shuffled(len(classes), BATCH, random)
    rows = random.permutation(len(classes))
    if batches == "alike":
        return random.permutation(_by_class(rows, classes, BATCH))
    # Every sample has its turn: the first half by class, the others beside them.
    alike = _by_class(rows[: len(rows) // 2], classes, BATCH // 2)
    others = rows[len(rows) // 2 :][: alike.size].reshape(alike.shape)
    return np.concatenate([random.permutation(alike), others], 1)


def _by_class(rows: np.ndarray, classes: np.ndarray, size: int) -> np.ndarray:
    parts = [rows[classes[rows] == digit] for digit in range(10)]
    full = [part[: len(part) // size * size].reshape(-1, size) for part in parts]
    return np.concatenate(full).astype(np.int32)


def train(
    run: runs.Run, x: np.ndarray, y: np.ndarray
) -> tuple[harness.Trainer, list[float]]:
    """Return what trained the network as `run` says, and the loss of each epoch."""
    random = np.random.default_rng(run["seed"])
    orders = [order(y, run["batches"], random) for _ in range(EPOCHS)]
    own = trainer(run["normalization"])
    return own, own.train(x, y, orders, run["rate"], run["seed"])


def rates(batches: tuple[str, ...] = BATCHES) -> dict[tuple[str, ...], float]:
    """Return the learning rates, each chosen on the last of the training images."""
    x, y = samples.digits()
    first = TRAIN - VALIDATION

    def one(run: runs.Run) -> runs.Run:
        own, _ = train(run, x[:first], y[:first])
        return harness.validation(own, x[first:TRAIN], y[first:TRAIN])

    wanted = [
        {"normalization": normalization, "batches": kind}
        for normalization in harness.NORMALIZATIONS
        for kind in batches
    ]
    return harness.choose_rates(wanted, RATES, RATES_FILE, one)


def main() -> None:
    """Do the runs that are missing."""
    x, y = samples.digits()
    chosen = rates()

    def one(run: runs.Run) -> dict[str, Any]:
        rate = chosen[run["normalization"], run["batches"]]
        own, _ = train({**run, "rate": rate}, x[:TRAIN], y[:TRAIN])
        return {"rate": rate, "error": own.error(x[TRAIN:], y[TRAIN:])}

    wanted = [
        {"normalization": normalization, "batches": kind, "seed": seed}
        for normalization in harness.NORMALIZATIONS
        for kind in BATCHES
        for seed in harness.SEEDS
    ]
    runs.do_runs(wanted, "alike_batches_runs.csv", one)


if __name__ == "__main__":
    main()
