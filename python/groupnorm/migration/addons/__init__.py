"""What else TensorFlow Addons had, as far as Keras 3 has an equal.

Each of these was compared with files and outputs that Addons wrote itself. What has no
equal is refused by its name.

    layers.py       layers, as Addons computed them, and what comes in their place
    training.py     optimizers, losses and metrics
"""

from __future__ import annotations

from typing import Any

import keras

from groupnorm.migration import versions
from groupnorm.migration.activations import FUNCTIONS
from groupnorm.migration.addons.layers import LAYERS
from groupnorm.migration.addons.training import (
    check_losses,
    inner_optimizer,
    loss_or_metric,
    optimizer,
)
from groupnorm.migration.report import MigrationError

__all__ = [
    "OLD",
    "check_losses",
    "inner_optimizer",
    "loss_or_metric",
    "optimizer",
    "refuse",
]

# What tf_keras finds by the names in a file.
OLD: dict[str, Any] = {**LAYERS, **FUNCTIONS}


def refuse(layer: str, name: Any) -> None:
    """Say of a layer or function of Addons that Keras 3 has no equal.

    Raises:
        MigrationError: It is one of Addons's.
    """
    if isinstance(name, str) and name.startswith("Addons>"):
        tail, newer = name.removeprefix("Addons>"), versions.needed_for(name)
        lacking = "Keras 3 has no equal. Write"
        if newer is not None:
            version = keras.__version__
            lacking = f"Keras {version} has no equal. Update it to {newer}, or write"
        raise MigrationError(
            f"The layer {layer!r} is, or uses, {tail} of TensorFlow Addons, of which "
            f"{lacking} it for Keras 3, and give it by its name: "
            f"migrate(old, new, custom_objects={{{name!r}: {tail}}}), in R "
            f"migrate_model(input, output, custom_objects = list(`{name}` = {tail})), "
            "in a shell --custom-objects script.py."
        )
