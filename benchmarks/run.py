"""Measure everything that the targets speak of: `python benchmarks/run.py`."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import accuracy
import figure
import implementations
import kept_work
import machine
import memory
import r_boundary
import report
import speed
import sweep
import training

HERE = Path(__file__).parent


def main() -> None:
    """Run the parts one after the other, and writes results, figure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="see whether it works")
    parser.add_argument("--seed", type=int, help="of the drawn shapes; else a new one")
    parser.add_argument("--out", type=Path, help="folder for results.json and the rest")
    arguments = parser.parse_args()
    out = arguments.out or HERE / ("quick" if arguments.quick else "results")
    out.mkdir(parents=True, exist_ok=True)

    results = measure(arguments.quick, arguments.seed)
    path = out / "results.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    figure.draw(results, out / "figure.png")
    # A quick run is no news for the README.
    is_elsewhere = arguments.quick or arguments.out
    page = out / "report.md" if is_elsewhere else HERE / "README.md"
    if not is_elsewhere:
        shutil.copy(out / "figure.png", HERE.parent / "man/figures/benchmark.png")
    report.write(results, page)
    print(f"Wrote {path}, figure.png beside it, and {page}.")


def measure(quick: bool, seed: int | None) -> dict[str, Any]:
    """All measurements, and what they were made on."""
    implementations.require_native()
    implementations.fix_threads()
    results: dict[str, Any] = {
        "quick": quick,
        "machine": machine.description(),
        "versions": machine.versions(),
        "threads": implementations.THREADS,
        "load_before": machine.load(),
    }
    parts = {
        "kept_work": kept_work.measure,
        "sweep": lambda: sweep.measure(quick, seed),
        "speed": lambda: speed.measure(quick),
        "training": lambda: training.measure(quick),
        "accuracy": accuracy.measure,
        "r": lambda: r_boundary.measure(quick),
        "memory": lambda: memory.measure(quick),
    }
    took = {}
    for name, part in parts.items():
        start = time.perf_counter()
        results[name] = part()
        took[name] = round(time.perf_counter() - start, 1)
        print(f"{name}: {took[name]} s", flush=True)
    return results | {"load_after": machine.load(), "seconds": took}


if __name__ == "__main__":
    main()
