"""The tables: `python benchmarks/report.py RESULTS.json PAGE.md` writes them anew.

Every number comes from the results. In a page that has the marker, what follows it is
replaced, and what is above it stays.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import distribution

MARKER = "<!-- Written by report.py from here on: do not edit. -->"

Row = Sequence[str]
# By shape, in their order: the two outer ones have many positions and few channels.
_NATIVE_FORWARD = (10.0, 4.0, 4.0, 10.0)
_NATIVE_BACKWARD = (8.0, 4.0, 4.0, 8.0)
_PURE_BACKWARD = (2.5, 1.3, 1.3, 2.5)
_XLA = 1.5
_TORCH = 1.0
_ELEMENTWISE = 2.0
# Of each network: none may be slower than with BatchNormalization either.
_STEPS = (1.06, 1.10, 1.10, 1.10)
_KEPT = 0.1  # per-group statistics, and what a process needs anyway
_ERROR = 5e-6
_ATTACH = 0.1


def write(results: dict[str, Any], page: Path) -> None:
    """Write the tables below the marker of the page."""
    above = page.read_text().split(MARKER)[0] if page.exists() else ""
    page.write_text("\n\n".join([above + MARKER, *_sections(results)]) + "\n")


def _sections(results: dict[str, Any]) -> Iterator[str]:
    if results["quick"]:
        yield "**A quick run on small tensors: its numbers mean nothing.**"
    yield _provenance(results)
    yield "## Targets\n\nMedian (quartiles); ratios are of times in the same round."
    yield _table(("target", "case", "wanted", "reached", ""), _targets(results))
    yield from _sweep(results["sweep"])
    yield "## Milliseconds of one call"
    yield from _speed(results["speed"])
    yield "## Training steps"
    yield _training(results["training"])
    yield "## Memory of forward + backward, in units of the input"
    yield _memory(results["memory"])
    yield "## Largest error, relative to the largest value"
    yield from _accuracy(results["accuracy"])
    yield "## From R"
    yield _r(results["r"])
    yield "## Was all the work done?"
    yield _kept_work(results["kept_work"])


def _provenance(results: dict[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in results["versions"].items())
    before, after = (
        " ".join(f"{value:.2f}" for value in results[key])
        for key in ("load_before", "load_after")
    )
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; "
        f"{results['threads']} threads for TensorFlow and PyTorch each. {versions}. "
        f"Load averages before the run {before}, after it {after}; the run took "
        f"{sum(results['seconds'].values()):.0f} s."
    )


def _targets(results: dict[str, Any]) -> Iterator[Row]:
    yield from _speed_targets(results["speed"])
    for entry, goal in zip(results["training"], _STEPS, strict=True):
        steps = entry["relative_to_none"]
        label = "4. native, training step / no normalization"
        yield _at_most(label, entry["network"], goal, steps["ours, native"], "{:.2f}")
        batch = steps["BatchNormalization"]["median"]
        label = "4. the same / with BatchNormalization"
        ratio = {"median": steps["ours, native"]["median"] / batch}
        yield _at_most(label, entry["network"], 1.0, ratio, "{:.2f}")
    for name, units in results["memory"]["units"].items():
        if name.startswith("ours"):
            label = "5. units kept beside x"
            yield _at_most(label, name, _KEPT, {"median": units["kept"]}, "{:.2f}")
    for name, error in _worst_errors(results["accuracy"]).items():
        if name.startswith("ours"):
            label = "6. largest error, any input, gradients too"
            yield _at_most(label, name, _ERROR, {"median": error}, "{:.1e}")
    attach = results["r"]["attach"]
    label = "7. seconds of attaching beyond reticulate"
    yield _at_most(label, "", _ATTACH, attach["difference"], "{:.3f}")
    started = attach["python_started"]
    yield "7. attaching starts Python", "", "no", _yes(started), _mark(not started)
    against = results["r"]["relative_to_keras3"]
    label = "7. one call / keras3's"
    if against is None:
        yield label, "", "<= 1", "keras3 is not installed", ""
    else:
        yield _at_most(label, "", 1.0, against, "{:.2f}")


def _speed_targets(entries: list[dict[str, Any]]) -> Iterator[Row]:
    forward, backward = (
        [entry for entry in entries if entry["backward"] is wanted][:4]
        for wanted in (False, True)
    )
    kinds = (
        ("forward", forward, _NATIVE_FORWARD),
        ("forward + backward", backward, _NATIVE_BACKWARD),
    )
    for kind, chosen, wanted in kinds:
        for entry, goal in zip(chosen, wanted, strict=True):
            ratio = entry["relative_to_keras"]["ours, native"]
            label = f"1. native, {kind}, times faster than Keras"
            yield _at_least(label, _shape(entry), goal, ratio)
    for kind, chosen, _ in kinds:
        for entry in chosen:
            ratio = entry["native_relative_to"][entry["fastest_torch"]]
            label = f"1. native, {kind}, time / {entry['fastest_torch']}"
            yield _at_most(label, _shape(entry), _TORCH, ratio, "{:.2f}")
    for entry in forward:
        ratio = entry["native_relative_to"]["one elementwise op"]
        label = "1. native, forward, time / one elementwise op"
        yield _at_most(label, _shape(entry), _ELEMENTWISE, ratio, "{:.2f}")
    for entry, goal in zip(backward, _PURE_BACKWARD, strict=True):
        ratio = entry["relative_to_keras"]["ours, TensorFlow"]
        label = "3. TensorFlow, forward + backward, times faster than Keras"
        yield _at_least(label, _shape(entry), goal, ratio)
    for entry in backward:
        ratio = entry["xla_relative_to_keras_xla"]
        label = "3. XLA, forward + backward, times faster than Keras under XLA"
        yield _at_least(label, _shape(entry), _XLA, ratio)


def _at_most(
    label: str, case: str, goal: float, found: dict[str, float], form: str
) -> Row:
    reached = _mark(found["median"] <= goal)
    return label, case, f"<= {goal:g}", _spread(found, form), reached


def _at_least(label: str, case: str, goal: float, ratio: dict[str, float]) -> Row:
    """A speed-up, from the ratio of the times."""
    faster = {
        "median": 1 / ratio["median"],
        "q1": 1 / ratio["q3"],
        "q3": 1 / ratio["q1"],
    }
    reached = _mark(faster["median"] >= goal)
    return label, case, f">= {goal:g}", _spread(faster, "{:.1f}"), reached


def _speed(entries: list[dict[str, Any]]) -> Iterator[str]:
    yield "float32, channels last."
    for backward in (False, True):
        chosen = [entry for entry in entries if entry["backward"] is backward]
        names = list(chosen[0]["milliseconds"])
        head = ("forward + backward" if backward else "forward", *names)
        yield _table(
            head,
            [
                (_shape(e), *(_spread(e["milliseconds"][n], "{:.3g}") for n in names))
                for e in chosen
            ],
        )


def _sweep(sweep: dict[str, Any]) -> Iterator[str]:
    entries = sweep["entries"]
    told = ("median", "9 of 10 below", "worst", "above 1.1")
    count = len(entries) // 2
    yield f"## {count} drawn shapes"
    yield (
        f"Drawn from seed {sweep['seed']}. Ratios are of the lower quartiles of times; "
        "*torch or the floor* is the longer one of torch's faster layout and of a "
        "multiplication and a `relu` in TensorFlow."
    )
    head = ("", "pass", "median wanted", *told)
    yield _table(head, distribution.summary(entries))
    yield "The native kernel against torch or the floor, by kind of case:"
    yield _table(("cases", "pass", "number", *told), distribution.subsets(entries))
    yield "The ten worst of these:"
    head = ("case", "pass", "of torch or floor", "of Keras", "ms")
    yield _table(head, distribution.worst(entries))


def _training(training: list[dict[str, Any]]) -> str:
    rows = [
        (
            entry["network"],
            name,
            _spread(time, "{:.3g}"),
            _spread(entry["relative_to_none"][name], "{:.2f}"),
        )
        for entry in training
        for name, time in entry["milliseconds"].items()
    ]
    return _table(("network", "normalization", "ms", "relative to none"), rows)


def _memory(memory: dict[str, Any]) -> str:
    rows = [
        (name, f"{units['kept']:.2f}", f"{units['peak']:.2f}")
        for name, units in memory["units"].items()
    ]
    head = (
        _shape(memory),
        "kept between the two, beside x and y",
        "peak beside x and dy (y and dx are 2)",
    )
    return _table(head, rows)


def _accuracy(accuracy: dict[str, Any]) -> Iterator[str]:
    inputs = accuracy["inputs"]
    names = list(next(iter(inputs.values()))["errors"])
    kinds = {"output": ["y"], "gradients": ["dx", "dgamma", "dbeta"]}
    for kind, parts in kinds.items():
        yield _table(
            (f"{kind}: standard deviation 1, and", *names),
            [
                (label, *(_largest(entry["errors"][name], parts) for name in names))
                for label, entry in inputs.items()
            ],
        )


def _largest(errors: dict[str, float], parts: list[str]) -> str:
    return f"{max(errors[part] for part in parts):.1e}"


def _worst_errors(accuracy: dict[str, Any]) -> dict[str, float]:
    worst: dict[str, float] = {}
    for entry in accuracy["inputs"].values():
        for name, errors in entry["errors"].items():
            worst[name] = max(worst.get(name, 0.0), *errors.values())
    return worst


def _r(r: dict[str, Any]) -> str:
    names = {
        "ours": "`layer_group_normalization(groups = 8)`",
        "bare ours": "our Python layer through reticulate",
        "bare keras": "Keras's Python layer through reticulate",
        "keras3": "`keras3::layer_group_normalization(groups = 8)`",
    }
    rows = [
        (f"`library({package})`", _spread(seconds, "{:.3f}") + " s")
        for package, seconds in r["attach"]["seconds"].items()
    ]
    rows += [
        (names[name], _spread(time, "{:.0f}") + " µs")
        for name, time in r["microseconds"].items()
    ]
    return _table(("", "time"), rows)


def _kept_work(kept: dict[str, Any]) -> str:
    rows = [
        (name, str(found["per_call"]), _yes(found["kept"]))
        for name, found in kept.items()
    ]
    head = (
        "after the optimizer of graphs, or XLA's",
        "operations of a call, with the backward pass",
        "none joined with those of another call, or left out",
    )
    return _table(head, rows)


def _shape(entry: dict[str, Any]) -> str:
    return f"({', '.join(map(str, entry['shape']))}), {entry['groups']} groups"


def _spread(found: dict[str, float], form: str) -> str:
    median = form.format(found["median"])
    if "q1" not in found:
        return median
    return f"{median} ({form.format(found['q1'])} to {form.format(found['q3'])})"


def _mark(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _table(head: Row, rows: Sequence[Row] | Iterator[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
