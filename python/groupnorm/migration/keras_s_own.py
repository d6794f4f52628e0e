"""Keras's own GroupNormalization in the place of this package's.

A file with it opens without this package, and on other backends than TensorFlow.
"""

from __future__ import annotations

from typing import Any

import keras

from groupnorm.layers import keras_3
from groupnorm.migration.report import MigrationError

_ARGUMENTS = (
    "name",
    "trainable",
    "dtype",
    "axis",
    "epsilon",
    "center",
    "scale",
    "beta_initializer",
    "gamma_initializer",
    "beta_regularizer",
    "gamma_regularizer",
    "beta_constraint",
    "gamma_constraint",
)


def in_place_of(layer: Any) -> Any:
    """Keras's layer for one of this package's; any other layer as it is.

    Raises:
        MigrationError: Keras's layer cannot do what this one does.
    """
    if not isinstance(
        layer, keras_3.GroupNormalization | keras_3.InstanceNormalization
    ):
        return layer
    if layer.use_mask:
        raise MigrationError(
            f"The layer {layer.name!r} has use_mask=True, which Keras's own "
            "GroupNormalization does not have: it is only to be had with "
            "layers='groupnorm'."
        )
    config = layer.get_config()
    own = {name: config[name] for name in _ARGUMENTS}
    return keras.layers.GroupNormalization.from_config({**own, "groups": layer.groups})
