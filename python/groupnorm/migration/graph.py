"""The model: the same layers, called in the same order on the same tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from groupnorm.migration import keras_s_own, layers, operators, raw_operations, versions
from groupnorm.migration.report import MigrationError, Report

_KerasTensor = tf_keras.__internal__.KerasTensor


@dataclass
class Conversion:
    """A model under Keras 3, without the old one's weights yet.

    Attributes:
        model: The new model.
        pairs: Each old layer that can have weights, and the new one in its place.
    """

    model: Any
    pairs: list[tuple[Any, Any]]


def convert(
    model: Any, class_names: Mapping[str, str], whose: str, report: Report
) -> Conversion:
    """Build the Keras 3 model that a tf_keras model describes.

    Args:
        model: A Sequential or functional tf_keras model.
        class_names: The classes of its layers as they were saved.
        whose: "groupnorm" or "keras": whose group normalization the new one has.
        report: Where changes are recorded.

    Raises:
        MigrationError: A layer, or the way it is called, has no counterpart.
    """
    converter = _Converter(class_names, whose, report)
    new = converter.model(model)
    if not any(name.startswith("Addons>") for name in class_names.values()):
        report.notes.append("There is no layer of TensorFlow Addons in it.")
    report.notes += [
        _thawed(old.name) for old, new in converter.pairs if _thaws(old, new)
    ]
    return Conversion(new, converter.pairs)


class _Converter:
    def __init__(
        self, class_names: Mapping[str, str], whose: str, report: Report
    ) -> None:
        self.pairs: list[tuple[Any, Any]] = []
        self._class_names = class_names
        self._whose = whose
        self._report = report
        self._made: dict[
            int, Any
        ] = {}  # by the id of the old layer, as some are shared

    def model(self, old: Any) -> Any:
        if not getattr(old, "_is_graph_network", False):
            raise MigrationError(
                f"The model {old.name!r} is of the class {type(old).__name__!r}, or "
                "its input was never known: only Sequential and functional models say "
                "how their layers are connected."
            )
        is_sequential = isinstance(old, tf_keras.Sequential)
        return self._sequential(old) if is_sequential else self._functional(old)

    def layer(self, old: Any) -> Any:
        if id(old) not in self._made:
            is_model = isinstance(old, tf_keras.Model)
            self._made[id(old)] = self.model(old) if is_model else self._layer(old)
        return self._made[id(old)]

    def _layer(self, old: Any) -> Any:
        if isinstance(old, tf_keras.layers.TimeDistributed):
            return self._time_distributed(old)
        new, changes = _named_error(old, lambda: layers.make(old))
        if self._whose == "keras":
            new = keras_s_own.in_place_of(new)
        saved_as = self._class_names.get(old.name, "")
        if saved_as.startswith("Addons>"):
            registered = keras.saving.get_registered_name(type(new))
            changes.insert(0, f"class {saved_as} is now {registered}")
        self._report.add(old.name, changes)
        self.pairs.append((old, new))
        return new

    def _time_distributed(self, old: Any) -> Any:
        # What it wraps can be a whole model, and has the weights.
        inner = self.layer(old.layer)
        newer = versions.needed_for("a model in TimeDistributed")
        if newer is not None and isinstance(inner, keras.Model):
            raise MigrationError(
                f"The layer {old.name!r} (TimeDistributed) applies a model, or a "
                "function in the place of a Lambda layer, at each step, which Keras "
                f"{newer} and later can, and {keras.__version__} cannot: update it."
            )
        if not old.trainable:
            inner.trainable = False  # Keras 3 freezes nothing inside a layer
        config = {k: v for k, v in old.get_config().items() if k != "layer"}
        config, changes = layers.arguments(old, keras.layers.TimeDistributed, config)
        self._report.add(old.name, changes)
        return keras.layers.TimeDistributed(inner, **config)

    def _sequential(self, old: Any) -> Any:
        start = self._input(old.inputs[0])
        stack = [self.layer(layer) for layer in old.layers]
        return keras.Sequential([start, *stack], name=layers.legal_name(old.name))

    def _functional(self, old: Any) -> Any:
        tensors: dict[int, Any] = {}  # by the id of the old tensor

        def new_of(value: Any) -> Any:
            return tensors[id(value)] if isinstance(value, _KerasTensor) else value

        for depth in sorted(old._nodes_by_depth, reverse=True):
            for node in old._nodes_by_depth[depth]:
                outputs = self._input(node.outputs) if node.is_input else None
                if outputs is None:
                    args, kwargs = tf.nest.map_structure(
                        lambda value: _constant(new_of(value)),
                        (node.call_args, dict(node.call_kwargs)),
                    )
                    outputs = self._call(node.layer, args, kwargs)
                before = tf.nest.flatten(node.outputs)
                after = tf.nest.flatten(outputs)
                tensors |= {
                    id(was): now for was, now in zip(before, after, strict=True)
                }
        return keras.Model(
            tf.nest.map_structure(new_of, old._nested_inputs),
            tf.nest.map_structure(new_of, old._nested_outputs),
            name=layers.legal_name(old.name),
        )

    def _input(self, tensor: Any) -> Any:
        layer = tensor._keras_history.layer
        config = layer.get_config()
        for argument in ("ragged", "sparse"):
            if config.get(argument):
                raise MigrationError(
                    f"The layer {layer.name!r} (InputLayer) has {argument}=True, which "
                    "migrate cannot prove to work under Keras 3."
                )
        name = layers.legal_name(layer.name)
        renamed = [f"name is now {name!r}"] if name != layer.name else []
        self._report.add(
            layer.name,
            ["argument batch_input_shape is now called batch_shape", *renamed],
        )
        return keras.Input(
            batch_shape=tuple(tensor.shape), dtype=tensor.dtype.name, name=name
        )

    def _call(self, old: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if type(old).__name__ in operators.LAYER_CLASSES:
            function = old.get_config()["function"]
            apply = partial(operators.apply, function, args, kwargs)
            return self._operate(old, f"tf.{function}", apply)
        if type(old).__name__ == raw_operations.LAYER_CLASS:
            apply = partial(raw_operations.apply, old, args)
            return self._operate(old, f"the operation {old.node_def.op}", apply)
        new = self.layer(old)
        if isinstance(old, tf_keras.layers.RNN | tf_keras.layers.Bidirectional):
            args, kwargs = _recurrent_arguments(old, args, kwargs)
        return _named_error(old, lambda: new(*args, **kwargs))

    def _operate(self, old: Any, name: str, action: Any) -> Any:
        outputs = _named_error(old, action)
        # It keeps its name, for a new one could be that of another layer.
        operation = tf.nest.flatten(outputs)[0]._keras_history.operation
        operation.name = layers.legal_name(old.name)
        kind = type(operation).__name__
        self._report.add(old.name, [f"{name} is now Keras 3's operation {kind}"])
        return outputs


def _thaws(old: Any, new: Any) -> bool:
    """Whether what is inside a frozen layer is trained under Keras 3."""
    return not old.trainable and any(v.trainable for v in new.variables)


def _thawed(name: str) -> str:
    name = layers.legal_name(name)
    return (
        f"{name} is frozen, and Keras 3 trains the layers inside it all the same, as "
        "no file says of those that they are frozen. Before training on: layer = "
        f"model.get_layer({name!r}); layer.trainable = True; layer.trainable = False "
        "(both, as setting what is set already does nothing); then compile()."
    )


def _recurrent_arguments(old: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Keras 2 put initial states behind the input, and could put constants there."""
    kwargs = dict(kwargs)
    if kwargs.pop("constants", None) is not None or old._num_constants:
        raise MigrationError(
            f"The layer {old.name!r} ({type(old).__name__}) is called with constants=, "
            "which Keras 3 cannot do."
        )
    if isinstance(args[0], list | tuple):
        (inputs, *states), *rest = args
        return [inputs, *rest], {**kwargs, "initial_state": states}
    return args, kwargs


def _constant(value: Any) -> Any:
    """A TensorFlow value among a call's arguments as Keras 3 can save it."""
    if tf.is_tensor(value):
        array = value.numpy()
        return array.item() if array.ndim == 0 else array
    return value


def _named_error(layer: Any, action: Any) -> Any:
    try:
        return action()
    except MigrationError:
        raise
    except Exception as error:  # Keras raises what it likes, and none names the layer
        raise MigrationError(
            f"The layer {layer.name!r} ({type(layer).__name__}) cannot be built under "
            f"Keras 3: {error}"
        ) from error
