"""One layer: its class and arguments under Keras 3, and what is different about them.

The arguments are those of `get_config()`. Every one is carried over, renamed, or
dropped where it says nothing (any more); one that says something that Keras 3 cannot do
is an error.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras
import tf_keras

from groupnorm.layers import keras_3, legacy
from groupnorm.migration import activations, spelling
from groupnorm.migration.report import MigrationError

_OURS = {
    legacy.GroupNormalization: keras_3.GroupNormalization,
    legacy.InstanceNormalization: keras_3.InstanceNormalization,
}
_RENAMED_CLASSES = {
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
}
_RENAMED_ARGUMENTS = {
    "InputLayer": {"batch_input_shape": "batch_shape"},
    "LeakyReLU": {"alpha": "negative_slope"},
    "ThresholdedReLU": {"theta": "threshold"},
}
_ADDED_ARGUMENTS = {"SyncBatchNormalization": {"synchronized": True}}

_ANY = object()
# Arguments that Keras 3 retired, with the values that change nothing.
_RETIRED: dict[str, tuple[Any, ...]] = {
    "attention_axes": (None,),
    "batch_input_shape": (_ANY,),  # the model's input layer has it
    "build_input_shape": (_ANY,),
    "force_generator": (_ANY,),
    "fused": (_ANY,),
    "groups": (1,),
    "implementation": (_ANY,),  # how, not what, is computed
    "input_length": (_ANY,),  # was checked, not used
    "kernel_constraint": (None,),
    "kernel_initializer": (_ANY,),  # the weights are there
    "kernel_regularizer": (None,),
    "key_shape": (_ANY,),  # as the layer is called, so it is built
    "noise_shape": (None,),
    "query_shape": (_ANY,),
    "ragged": (False, None),
    "renorm": (False, None),
    "rng_type": (_ANY,),
    "robust_masking": (False, None),
    "softmax_robust_masking": (False, None),
    "sparse": (False, None),
    "time_major": (False, None),
    "trainable": (_ANY,),  # taken by every layer that has weights
    "value_shape": (_ANY,),
    "virtual_batch_size": (None,),
}


def make(layer: Any) -> tuple[Any, list[str]]:
    """The Keras 3 layer for a tf_keras layer, and what changed.

    Raises:
        MigrationError: Keras 3 has no such layer, or not with this argument.
    """
    if hasattr(layer, "make_new"):  # it says itself what comes in its place
        return layer.make_new(), list(getattr(layer, "changes", ()))
    old_class = type(layer)
    new_class = _class(layer.name, old_class)
    config, changes = arguments(layer, new_class, _config(layer))
    if new_class.__name__ != old_class.__name__:
        changes.insert(
            0, f"class {old_class.__name__} is now {new_class.__name__} of Keras 3"
        )
    return new_class.from_config(config), changes


def _config(layer: Any) -> dict[str, Any]:
    try:
        return dict(layer.get_config())
    except NotImplementedError:
        raise MigrationError(
            f"The layer {layer.name!r} is of the class {type(layer).__name__!r}, whose "
            "Keras 2 version has no get_config() for its arguments: write one, or "
            "give the Keras 3 class alone."
        ) from None


def arguments(
    layer: Any, new_class: type, old: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """A layer's arguments as its new class takes them, and what changed.

    Raises:
        MigrationError: The new class cannot do what an argument says.
    """
    old_class = type(layer)
    accepted = _parameters(new_class)
    renamed = _RENAMED_ARGUMENTS.get(old_class.__name__, {})
    new: dict[str, Any] = dict(_ADDED_ARGUMENTS.get(old_class.__name__, {}))
    changes = []
    for name, value in old.items():
        new_name = renamed.get(name, name)
        if new_name not in accepted:
            _check_retired(layer.name, old_class, name, value)
            if name != "trainable" and not (value is None or isinstance(value, dict)):
                changes.append(f"argument {name}={value!r} dropped: Keras 3 has none")
            continue
        if new_name == "activation" and activations.is_addons(value):
            changes.append(f"activation {activations.name_of(value)} is now Keras 3's")
            name = activations.name_of(value)
            new[new_name] = activations.new_activation(name, _shape(layer))
            continue
        new[new_name], inner = _value(layer.name, new_name, value)
        changes += inner
        if new_name != name:
            changes.append(f"argument {name} is now called {new_name}")
    if not layer.trainable:
        _freeze(new)
    new["name"] = legal_name(old["name"])
    if new["name"] != old["name"]:
        changes.append(f"name is now {new['name']!r}: Keras 3 allows no '/' in it")
    return new, changes


def _freeze(config: dict[str, Any]) -> None:
    """Freeze the layers that are among a layer's arguments, as Keras 3 does not."""
    for _, spec in spelling.specs(config):
        if isinstance(spec["config"], dict) and "trainable" in spec["config"]:
            spec["config"]["trainable"] = False


def _shape(layer: Any) -> tuple[Any, ...] | None:
    is_recurrent = isinstance(layer, tf_keras.layers.RNN)
    if is_recurrent or not layer.inbound_nodes:
        return None
    return tuple(layer.get_output_at(0).shape)


def legal_name(name: str) -> str:
    """A layer's name as Keras 3 allows it."""
    return name.replace("/", "_")


def _class(layer: str, old_class: type) -> Any:
    if old_class in _OURS:
        return _OURS[old_class]
    registered = tf_keras.saving.get_registered_name(old_class)
    found = keras.saving.get_registered_object(registered)
    advice = f"give a Keras 3 class as {registered!r} in custom_objects"
    if found is None and registered == old_class.__name__:
        found = getattr(
            keras.layers, _RENAMED_CLASSES.get(registered, registered), None
        )
    if found is None:
        raise MigrationError(
            f"The layer {layer!r} is of the class {registered!r}, which Keras 3 does "
            f"not have: {advice}."
        )
    return found


def _check_retired(layer: str, old_class: type, argument: str, value: Any) -> None:
    harmless = _RETIRED.get(argument, ())
    if _ANY in harmless or value in harmless:
        return
    raise MigrationError(
        f"The layer {layer!r} ({old_class.__name__}) has {argument}={value!r}, which "
        f"the {old_class.__name__} of Keras 3 cannot do."
    )


def _value(layer: str, argument: str, value: Any) -> tuple[Any, list[str]]:
    """An argument's value in the terms of Keras 3."""
    if argument == "dtype":
        return spelling.policy_name(value), []
    if argument.endswith("activation"):
        _check_activation(layer, argument, value)
    if argument == "axis" and isinstance(value, list | tuple) and len(value) == 1:
        return value[0], []
    if isinstance(value, list | tuple):
        items = [_value(layer, "", item) for item in value]
        return [item for item, _ in items], [c for _, made in items for c in made]
    if _is_layer(value):
        return _nested_layer(layer, argument, value)
    if argument.endswith("_initializer") and isinstance(value, dict):
        return _initializer(value), []
    return value, []


def _initializer(spec: dict[str, Any]) -> Any:
    """An initializer by its class: the first Keras 3 reads not each by its name."""
    found = getattr(keras.initializers, spec["class_name"], None)
    if spec.get("registered_name") is not None or found is None:
        return spec
    return keras.saving.serialize_keras_object(found.from_config(spec["config"]))


def _check_activation(layer: str, argument: str, value: Any) -> None:
    name = value.get("config") if isinstance(value, dict) else value
    if name == "hard_sigmoid":
        raise MigrationError(
            f"The layer {layer!r} has {argument}='hard_sigmoid', which is another "
            "function under Keras 3: clip(x / 6 + 0.5, 0, 1), and was "
            "clip(x / 5 + 0.5, 0, 1)."
        )


def _is_layer(value: Any) -> bool:
    if not isinstance(value, dict) or "class_name" not in value:
        return False
    found = getattr(tf_keras.layers, value["class_name"], None)
    return found is not None or value.get("registered_name") is not None


def _nested_layer(
    outer: str, argument: str, spec: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """A layer inside a layer: a cell, what a wrapper wraps, an activation."""
    layer = tf_keras.saving.deserialize_keras_object(spec)
    if not isinstance(layer, tf_keras.layers.Layer):
        return _part(spec), []
    if argument.endswith("activation"):
        activations.check_layers_are_read(
            f"The layer {outer!r} has another layer as its {argument}"
        )
    new, changes = make(layer)
    nested = keras.saving.serialize_keras_object(new)
    return nested, [f"{layer.name}: {change}" for change in changes]


def _part(spec: dict[str, Any]) -> dict[str, Any]:
    """An initializer, regularizer or constraint: one that was given is known by now."""
    found: Any = keras.saving.get_registered_object(str(spelling.known_as(spec)))
    if not hasattr(found, "from_config"):
        return spec
    return keras.saving.serialize_keras_object(found.from_config(spec["config"]))


def _parameters(layer_class: Any) -> set[str]:
    """The names of a layer's arguments, those that it passes on among them."""
    names: set[str] = set()
    for base in layer_class.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self"}
