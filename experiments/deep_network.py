"""A residual network of 20 layers, in batches of 1, 2 and 4."""

from __future__ import annotations

import csv
from functools import cache

import keras
import numpy as np

import harness
import runs
import samples

TRAIN, VALIDATION = 2000, 400  # all others of the 5,000 are the test
EPOCHS = 3
REFERENCE_BATCH = 4  # the rate is chosen here, and scaled linearly from here
RATES = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
BATCH_SIZES = (4, 2, 1)
NORMALIZATIONS = ("batch", "group", "layer", "none")
FILTERS = (8, 16, 32)


def network(normalization: str, batch_size: int, size: int | None = 14) -> keras.Model:
    """Return a stem, nine blocks of two convolutions each, and a dense layer.

    Args:
        normalization: what follows each convolution.
        batch_size: how many images a step has.
        size: of the images.
    """

    def convolution(x, filters, strides=1, size=3):
        x = keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            kernel_initializer="he_normal",
            use_bias=normalization == "none",
        )(x)
        return harness.normalized(x, normalization, batch_size)

    def block(x, filters, strides):
        y = keras.layers.ReLU()(convolution(x, filters, strides))
        y = convolution(y, filters)
        if strides > 1:
            x = convolution(x, filters, strides, 1)
        return keras.layers.ReLU()(x + y)

    inputs = keras.Input((size, size, 1))
    x = keras.layers.ReLU()(convolution(inputs, FILTERS[0]))
    for filters in FILTERS:
        for i in range(3):
            x = block(x, filters, 2 if i == 0 and filters > FILTERS[0] else 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


@cache
def trainer(normalization: str, batch_size: int) -> harness.Trainer:
    """Return what trains the network."""
    return harness.Trainer(lambda: network(normalization, batch_size))


def train(run: runs.Run, x: np.ndarray, y: np.ndarray) -> harness.Trainer:
    """Return what trained the network as `run` says."""
    random = np.random.default_rng(run["seed"])
    size = run["batch_size"]
    orders = [harness.shuffled(len(y), size, random) for _ in range(EPOCHS)]
    own = trainer(run["normalization"], size)
    own.train(x, y, orders, run["rate"], run["seed"])
    return own


def write_memory() -> None:
    """Write how much the layers put out, of this network and of ResNet-50.

    It is computed from the shapes, float32, not measured: what a backward pass keeps is
    less where layers work in place or are fused, and weights come on top.
    """
    models = [
        ("this network", 14, network("group", 1)),
        ("this network", 224, network("group", 1, 224)),
        ("ResNet-50", 224, keras.applications.ResNet50(weights=None)),
        (
            "ResNet-50",
            1024,
            keras.applications.ResNet50(
                weights=None, include_top=False, input_shape=(1024, 1024, 3)
            ),
        ),
    ]
    path = runs.FOLDER / "deep_network_memory.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["network", "size", "batch_size", "mebibytes"])
        for name, size, model in models:
            numbers = sum(
                np.prod(layer.output.shape[1:])
                for layer in model.layers
                if not isinstance(layer, keras.layers.InputLayer)
            )
            for batch_size in (1, 2, 4, 32):
                mebibytes = batch_size * numbers * 4 / 2**20
                writer.writerow([name, size, batch_size, f"{mebibytes:.4g}"])


def main() -> None:
    """Do the runs that are missing."""
    x, y = samples.mnist()
    x = samples.means(x, 2)
    first = TRAIN - VALIDATION

    def choose(run: runs.Run) -> runs.Run:
        run = {**run, "batch_size": REFERENCE_BATCH}
        own = train(run, x[:first], y[:first])
        return harness.validation(own, x[first:TRAIN], y[first:TRAIN])

    def one(run: runs.Run) -> runs.Run:
        chosen_rate = chosen[(run["normalization"],)]
        rate = chosen_rate * run["batch_size"] / REFERENCE_BATCH
        own = train({**run, "rate": rate}, x[:TRAIN], y[:TRAIN])
        return {"rate": rate, "error": own.error(x[TRAIN:], y[TRAIN:])}

    chosen = harness.choose_rates(
        [{"normalization": normalization} for normalization in NORMALIZATIONS],
        RATES,
        "deep_network_rates.csv",
        choose,
        seeds=harness.SELECTION_SEEDS[:1],
    )
    wanted = [
        {"batch_size": size, "normalization": normalization, "seed": seed}
        for seed in harness.SEEDS
        for size in BATCH_SIZES
        for normalization in NORMALIZATIONS
    ]
    runs.do_runs(wanted, "deep_network_runs.csv", one)
    write_memory()


if __name__ == "__main__":
    main()
