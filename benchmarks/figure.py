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

import distribution

# Ours in warm colours and violet, the others in blue and grey.
COLORS = {
    "ours, native": "#c0392b",
    "ours, TensorFlow": "#e67e22",
    "ours, XLA": "#8e6bb0",
    "ours, XLA alone": "#f5c26b",
    "keras, graph": "#1f4e79",
    "keras, XLA": "#5b9bd5",
    "torch, NCHW": "#5a5a5a",
    "torch, channels last": "#b0b0b0",
    "BatchNormalization": "#5b9bd5",
    "one more relu": "#d9d9d9",
    "gamma and beta alone": "#b0b0b0",
}


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw time on drawn shapes above, accuracy and training steps below."""
    plt.rcParams |= {"font.size": 9, "axes.spines.top": False}
    plt.rcParams |= {"axes.spines.right": False, "axes.titlelocation": "left"}
    figure, axes = plt.subplots(2, 2, figsize=(12, 7.6), layout="constrained")
    for place, backward in zip(axes[0], (False, True), strict=True):
        distribution.draw(place, results["sweep"]["entries"], backward)
    axes[0, 0].legend(fontsize=8, frameon=False, loc="upper left")
    _accuracy(axes[1, 0], results["accuracy"])
    _training(axes[1, 1], results["training"])
    figure.savefig(path, dpi=150)
    plt.close(figure)


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
    axes.legend(fontsize=7, frameon=False, loc="center left", ncols=2)


def _training(axes: Axes, training: list[dict[str, Any]]) -> None:
    names = [name for name in training[0]["milliseconds"] if name != "none"]
    height = 0.8 / len(names)
    for i, name in enumerate(names):
        ratios = [entry["relative_to_none"][name] for entry in training]
        places = np.arange(len(training)) + (i - (len(names) - 1) / 2) * height
        medians, q1, q3 = (
            np.array([ratio[key] for ratio in ratios]) for key in ("median", "q1", "q3")
        )
        axes.barh(
            places,
            medians - 1,
            height * 0.9,
            left=1,
            color=COLORS[name],
            label=name,
            xerr=[medians - q1, q3 - medians],
            error_kw={"linewidth": 0.8, "ecolor": "#333333"},
        )
        for place, end, median in zip(places, q3, medians, strict=True):
            axes.text(
                max(end, median) + 0.005,
                place,
                f"{median:.2f}",
                va="center",
                fontsize=7,
            )
    axes.set_yticks(range(len(training)), [entry["network"] for entry in training])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + 0.55 * (right - left))  # for the legend
    axes.set_xlabel("time, no normalization = 1")
    axes.set_title("Training steps (lower is faster)")
    axes.legend(fontsize=8, frameon=False, loc="upper right")


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
