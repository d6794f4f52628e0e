"""Keeping runs: a line each in a file, and whatever is in the file is done."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vignettes" / "data"
STARTED = time.monotonic()
Run = dict[str, Any]


def finished(file: str) -> list[dict[str, str]]:
    """Return the lines of a file of runs."""
    path = FOLDER / file
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def do_runs(
    wanted: list[Run], file: str, one: Callable[[Run], Run | list[Run]]
) -> None:
    """Append `one(run)` to the file for each run that it lacks.

    Args:
        wanted: what tells a run from the others, for each of them.
        file: its name in `vignettes/data`.
        one: does a run, and returns what was measured: a line, or several.
    """
    if not wanted:
        return
    keys = list(wanted[0])
    done = {tuple(line[key] for key in keys) for line in finished(file)}
    todo = [run for run in wanted if tuple(map(str, run.values())) not in done]
    for i, run in enumerate(todo):
        _bar(file, len(wanted) - len(todo) + i, len(wanted))
        if time.monotonic() - STARTED > 60 * minutes():
            sys.exit("\nThe time is over; start it again for the rest.")
        started = time.perf_counter()
        results = one(run)
        seconds = round(time.perf_counter() - started, 2)
        lines = results if isinstance(results, list) else [results]
        _append([{**run, **line, "seconds": seconds} for line in lines], file)
    _bar(file, len(wanted), len(wanted))
    sys.stderr.write("\n")


def minutes() -> float:
    """Return how long may be worked: the first argument of the command."""
    return float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")


def _append(lines: list[Run], file: str) -> None:
    path = FOLDER / file
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(lines)


def _bar(name: str, done: int, of: int) -> None:
    filled = 30 * done // of
    bar = "#" * filled + "." * (30 - filled)
    sys.stderr.write(f"\r{name} [{bar}] {done} of {of}")
    sys.stderr.flush()
