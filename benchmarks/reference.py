"""Group normalization and its gradients from their definitions, in float64."""

from __future__ import annotations

import numpy as np

from cases import EPSILON, Case, Data

RESULTS = ("y", "dx", "dgamma", "dbeta")


def reference(case: Case, tensors: Data) -> tuple[np.ndarray, ...]:
    """Output, dx, dgamma and dbeta, for channels last."""
    x, dy, gamma, beta = (array.astype(np.float64) for array in tensors)
    size = (x.shape[0], -1, case.groups, x.shape[-1] // case.groups)
    mean_group = {"axis": (1, 3), "keepdims": True}

    centered = x.reshape(size) - x.reshape(size).mean(**mean_group)
    rstd = 1 / np.sqrt(np.square(centered).mean(**mean_group) + EPSILON)
    z = centered * rstd
    g = (dy * gamma).reshape(size)
    dx = rstd * (g - g.mean(**mean_group) - z * (g * z).mean(**mean_group))

    z, positions = z.reshape(x.shape), tuple(range(x.ndim - 1))
    dgamma, dbeta = (dy * z).sum(positions), dy.sum(positions)
    return z * gamma + beta, dx.reshape(x.shape), dgamma, dbeta


def error(found: np.ndarray, correct: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(found - correct).max() / np.abs(correct).max())
