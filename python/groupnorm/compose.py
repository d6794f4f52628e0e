"""Building a layer and putting it on an object, as the R functions do.

The layer is of the Keras generation that the object is of.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from groupnorm.layers import generation
from groupnorm.op.arguments import shown

_ACCEPTED = (
    "Expected one of: nothing (to get the layer itself), a Sequential model, a tensor "
    "or array of rank 2 or more, a functional model with one output, or a layer that "
    "was called exactly once."
)


def compose(class_name: str, object: Any = None, **arguments: Any) -> Any:
    """Build a layer and put it on `object`.

    Args:
        class_name: A layer class of this package.
        object: `None`, a Sequential model, a symbolic or eager tensor, an array, a
            functional model with one output or a layer that was called exactly once.
        **arguments: Of the layer, and `batch_size`, which a Sequential model that
            begins with this layer takes as the size of its batches.

    Returns:
        The layer if `object` is `None`; a Sequential model itself, with the layer
        added; otherwise the layer's output tensor. The layer is of the Keras generation
        of `object`, and of the default one (that of `tf.keras`) if it is of neither.

    Raises:
        ValueError: `object` is of another kind, or an argument does not fit. `object`
            is then as it was before.
    """
    batch_size = _check_batch_size(arguments.pop("batch_size", None))
    kind = generation.of(object)
    keras = importlib.import_module(kind)
    layer = getattr(generation.layers_for(kind), class_name)(**arguments)
    if object is None:
        return layer
    if isinstance(object, keras.Sequential):
        add = _add if kind == generation.KERAS_3 else _add_legacy
        return add(keras, object, layer, batch_size)
    return layer(_tensor_of(keras, object))


def _check_batch_size(batch_size: Any) -> int | None:
    if batch_size is None:
        return None
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(
            "Received an invalid value for argument `batch_size`, expected a positive "
            f"integer or None. Received: batch_size={shown(batch_size)}"
        )
    return batch_size


def _add(keras: Any, model: Any, layer: Any, batch_size: int | None) -> Any:
    """Add the layer, or leave the model as it was."""
    before = list(model._layers)
    try:
        _check_fit(model, layer)
        input_shape = getattr(layer, "_input_shape_arg", None)
        if not before and input_shape is not None and batch_size is not None:
            model.add(keras.layers.InputLayer(input_shape, batch_size=batch_size))
        model.add(layer)
    except Exception:
        while len(model._layers) > len(before):
            model.pop(rebuild=len(model._layers) > 1)
        raise
    return model


def _add_legacy(keras: Any, model: Any, layer: Any, batch_size: int | None) -> Any:
    """The same for tf_keras, whose layers know the sizes of the model's input."""
    built = model.built
    batch_shape = getattr(layer, "_batch_input_shape", None)
    if batch_shape is not None and batch_size is not None:
        layer._batch_input_shape = (batch_size, *batch_shape[1:])
    try:
        _check_fit(model, layer)
        model.add(layer)
    except Exception:
        model.built = built  # forgotten before the layer is tried, all else after it
        raise
    return model


def _check_fit(model: Any, layer: Any) -> None:
    """Ask first: a model that can refuse the layer needs no repair afterwards."""
    if model.built and hasattr(model, "output_shape"):
        layer.compute_output_shape(model.output_shape)


def _tensor_of(keras: Any, object: Any) -> Any:
    """The tensor that the layer is to be applied to."""
    if isinstance(object, keras.Model):
        outputs = getattr(object, "outputs", None) or []
        if len(outputs) != 1:
            raise unusable(f"a model with {len(outputs)} known outputs")
        return outputs[0]
    if isinstance(object, keras.layers.Layer):
        calls = len(object._inbound_nodes)  # no public name says how many there are
        if calls != 1:
            raise unusable(f"the layer {object.name!r}, which was called {calls} times")
        return _single(object.output, object)
    if isinstance(object, np.ndarray) or _is_tensor(object):
        return object
    raise unusable(f"{shown(object)} (of type {type(object).__name__})")


def _single(output: Any, layer: Any) -> Any:
    if isinstance(output, list | tuple | dict):
        raise unusable(f"the layer {layer.name!r}, which has {len(output)} outputs")
    return output


def _is_tensor(object: Any) -> bool:
    import tensorflow as tf

    # TensorFlow knows the symbolic tensors of tf_keras, and not those of Keras 3.
    return tf.is_tensor(object) or type(object).__name__ == "KerasTensor"


def unusable(received: str) -> ValueError:
    """The error for an object of another kind."""
    return ValueError(
        f"Received an invalid value for argument `object`. {_ACCEPTED} "
        f"Received: {received}"
    )
