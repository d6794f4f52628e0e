"""The weights, from each old layer to the new one in its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from groupnorm.migration.report import MigrationError


def transfer(pairs: Iterable[tuple[Any, Any]]) -> None:
    """Give every new layer the weights of the old one.

    Raises:
        MigrationError: A layer's weights are not the old one's in number or shape.
    """
    for old, new in pairs:
        old_weights = [weight for weight in old.weights if _is_value(weight)]
        new_weights = [weight for weight in new.weights if _is_value(weight)]
        before = [tuple(weight.shape) for weight in old_weights]
        after = [tuple(weight.shape) for weight in new_weights]
        if before != after:
            raise MigrationError(
                f"The layer {old.name!r} ({type(old).__name__}) has weights of shapes "
                f"{before}, and {after} under Keras 3."
            )
        for weight, value in zip(new_weights, old_weights, strict=True):
            weight.assign(value.numpy())
        if hasattr(new, "finalize_state"):  # what preprocessing layers derive of them
            new.finalize_state()


def _is_value(weight: Any) -> bool:
    """Not a generator's state, nor the number of samples that `adapt()` has seen."""
    name = weight.name.rpartition("/")[2].partition(":")[0]
    return name not in ("StateVar", "count")
