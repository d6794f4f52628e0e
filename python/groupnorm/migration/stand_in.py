"""What stands in the old model for a class or a function that is of Keras 3 alone.

A layer of tf_keras that asks the Keras 3 layer inside it, and lends its weights: they
are there under the same names and in the same order, so that tf_keras reads them from
the file as it reads those of any layer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from groupnorm.migration.report import MigrationError
from groupnorm.migration.spelling import policy_name

# What Keras 2 wrote into the configuration of every layer that comes first in a model.
_KERAS_2_ONLY = ("batch_input_shape", "input_shape", "input_dim")


class StandIn(tf_keras.layers.Layer):
    """A Keras 3 layer as tf_keras calls it.

    Attributes:
        inner: The Keras 3 layer.
    """

    new_class: Any  # each subclass has one

    def __init__(self, saved: dict[str, Any]) -> None:
        first = ("name", "trainable")
        own: dict[str, Any] = {key: saved[key] for key in first if key in saved}
        own.update({k: saved[k] for k in _KERAS_2_ONLY[:2] if k in saved})
        super().__init__(dtype=policy_name(saved.get("dtype")), autocast=False, **own)
        self.supports_masking = True
        self._saved = saved
        # Unknown to TensorFlow, which would look for its weights a second time.
        object.__setattr__(self, "inner", self.make_new())
        self._call_arguments = inspect.signature(self.inner.call).parameters

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> StandIn:
        return cls(config)

    def get_config(self) -> dict[str, Any]:
        return {**self._saved, "name": self.name}

    def make_new(self) -> Any:
        """A Keras 3 layer of the same arguments, with weights of its own."""
        config = {k: v for k, v in self._saved.items() if k not in _KERAS_2_ONLY}
        return self.new_class.from_config(_plain(config))

    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: Any, *args: Any, training: Any = None, **kwargs: Any) -> Any:
        if training is not None and "training" in self._call_arguments:
            kwargs["training"] = training
        if not self.inner.built:
            # The first Keras 3 makes weights in the graph that is being drawn, where
            # they are lost: outside, then, and on symbolic tensors.
            with tf.init_scope():
                self.inner(*_symbolic((inputs, *args)), **_symbolic(kwargs))
            _lend_weights(self.inner, self)
        return self.inner(inputs, *args, **kwargs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if not self.inner.supports_masking:
            return None
        return self.inner.compute_mask(inputs, mask)

    def __getattr__(self, name: str) -> Any:
        # The sizes of a cell's states, for one.
        if name.startswith("_") or "inner" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.inner, name)


class OperationsStandIn(tf_keras.layers.Layer):
    """A function in the place of a Lambda layer.

    Attributes:
        signature: Shapes and dtypes of what it was called with.
    """

    old_function: Callable[..., Any]
    new_function: Callable[..., Any]

    def __init__(self, saved: dict[str, Any]) -> None:
        super().__init__(name=saved["name"], dtype=policy_name(saved.get("dtype")))
        self._arguments = saved.get("arguments") or {}
        self._saved = saved
        self.signature: Any = None

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OperationsStandIn:
        return cls(config)

    def get_config(self) -> dict[str, Any]:
        return {**self._saved, "name": self.name}

    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        if self.signature is None:
            self.signature = tf.nest.map_structure(
                lambda x: (tuple(x.shape), x.dtype.name), inputs
            )
        return type(self).old_function(inputs, **self._arguments)

    def make_new(self) -> Any:
        """A model of the operations that the function makes of symbolic tensors."""
        if self.signature is None:
            raise MigrationError(f"The layer {self.name!r} (Lambda) is never called.")
        inputs = _inputs(self.signature)
        try:
            outputs = type(self).new_function(inputs, **self._arguments)
            return keras.Model(inputs, outputs, name=self.name.replace("/", "_"))
        except Exception as error:  # of TensorFlow, for which these are no tensors
            raise MigrationError(
                f"The function that custom_objects has for the Lambda layer "
                f"{self.name!r} does not work on the symbolic tensors of Keras 3: "
                f"write it with keras.ops. It raised: {error}"
            ) from error


def layer(name: str, new_class: Any) -> type[StandIn]:
    """A tf_keras class that stands for a Keras 3 layer, by the name in the file."""
    return type(name, (StandIn,), {"new_class": new_class})


def operations(
    name: str, old_function: Callable[..., Any], new_function: Callable[..., Any]
) -> type[OperationsStandIn]:
    """A tf_keras class that stands for a function, by the name in the file."""
    return type(
        name,
        (OperationsStandIn,),
        {
            "old_function": staticmethod(old_function),
            "new_function": staticmethod(new_function),
        },
    )


def part(name: str, new_class: Any) -> type:
    """A class that stands for an initializer, a regularizer or a constraint."""

    class Part:
        def __init__(self, saved: dict[str, Any]) -> None:
            self._saved = saved
            self._inner = new_class.from_config(saved)

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Part:
            return cls(config)

        def get_config(self) -> dict[str, Any]:
            return self._saved

        def __call__(self, value: Any, dtype: Any = None, **kwargs: Any) -> Any:
            if dtype is None:
                return self._inner(value)
            return self._inner(value, dtype=tf.as_dtype(dtype).name)

    Part.__name__ = Part.__qualname__ = name
    return Part


def _inputs(signature: Any) -> Any:
    """Symbolic tensors of these shapes and dtypes."""
    if isinstance(signature, list):
        return [_inputs(item) for item in signature]
    if isinstance(signature, dict):
        return {key: _inputs(item) for key, item in signature.items()}
    shape, dtype = signature
    return keras.Input(batch_shape=shape, dtype=dtype)


def _symbolic(arguments: Any) -> Any:
    """The arguments of a call, with tensors of Keras 3 that have no values."""
    return tf.nest.map_structure(
        lambda x: (
            keras.KerasTensor(tuple(x.shape), x.dtype.name) if tf.is_tensor(x) else x
        ),
        arguments,
    )


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    if "dtype" not in config:
        return config
    return {**config, "dtype": policy_name(config["dtype"])}


def _lend_weights(inner: Any, outer: Any) -> None:
    """Let a tf_keras layer have the weights of a Keras 3 layer, under their names."""
    lent = [variable.value for variable in _own_weights(inner)]
    for variable, value in zip(_own_weights(inner), lent, strict=True):
        setattr(outer, _free_name(outer, variable.name), value)
    for name, child in vars(inner).items():
        if name.startswith("_") or name in vars(outer):
            continue
        holders = _holders(child)
        if holders is not None:
            setattr(outer, name, holders)


class _Holder(tf_keras.layers.Layer):
    """Nothing but the weights of a layer that is part of another one."""

    def _lookup_dependency(self, name: str, *cached: Any) -> Any:
        # By these names a SavedModel knows the layers of a model.
        kind, _, number = name.partition("-")
        if kind not in ("layer", "layer_with_weights") or not hasattr(self, "layers"):
            return super()._lookup_dependency(name, *cached)
        among = [x for x in self.layers if kind == "layer" or x.weights]
        return among[int(number)] if int(number) < len(among) else None


def _holders(child: Any) -> Any:
    """The layers of an attribute, each as a tf_keras layer that has its weights."""
    if isinstance(child, list | tuple):
        made = [_holders(item) for item in child]
        return made if made and all(item is not None for item in made) else None
    if not isinstance(child, keras.layers.Layer):
        return None
    # Files name the layers in a list by their classes.
    holder = type(type(child).__name__, (_Holder,), {})(
        name=child.name, trainable=child.trainable
    )
    _lend_weights(child, holder)
    if isinstance(child, keras.Model):
        holder.layers = [_holders(item) for item in child.layers]
    holder.built = True
    return holder


def _own_weights(layer: Any) -> list[Any]:
    """A layer's weights without those of the layers in it, as Keras 2 orders them."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _free_name(layer: Any, name: str) -> str:
    name = name.replace("/", "_")
    while name in vars(layer) or hasattr(type(layer), name):
        name += "_"
    return name
