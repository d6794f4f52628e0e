"""What a file may name: Keras's own classes and functions, and known ones.

tf_keras imports whichever module a configuration names, and runs the code of a Lambda
layer of an `.h5` file. So a configuration is looked through before tf_keras gets it.
Known is what is registered, what the user gave, and what TensorFlow Addons had.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import tf_keras

from groupnorm.layers.arguments import is_foreign
from groupnorm.migration import addons, custom, operators, raw_operations, spelling
from groupnorm.migration.report import MigrationError
from groupnorm.migration.spelling import specs

_NAMESPACES = (
    tf_keras.activations,
    tf_keras.constraints,
    tf_keras.initializers,
    tf_keras.layers,
    tf_keras.layers.experimental,
    tf_keras.mixed_precision,
    tf_keras.models,
    tf_keras.regularizers,
)
_CLASSES = {
    name
    for namespace in _NAMESPACES
    for name, value in vars(namespace).items()
    if inspect.isclass(value)
} | {"Functional", *operators.LAYER_CLASSES}
_VALUES = {"TensorShape", "__ellipsis__", "__numpy__", "__tensor__", "__tuple__"}
_FUNCTIONS = {
    name
    for name, value in vars(tf_keras.activations).items()
    if inspect.isfunction(value)
}


def vet(config: dict[str, Any]) -> None:
    """Check all that a model's configuration names.

    Raises:
        MigrationError: It names something that is not Keras's, or that holds code.
    """
    missing: dict[str, str] = {}
    for layer, spec in specs(config):
        for name, what in _unknown(layer, spec):
            missing.setdefault(name, f"the layer {layer!r} {what}")
    if not missing:
        return
    problems = "; ".join(missing.values())
    raise MigrationError(
        f"{problems[0].upper()}{problems[1:]}. Give what takes its place: Keras 3 "
        f"classes, or functions made of keras.ops, by these names: {_call(missing)}."
    )


def class_names(config: dict[str, Any]) -> dict[str, str]:
    """The class of each layer of a model, as the file names it, by the layer's name."""
    return {
        spec["config"]["name"]: spec.get("registered_name") or spec["class_name"]
        for _, spec in specs(config)
        if isinstance(spec["config"], dict) and "name" in spec["config"]
    }


def _unknown(layer: str, spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The names in one spec that nobody knows, and what they are names of."""
    name, config = spec["class_name"], spec["config"]
    if name in ("Lambda", "__lambda__"):
        yield _code(layer, spec)
        return
    if isinstance(config, dict):
        _vet_vocabulary(layer, config)
        for argument, value in config.items():
            if custom.is_unknown(argument, value):
                yield _nobody_s(layer, value, f"the function {value!r}")
    known_as = str(spelling.known_as(spec))
    if is_foreign(spec, tf_keras.saving.get_registered_object):
        what = f"{known_as!r} of the module {spec['module']!r}"
        yield _nobody_s(layer, known_as, what)
    elif name == "function":
        known = (config, spec.get("registered_name"))
        if config not in _FUNCTIONS and not any(map(_is_registered, known)):
            yield _nobody_s(layer, known_as, f"the function {known_as!r}")
    elif name == raw_operations.LAYER_CLASS:
        raw_operations.check_known(layer, config)
    elif name in operators.LAYER_CLASSES:
        operators.check_known(layer, config)
    elif not (
        name in _CLASSES | _VALUES or _is_registered(name) or _is_registered(known_as)
    ):
        yield _nobody_s(layer, known_as, f"the class {known_as!r}")


def _nobody_s(layer: str, name: str, what: str) -> tuple[str, str]:
    addons.refuse(layer, name)
    return name, f"is, or uses, {what}, which is neither Keras's nor registered"


def _code(layer: str, spec: dict[str, Any]) -> tuple[str, str]:
    if spec["class_name"] == "Lambda":
        why = "is a Lambda layer: its Python code is in the file, and is not run"
        return layer, why
    raise MigrationError(
        f"The layer {layer!r} holds a lambda, as a Lambda layer does: its Python code "
        "is in the file, and is not run. Rebuild the model from its script with a "
        "named function in its place, and load the weights."
    )


def _call(names: dict[str, str]) -> str:
    """The call that would do, from Python, R and the shell."""
    variables = {name: _variable(name) for name in names}
    python = ", ".join(f"{name!r}: {value}" for name, value in variables.items())
    r = ", ".join(
        f"{name if name == value else f'`{name}`'} = {value}"
        for name, value in variables.items()
    )
    return (
        f"migrate(old, new, custom_objects={{{python}}}), in R migrate_model(input, "
        f"output, custom_objects = list({r})), in a shell --custom-objects script.py"
    )


def _variable(name: str) -> str:
    tail = name.rpartition(">")[2]
    return tail if tail.isidentifier() else "f"


def _vet_vocabulary(layer: str, config: dict[str, Any]) -> None:
    """A lookup layer takes the name of a file, and would read it."""
    if isinstance(config.get("vocabulary"), str):
        raise MigrationError(
            f"The layer {layer!r} takes its vocabulary from the file "
            f"{config['vocabulary']!r}, which is not part of the model."
        )


def _is_registered(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    return tf_keras.saving.get_registered_object(name) is not None
