"""Time on drawn shapes: a distribution, not the best case.

`python benchmarks/sweep.py [SEED] [--cases N] [--out FILE]` draws and measures by
itself; `run.py` does it as one of its parts. Without a seed it takes a new one, and
says which.
"""

from __future__ import annotations

import argparse
import gc
import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np

import drawn
import timing
from cases import Case, data
from implementations import NORMALIZATIONS, RELU, fix_threads, require_native

CASES = 48
FLOOR = "multiply and relu"
TORCH = ("torch, NCHW", "torch, channels last")
_BUDGET, _ROUNDS = 2.5, (15, 60)

Entry = dict[str, Any]


def measure(quick: bool, seed: int | None = None, count: int = CASES) -> dict[str, Any]:
    """Return the seed, and times and ratios of each case and pass."""
    seed = secrets.randbelow(100_000) if seed is None else seed
    print(f"drawn from seed {seed}", flush=True)
    entries = []
    for kind, case in drawn.cases(seed, 6 if quick else count):
        for backward in (False, True):
            entries.append({"kind": kind, **_measure_case(case, backward, quick)})
            gc.collect()
    return {"seed": seed, "entries": entries}


def _measure_case(case: Case, backward: bool, quick: bool) -> Entry:
    if quick:
        case = case._replace(
            shape=(*case.shape[:1], *map(_at_most_8, case.shape[1:-1]), case.shape[-1]),
            links=1,
        )
    tensors = data(case)
    kind = "step" if backward else "forward"
    implementations = NORMALIZATIONS | {FLOOR: RELU}
    runs = {
        name: getattr(implementation, kind)(case, tensors, case.links)
        for name, implementation in implementations.items()
    }
    budget, rounds = (0.0, (1, 1)) if quick else (_BUDGET, _ROUNDS)
    samples = timing.interleaved(runs, budget, rounds, warm=True)
    # PyTorch's threads now and then wait for one another for 8 ms: its median would
    # flatter us.
    times = {n: float(np.quantile(values, 0.25)) for n, values in samples.items()}
    entry = {
        **case._asdict(),
        "backward": backward,
        "rounds": len(samples[FLOOR]),
        "milliseconds": {name: 1e3 * t / case.links for name, t in times.items()},
        "ratios": _ratios(times),
    }
    print(_line(entry), flush=True)
    return entry


def _at_most_8(size: int) -> int:
    return min(size, 8)


def _ratios(times: dict[str, float]) -> dict[str, float]:
    """Return ours in parts of what it is held against."""
    torch = min(TORCH, key=times.__getitem__)
    bound = max((torch, FLOOR), key=times.__getitem__)
    pairs = {
        "native / keras": ("ours, native", "keras, graph"),
        "native / torch or floor": ("ours, native", bound),
        "TensorFlow / keras": ("ours, TensorFlow", "keras, graph"),
        "XLA / keras XLA": ("ours, XLA", "keras, XLA"),
        "XLA alone / keras XLA": ("ours, XLA alone", "keras, XLA"),
    }
    return {name: times[ours] / times[other] for name, (ours, other) in pairs.items()}


def _line(entry: Entry) -> str:
    ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in entry["ratios"].items())
    kind = "forward + backward" if entry["backward"] else "forward"
    return (
        f"{entry['shape']} {entry['groups']} groups, axis {entry['axis']} "
        f"{entry['dtype']} {kind}: {ratios}"
    )


def main() -> None:
    """Measure what the command line asks for, and leave it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="default: a new one")
    parser.add_argument("--cases", type=int, default=CASES, metavar="N")
    parser.add_argument("--out", type=Path, help="a file for the results")
    arguments = parser.parse_args()
    require_native()
    fix_threads()
    results = measure(False, arguments.seed, arguments.cases)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
