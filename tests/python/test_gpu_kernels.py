"""On a GPU: every operation of plain TensorFlow can run there, and none waits for it.

There is no GPU here. But TensorFlow's package for Linux has its kernels for GPUs in it,
and its registry says of each one which dtypes it takes, and which of its arguments must
lie in the memory of the host. An edge of the graph from a result that is on the device
to an argument that must be on the host would stop everything until it was copied.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels, op_def_registry

from groupnorm import group_normalization

SIZES = [
    ([512], -1),
    ([128, 512], -1),
    ([64, 56, 56], 1),
    ([5, 64, 7], 2),
    ([4, 200, 200, 3], 1),
]


@functools.cache
def kernels_for_gpus(operation: str) -> list:
    """Those that TensorFlow would look for, best first."""
    found = kernels.get_registered_kernels_for_op(operation).kernel
    usable = [kernel for kernel in found if kernel.device_type in ("GPU", "DEFAULT")]
    best = {"GPU": 1, "DEFAULT": 0}
    return sorted(usable, key=lambda k: (best[k.device_type], k.priority), reverse=True)


@pytest.fixture(autouse=True)
def _with_gpu_kernels(monkeypatch):
    if not any(k.device_type == "GPU" for k in kernels_for_gpus("MatMul")):
        pytest.skip("this build of TensorFlow has no kernels for GPUs in it")
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")


class Placed(NamedTuple):
    """Where the arguments and results of an operation lie if it runs on a GPU."""

    inputs: list[bool]  # whether in the memory of the host
    outputs: list[bool]


def placed(operation: tf.Operation) -> Placed | None:
    """By the kernel for a GPU, or None if there is none for these dtypes."""
    node = operation.node_def
    for kernel in kernels_for_gpus(operation.type):
        if all(
            node.attr[c.name].type in c.allowed_values.list.type
            for c in kernel.constraint
        ):
            definition = op_def_registry.get(operation.type)
            return Placed(
                _on_host(definition.input_arg, node, kernel),
                _on_host(definition.output_arg, node, kernel),
            )
    return None


def _on_host(arguments, node, kernel) -> list[bool]:
    found = []
    for argument in arguments:
        if argument.type_list_attr:
            number = len(node.attr[argument.type_list_attr].list.type)
        else:
            number = node.attr[argument.number_attr].i if argument.number_attr else 1
        found += [argument.name in kernel.host_memory_arg] * number
    return found


def graph_of(shape, axis, groups=4, dtype=tf.float32, masked=False, backward=True):
    """One call with its gradient, as TensorFlow would run it."""
    graph = tf.Graph()
    with graph.as_default():
        x, dy = (tf.compat.v1.placeholder(dtype, shape) for _ in range(2))
        weights = [tf.compat.v1.placeholder(tf.float32, shape[axis])] * 2
        mask = None
        if masked:
            axes = [n for i, n in enumerate(shape) if i != axis % len(shape)]
            mask = tf.compat.v1.placeholder(tf.bool, axes)
        y = group_normalization(x, groups, *weights, axis, mask=mask)
        if backward:
            tf.gradients(y, [x, *weights], dy)
    return graph


def without_kernel(graph) -> list[str]:
    return [
        f"{op.type} of {[i.dtype.name for i in op.inputs]}"
        for op in graph.get_operations()
        if op.type != "Placeholder" and placed(op) is None
    ]


def brought_to_the_host(graph) -> list[str]:
    return [
        f"{tensor.op.type} -> {op.type}"
        for op in graph.get_operations()
        for tensor, wanted_on_host in zip(
            op.inputs, _placed_or_on_device(op).inputs, strict=True
        )
        if wanted_on_host
        and not _placed_or_on_device(tensor.op).outputs[tensor.value_index]
    ]


def _placed_or_on_device(operation) -> Placed:
    if operation.type == "Placeholder":  # what is fed is what other layers computed
        return Placed([], [False])
    return placed(operation)


@pytest.mark.sampled
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("unknown", ["nothing", "batch", "all but the channels"])
@pytest.mark.parametrize(("sizes", "axis"), SIZES)
def test_all_of_it_runs_on_a_gpu(sizes, axis, unknown, dtype, masked):
    shape = [8, *sizes]
    if unknown != "nothing":
        shape[0] = None
    if unknown == "all but the channels":
        shape = [n if i == axis % len(shape) else None for i, n in enumerate(shape)]
    graph = graph_of(shape, axis, dtype=tf.as_dtype(dtype), masked=masked)
    assert not without_kernel(graph)
    assert not brought_to_the_host(graph)


def test_what_has_no_kernel_there_would_be_seen():
    with tf.Graph().as_default() as graph:
        tf.strings.length(tf.compat.v1.placeholder(tf.string, [3]))
    assert without_kernel(graph) == ["StringLength of ['string']"]


def test_a_copy_to_the_host_would_be_seen():
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [6])
        largest = tf.cast(tf.argmax(x), tf.int32)
        tf.reshape(x, tf.stack([largest, -1]))
    assert brought_to_the_host(graph) == ["Cast -> Pack"]
