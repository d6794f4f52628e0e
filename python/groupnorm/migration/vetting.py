"""What a file may name: Keras's own classes and functions, and registered ones.

tf_keras imports whichever module a configuration names, and runs the code of a Lambda
layer of an `.h5` file. So a configuration is looked through before tf_keras gets it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import tf_keras

from groupnorm.layers.arguments import is_foreign
from groupnorm.migration import operators
from groupnorm.migration.report import MigrationError

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
    for layer, spec in _specs(without_compilation(config), "the model"):
        _vet_spec(layer, spec)


def class_names(config: dict[str, Any]) -> dict[str, str]:
    """The class of each layer of a model, as the file names it, by the layer's name."""
    return {
        spec["config"]["name"]: spec.get("registered_name") or spec["class_name"]
        for _, spec in _specs(config, "")
        if isinstance(spec["config"], dict) and "name" in spec["config"]
    }


def without_compilation(config: Any) -> Any:
    """The configuration without the optimizers and losses of models."""
    if isinstance(config, dict):
        return {
            key: without_compilation(value)
            for key, value in config.items()
            if key != "compile_config"
        }
    if isinstance(config, list | tuple):
        return type(config)(map(without_compilation, config))
    return config


def _specs(value: Any, layer: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything that names a class, with the name of the layer that it belongs to."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _specs(item, layer)
    if not isinstance(value, dict):
        return
    if "class_name" in value and "config" in value:
        config = value["config"]
        if isinstance(config, dict) and isinstance(config.get("name"), str):
            layer = config["name"]
        yield layer, value
    for item in value.values():
        yield from _specs(item, layer)


def _vet_spec(layer: str, spec: dict[str, Any]) -> None:
    name, registered = spec["class_name"], spec.get("registered_name")
    if name in ("Lambda", "__lambda__"):
        raise MigrationError(
            f"The layer {layer!r} is a Lambda layer (or holds a lambda): its Python "
            "code is in the file, and is not run. Rebuild the model from its script "
            "with a layer class of your own in its place, and load the weights."
        )
    _vet_module(layer, spec)
    if isinstance(spec["config"], dict):
        _vet_vocabulary(layer, spec["config"])
    if name == "function":
        return _vet_function(layer, spec)
    if name in _VALUES or _is_registered(registered) or _is_registered(name):
        return None
    if name not in _CLASSES:
        raise MigrationError(
            f"The layer {layer!r} is of, or uses, the class {registered or name!r}, "
            "which is neither Keras's nor registered. Register it with both "
            "generations (register_keras_serializable of tf_keras and of keras), under "
            "the same name, and migrate from Python."
        )
    if name in operators.LAYER_CLASSES:
        operators.check_known(layer, spec["config"]["function"])
    return None


def _vet_module(layer: str, spec: dict[str, Any]) -> None:
    if is_foreign(spec, tf_keras.saving.get_registered_object):
        raise MigrationError(
            f"The layer {layer!r} is, or uses, {spec['class_name']!r} of the module "
            f"{spec['module']!r}, which is neither Keras's nor registered. Register it "
            "with both generations (register_keras_serializable of tf_keras and of "
            "keras), under the same name, and migrate from Python."
        )


def _vet_vocabulary(layer: str, config: dict[str, Any]) -> None:
    """A lookup layer takes the name of a file, and would read it."""
    if isinstance(config.get("vocabulary"), str):
        raise MigrationError(
            f"The layer {layer!r} takes its vocabulary from the file "
            f"{config['vocabulary']!r}, which is not part of the model."
        )


def _vet_function(layer: str, spec: dict[str, Any]) -> None:
    name, registered = spec["config"], spec.get("registered_name")
    if name in _FUNCTIONS or _is_registered(registered) or _is_registered(name):
        return
    raise MigrationError(
        f"The layer {layer!r} uses the function {name!r}, which is neither Keras's nor "
        "registered. Register it with both generations "
        "(register_keras_serializable of tf_keras and of keras)."
    )


def _is_registered(name: Any) -> bool:
    return isinstance(name, str) and name in tf_keras.utils.get_custom_objects()
