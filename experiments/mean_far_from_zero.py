"""Raw counts with a large offset: the same training with Keras's layer and ours."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np

import harness
import runs
import samples

BATCH = 8
EPOCHS = 30
HELD_OUT = 3  # of each of the four activities, to choose the learning rate
RATES = (0.003125, 0.0125, 0.05, 0.2, 0.8)
MIDDLE = 2**23  # what a converter of 24 bits says where there is nothing to measure
SPREADS = (2**10, 2**7, 2**4, 2**1)  # of the counts: the standard deviation
LAYERS = ("keras", "groupnorm", "keras, offset subtracted before")


def counts(x: np.ndarray, spread: int) -> np.ndarray:
    """Return what a converter of 24 bits would have counted: whole numbers, exactly.

    Args:
        x: the measurements.
        spread: the standard deviation of the counts.
    """
    raw = np.rint(x.astype(np.float64) * spread / x.std()) + MIDDLE
    return np.clip(raw, 0, 2**24 - 1).astype(np.float32)


def network(layer: str) -> keras.Model:
    """Return a normalization of what comes in, and two convolutions over time."""
    x = inputs = keras.Input((100, 6))
    for filters in (0, 16, 16):
        if filters:
            x = keras.layers.Conv1D(filters, 5, 2, kernel_initializer="he_normal")(x)
        # The first is for the input: all of its channels have the same offset.
        groups = harness.GROUPS if filters else 1
        if layer == "groupnorm":
            x = harness.GroupNormalization(groups=groups)(x)
        else:
            x = keras.layers.GroupNormalization(groups)(x)
        if filters:
            x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(4)(x))


@cache
def trainer(layer: str) -> harness.Trainer:
    """Return what trains the network."""
    return harness.Trainer(lambda: network(layer))


def seen(x: np.ndarray, run: runs.Run) -> np.ndarray:
    """Return what the network of this run gets."""
    raw = counts(x, run["spread"])
    return raw - np.float32(MIDDLE) if "subtracted" in run["layer"] else raw


def train(run: runs.Run, x: np.ndarray, y: np.ndarray) -> list[float]:
    """Return the losses."""
    random = np.random.default_rng(run["seed"])
    orders = [harness.shuffled(len(y), BATCH, random) for _ in range(EPOCHS)]
    return trainer(run["layer"]).train(x, y, orders, run["rate"], run["seed"])


def main() -> None:
    """Do the runs that are missing."""
    x, y = samples.motions("TRAIN")
    tested, activities = samples.motions("TEST")
    held_out = np.arange(len(y)) % 10 >= 10 - HELD_OUT  # ten of each, in order

    def choose(run: runs.Run) -> runs.Run:
        inputs = seen(x, run)
        train(run, inputs[~held_out], y[~held_out])
        return harness.validation(trainer(run["layer"]), inputs[held_out], y[held_out])

    def one(run: runs.Run) -> list[runs.Run]:
        rate = chosen[run["layer"], str(run["spread"])]
        losses = train({**run, "rate": rate}, seen(x, run), y)
        error = trainer(run["layer"]).error(seen(tested, run), activities)
        return [
            {"rate": rate, "epoch": i + 1, "loss": f"{loss:.4g}", "error": error}
            for i, loss in enumerate(losses)
        ]

    wanted = [
        {"layer": layer, "spread": spread} for layer in LAYERS for spread in SPREADS
    ]
    chosen = harness.choose_rates(wanted, RATES, "mean_far_from_zero_rates.csv", choose)
    runs.do_runs(
        [{**run, "seed": seed} for run in wanted for seed in harness.SEEDS],
        "mean_far_from_zero_runs.csv",
        one,
    )


if __name__ == "__main__":
    main()
