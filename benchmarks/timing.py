"""Interleaved timing, and what is told about a sample of times.

Not pyperf, asv or timeit: each of them measures one thing to its end before the next
one starts (pyperf in processes of its own). On a machine whose speed drifts, the ratio
of two such numbers says little. Here every round runs everything once, and ratios are
taken within rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np

# PyTorch's threads keep spinning for some milliseconds after their work is done, and
# would take the cores from whoever comes next.
_PAUSE = 0.005

Samples = dict[str, list[float]]


def seconds(run: Callable[[], object], warm: bool = False) -> float:
    """Wall-clock time of one run; if `warm`, of the second of two."""
    time.sleep(_PAUSE)
    if warm:
        run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    budget: float,
    rounds: tuple[int, int],
    *,
    warm: bool = False,
) -> Samples:
    """Times of all runs, round by round, after a warm-up.

    Args:
        runs: What to time, by name.
        budget: Seconds after which no further round starts.
        rounds: Fewest and most rounds, whatever the budget.
        warm: Run each once, untimed, before it is timed: its tensors are in the cache.

    Returns:
        For every name a list with one time in seconds for each round.
    """
    for run in runs.values():
        run()
    names = list(runs)
    samples: Samples = {name: [] for name in names}
    least, most = rounds
    start = time.perf_counter()
    for done in range(most):
        if done >= least and time.perf_counter() - start > budget:
            break
        # Start with another one each time: nobody always follows the same neighbour.
        first = done % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(seconds(runs[name], warm))
    return samples


def summary(values: list[float], unit: float = 1.0) -> dict[str, float]:
    """Median and quartiles, divided by `unit`."""
    q1, q3 = np.percentile(values, [25, 75])
    return {
        "median": median(values) / unit,
        "q1": float(q1) / unit,
        "q3": float(q3) / unit,
    }


def ratios(samples: Samples, baseline: str) -> dict[str, dict[str, float]]:
    """Each time divided by that of the baseline in the same round, summarized."""
    return {
        name: summary([a / b for a, b in zip(times, samples[baseline], strict=True)])
        for name, times in samples.items()
    }
