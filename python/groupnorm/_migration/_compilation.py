"""Optimizer, loss and metrics, where they are stock ones."""

from __future__ import annotations

from typing import Any

import keras

from groupnorm._migration._report import Report

# Of tf_keras's optimizers alone.
_RETIRED = ("jit_compile", "is_legacy_optimizer", "decay", "momentum_schedule")


def carry_over(training: dict[str, Any] | None, model: Any, report: Report) -> None:
    """Compile the new model as the old one was, or say in the report why not."""
    if not training:
        return
    try:
        optimizer = _optimizer(
            training.get("optimizer_config") or training["optimizer"]
        )
        losses = _named(training.get("loss"), keras.losses)
        metrics = _named(_of_outputs(training.get("metrics")), keras.metrics)
        model.compile(
            optimizer,
            losses,
            loss_weights=training.get("loss_weights"),
            metrics=metrics,
        )
    except (KeyError, TypeError, ValueError) as error:
        report.notes.append(
            f"It is not compiled, as {error}: call compile() before training on."
        )
        return
    report.notes.append(
        f"It is compiled with {type(optimizer).__name__}, whose state starts anew."
    )


def _optimizer(spec: Any) -> Any:
    if isinstance(spec, str):
        return keras.optimizers.get(spec)
    name = spec["class_name"].rpartition(">")[2]
    optimizer_class = getattr(keras.optimizers, name, None)
    if optimizer_class is None or name == "LossScaleOptimizer":
        raise ValueError(f"migrate does not carry over its optimizer {name!r}")
    config = dict(spec["config"])
    if config.pop("decay", 0):
        raise ValueError(f"Keras 3 has no decay= of the optimizer {name!r}")
    return optimizer_class.from_config(
        {key: value for key, value in config.items() if key not in _RETIRED}
    )


def _of_outputs(metrics: Any) -> Any:
    """A list for each output, and of a model with one output that one alone."""
    if isinstance(metrics, list) and len(metrics) == 1 and isinstance(metrics[0], list):
        return metrics[0]
    return metrics


def _named(value: Any, namespace: Any) -> Any:
    """Losses or metrics by name: anything else may be code of the user's."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_named(item, namespace) for item in value]
    if isinstance(value, str):
        return _known(value, namespace)
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not a name")
    if "class_name" not in value:
        return {key: _named(item, namespace) for key, item in value.items()}
    if value["class_name"] == "function":
        return _known(value["config"], namespace)
    if value["class_name"] == "MeanMetricWrapper":
        return _named(value["config"]["fn"], namespace)
    found = getattr(namespace, value["class_name"], None)
    if found is None:
        raise ValueError(f"{value['class_name']!r} is not of Keras")
    config = value["config"]
    return found.from_config({k: v for k, v in config.items() if k != "fn"})


def _known(name: str, namespace: Any) -> str:
    if name not in ("accuracy", "acc"):  # which of them, compile() decides
        namespace.get(name)
    return name
