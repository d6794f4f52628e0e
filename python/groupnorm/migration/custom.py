"""The user's own classes and functions, under the names that a file has for them.

While they are in use each generation of Keras finds them by these names: Keras 3 what
was given, tf_keras the same or what stands in for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import tf_keras

from groupnorm.migration import addons, spelling, stand_in
from groupnorm.migration.report import MigrationError, Report

# Arguments that name a function or a class by a mere string.
PARTS = ("activation", "initializer", "regularizer", "constraint")
# And of compile().
_COMPILED = ("loss", "metrics")
# What a prediction does not depend on, once the weights are there.
_IN_TRAINING = ("initializer", "regularizer", "constraint")
# Instead of a layer's arguments, in SavedModels.
_NO_ARGUMENTS = {"layer was saved without config": True}
_KINDS = {
    "activation": tf_keras.activations,
    "initializer": tf_keras.initializers,
    "regularizer": tf_keras.regularizers,
    "constraint": tf_keras.constraints,
}


class CustomObjects:
    """What the user gave, as far as a file names it.

    Attributes:
        config: The model's configuration, with what was given in the place of Lambda
            layers, and of arguments that a SavedModel does not have.
        training: The compilation as the file has it.
    """

    def __init__(self, given: Mapping[str, Any] | None, config: Any, training: Any):
        self._given = {name: _pair(name, v) for name, v in (given or {}).items()}
        self._old: dict[str, Any] = {}
        self._new: dict[str, Any] = {}
        self._once: set[str] = set()
        self.training = training
        self._bare: list[str] = []
        self.config = self._completed(config)
        used = {*_uses(self.config)}
        self._predicting = {
            n for n, argument in used if _kind(argument) not in _IN_TRAINING
        }
        for name, _ in {*used, *_uses(training)}:
            found = self._find(name)
            if found is not None and name not in self._old:
                self._add(name, *found)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let both generations find them by the names in the file."""
        with (
            tf_keras.saving.custom_object_scope({**addons.OLD, **self._old}),
            keras.saving.custom_object_scope(self._new),
        ):
            yield

    def report_on(self, report: Report, classes: Mapping[str, str], new: Any) -> None:
        """Say what the proof does not prove, and what the new model names.

        Args:
            report: Where it is said.
            classes: The class of each layer, as the file names it.
            new: The new model.
        """
        for name in sorted(self._once):
            layers = [layer for layer, known_as in classes.items() if known_as == name]
            report.not_proved.append(self._not_proved(layers, name))
        report.not_proved += [
            f"{layer}: its arguments are not in the file, as its class had no "
            "get_config(); those are taken that the given class has by default."
            for layer in self._bare
        ]
        config = keras.saving.serialize_keras_object(new)
        named = {name for name, _ in _uses(config) if name in self._new}
        report.needs = sorted(n for n in named if not _is_registered(self._new[n]))

    def _not_proved(self, layers: list[str], name: str) -> str:
        kind = "class" if inspect.isclass(self._new.get(name)) else "function"
        what = ", ".join(layers) or repr(name)
        if name not in self._predicting:
            return f"{what}: the {kind} is as it was given; predictions do not need it."
        return (
            f"{what} by {'themselves' if len(layers) > 1 else 'itself'}: the old model "
            f"was computed with the Keras 3 {kind} that was given as "
            f"{name.removeprefix('Lambda ')!r}. A pair, (Keras 2 {kind}, Keras 3 "
            f"{kind}), proves it, too."
        )

    def _find(self, name: str) -> tuple[Any, Any] | None:
        return self._given.get(name) or self._given.get(name.rpartition(">")[2])

    def _add(self, name: str, old: Any, new: Any) -> None:
        # Files name the weights in a layer by its class, without a package.
        tail = name.rpartition(">")[2]
        if old is None:
            self._once.add(name)
        if not inspect.isclass(new):
            new = named(tail, new)
            self._new[new.__name__] = new
            self._old[name] = named(tail, old) if old is not None else new
        else:
            self._new[new.__name__] = self._new[tail] = new
            self._old[name] = self._old[tail] = old or _stand_in(tail, new)
        self._new[name] = new

    def _completed(self, config: Any) -> Any:
        if isinstance(config, list | tuple):
            return type(config)(map(self._completed, config))
        if not isinstance(config, dict):
            return config
        config = {key: self._completed(item) for key, item in config.items()}
        own = config.get("config")
        if own == _NO_ARGUMENTS:
            name = {"name": config["name"]} if "name" in config else {}
            self._bare.append(config.get("name", config["class_name"]))
            return {**config, "config": name}
        if config.get("class_name") != "Lambda" or not isinstance(own, dict):
            return config
        found = self._given.get(str(own.get("name")))
        return config if found is None else self._in_place_of(config, found)

    def _in_place_of(self, spec: dict[str, Any], found: tuple[Any, Any]) -> Any:
        """A Lambda layer without its code, of a class that has what was given."""
        old, new = found
        name = f"Lambda {spec['config']['name']}"
        kept: tuple[str, ...] = ("name", "trainable", "dtype", "batch_input_shape")
        if inspect.isclass(new):
            self._add(name, old, new)
        else:
            kept += ("arguments",)
            if old is None:
                self._once.add(name)
            self._old[name] = stand_in.operations(name, old or new, new)
        config = {key: spec["config"][key] for key in kept if key in spec["config"]}
        return {**spec, "class_name": name, "config": config} | {
            key: value
            for key, value in (("module", None), ("registered_name", name))
            if key in spec
        }


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that Keras writes into a file by this name."""
    registered = keras.saving.get_registered_name(function)
    if name in (registered, getattr(function, "__name__", None)) or ">" in registered:
        return function

    @functools.wraps(function, assigned=("__doc__",), updated=())
    def renamed(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    renamed.__name__ = renamed.__qualname__ = name
    return renamed


def is_unknown(argument: str, value: Any) -> bool:
    """Whether a string in a configuration names no function of tf_keras's."""
    kind = _kind(argument)
    if kind not in PARTS or not isinstance(value, str):
        return False
    try:
        return not callable(_KINDS[kind].get(value))
    except (ValueError, TypeError):
        return True


def _kind(argument: str) -> str:
    return argument.rpartition("_")[2]


def _uses(value: Any, argument: str = "") -> Iterator[tuple[str, str]]:
    """The names of classes and functions, and the arguments that they are values of."""
    if isinstance(value, str):
        if _kind(argument) in (*PARTS, *_COMPILED):
            yield value, argument
    elif isinstance(value, dict):
        if "class_name" in value and "config" in value:
            name = spelling.known_as(value)
            yield from [(name, argument)] if isinstance(name, str) else []
        for name, item in value.items():
            # Losses can be by the names of outputs.
            is_part = argument in _COMPILED
            yield from _uses(item, argument if is_part else name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _uses(item, argument)


def _stand_in(name: str, new: Any) -> Any:
    if issubclass(new, keras.layers.Layer):
        return stand_in.layer(name, new)
    return stand_in.part(name, new)


def _pair(name: Any, value: Any) -> tuple[Any, Any]:
    """What was given for a name: for tf_keras, `None` if nothing, and for Keras 3."""
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    old, new = value if is_pair else (None, value)
    if not isinstance(name, str) or not callable(new) or _is_instance(new):
        raise _bad(name, value)
    if old is not None and (not callable(old) or _is_instance(old)):
        raise _bad(name, value)
    if inspect.isclass(new) and issubclass(new, tf_keras.layers.Layer):
        raise _bad(name, value, " This is a class of Keras 2.")
    if inspect.isclass(old) and not hasattr(old, "from_config"):
        raise _bad(name, value)
    return old, new


def _is_instance(value: Any) -> bool:
    return isinstance(value, keras.layers.Layer | tf_keras.layers.Layer)


def _bad(name: Any, value: Any, why: str = "") -> MigrationError:
    return MigrationError(
        "Argument `custom_objects` must map names in the file to Keras 3 classes, to "
        "functions, or to pairs of one for Keras 2 and one for Keras 3."
        f"{why} Received: custom_objects={{{name!r}: {value!r}}}"
    )


def _is_registered(value: Any) -> bool:
    return ">" in keras.saving.get_registered_name(value)
