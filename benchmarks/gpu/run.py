"""Time, bandwidth and error on the device at hand: a GPU, or a CPU to see it work.

`python -m gpu.run FOLDER`, in `benchmarks/`, for a folder that `programs.py` wrote. The
device runs a chain of calls as one piece of work (a program of XLA's, a CUDA graph of
PyTorch's), and gets the next one before it is done, so that it never waits for Python.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import timing
from cases import MAIN, TINY, Case, Data, data
from gpu import torch_device, xla
from reference import RESULTS, error, reference

SHIFTS = (0.0, 1e2, 1e3, 1e4, 1e5)
COPY = "one copy"
_MILLISECOND = 1e-3

_DEVICE = jax.devices()[0]
_CHAINS = 1 if _DEVICE.platform == "cpu" else 10  # begun before one is waited for


def main() -> None:
    """Run all programs in a folder, and write what was found into it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", help="only programs of this one")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each")
    parser.add_argument("--rounds", type=int, default=50, help="no more than these")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "device": _DEVICE.device_kind,
        "torch_device": torch_device.DEVICE,
        "versions": {p: version(p) for p in ("jax", "jaxlib", "torch", "numpy")},
        "speed": [],
        "errors": [],
    }
    for entry in xla.read(arguments.folder):
        if arguments.dtype not in (None, entry.case.dtype):
            continue
        found = _speed(entry, arguments.budget, arguments.rounds)
        print(json.dumps(found), flush=True)
        results["speed"].append(found)
        if entry.backward and entry.case.shape in {c.shape for c in (*MAIN, TINY)}:
            results["errors"].extend(_errors(entry))
        jax.clear_caches()
    path = arguments.folder / "results.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"Wrote {path}.")


def _speed(entry: xla.Entry, budget: float, rounds: int) -> dict[str, Any]:
    case, backward, _ = entry
    runs = {
        name: _timed(run)
        for name, run in (_chains(entry, data(case), case.links) | _copy(case)).items()
    }
    samples = timing.interleaved(runs, budget, (min(5, rounds), rounds))
    calls = case.links * _CHAINS
    # What cannot be done without: x and dy once, y and dx once.
    gigabytes = _bytes(case) * (4 if backward else 2) / 1e9
    return {
        **case._asdict(),
        "backward": backward,
        "rounds": len(samples[COPY]),
        "milliseconds": {
            name: timing.summary(times, _MILLISECOND * calls)
            for name, times in samples.items()
        },
        "gigabytes_a_second": {
            name: (gigabytes if name != COPY else 2 * _bytes(case) / 1e9)
            / (timing.summary(times)["median"] / calls)
            for name, times in samples.items()
        },
        "relative_to_copy": timing.ratios(samples, COPY),
        "ours_relative_to": {
            name: timing.ratios(samples, name)["ours, XLA"] for name in samples
        },
    }


def _chains(entry: xla.Entry, tensors: Data, links: int) -> dict[str, Callable]:
    """For each implementation a function that begins a chain of calls."""
    case, backward, programs = entry
    given = _arguments(case, tensors, backward)
    chains = {}
    for name, program in programs.items():
        chained = xla.chain(program, case, backward, links)
        compiled = xla.compiled(chained, case, backward)
        chains[f"{name}, XLA"] = lambda compiled=compiled: compiled(*given)
    for name, layer in torch_device.LAYERS.items():
        chained = (layer.step if backward else layer.forward)(case, tensors, links)
        chains[name] = torch_device.captured(chained)
    return chains


def _copy(case: Case) -> dict[str, Callable]:
    """The floor: as much is read and written, and next to nothing computed."""

    def chained(x):
        for _ in range(case.links):
            x = jax.lax.optimization_barrier(-x)
        return x

    x = jnp.ones(case.input_shape, case.dtype)
    compiled = jax.jit(chained).lower(x).compile()
    return {COPY: lambda: compiled(x)}


def _timed(begin: Callable[[], Any]) -> Callable[[], None]:
    def run():
        for _ in range(_CHAINS):
            results = begin()
        jax.block_until_ready(results)
        torch_device.wait()

    return run


def _errors(entry: xla.Entry) -> Iterator[dict[str, Any]]:
    """Largest errors against float64, with means further and further from zero."""
    case = entry.case
    for shift in SHIFTS:
        unit = data(case)
        given = _rounded(unit._replace(x=unit.x + np.float32(shift)), case.dtype)
        if not np.isfinite(given.x).all():
            continue
        expected = reference(case, given)
        errors = {}
        for name, run in _chains(entry, given, 1).items():
            results = [_float64(name, result, case) for result in run()]
            errors[name] = {
                part: error(result, correct)
                for part, result, correct in zip(
                    RESULTS, results, expected, strict=True
                )
            }
        yield {**case._asdict(), "mean": shift, "errors": errors}


def _arguments(case: Case, tensors: Data, backward: bool) -> list[jax.Array]:
    x, dy = (jnp.asarray(array, case.dtype) for array in (tensors.x, tensors.dy))
    weights = [jnp.asarray(tensors.gamma), jnp.asarray(tensors.beta)]
    return [x, *weights, *([dy] if backward else [])]


def _rounded(tensors: Data, dtype: str) -> Data:
    """The same numbers as that dtype can hold them: no one's error is in the input."""
    return Data(*(np.asarray(jnp.asarray(a, dtype), np.float32) for a in tensors))


def _float64(name: str, result: Any, case: Case) -> np.ndarray:
    if name in torch_device.LAYERS:
        return torch_device.LAYERS[name].numpy(result, case)
    return np.asarray(result).astype(np.float64)


def _bytes(case: Case) -> int:
    return math.prod(case.shape) * jnp.dtype(case.dtype).itemsize


if __name__ == "__main__":
    main()
