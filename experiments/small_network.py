"""What the article How it works draws: activations and losses of a small network."""

from __future__ import annotations

import keras
import numpy as np

import alike_batches
import harness
import runs
import samples

IMAGES = 64
SHOWN = 8  # of the images, and of the channels
CONTRASTS = np.geomspace(1, 1 / 4, SHOWN, dtype="float32")  # of the images
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def losses(run: runs.Run) -> list[runs.Run]:
    """Return the loss of each epoch: the runs with shuffled batches once more."""
    _, found = _trained(run)
    return [{"epoch": i + 1, "loss": f"{loss:.4g}"} for i, loss in enumerate(found)]


def activations(run: runs.Run) -> list[runs.Run]:
    """Return quantiles of a convolution's outputs as they are, and normalized.

    Each image has a contrast of its own. They come from the second convolution of the
    network that was trained without normalization: every normalization gets the same
    numbers.
    """
    model = _trained({**run, "normalization": "none"})[0].model
    is_convolution = [isinstance(layer, keras.layers.Conv2D) for layer in model.layers]
    second = model.layers[np.flatnonzero(is_convolution)[1]]
    images = samples.digits()[0][alike_batches.TRAIN :][:IMAGES]
    images = images * np.resize(CONTRASTS, (IMAGES, 1, 1, 1))
    outputs = keras.Model(model.inputs[0], second.output)(images)
    lines = []
    for normalization in harness.NORMALIZATIONS:
        layer = harness.layer(normalization, IMAGES)
        numbers = outputs if layer is None else layer(outputs, training=True)
        numbers = keras.ops.convert_to_numpy(numbers)
        for what, axis in (("image", 0), ("channel", -1)):
            for i in range(SHOWN):
                found = np.quantile(np.take(numbers, i, axis), QUANTILES)
                names = (f"q{100 * quantile:.0f}" for quantile in QUANTILES)
                lines.append(
                    {"normalization": normalization, "of": what, "number": i + 1}
                    | {k: round(float(q), 4) for k, q in zip(names, found, strict=True)}
                )
    return lines


def _trained(run: runs.Run) -> tuple[harness.Trainer, list[float]]:
    x, y = (part[: alike_batches.TRAIN] for part in samples.digits())
    rate = alike_batches.rates()[run["normalization"], "shuffled"]
    return alike_batches.train({**run, "batches": "shuffled", "rate": rate}, x, y)


def main() -> None:
    """Do the runs that are missing."""
    wanted = [
        {"normalization": normalization, "seed": seed}
        for normalization in harness.NORMALIZATIONS
        for seed in harness.SEEDS
    ]
    runs.do_runs(wanted, "small_network_losses.csv", losses)
    runs.do_runs([{"seed": 1}], "small_network_activations.csv", activations)


if __name__ == "__main__":
    main()
