"""Largest errors against NumPy in float64, relative to the largest value.

Each implementation gets the same float32 numbers: unit variance around a mean that is
shifted further and further, and tensors whose first or last positions are not like the
rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cases import Case, Data, data
from implementations import NORMALIZATIONS
from reference import RESULTS, error, reference

SHIFTS = (0.0, 1e2, 1e3, 1e4, 1e5)
_CASE = Case((4, 48, 48, 64), 8)


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
                part: error(implementation.numpy(result, _CASE), correct)
                for part, result, correct in zip(
                    RESULTS, results, expected, strict=True
                )
            }
        inputs[name] = {"shift": shift, "errors": errors}
    return {"shape": _CASE.shape, "groups": _CASE.groups, "inputs": inputs}


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
