"""Time of one call, forward and with its gradient, for every implementation."""

from __future__ import annotations

import gc
from typing import Any

import timing
from cases import MAIN, Case, data
from implementations import BASELINE, FLOORS, NORMALIZATIONS

MILLISECOND = 1e-3


def measure(quick: bool) -> list[dict[str, Any]]:
    """One entry for each case and each of the two passes."""
    entries = []
    budget, rounds = (0.0, (2, 2)) if quick else (6.0, (7, 40))
    for case in map(_small, MAIN) if quick else MAIN:
        for backward in (False, True):
            entries.append(_measure_case(case, backward, budget, rounds))
            gc.collect()
    return entries


def _small(case: Case) -> Case:
    return case._replace(shape=(2, *case.shape[1:]), links=1)


def _measure_case(
    case: Case, backward: bool, budget: float, rounds: tuple[int, int]
) -> dict[str, Any]:
    tensors = data(case)
    if backward:
        runs = {
            name: implementation.step(case, tensors, case.links)
            for name, implementation in NORMALIZATIONS.items()
        }
    else:
        runs = {
            name: implementation.forward(case, tensors, case.links)
            for name, implementation in (NORMALIZATIONS | FLOORS).items()
        }
    samples = timing.interleaved(runs, budget, rounds)
    ratios = timing.ratios(samples, BASELINE)
    best_torch = min(
        (name for name in samples if name.startswith("torch")),
        key=lambda name: timing.summary(samples[name])["median"],
    )
    entry = {
        **case._asdict(),
        "backward": backward,
        "rounds": len(samples[BASELINE]),
        "fastest_torch": best_torch,
        "milliseconds": {
            name: timing.summary(times, MILLISECOND * case.links)
            for name, times in samples.items()
        },
        "relative_to_keras": ratios,
        "native_relative_to": {
            name: timing.ratios(samples, name)["ours, native"] for name in samples
        },
        "xla_relative_to_keras_xla": timing.ratios(samples, "keras, XLA")["ours, XLA"],
    }
    print(_line(entry), flush=True)
    return entry


def _line(entry: dict[str, Any]) -> str:
    times = ", ".join(
        f"{name} {time['median']:.3g}" for name, time in entry["milliseconds"].items()
    )
    kind = "forward + backward" if entry["backward"] else "forward"
    return f"{entry['shape']} axis {entry['axis']} {entry['dtype']} {kind}: {times} ms"
