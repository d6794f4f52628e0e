"""Which implementation computes: this is the one place that decides."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.framework.ops import get_default_graph
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
from tensorflow.python.saved_model import save_context

from groupnorm import native
from groupnorm.native import build

_computed_in: int | None = None  # number of the process that called first


class Implementation(NamedTuple):
    """The name of an implementation, and why it is the one."""

    name: str  # "native" or "tensorflow"
    reason: str


def implementation() -> Implementation:
    """Which implementation computes on this machine, and why.

    The native kernel serves CPUs, in eager and in graph mode. Plain TensorFlow serves
    all else wherever this says: masked calls, XLA, models that are exported, graphs
    taken by `get_concrete_function`, and derivatives beyond the first.

    Returns:
        A pair: `name`, "native" or "tensorflow", and `reason`, a sentence.
    """
    if os.environ.get("GROUPNORM_NATIVE") == "0":
        return Implementation("tensorflow", "GROUPNORM_NATIVE=0 switches the other off")
    if tf.config.get_visible_devices("GPU"):
        return Implementation("tensorflow", "there is a GPU, and native is for CPUs")
    name = "tensorflow" if native.load() is None else "native"
    return Implementation(name, native.status())


def build_kernel(force: bool = False) -> Implementation:
    """Compile the native kernel, which takes seconds, and use it from now on.

    It goes into the package's own folder, or into a cache of the user's where that
    folder cannot be written to.

    Args:
        force: Compile it even if there is one.

    Returns:
        What `implementation` says afterwards.

    Raises:
        RuntimeError: There is no C++ compiler, or it failed.
    """
    build.build(force)
    native.load(retry=True)
    return implementation()


def use_native(mask: Any) -> bool:
    """Whether this call is one for the native kernel.

    Raises:
        RuntimeError: This process was forked from one that had computed before, and
            the call would wait for threads of TensorFlow's that stayed there.
    """
    native = _kernel_serves(mask)
    if _is_forked() and not (native and tf.executing_eagerly()):
        raise RuntimeError(
            "TensorFlow was used before this process was forked, and would wait here "
            "for ever for its threads, which a fork leaves behind. Start a fresh "
            'process instead: multiprocessing.get_context("spawn") in Python, '
            "parallel::makePSOCKcluster() in R."
        )
    return native


def _kernel_serves(mask: Any) -> bool:
    if mask is not None or leaves_the_process() or is_compiled():
        return False
    if _graph_is_asked_for():
        return False
    return implementation().name == "native"


def _is_forked() -> bool:
    """Whether an ancestor of this process, by fork, has computed before."""
    global _computed_in
    if _computed_in is None:
        _computed_in = os.getpid()
    return _computed_in != os.getpid()


def leaves_the_process() -> bool:
    """Whether a SavedModel is being written, which must not need this package."""
    return save_context.in_save_context()


def may_branch() -> bool:
    """Whether TensorFlow itself runs this: of other engines, some have no branches."""
    return not leaves_the_process() and not _graph_is_asked_for()


def _graph_is_asked_for() -> bool:
    """Whether the graph that is being traced is wanted for its own sake.

    Converters, to ONNX for one, take a graph by `get_concrete_function` and write down
    the operations in it. Nothing but the stack of calls tells that from tracing in
    order to compute.
    """
    if tf.executing_eagerly():
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "get_concrete_function":
            return True
        frame = frame.f_back
    return False


def is_compiled() -> bool:
    """Whether this is traced for XLA."""
    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(
        get_default_graph()
    )


def is_compiled_for_cpu() -> bool:
    """Whether XLA compiles this, and can do so for no other device than CPUs."""
    if not is_compiled() or leaves_the_process():
        return False
    return all(
        device.device_type == "CPU" for device in tf.config.get_visible_devices()
    )
