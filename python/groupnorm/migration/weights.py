"""The weights, from each old layer to the new one in its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from groupnorm.migration.report import MigrationError


def transfer(pairs: Iterable[tuple[Any, Any]]) -> dict[int, Any]:
    """Give every new layer the weights of the old one.

    Returns:
        Each new weight, by the id of the old one's TensorFlow variable.

    Raises:
        MigrationError: A layer's weights are not the old one's in number or shape.
    """
    places: dict[int, Any] = {}
    for old, new in pairs:
        # A stand-in's weights are those of the Keras 3 layer inside it.
        inner = getattr(old, "inner", None)
        weights = old.weights if inner is None else _in_order(inner)
        if hasattr(old, "new_weights"):  # as many as the new layer has
            weights = old.new_weights()
        old_weights = [weight for weight in weights if _is_value(weight)]
        new_weights = [weight for weight in _in_order(new) if _is_value(weight)]
        before = [tuple(weight.shape) for weight in old_weights]
        after = [tuple(weight.shape) for weight in new_weights]
        if before != after:
            raise MigrationError(
                f"The layer {old.name!r} ({type(old).__name__}) has weights of shapes "
                f"{before}, and {after} under Keras 3."
            )
        for weight, value in zip(new_weights, old_weights, strict=True):
            weight.assign(value.numpy())
            is_lent = isinstance(value, keras.Variable)
            places[id(value.value if is_lent else value)] = weight
        if hasattr(new, "finalize_state"):  # what preprocessing layers derive of them
            new.finalize_state()
    return places


def _in_order(layer: Any) -> list[Any]:
    """The weights of a Keras 3 layer as Keras 2 orders those of a layer with parts."""
    if not layer.trainable:
        return layer.weights
    return sorted(layer.weights, key=lambda weight: not weight.trainable)


def _is_value(weight: Any) -> bool:
    """Not a generator's state, nor the number of samples that `adapt()` has seen."""
    if not hasattr(weight, "trainable"):
        return True  # computed from weights
    name = weight.name.rpartition("/")[2].partition(":")[0]
    return name not in ("StateVar", "count")
