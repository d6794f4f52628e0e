"""Sequences of different lengths: what does padding do to a normalized network?"""

from __future__ import annotations

from functools import cache
from typing import Any

import keras
import numpy as np

import harness
import runs
import samples

BATCH = 18
EPOCHS = 40
LENGTH = 29  # the longest; training is padded to it
PADDED_TO = (LENGTH, 2 * LENGTH, 4 * LENGTH)
HELD_OUT = 6  # utterances of each of the nine speakers choose the learning rate
RATES = (0.00625, 0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)
VARIANTS = [
    {"normalization": normalization, "use_mask": use_mask}
    for normalization in ("batch", "group", "layer", "none")
    for use_mask in ((False,) if normalization == "none" else (False, True))
]


def network(normalization: str, use_mask: bool) -> keras.Model:
    """Return three convolutions over time, and the mean over the steps that are there.

    Args:
        normalization: what follows each convolution.
        use_mask: whether it is told which steps are padding.
    """
    x = inputs = keras.Input((None, 12))
    mask = keras.ops.any(keras.ops.not_equal(inputs, 0), -1)
    present = keras.ops.cast(mask, "float32")[..., None]
    for _ in range(3):
        x = keras.layers.Conv1D(
            32,
            3,
            padding="same",
            kernel_initializer="he_normal",
            use_bias=normalization == "none",
        )(x)
        layer = harness.layer(normalization, BATCH, use_mask)
        if layer is not None:
            x = layer(x, mask=mask) if use_mask else layer(x)
        # What follows the end is zero again, so that no convolution reaches into it:
        # only the normalization can tell how much of it there is.
        x = keras.layers.ReLU()(x) * present
    x = keras.ops.sum(x, 1) / keras.ops.sum(present, 1)
    return keras.Model(inputs, keras.layers.Dense(9)(x))


@cache
def trainer(normalization: str, use_mask: bool) -> harness.Trainer:
    """Return what trains the network."""
    return harness.Trainer(lambda: network(normalization, use_mask))


def train(run: runs.Run, x: np.ndarray, y: np.ndarray) -> harness.Trainer:
    """Return what trained the network as `run` says."""
    random = np.random.default_rng(run["seed"])
    orders = [harness.shuffled(len(x), BATCH, random) for _ in range(EPOCHS)]
    own = trainer(run["normalization"], run["use_mask"])
    own.train(x, y, orders, run["rate"], run["seed"])
    return own


def probabilities(
    own: harness.Trainer, sequences: list[np.ndarray], length: int
) -> np.ndarray:
    """Return what is predicted for each sequence.

    Args:
        own: has the network.
        sequences: what to predict for.
        length: what they are padded to; 0: none is padded.
    """
    if length:
        return _softmax(own.logits(samples.padded(sequences, length)))
    return np.concatenate([_softmax(own.logits(one[None])) for one in sequences])


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def chosen_rates() -> dict[tuple[str, ...], float]:
    """Return the learning rates, each chosen on the last utterances of each speaker."""
    sequences, y = samples.vowels("TRAIN")
    x = samples.padded(sequences, LENGTH)
    held_out = np.arange(len(y)) % 30 >= 30 - HELD_OUT  # 30 of each, in order

    def one(run: runs.Run) -> runs.Run:
        own = train(run, x[~held_out], y[~held_out])
        return harness.validation(own, x[held_out], y[held_out])

    return harness.choose_rates(VARIANTS, RATES, "padded_sequences_rates.csv", one)


def main() -> None:
    """Do the runs that are missing."""
    sequences, y = samples.vowels("TRAIN")
    tested, speakers = samples.vowels("TEST")
    x = samples.padded(sequences, LENGTH)
    shortest = min(range(len(tested)), key=lambda i: len(tested[i]))
    chosen = chosen_rates()

    def one(run: runs.Run) -> list[dict[str, Any]]:
        rate = chosen[run["normalization"], str(run["use_mask"])]
        own = train({**run, "rate": rate}, x, y)
        alone = probabilities(own, tested, 0)
        lines = []
        for length in (0, *PADDED_TO):
            found = probabilities(own, tested, length)
            wrong = found.argmax(-1) != speakers
            change = np.abs(found - alone).max()
            lines.append(
                {
                    "rate": rate,
                    "padded_to": length,
                    "error": round(100 * float(wrong.mean()), 3),
                    "largest_change": f"{change:.2g}",
                    "of_shortest": f"{found[shortest, speakers[shortest]]:.4g}",
                }
            )
        return lines

    runs.do_runs(
        [{**variant, "seed": seed} for variant in VARIANTS for seed in harness.SEEDS],
        "padded_sequences_runs.csv",
        one,
    )


if __name__ == "__main__":
    main()
