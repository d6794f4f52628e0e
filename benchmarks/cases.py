"""What is normalized: shapes, layouts, dtypes, and the numbers in the tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

EPSILON = 1e-3


class Case(NamedTuple):
    """One kind of input. `shape` has the channels last, whatever `axis` is."""

    shape: tuple[int, ...]
    groups: int
    axis: int = -1  # of the channels: -1, or 1 for channels first
    dtype: str = "float32"
    links: int = 10  # calls in a row inside one timed run, an even number

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the tensor that is normalized."""
        if self.axis == -1:
            return self.shape
        return (self.shape[0], self.shape[-1], *self.shape[1:-1])


class Data(NamedTuple):
    """Float32 arrays: the input, the gradient of the output, the two weights."""

    x: np.ndarray
    dy: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray


# The first four are those of the design; the last one shows the cost of a call.
SHAPES = (
    ((32, 56, 56, 64), 32),
    ((8, 32, 32, 256), 32),
    ((32, 128, 512), 8),
    ((2, 224, 224, 32), 8),
    ((8, 4, 4, 32), 8),
)
TINY = Case(*SHAPES[-1])

MAIN = tuple(Case(shape, groups) for shape, groups in SHAPES)


def data(case: Case, seed: int = 1) -> Data:
    """Standard normal tensors, and weights near their usual values."""
    random = np.random.default_rng(seed)
    channels = case.shape[-1]
    return Data(
        random.standard_normal(case.input_shape, np.float32),
        random.standard_normal(case.input_shape, np.float32),
        random.uniform(0.9, 1.1, channels).astype(np.float32),
        random.uniform(-0.1, 0.1, channels).astype(np.float32),
    )
