"""The cost of the R package: attaching it, and making a layer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import timing

MICROSECOND = 1e-6


def measure(quick: bool) -> dict[str, Any]:
    """Seconds of attaching, and microseconds of making a layer in several ways."""
    repeats, calls = (1, 20) if quick else (12, 300)
    attach = _attach(repeats)
    samples = _run("call", str(calls))
    return {
        "attach": attach,
        "calls": calls,
        "microseconds": {
            name: timing.summary(times, MICROSECOND) for name, times in samples.items()
        },
        "relative_to_bare": timing.ratios(samples, "bare ours")["ours"],
        "relative_to_keras3": (
            timing.ratios(samples, "keras3")["ours"] if "keras3" in samples else None
        ),
    }


def _attach(repeats: int) -> dict[str, Any]:
    seconds: timing.Samples = {"reticulate": [], "groupnorm": []}
    started = False
    for package in seconds:
        _run("attach", package)  # warms the disk cache
    for _ in range(repeats):
        for package, times in seconds.items():
            found = _run("attach", package)
            times.append(found["seconds"])
            started |= found["python_started"]
    differences = [
        ours - alone
        for alone, ours in zip(seconds["reticulate"], seconds["groupnorm"], strict=True)
    ]
    return {
        "repeats": repeats,
        "seconds": {name: timing.summary(times) for name, times in seconds.items()},
        "difference": timing.summary(differences),
        "python_started": started,
    }


def _run(*arguments: str) -> Any:
    script = Path(__file__).with_suffix(".R")
    output = subprocess.run(
        ["Rscript", "--vanilla", str(script), *arguments],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])
