"""The layers, for both generations of Keras. What this names itself is Keras 3's.

The files, from the top down: each asks only those below it.

    generation.py   which Keras is meant, and where the layers for it are
    keras_3.py      the layers for Keras 3
    legacy.py       the layers for tf_keras, the older generation
    mixins.py       what both have in common
    addons.py       the names under which TensorFlow Addons saved these layers
    arguments.py    what arguments may be that the function of a tensor does not have

A generation knows these layers, in files too, as soon as it is loaded itself: before
this package or after it. Neither is loaded from here unless it is asked for.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from groupnorm.layers import generation

if TYPE_CHECKING:
    from groupnorm.layers.keras_3 import GroupNormalization, InstanceNormalization

__all__ = ["GroupNormalization", "InstanceNormalization"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_load(generation.KERAS_3), name)


def _load(name: str) -> ModuleType:
    """The module with the layers for a generation, which registers them with it."""
    layers = generation.layers_for(name)
    if name == generation.KERAS_3:
        # Keras looks into the namespace of the module that a file names. Where that
        # module is what loads Keras, its layers are not there yet.
        there = vars(layers)
        globals().update({name: there[name] for name in __all__ if name in there})
    return layers


def _load_with_keras() -> None:
    try:
        import wrapt
    except ImportError:
        return  # nor is TensorFlow there, which needs it

    def load(keras: ModuleType) -> None:
        if generation.is_supported(keras.__name__, keras.__version__):
            _load(keras.__name__)

    wrapt.register_post_import_hook(load, generation.TF_KERAS)
    wrapt.register_post_import_hook(load, generation.KERAS_3)


_load_with_keras()
