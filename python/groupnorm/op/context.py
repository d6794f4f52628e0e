"""What TensorFlow is doing at the moment: computing, tracing, compiling, exporting."""

from __future__ import annotations

import os
import sys
from types import FrameType

import tensorflow as tf
from tensorflow.python.framework.ops import get_default_graph
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
from tensorflow.python.saved_model import save_context

_computed_in: int | None = None  # number of the process that called first


def is_eager() -> bool:
    """Whether operations are carried out as they are called."""
    return tf.executing_eagerly()


def is_exporting() -> bool:
    """Whether a SavedModel is being written, which must not need this package."""
    return save_context.in_save_context()


def is_for_reading() -> bool:
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


def is_run_as_written() -> bool:
    """Whether TensorFlow's own kernels are to run this, one operation at a time."""
    return not (is_compiled() or is_exporting() or is_for_reading())


def is_compiled_for_cpu() -> bool:
    """Whether XLA compiles this, and can do so for no other device than CPUs."""
    if not is_compiled() or is_exporting():
        return False
    return all(
        device.device_type == "CPU" for device in tf.config.get_visible_devices()
    )


def is_forked() -> bool:
    """Whether an ancestor of this process, by fork, has computed before."""
    global _computed_in
    if _computed_in is None:
        _computed_in = os.getpid()
    return _computed_in != os.getpid()
