"""Which Keras is meant: Keras 3 (`keras`) or the older generation (`tf_keras`)."""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType
from typing import Any

KERAS_3 = "keras"
TF_KERAS = "tf_keras"

_OLDEST_KERAS = (3, 3)


def default() -> str:
    """The generation to use when nothing else says which: the one of `tf.keras`.

    Raises:
        ImportError: No supported Keras is installed.
    """
    # Read exactly as TensorFlow reads it, so that both choose the same.
    if os.environ.get("TF_USE_LEGACY_KERAS") in ("true", "True", "1"):
        if not _is_installed(TF_KERAS):
            raise ImportError(
                "The environment variable TF_USE_LEGACY_KERAS is set, and tf_keras is "
                "not installed: `pip install tf-keras`, or unset the variable."
            )
        return TF_KERAS
    found = _keras_version()
    if found is not None and is_supported(KERAS_3, found):
        return KERAS_3
    if _is_installed(TF_KERAS):
        return TF_KERAS
    oldest = ".".join(map(str, _OLDEST_KERAS))
    raise ImportError(
        f"groupnorm needs Keras {oldest} or later, or tf_keras, and found "
        f"{'neither' if found is None else f'Keras {found}'}: `pip install "
        f"'keras>={oldest}'` or `pip install tf-keras`."
    )


def of(object: Any) -> str:
    """The generation that an object belongs to; the default one if to neither."""
    for base in type(object).__mro__:
        root = base.__module__.partition(".")[0]
        if root in (KERAS_3, TF_KERAS):
            return root
    return default()


def layers_for(generation: str) -> ModuleType:
    """The module with the layers for a generation. Loading it loads that Keras."""
    if generation == TF_KERAS:
        from groupnorm.layers import legacy

        return legacy
    from groupnorm.layers import keras_3

    return keras_3


def default_layers() -> ModuleType:
    """The module with the layers for the default generation."""
    return layers_for(default())


def is_supported(generation: str, version: str) -> bool:
    """Whether this package serves this version of a generation.

    The package `keras` was of the older generation itself before its version 3.
    """
    return generation == TF_KERAS or _release(version) >= _OLDEST_KERAS


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _keras_version() -> str | None:
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name != "keras":
            raise  # Keras is there, and lacks something: its backend, as a rule
        return None
    return keras.__version__


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
