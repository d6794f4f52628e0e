"""Optimizer, loss and metrics: Keras's own, and those that the user gave."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from groupnorm.migration import addons, optimizer_state, spelling, versions
from groupnorm.migration.report import Report

# Of tf_keras's optimizers alone.
_RETIRED = ("jit_compile", "is_legacy_optimizer", "decay", "momentum_schedule")
_LOSS_SCALE = ("LossScaleOptimizer", "LossScaleOptimizerV1", "LossScaleOptimizerV3")


def carry_over(
    saved: Any, old: Any, model: Any, places: dict[int, Any], report: Report
) -> None:
    """Compile the new model as the old one was, or say in the report why not.

    Args:
        saved: The file.
        old: The tf_keras model.
        model: The Keras 3 model.
        places: Each new weight, by the id of the old one.
        report: Where it is said.
    """
    training = saved.training_config
    if not training:
        return
    notes: list[str] = []
    try:
        spec = training.get("optimizer_config") or training["optimizer"]
        optimizer, innermost = _optimizer(spec, notes)
        widths = {output.shape[-1] for output in model.outputs}
        addons.check_losses(training.get("loss"), widths)
        optimizer.build(model.trainable_variables)  # or reading its file would warn
        model.compile(
            optimizer,
            _named(training.get("loss"), keras.losses, keras.Loss),
            loss_weights=_floats(training.get("loss_weights")),
            metrics=_metrics(training.get("metrics")),
            weighted_metrics=_metrics(training.get("weighted_metrics")),
        )
    except Exception as error:  # as many as there are ways to write such a file
        report.notes.append(
            f"It is not compiled, as {error}: call compile() before training on."
        )
        return
    report.notes += notes
    name = type(optimizer).__name__
    try:
        optimizer_state.carry_over(saved, innermost, old, model, places)
    except Exception as error:  # of a damaged file, whatever it may be
        report.notes.append(
            f"It is compiled with {name}, whose state starts anew, as {error}."
        )
        return
    counting = getattr(optimizer, "inner_optimizer", optimizer)
    report.notes.append(
        f"It is compiled with {name}, which goes on from the step after "
        f"{int(counting.iterations.numpy())}."
    )
    report.notes += optimizer_state.caveats(optimizer, innermost)
    report.not_proved.append(
        "Training: optimizer, loss and metrics are taken over, and not compared."
    )


def _optimizer(spec: Any, notes: list[str]) -> tuple[Any, dict[str, Any]]:
    """An optimizer, and what the file says of the innermost one."""
    if isinstance(spec, str):
        made = keras.optimizers.get(spec)
        # So .keras files have it, whose state is that of the newer kind alone.
        newer = {"is_legacy_optimizer": False}
        return made, {"class_name": type(made).__name__, "config": newer}
    name, config = spelling.known_as(spec), dict(spec["config"])
    own = keras.saving.get_registered_object(name)
    if own is not None:
        return own.from_config(_without_retired(config)), spec
    wrapped = addons.inner_optimizer(name, config, notes)
    if wrapped is not None:
        return _optimizer(wrapped, notes)
    if name in _LOSS_SCALE:
        return _scaled(config, notes)
    translated = addons.optimizer(name, config, notes)
    if translated is None:
        translated = name.rpartition(">")[2], config
    return _stock_optimizer(*translated, notes), spec


def _stock_optimizer(name: str, config: dict[str, Any], notes: list[str]) -> Any:
    rate: Any = config.get("learning_rate")
    decay: Any = config.get("decay")
    schedules = keras.optimizers.schedules
    if name == "Nadam" and decay in (0.004, None):  # so it is in Keras 3, too
        decay = None
    if isinstance(rate, dict):
        if decay:
            raise ValueError(f"Keras 3 has no decay= of a schedule, as {name!r} has")
        rate = _stock(rate, schedules, schedules.LearningRateSchedule)
    elif decay:
        notes.append(f"decay={decay!r} of {name} is now the schedule InverseTimeDecay.")
        rate = schedules.InverseTimeDecay(rate * 1.0, 1, decay * 1.0)
    elif isinstance(rate, int):
        rate = float(rate)
    config = {**_without_retired(config), "learning_rate": rate}
    if rate is None:
        del config["learning_rate"]
    return _stock(
        {"class_name": name, "config": config}, keras.optimizers, keras.Optimizer
    )


def _scaled(config: dict[str, Any], notes: list[str]) -> tuple[Any, dict[str, Any]]:
    """What multiplies the loss, for float16, around another optimizer."""
    spec = config.get("inner_optimizer") or config["optimizer"]
    scale = config.get("loss_scale") or {"config": {}}  # as it was before 2.4
    options = {
        "initial_scale": config.get("initial_scale")
        or scale["config"].get("initial_loss_scale"),
        "dynamic_growth_steps": config.get("dynamic_growth_steps")
        or scale["config"].get("increment_period"),
    }
    is_fixed = config.get("dynamic") is False or "loss_scale_value" in scale["config"]
    if is_fixed:
        raise ValueError("Keras 3 has no LossScaleOptimizer of a fixed scale")
    inner, innermost = _optimizer(spec, notes)
    given = {key: value for key, value in options.items() if value is not None}
    return keras.optimizers.LossScaleOptimizer(inner, **given), innermost


def _without_retired(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _RETIRED}


def _metrics(value: Any) -> Any:
    """A list for each output, and of a model with one output that one alone."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    return _named(value, keras.metrics, keras.Metric)


def _named(value: Any, namespace: Any, base: type[Any]) -> Any:
    """Losses or metrics by name: what nobody gave may be code of somebody's."""
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
        return _known(spelling.known_as(value), namespace)
    if value["class_name"] in ("MeanMetricWrapper", "LossFunctionWrapper"):
        return _named(value["config"]["fn"], namespace, base)
    return _stock(value, namespace, base)


def _known(name: str, namespace: Any) -> Any:
    found = keras.saving.get_registered_object(name)
    if found is not None:
        return found() if inspect.isclass(found) else found
    if name not in ("accuracy", "acc"):  # which of them, compile() decides
        try:
            namespace.get(name)
        except ValueError:
            raise _unknown(name) from None
    return name


def _stock(spec: dict[str, Any], namespace: Any, base: type[Any]) -> Any:
    """An object of a class that is given, or of Keras's own made of plain values."""
    name, config = spec["class_name"], dict(spec["config"])
    own = keras.saving.get_registered_object(spelling.known_as(spec))
    if own is not None:
        return own.from_config(_plain(config))
    translated = addons.loss_or_metric(spelling.known_as(spec), config)
    if translated is not None:
        name, config = translated
    found: Any = getattr(namespace, name, None)
    if base not in getattr(found, "__mro__", ()):
        raise _unknown(spelling.known_as(spec))
    config.pop("fn", None)
    for argument, value in config.items():
        if isinstance(value, dict):  # Keras would look for the object that it names
            raise ValueError(f"migrate does not carry over {argument}= of {name!r}")
    made = found.from_config(_plain(_floats_where_floats_are(found, config)))
    _refuse_what_is_not_saved(made, config)
    return made


def _unknown(name: Any) -> ValueError:
    newer = versions.needed_for(name)
    if newer is not None:
        return ValueError(
            f"Keras {keras.__version__} has no {name}, which Keras {newer} and later "
            "have: update it, or"
        )
    return ValueError(
        f"{name!r} is not of Keras: give it by this name in custom_objects, or"
    )


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with what was a default spelt out."""
    config = dict(config)
    if config.get("name", "") is None:  # the default of tf_keras's schedules
        del config["name"]
    if config.get("reduction") == "auto":
        config["reduction"] = "sum_over_batch_size"  # which it was while training
    return config


def _floats_where_floats_are(found: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Keras 2 took integers for numbers, which Keras 3 does not everywhere."""
    parameters = inspect.signature(found).parameters
    return {
        name: float(value)
        if type(value) is int
        and name in parameters
        and isinstance(parameters[name].default, float)
        else value
        for name, value in config.items()
    }


def _floats(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_floats(item) for item in value]
    return float(value) if type(value) is int else value


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
