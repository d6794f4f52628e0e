"""What the sweep found, summed up: its tables, and the figure of its distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

Entry = dict[str, Any]
Row = Sequence[str]

NATIVE = "native / torch or floor"
# Of each comparison: label and colour, and the goals forward and with backward.
COMPARISONS = {
    "native / keras": ("native, of Keras", "#c0392b", (0.3, 0.3)),
    NATIVE: ("native, of torch or the floor", "#5a5a5a", (0.9, 0.9)),
    "TensorFlow / keras": ("plain TensorFlow, of Keras", "#e67e22", (0.85, 0.75)),
    "XLA / keras XLA": ("native under XLA, of Keras", "#8e6bb0", (1.0, 1.0)),
    "XLA alone / keras XLA": ("XLA alone, of Keras", "#f5c26b", (1.0, 1.0)),
}
SUBSETS: dict[str, Callable[[Entry], bool]] = {
    "all": lambda entry: True,
    "2,000 numbers or more": lambda entry: _size(entry) >= 2_000,
    "channels first": lambda entry: entry["axis"] == 1,
    "half precision": lambda entry: entry["dtype"] != "float32",
    "rank 2": lambda entry: len(entry["shape"]) == 2,
    "batch 1": lambda entry: entry["shape"][0] == 1,
}
_SLOWER = 1.1
_WORST = 10


def summary(entries: list[Entry]) -> Iterator[Row]:
    """Rows: comparison, pass, median wanted and reached, 9 of 10, worst, slower."""
    for name, (label, _, goals) in COMPARISONS.items():
        for backward, goal in zip((False, True), goals, strict=True):
            ratios = _ratios(entries, name, backward)
            yield (label, _pass(backward), f"{goal:g}", *_told(ratios))


def subsets(entries: list[Entry]) -> Iterator[Row]:
    """The native kernel against torch or the floor, by kind of case."""
    for label, belongs in SUBSETS.items():
        chosen = [entry for entry in entries if belongs(entry)]
        for backward in (False, True):
            ratios = _ratios(chosen, NATIVE, backward)
            if ratios.size:
                yield (label, _pass(backward), str(ratios.size), *_told(ratios))


def worst(entries: list[Entry]) -> Iterator[Row]:
    """The cases in which the kernel took longest against torch or the floor."""
    ordered = sorted(entries, key=lambda entry: entry["ratios"][NATIVE], reverse=True)
    for entry in ordered[:_WORST]:
        yield (
            case(entry),
            _pass(entry["backward"]),
            f"{entry['ratios'][NATIVE]:.2f}",
            f"{entry['ratios']['native / keras']:.2f}",
            f"{entry['milliseconds']['ours, native']:.3g}",
        )


def case(entry: Entry) -> str:
    """A case by name."""
    shape, layout = list(entry["shape"]), ""
    if entry["axis"] == 1:
        shape, layout = [shape[0], shape[-1], *shape[1:-1]], ", channels first"
    sizes = ", ".join(map(str, shape))
    return f"({sizes}) {entry['dtype']}, {entry['groups']} groups{layout}"


def draw(axes: Axes, entries: list[Entry], backward: bool) -> None:
    """Draw which share of the shapes takes at most which part of the other's time."""
    for name, (label, color, _) in COMPARISONS.items():
        ratios = np.sort(_ratios(entries, name, backward))
        axes.step(
            np.concatenate([ratios[:1], ratios]),
            np.arange(ratios.size + 1) / ratios.size,
            where="post",
            color=color,
            linewidth=2.2 if name.startswith("native") else 1.4,
            label=label,
        )
    axes.axvline(1, color="#333333", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    ticks = (0.05, 0.1, 0.2, 0.5, 1, 2, 4)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.04, 4)
    axes.set_ylim(0, 1)
    axes.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0", "25 %", "50 %", "75 %", "100 %"))
    axes.set_xlabel("time, the other's = 1 (left of the line is faster)")
    axes.set_ylabel("share of the drawn shapes")
    count = sum(entry["backward"] is backward for entry in entries)
    axes.set_title(f"{_pass(backward).capitalize()}, {count} drawn shapes")


def _ratios(entries: list[Entry], name: str, backward: bool) -> np.ndarray:
    return np.array([e["ratios"][name] for e in entries if e["backward"] is backward])


def _told(ratios: np.ndarray) -> Row:
    tenth = np.quantile(ratios, 0.9)
    slower = 100 * np.mean(ratios > _SLOWER)
    return (
        f"{np.median(ratios):.2f}",
        f"{tenth:.2f}",
        f"{ratios.max():.2f}",
        f"{slower:.0f} %",
    )


def _pass(backward: bool) -> str:
    return "forward + backward" if backward else "forward"


def _size(entry: Entry) -> int:
    return int(np.prod(entry["shape"]))
