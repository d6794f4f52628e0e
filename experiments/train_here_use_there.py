"""Images of another contrast, brightness or source than those trained on."""

from __future__ import annotations

import numpy as np

import alike_batches
import harness
import runs
import samples

CONTRASTS = (1.0, 0.5, 0.25, 0.125)
BRIGHTNESSES = (0.0, 0.125, 0.25, 0.5)  # white is 1


def changed() -> list[tuple[str, float, np.ndarray, np.ndarray]]:
    """Return sets to be tested: what was changed, how much, the images, the classes."""
    x, y = (part[alike_batches.TRAIN :] for part in samples.digits())
    random = np.random.default_rng(1).uniform(size=(len(x), 2, 1, 1, 1))
    random = random.astype(np.float32)
    return [
        *[("contrast", factor, factor * x, y) for factor in CONTRASTS],
        *[("brightness", added, x + added, y) for added in BRIGHTNESSES],
        # Of each image another one: a factor from 1/8 to 1, an offset from 0 to 1/2.
        ("both, of each image", 0.0, 8 ** -random[:, 0] * x + random[:, 1] / 2, y),
        ("source: MNIST", 0.0, *samples.mnist_like_digits()),
    ]


def main() -> None:
    """Do the runs that are missing: the networks of shuffled batches once more."""
    x, y = (part[: alike_batches.TRAIN] for part in samples.digits())
    chosen = alike_batches.rates()
    tests = changed()

    def one(run: runs.Run) -> list[runs.Run]:
        rate = chosen[run["normalization"], "shuffled"]
        run = {**run, "batches": "shuffled", "rate": rate}
        own, _ = alike_batches.train(run, x, y)
        return [
            {"what": what, "amount": amount, "error": own.error(images, classes)}
            for what, amount, images, classes in tests
        ]

    wanted = [
        {"normalization": normalization, "seed": seed}
        for normalization in harness.NORMALIZATIONS
        for seed in harness.SEEDS
    ]
    runs.do_runs(wanted, "train_here_use_there_runs.csv", one)


if __name__ == "__main__":
    main()
