"""The optimizers, losses and metrics of TensorFlow Addons in the terms of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from groupnorm.migration import spelling

_PREFIX = "Addons>"
_WRAPPERS = ("Lookahead", "MovingAverage", "SWA")


def inner_optimizer(name: str, config: dict[str, Any], notes: list[str]) -> Any:
    """The optimizer that one of Addons wraps, `None` if it wraps none."""
    if name.removeprefix(_PREFIX) not in _WRAPPERS or not name.startswith(_PREFIX):
        return None
    inner = config["optimizer"]
    notes.append(
        f"{name.removeprefix(_PREFIX)} of TensorFlow Addons is gone: the optimizer "
        "that it wrapped goes on alone, from the weights as they were saved."
    )
    return inner


def optimizer(
    name: str, config: dict[str, Any], notes: list[str]
) -> tuple[str, dict[str, Any]] | None:
    """The Keras 3 class and arguments of an optimizer, `None` if it is not Addons's.

    Raises:
        ValueError: Keras 3 has no equal.
    """
    return _translated(name, _OPTIMIZERS, config, notes)


def loss_or_metric(
    name: str, config: dict[str, Any]
) -> tuple[str, dict[str, Any]] | None:
    """The Keras 3 class and arguments, `None` if it is not Addons's.

    Raises:
        ValueError: Keras 3 has no equal.
    """
    return _translated(name, _LOSSES_AND_METRICS, config)


def _translated(name: str, table: Mapping[str, Callable[..., Any]], *given: Any) -> Any:
    if not name.startswith(_PREFIX):
        return None
    tail = name.removeprefix(_PREFIX)
    if tail not in table:
        raise _no_equal(tail)
    return table[tail](*given)


def _sgdw(config: dict[str, Any], notes: list[str]) -> tuple[str, dict[str, Any]]:
    return "SGD", _decoupled("SGDW", config, notes)


def _adamw(config: dict[str, Any], notes: list[str]) -> tuple[str, dict[str, Any]]:
    return "AdamW", _decoupled("AdamW", config, notes)


def _decoupled(name: str, config: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Weight decay, which Keras multiplies by the learning rate, and Addons not."""
    config = dict(config)
    rate, decay = config.get("learning_rate"), config.pop("weight_decay")
    excluded = config.pop("exclude_from_weight_decay", None)
    if not isinstance(rate, int | float) or not isinstance(decay, int | float):
        raise ValueError(
            f"{name} of TensorFlow Addons has a schedule, and its weight decay did not "
            "follow the learning rate as that of Keras 3 does"
        )
    if excluded or config.get("decay"):
        raise ValueError(f"{name} of Addons leaves weights out of its weight decay")
    notes.append(
        f"weight_decay={decay:g} of {name} of TensorFlow Addons is now "
        f"{decay / rate:g}, as Keras multiplies it by the learning rate {rate:g}: set "
        "it anew where that changes."
    )
    return {**config, "weight_decay": decay / rate}


def _lamb(config: dict[str, Any], notes: list[str]) -> tuple[str, dict[str, Any]]:
    config = dict(config)
    decay = config.pop("weight_decay", None) or config.pop("weight_decay_rate", None)
    excluded = [
        config.pop(name, None)
        for name in ("exclude_from_weight_decay", "exclude_from_layer_adaptation")
    ]
    if decay or any(excluded):
        raise ValueError(
            "LAMB of TensorFlow Addons with weight_decay= or exclude_from_...= is "
            "another one than that of Keras 3"
        )
    return "Lamb", config


def check_losses(loss: Any, widths: set[int | None]) -> None:
    """Refuse what is equal only where a model predicts one number a sample.

    Raises:
        ValueError: It does not.
    """
    names = {spec["class_name"] for _, spec in spelling.specs(loss)}
    if f"{_PREFIX}SigmoidFocalCrossEntropy" in names and widths != {1}:
        raise ValueError(
            "SigmoidFocalCrossEntropy of TensorFlow Addons is the sum over the last "
            "axis, and BinaryFocalCrossentropy of Keras 3 the mean"
        )


def _focal(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "BinaryFocalCrossentropy", {**config, "apply_class_balancing": True}


def _f_score(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    config = dict(config)
    config.pop("num_classes", None)  # Keras sees it
    return "FBetaScore", {"beta": 1.0, **config}


def _f1_score(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    _, config = _f_score(config)
    return "F1Score", {k: v for k, v in config.items() if k != "beta"}


def _r_square(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    config = dict(config)
    how = config.pop("multioutput", "uniform_average")
    names = {"raw_values": None, "variance_weighted": "variance_weighted_average"}
    return "R2Score", {**config, "class_aggregation": names.get(how, how)}


_OPTIMIZERS: dict[str, Callable[..., tuple[str, dict[str, Any]]]] = {
    "AdamW": _adamw,
    "LAMB": _lamb,
    "SGDW": _sgdw,
}
_LOSSES_AND_METRICS: dict[
    str, Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]
] = {
    "F1Score": _f1_score,
    "FBetaScore": _f_score,
    "RSquare": _r_square,
    "SigmoidFocalCrossEntropy": _focal,
}
_WHY_NOT = {
    "PearsonsCorrelation": " (PearsonCorrelation of Keras is the mean over samples, "
    "that of Addons is one number for all of them)",
}


def _no_equal(name: str) -> ValueError:
    why = _WHY_NOT.get(name, "")
    return ValueError(
        f"Keras 3 has no equal of {name} of TensorFlow Addons{why}: give one as "
        f"{_PREFIX + name!r} in custom_objects, or"
    )
