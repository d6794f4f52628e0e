"""Largest errors against NumPy in float64, relative to the largest value.

Each implementation gets the same float32 numbers: unit variance around a mean that is
shifted further and further, and tensors whose first or last positions are not like the
rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cases import EPSILON, Case, Data, data
from implementations import NORMALIZATIONS

SHIFTS = (0.0, 1e2, 1e3, 1e4, 1e5)
_CASE = Case((4, 48, 48, 64), 8)
_RESULTS = ("y", "dx", "dgamma", "dbeta")


def measure() -> dict[str, Any]:
    """For each input and implementation, the error of the output and the gradients."""
    runs = {
        name: implementation.step(_CASE, data(_CASE), 1)
        for name, implementation in NORMALIZATIONS.items()
    }
    inputs = {}
    for name, shift, tensors in _inputs():
        expected = reference(_CASE, tensors)
        errors = {}
        for label, implementation in NORMALIZATIONS.items():
            results = runs[label](*implementation.tensors(_CASE, tensors))
            errors[label] = {
                part: _error(implementation.numpy(result, _CASE), correct)
                for part, result, correct in zip(
                    _RESULTS, results, expected, strict=True
                )
            }
        inputs[name] = {"shift": shift, "errors": errors}
    return {"shape": _CASE.shape, "groups": _CASE.groups, "inputs": inputs}


def reference(case: Case, tensors: Data) -> tuple[np.ndarray, ...]:
    """Output, dx, dgamma and dbeta from their definitions in float64."""
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


def _inputs() -> Iterator[tuple[str, float | None, Data]]:
    unit = data(_CASE)
    for shift in SHIFTS:
        yield f"mean {shift:g}", shift, unit._replace(x=unit.x + np.float32(shift))
    shifted = unit.x + np.float32(1e4)
    first = shifted.copy()
    first[:, 0, 0] = 0
    yield "mean 1e4, first position 0", None, unit._replace(x=first)
    last = shifted.copy()
    last[:, -1, -1] = 0
    yield "mean 1e4, last position 0", None, unit._replace(x=last)
    padded = shifted.copy()
    padded[:, 36:] = 0
    yield "mean 1e4, last quarter padding", None, unit._replace(x=padded)


def _error(found: np.ndarray, correct: np.ndarray) -> float:
    return float(np.abs(found - correct).max() / np.abs(correct).max())
