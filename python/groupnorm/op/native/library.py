"""The compiled library: loading it, and calling its operations."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from groupnorm.op.native import build

_lock = threading.Lock()
_tried = False
_ops: ModuleType | None = None
_library: ctypes.CDLL | None = None
_threads: int | None = None
_status = "not loaded yet"


def load(retry: bool = False) -> ModuleType | None:
    """Loads the library, once, and returns its operations.

    Args:
        retry: try again if an earlier call found nothing to load (after a
            ``build()``, say).

    Returns:
        A module with ``groupnorm_forward`` and ``groupnorm_backward``, or None;
        ``status()`` then says why.
    """
    global _tried, _ops, _library, _status
    with _lock:
        if _tried and (_ops is not None or not retry):
            return _ops
        _tried = True
        path = build.find()
        if path is None:
            _status = build.why_not()
            return None
        try:
            ops = tf.load_op_library(str(path))
            _library = ctypes.CDLL(str(path))
        except Exception as error:  # whatever it is, there is the other way
            _status = f"{path} could not be loaded: {error}"
            return None
        _ops, _status = ops, f"loaded from {path}"
    sync_threads()
    return _ops


def status() -> str:
    """Says whether the library is loaded, and if not, why."""
    return _status


def sync_threads() -> None:
    """Takes over TensorFlow's intra-op thread count, which may have changed."""
    global _threads
    if _library is None:
        return
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    # TensorFlow's own default where nothing was set.
    threads = threads or _environment_threads()
    if threads != _threads:
        _library.groupnorm_set_threads(threads)
        _threads = threads


def forward(
    x: Any,
    gamma: Any,
    beta: Any,
    groups: int,
    axis: int,
    epsilon: float,
    mask: Any = None,
) -> tuple[Any, Any]:
    """Group normalization on the CPU.

    Args:
        x: float16, bfloat16, float32 or float64, of rank >= 2, batch first.
        gamma: shape ``[C]``, or ``[0]`` for ones; float32 (float64 for
            float64), like ``beta``.
        beta: shape ``[C]``, or ``[0]`` for zeros.
        groups: number of groups, which divides ``C``.
        axis: the channel axis, at least 1.
        epsilon: added to the variance.
        mask: boolean, true where an entry counts, or None. It has the axes of x,
            of size 1 for the channels and for those at the end over which it
            stays the same.

    Returns:
        The output, and mean and 1 / sqrt(variance + epsilon) of every sample
        and group: float64 of shape ``[N, groups, 2]``.
    """
    sync_threads()
    y, stats = _loaded().groupnorm_forward(
        x, gamma, beta, _or_none(mask), groups=groups, axis=axis, **_split(epsilon)
    )
    stats.set_shape([x.shape[0], groups, 2])
    return y, stats


def backward(
    x: Any,
    gamma: Any,
    beta: Any,
    stats: Any,
    dy: Any,
    groups: int,
    axis: int,
    epsilon: float,
    mask: Any = None,
) -> tuple[Any, Any, Any]:
    """The gradients of ``forward`` with respect to x, gamma and beta.

    Those of gamma and beta have the shape of gamma and beta, ``[0]`` included.
    """
    sync_threads()
    return _loaded().groupnorm_backward(
        x,
        gamma,
        beta,
        _or_none(mask),
        stats,
        dy,
        groups=groups,
        axis=axis,
        **_split(epsilon),
    )


def is_none(mask: Any) -> bool:
    """Whether this input of an operation stands for no mask."""
    return mask.shape.rank == 1


def _or_none(mask: Any) -> Any:
    if mask is not None:
        return mask
    return _no_mask() if tf.executing_eagerly() else tf.zeros([0], tf.bool)


@functools.cache
def _no_mask() -> Any:
    """What stands for no mask, made once: eager calls are short."""
    return tf.zeros([0], tf.bool)


def _split(epsilon: float) -> dict[str, float]:
    """Attributes are float32: the second one carries the digits that are lost."""
    largest = float(np.finfo(np.float32).max)
    rounded = float(np.float32(min(epsilon, largest)))
    # Beyond them any epsilon leaves 0 of what is normalized.
    return {"epsilon": rounded, "epsilon_rest": min(epsilon - rounded, largest)}


def _loaded() -> ModuleType:
    ops = load()
    if ops is None:
        raise RuntimeError(f"The native kernel is not there: {_status}.")
    return ops


def _environment_threads() -> int:
    try:
        return max(0, int(os.environ.get("TF_NUM_INTRAOP_THREADS", "0")))
    except ValueError:
        return 0
