"""Optimizer, loss and metrics, where they are stock ones."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from groupnorm.migration.report import Report

# Of tf_keras's optimizers alone.
_RETIRED = ("jit_compile", "is_legacy_optimizer", "decay", "momentum_schedule")


def carry_over(
    saved: Any, old: Any, model: Any, places: dict[int, Any], report: Report
) -> None:
    """Compile the new model as the old one was, or say in the report why not."""
    training = saved.training_config
    if not training:
        return
    try:
        optimizer = _optimizer(
            training.get("optimizer_config") or training["optimizer"]
        )
        optimizer.build(model.trainable_variables)  # or reading its file would warn
        model.compile(
            optimizer,
            _named(training.get("loss"), keras.losses, keras.Loss),
            loss_weights=training.get("loss_weights"),
            metrics=_metrics(training.get("metrics")),
            weighted_metrics=_metrics(training.get("weighted_metrics")),
        )
    except Exception as error:  # as many as there are ways to write such a file
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
    name, config = spec["class_name"].rpartition(">")[2], spec["config"]
    if config.get("decay"):
        raise ValueError(f"Keras 3 has no decay= of the optimizer {name!r}")
    config = {key: value for key, value in config.items() if key not in _RETIRED}
    rate = config.get("learning_rate")
    if isinstance(rate, dict):
        schedules = keras.optimizers.schedules
        config["learning_rate"] = _stock(
            rate, schedules, schedules.LearningRateSchedule
        )
    return _stock(
        {"class_name": name, "config": config}, keras.optimizers, keras.Optimizer
    )


def _metrics(value: Any) -> Any:
    """A list for each output, and of a model with one output that one alone."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    return _named(value, keras.metrics, keras.Metric)


def _named(value: Any, namespace: Any, base: type[Any]) -> Any:
    """Losses or metrics by name: anything else may be code of the user's."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_named(item, namespace, base) for item in value]
    if isinstance(value, str):
        return _known(value, namespace)
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not a name")
    if "class_name" not in value:
        return {key: _named(item, namespace, base) for key, item in value.items()}
    if value["class_name"] == "function":
        return _known(value["config"], namespace)
    if value["class_name"] == "MeanMetricWrapper":
        return _named(value["config"]["fn"], namespace, base)
    return _stock(value, namespace, base)


def _known(name: str, namespace: Any) -> str:
    if name not in ("accuracy", "acc"):  # which of them, compile() decides
        namespace.get(name)
    return name


def _stock(spec: dict[str, Any], namespace: Any, base: type[Any]) -> Any:
    """An object of one of Keras's own classes, made of plain values alone."""
    name, config = spec["class_name"], dict(spec["config"])
    found: Any = getattr(namespace, name, None)
    if base not in getattr(found, "__mro__", ()):
        raise ValueError(f"{name!r} is not of Keras")
    config.pop("fn", None)
    for argument, value in config.items():
        if isinstance(value, dict):  # Keras would look for the object that it names
            raise ValueError(f"migrate does not carry over {argument}= of {name!r}")
    if config.get("name", "") is None:  # the default of tf_keras's schedules
        del config["name"]
    if config.get("reduction") == "auto":
        config["reduction"] = "sum_over_batch_size"  # which it was while training
    made = found.from_config(config)
    _refuse_what_is_not_saved(made, config)
    return made


def _refuse_what_is_not_saved(made: Any, config: dict[str, Any]) -> None:
    """Some arguments Keras writes in no file: delta= of Huber, for one."""
    parameters, saved = inspect.signature(type(made)).parameters, made.get_config()
    for argument, value in config.items():
        if argument in saved or argument not in parameters:
            continue
        if value != parameters[argument].default:
            raise ValueError(
                f"Keras 3 does not save {argument}={value!r} of {type(made).__name__!r}"
            )
