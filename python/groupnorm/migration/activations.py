"""The activations of TensorFlow Addons: what they computed, and their equals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from groupnorm.migration import spelling, versions
from groupnorm.migration.report import MigrationError


def _gelu(x: Any) -> Any:
    return tf.nn.gelu(x, approximate=True)


def _mish(x: Any) -> Any:
    return x * tf.tanh(tf.nn.softplus(x))


def _hardshrink(x: Any) -> Any:
    return tf.where(tf.abs(x) > 0.5, x, tf.zeros_like(x))


def _softshrink(x: Any) -> Any:
    return tf.where(tf.abs(x) > 0.5, x - 0.5 * tf.sign(x), tf.zeros_like(x))


def _tanhshrink(x: Any) -> Any:
    return x - tf.tanh(x)


def sparsemax(x: Any) -> Any:
    """The projection of the last axis onto the simplex (Martins & Astudillo 2016)."""
    ranked = tf.sort(x, direction="DESCENDING")
    sums = tf.cumsum(ranked, axis=-1)
    rank = tf.range(1, tf.shape(x)[-1] + 1)
    counts = tf.cast(rank, x.dtype)
    inside = 1 + counts * ranked > sums
    size = tf.reduce_sum(tf.cast(inside, tf.int32), axis=-1, keepdims=True)
    total = tf.reduce_sum(tf.where(inside, ranked, 0), axis=-1, keepdims=True)
    return tf.maximum(x - (total - 1) / tf.cast(size, x.dtype), 0)


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def activation(x: Any) -> Any:
        return function(x)

    # By which a layer's configuration then names it.
    activation.__name__ = activation.__qualname__ = f"Addons>{name}"
    return activation


def _keras_3(name: str) -> Any:
    """A Keras 3 activation; the first versions do not have them all."""
    found = getattr(keras.activations, name, None)
    return None if found is None else name


def _sparsemax_of_operations(x: Any) -> Any:
    """`sparsemax` for Keras 3, whose own is another function if two are above 0."""
    ops, size = keras.ops, x.shape[-1]
    ranked = ops.flip(ops.sort(x, axis=-1), axis=-1)
    counts = np.arange(1, size + 1, dtype=x.dtype)
    bounds = 1 + ops.multiply(ranked, counts)
    inside = ops.cast(bounds > ops.cumsum(ranked, axis=-1), x.dtype)
    total = ops.sum(inside * ranked, axis=-1, keepdims=True)
    return ops.maximum(x - (total - 1) / ops.sum(inside, axis=-1, keepdims=True), 0)


# What Keras 3 has no activation of, as operations.
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "gelu": lambda x: keras.ops.gelu(x, approximate=True),
    "sparsemax": _sparsemax_of_operations,
}


def of_operations(kind: str, shape: tuple[Any, ...], **config: Any) -> Any:
    """A model of plain operations that computes an activation of Addons's.

    Args:
        kind: The name of the activation.
        shape: Of the tensor that it is applied to. Only its last axis must be known.
        **config: Name and dtype of the model.
    """
    free = (None,) * (len(shape) - 2)
    x = keras.Input((*free, shape[-1]), dtype=config.pop("dtype", None))
    return keras.Model(x, _OPERATIONS[kind](x), **config)


def new_activation(name: str, shape: tuple[Any, ...] | None) -> Any:
    """The value of an argument `activation` under Keras 3.

    Args:
        name: Of Addons, as the file has it.
        shape: Of the tensor that it is applied to; `None` if that is not known.
    """
    tail = name.removeprefix("Addons>")
    if tail not in _OPERATIONS:
        return _EQUALS[tail][1]
    if shape is None:
        raise MigrationError(
            f"{tail} of TensorFlow Addons, of which Keras 3 has no activation, is that "
            "of a cell or an inner layer, where migrate cannot put operations in its "
            f"place. Give one as {name!r} in custom_objects."
        )
    check_layers_are_read(f"{tail} of TensorFlow Addons becomes a layer of operations")
    return keras.saving.serialize_keras_object(of_operations(tail, shape))


def check_layers_are_read(what: str) -> None:
    """Refuse a layer in the place of an activation where Keras does not read it.

    Args:
        what: How the sentence begins.
    """
    newer = versions.needed_for("a layer as an activation")
    if newer is not None:
        raise MigrationError(
            f"{what}, which Keras {newer} and later read as an activation, and "
            f"{keras.__version__} does not: update it."
        )


def name_of(value: Any) -> Any:
    """The name of an activation, as a configuration has it."""
    return spelling.known_as(value) if isinstance(value, dict) else value


def is_addons(value: Any) -> bool:
    """Whether it is an activation of Addons's, and not one that was given."""
    name = name_of(value) if isinstance(value, str) or _is_spec(value) else None
    given = keras.saving.get_registered_object(name) if name else None
    return name in FUNCTIONS and given is None


def _is_spec(value: Any) -> bool:
    return isinstance(value, dict) and "class_name" in value and "config" in value


def doubts(config: Any) -> list[str]:
    """What a file leaves open: TensorFlow 2.15 wrote Addons' gelu as "gelu"."""
    specs = [
        spec for _, spec in spelling.specs(config) if isinstance(spec["config"], dict)
    ]
    if not any(str(spec["class_name"]).startswith("Addons>") for spec in specs):
        return []
    named = [
        spec["config"] for spec in specs if spec["config"].get("activation") == "gelu"
    ]
    if not named:
        return []
    return [
        f"{', '.join(layer['name'] for layer in named)}: the activation is 'gelu', "
        "which is taken for Keras's exact one. Files do not tell it from that of "
        "TensorFlow Addons, which approximates."
    ]


_EQUALS: dict[str, tuple[Callable[..., Any], Any]] = {
    "gelu": (_gelu, ""),
    "hardshrink": (_hardshrink, _keras_3("hard_shrink")),
    "mish": (_mish, _keras_3("mish")),
    "softshrink": (_softshrink, _keras_3("soft_shrink")),
    "sparsemax": (sparsemax, ""),
    "tanhshrink": (_tanhshrink, _keras_3("tanh_shrink")),
}
FUNCTIONS = {
    f"Addons>{name}": _named(name, old)
    for name, (old, new) in _EQUALS.items()
    if new is not None
}
