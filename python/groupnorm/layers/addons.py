"""Opening what TensorFlow Addons saved.

Its models name their layers `Addons>GroupNormalization` and
`Addons>InstanceNormalization`. A reader under each of these names makes this package's
own layer of the saved configuration. It is not a layer itself: the model that is opened
holds plain layers of this package, and when saved again it names them
`groupnorm>...`, so that reading it needs neither Addons nor its names.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

PACKAGE = "Addons"


def register(keras: ModuleType, *layer_classes: Any) -> None:
    """Teach a Keras generation to read these layers under their Addons names.

    A name that TensorFlow Addons has registered itself is left to it. If it comes later
    it takes the name over, as Keras lets the last registration win.
    """
    for layer_class in layer_classes:
        name = f"{PACKAGE}>{layer_class.__name__}"
        keras.utils.get_custom_objects().setdefault(name, _reader(layer_class))


def _reader(layer_class: Any) -> type:
    class Reader:
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            return layer_class.from_config(translate(layer_class.__name__, config))

    return Reader


def translate(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration in this package's terms of a layer that Addons saved.

    Warns:
        UserWarning: Keras has lost the argument `axis` on the way here.

    Raises:
        ValueError: Addons computed something else than the layer says.
    """
    if "axis" not in config:  # Addons always wrote it
        warnings.warn(
            f"This version of Keras drops the argument `axis` of the layer "
            f"{config.get('name')!r}, and of every other, when it reads an .h5 file "
            "(Keras 3.3 to 3.14 do): -1 is taken. If the model has another axis "
            "anywhere, use Keras 3.15 or groupnorm.migrate(), which read it.",
            stacklevel=2,
        )
    if class_name != "InstanceNormalization":
        return config
    if config.get("axis", -1) < -1:
        # Addons then took the statistics along one axis and scaled along another.
        raise ValueError(
            f"The layer {config.get('name')!r} in this file is TensorFlow Addons' "
            f"InstanceNormalization(axis={config['axis']}), which for a negative axis "
            "other than -1 normalized a wrong axis. groupnorm does not repeat that."
        )
    # Written by Addons, which ignored it when reading: one group per channel always.
    return {name: value for name, value in config.items() if name != "groups"}
