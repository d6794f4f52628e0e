"""The compiled library: loading it, and calling its operations."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from groupnorm.op.native import threads

# Compiled when the package is, or with it in the wheel: see setup.py and configure.
_PATH = Path(__file__).with_name("groupnorm_ops.so")

# What takes a call into a graph. It is not public; JAX uses it, too.
CALLS_MODULES = "tensorflow.compiler.tf2xla.python.xla"
# xla::ffi::GetXlaFfiApi(), as C++ compilers spell it.
_GET_XLA_FFI_API = "_ZN3xla3ffi12GetXlaFfiApiEv"

_lock = threading.Lock()
_threads: int | None = None


class Library(NamedTuple):
    """What was loaded, if anything was, and why it was or was not."""

    ops: ModuleType | None  # with `groupnorm_forward` and `groupnorm_backward`
    handle: ctypes.CDLL | None
    status: str
    under_xla: bool = False  # whether XLA may call them


def load() -> Library:
    """Load the library, once."""
    with _lock:
        return _load()


@functools.cache
def _load() -> Library:
    if not _PATH.exists():
        return Library(None, None, _why_there_is_none())
    try:
        _show_tensorflow()
        ops = tf.load_op_library(str(_PATH))
        handle = ctypes.CDLL(str(_PATH))
    except Exception as error:  # whatever it is, there is the other way
        return Library(None, None, f"{_PATH} could not be loaded: {error}")
    try:
        why_not = _register_with_xla(handle)
    except Exception as error:
        why_not = str(error)
    status = f"loaded from {_PATH}" + (f"; not for XLA: {why_not}" if why_not else "")
    return Library(ops, handle, status, under_xla=why_not is None)


def _register_with_xla(handle: ctypes.CDLL) -> str | None:
    """Let XLA call the kernel; why it cannot, or None."""
    interface = _xla_interface()
    if interface is None or importlib.util.find_spec(CALLS_MODULES) is None:
        return "this TensorFlow shows no interface for it"
    register = getattr(handle, "groupnorm_register_with_xla", None)
    if register is None:
        return "it was compiled before it could be; install groupnorm again"
    register.argtypes, register.restype = [ctypes.c_void_p], ctypes.c_char_p
    why_not = register(interface)
    return None if why_not is None else why_not.decode()


def _xla_interface() -> int | None:
    """What XLA's GetXlaFfiApi() returns; TensorFlow 2.18 is the first to show it."""
    for path in Path(tf.sysconfig.get_lib()).glob("libtensorflow_*"):
        function = getattr(ctypes.CDLL(str(path)), _GET_XLA_FFI_API, None)
        if function is not None:
            function.restype = ctypes.c_void_p
            return function()
    return None


def _show_tensorflow() -> None:
    """Let libraries that are not linked against TensorFlow find its functions.

    TensorFlow 2.16 keeps them to itself, 2.21 does not.
    """
    folder = Path(tf.sysconfig.get_lib())
    for framework in folder.glob("libtensorflow_framework*"):
        ctypes.CDLL(str(framework), mode=ctypes.RTLD_GLOBAL)


def _why_there_is_none() -> str:
    if sys.platform == "win32":
        return "there is no native kernel for Windows"
    return (
        "there was no C++ compiler when groupnorm was installed; to add the native "
        "kernel, install it again where there is one"
    )


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
        gamma: shape `[C]`, or `[0]` for ones; float32 (float64 for float64), like
            `beta`.
        beta: shape `[C]`, or `[0]` for zeros.
        groups: number of groups, which divides `C`.
        axis: the channel axis, at least 1.
        epsilon: added to the variance.
        mask: boolean, true where an entry counts, or None. It has the axes of x,
            of size 1 for the channels and for those at the end over which it
            stays the same.

    Returns:
        The output, and mean and 1 / sqrt(variance + epsilon) of every sample
        and group: float64 of shape `[N, groups, 2]`.
    """
    y, stats = _ops().groupnorm_forward(
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
    """The gradients of `forward` with respect to x, gamma and beta.

    Those of gamma and beta have the shape of gamma and beta, `[0]` included.
    """
    return _ops().groupnorm_backward(
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


def prepared() -> Library:
    """The library, told how many threads it may use, which may have changed."""
    global _threads
    library = load()
    if library.handle is None:
        raise RuntimeError(f"The native kernel is not there: {library.status}.")
    allowed = threads.setting()
    if allowed != _threads:
        library.handle.groupnorm_set_threads(allowed)
        _threads = allowed
    return library


def _ops() -> Any:
    return prepared().ops
