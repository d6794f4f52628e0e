"""Which implementation computes: this is the one place that decides."""

from __future__ import annotations

import os
from typing import NamedTuple

import tensorflow as tf

from groupnorm.op import context, native

# Numbers that take XLA as long as it takes to call the kernel, and as the kernel takes
# for a group, whatever is in it: of few numbers XLA makes a loop over many groups.
_A_CALL, _A_GROUP = 2048, 9


class Implementation(NamedTuple):
    """The name of an implementation, and why it is the one."""

    name: str  # "native" or "tensorflow"
    reason: str


def implementation() -> Implementation:
    """Which implementation computes on this machine, and why.

    The native kernel serves CPUs, in eager and in graph mode and, from TensorFlow 2.18,
    under XLA. Plain TensorFlow serves all else whatever this says: models that are
    exported, graphs taken by `get_concrete_function`, derivatives beyond the first, and
    under XLA small tensors and groups.

    Returns:
        A pair: `name`, "native" or "tensorflow", and `reason`, a sentence.
    """
    if os.environ.get("GROUPNORM_NATIVE") == "0":
        return Implementation("tensorflow", "GROUPNORM_NATIVE=0 switches the other off")
    if tf.config.get_visible_devices("GPU"):
        return Implementation("tensorflow", "there is a GPU, and native is for CPUs")
    library = native.load()
    name = "tensorflow" if library.ops is None else "native"
    return Implementation(name, library.status)


def use_native(is_trivial: bool) -> bool:
    """Whether this call, with or without a mask, is one for the native kernel.

    Args:
        is_trivial: Whether every value is the mean of its group, or there is none.
            TensorFlow is faster then, but in eager mode, where the kernel is one
            operation against several.

    Raises:
        RuntimeError: This process was forked from one that had computed before, and
            the call would wait for threads of TensorFlow's that stayed there.
    """
    native = _kernel_serves() and (context.is_eager() or not is_trivial)
    if context.is_forked() and not (native and context.is_eager()):
        raise RuntimeError(
            "TensorFlow was used before this process was forked, and would wait here "
            "for ever for its threads, which a fork leaves behind. Start a fresh "
            'process instead: multiprocessing.get_context("spawn") in Python, '
            "parallel::makePSOCKcluster() in R."
        )
    return native


def use_native_under_xla(x: tf.Tensor, groups: int, is_trivial: bool) -> bool:
    """Whether XLA, which compiles this call, is to call the native kernel.

    Args:
        x: The input.
        groups: The number of groups of a sample.
        is_trivial: As above; XLA is faster then, and with few numbers.
    """
    if is_trivial or not context.is_compiled_for_cpu():
        return False
    samples, of_a_sample = x.shape[0], x.shape[1:].num_elements()
    if of_a_sample is not None:
        gain = of_a_sample - _A_GROUP * groups
        if gain < 0 or (samples is not None and samples * gain < _A_CALL):
            return False
    return implementation().name == "native" and native.load().under_xla


def _kernel_serves() -> bool:
    return context.is_run_as_written() and implementation().name == "native"
