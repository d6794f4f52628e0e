"""The figure: `python benchmarks/figure.py RESULTS.json FIGURE.png` draws it anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

# Ours in warm colours, the others in cool ones and grey.
COLORS = {
    "ours, native": "#c0392b",
    "ours, TensorFlow": "#e67e22",
    "ours, XLA": "#f5c26b",
    "keras, graph": "#1f4e79",
    "keras, XLA": "#5b9bd5",
    "torch, NCHW": "#5a5a5a",
    "torch, channels last": "#b0b0b0",
    "BatchNormalization": "#5b9bd5",
    "none": "#b0b0b0",
}
_FOUR_SHAPES = 4
_TOP = 1.3  # what is slower is cut off; its number is above the bar


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw speed, accuracy and the training step side by side."""
    plt.rcParams |= {"font.size": 9, "axes.spines.top": False}
    plt.rcParams |= {"axes.spines.right": False, "axes.titlelocation": "left"}
    figure = plt.figure(figsize=(12, 7.2), layout="constrained")
    top, bottom = figure.add_gridspec(2, 1, height_ratios=(1.05, 1))
    left, right = bottom.subgridspec(1, 2, width_ratios=(1.25, 1))
    _speed(figure.add_subplot(top), results["speed"])
    _accuracy(figure.add_subplot(left), results["accuracy"])
    _training(figure.add_subplot(right), results["training"])
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _speed(axes: Axes, entries: list[dict[str, Any]]) -> None:
    entries = [e for e in entries if e["backward"]][:_FOUR_SHAPES]
    names = list(entries[0]["milliseconds"])
    width = 0.85 / len(names)
    for i, name in enumerate(names):
        ratios = [entry["relative_to_keras"][name] for entry in entries]
        q1, medians, q3 = (
            np.minimum([ratio[key] for ratio in ratios], _TOP)
            for key in ("q1", "median", "q3")
        )
        places = np.arange(len(entries)) + (i - (len(names) - 1) / 2) * width
        axes.bar(
            places,
            medians,
            width * 0.92,
            color=COLORS[name],
            label=name,
            yerr=[medians - q1, q3 - medians],
            error_kw={"linewidth": 0.8, "ecolor": "#333333"},
        )
        for place, ratio in zip(places, ratios, strict=True):
            axes.text(
                place,
                min(ratio["q3"], _TOP) + 0.015,
                f"{ratio['median']:.2g}",
                ha="center",
                va="bottom",
                fontsize=7.5,
            )
    axes.axhline(1, color=COLORS["keras, graph"], linewidth=0.8, linestyle=":")
    axes.set_ylim(0, _TOP + 0.1)
    axes.set_xticks(range(len(entries)), [_shape(entry) for entry in entries])
    axes.set_ylabel("time, Keras in graph mode = 1")
    axes.set_title("Forward + backward, float32, channels last (lower is faster)")
    axes.legend(
        ncols=len(names),
        fontsize=8,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.12),
    )


def _accuracy(axes: Axes, accuracy: dict[str, Any]) -> None:
    shifted = [i for i in accuracy["inputs"].values() if i["shift"] is not None]
    shifts = [entry["shift"] for entry in shifted]
    for name in shifted[0]["errors"]:
        errors = [max(entry["errors"][name].values()) for entry in shifted]
        axes.plot(
            range(len(shifts)),
            errors,
            marker="o",
            markersize=4,
            color=COLORS[name],
            linewidth=2 if name.startswith("ours") else 1.2,
            label=name,
        )
    axes.axhline(5e-6, color="#333333", linewidth=0.8, linestyle=":")
    axes.text(0, 5.6e-6, "target", va="bottom", fontsize=7.5)
    # Every step is a factor of ten but the first, from 0 to 100.
    axes.set_xticks(range(len(shifts)), [f"{shift:g}" for shift in shifts])
    axes.set_yscale("log")
    axes.set_xlabel("mean of the input (its standard deviation is 1)")
    axes.set_ylabel("largest relative error")
    axes.set_title("Output and gradients against float64 (lower is better)")


def _training(axes: Axes, training: dict[str, Any]) -> None:
    names = list(training["milliseconds"])
    ratios = [training["relative_to_none"][name] for name in names]
    medians = [ratio["median"] for ratio in ratios]
    places = range(len(names))
    axes.barh(
        places,
        medians,
        0.65,
        color=[COLORS[name] for name in names],
        xerr=[
            [ratio["median"] - ratio["q1"] for ratio in ratios],
            [ratio["q3"] - ratio["median"] for ratio in ratios],
        ],
        error_kw={"linewidth": 0.8, "ecolor": "#333333"},
    )
    for place, name, ratio in zip(places, names, ratios, strict=True):
        milliseconds = training["milliseconds"][name]["median"]
        axes.text(
            ratio["q3"] + 0.03,
            place,
            f"{ratio['median']:.2f} ({milliseconds:.0f} ms)",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.axvline(1, color="#333333", linewidth=0.8, linestyle=":")
    axes.set_xlabel("time, no normalization = 1")
    axes.set_title("Training step of a six-convolution network")


def _shape(entry: dict[str, Any]) -> str:
    return f"({', '.join(map(str, entry['shape']))}), {entry['groups']} groups"


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
