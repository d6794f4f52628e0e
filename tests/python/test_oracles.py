"""The same numbers as other people's group normalization.

TensorFlow Addons speaks through its recorded outputs, in test_addons.py.
"""

from __future__ import annotations

import functools

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf

from groupnorm import (
    GroupNormalization,
    InstanceNormalization,
    group_normalization,
)

CASES = [
    ((3, 8), 1, 2),
    ((2, 6, 5), 1, 1),
    ((3, 4, 5, 8), -1, 2),
    ((2, 3, 4, 5), 2, 4),
    ((2, 3, 2, 6, 3), -2, 3),
]
WITH_POSITIONS = CASES[1:]


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: make peers")


@pytest.fixture
def onnx():
    return pytest.importorskip("onnx", reason="onnx is not installed: make peers")


def draw(rng, shape, axis, dtype="float64"):
    """x, gamma, beta, and a gradient that comes back from the output."""
    sizes = (shape, shape[axis], shape[axis], shape)
    return [rng.normal(size=size).astype(dtype) for size in sizes]


def with_gradients(function, *inputs, dy):
    inputs = [tf.constant(value) for value in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
    return y, *tape.gradient(y, inputs, dy)


def assert_close(actual, expected, tolerance):
    for got, want in zip(actual, expected, strict=True):
        assert got.shape == want.shape
        assert oracle.relative_error(got, want) < tolerance


# --- torch ---------------------------------------------------------------------------


# Where the mean is large torch itself is not accurate, so it is 0 here.
@pytest.mark.parametrize(
    ("shape", "axis", "groups", "dtype", "tolerance"),
    [(*case, "float64", 1e-12) for case in CASES]
    + [(*case, "float32", 5e-6) for case in CASES[2:4]],
)
def test_torch(compute, torch, rng, shape, axis, groups, dtype, tolerance):
    *inputs, dy = draw(rng, shape, axis, dtype)
    actual = with_gradients(
        lambda x, gamma, beta: compute(x, groups, gamma, beta, axis), *inputs, dy=dy
    )
    x, gamma, beta = (torch.tensor(value, requires_grad=True) for value in inputs)
    y = torch.nn.functional.group_norm(x.movedim(axis, 1), groups, gamma, beta, 1e-3)
    y = y.movedim(1, axis)
    y.backward(torch.tensor(dy))
    assert_close(actual, [y.detach(), x.grad, gamma.grad, beta.grad], tolerance)


def test_layer_and_instance_normalization_of_torch(compute, torch, rng):
    x, _, _, dy = draw(rng, (2, 3, 4, 5), 3)
    first = torch.tensor(np.moveaxis(x, 3, 1), requires_grad=True)
    for groups, y in [
        (1, torch.nn.functional.layer_norm(first, first.shape[1:], eps=1e-3)),
        (-1, torch.nn.functional.instance_norm(first, eps=1e-3)),
    ]:
        dx = torch.autograd.grad(y, first, torch.tensor(np.moveaxis(dy, 3, 1)))[0]
        expected = [y.detach().movedim(1, 3), dx.movedim(1, 3)]
        normalize = functools.partial(compute, groups=groups)
        assert_close(with_gradients(normalize, x, dy=dy), expected, 1e-12)


def test_the_second_derivative_of_torch(torch, rng):
    # On the other paths it is held against TensorFlow's own, in test_op.py.
    x, gamma, beta, _ = draw(rng, (2, 4, 5, 6), 3)
    inputs = [tf.constant(value) for value in (x, gamma, beta)]
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            loss = tf.reduce_sum(tf.sin(group_normalization(inputs[0], 3, *inputs[1:])))
        penalty = sum(tf.reduce_sum(g**3) for g in inner.gradient(loss, inputs))
    actual = outer.gradient(penalty, inputs)

    peers = [torch.tensor(value, requires_grad=True) for value in (x, gamma, beta)]
    y = torch.nn.functional.group_norm(peers[0].movedim(3, 1), 3, *peers[1:], 1e-3)
    first = torch.autograd.grad(y.sin().sum(), peers, create_graph=True)
    expected = torch.autograd.grad(sum((g**3).sum() for g in first), peers)
    assert_close(actual, expected, 1e-11)


# --- The reference evaluator of ONNX -------------------------------------------------


def evaluate(onnx, operator, x, *parameters, opset, **attributes):
    """What an operator of the ONNX standard makes of a tensor with channels first."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    arrays = dict(zip(["x", "scale", "bias"], [x, *parameters], strict=True))
    values = {
        name: helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in {**arrays, "y": x}.items()
    }
    graph = helper.make_graph(
        [helper.make_node(operator, list(arrays), ["y"], **attributes)],
        operator,
        [values[name] for name in arrays],
        [values["y"]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    onnx.checker.check_model(model, full_check=True)
    return ReferenceEvaluator(model).run(None, arrays)[0]


@pytest.mark.parametrize(("shape", "axis", "groups"), WITH_POSITIONS)
def test_onnx_group_normalization(compute, onnx, rng, shape, axis, groups):
    # From opset 21 on scale and bias are one number per channel.
    x, gamma, beta, _ = draw(rng, shape, axis, "float32")
    expected = evaluate(
        onnx,
        "GroupNormalization",
        np.moveaxis(x, axis, 1),
        gamma,
        beta,
        opset=21,
        num_groups=groups,
        epsilon=1e-3,
    )
    y = compute(x, groups, gamma, beta, axis)
    assert_close([y], [np.moveaxis(expected, 1, axis)], 2e-6)


# The attribute epsilon is float32 in the standard, whatever the tensors are.
@pytest.mark.parametrize(
    ("shape", "axis", "dtype", "tolerance"),
    [(*case[:2], "float32", 2e-6) for case in WITH_POSITIONS]
    + [((2, 6, 5), 1, "float64", 1e-10)],
)
def test_onnx_instance_normalization(compute, onnx, rng, shape, axis, dtype, tolerance):
    x, gamma, beta, _ = draw(rng, shape, axis, dtype)
    expected = evaluate(
        onnx,
        "InstanceNormalization",
        np.moveaxis(x, axis, 1),
        gamma,
        beta,
        opset=22,
        epsilon=1e-3,
    )
    y = compute(x, -1, gamma, beta, axis, float(np.float32(1e-3)))
    assert_close([y], [np.moveaxis(expected, 1, axis)], tolerance)


# --- The layers of Keras -------------------------------------------------------------


@pytest.mark.parametrize(("shape", "axis", "groups"), CASES)
def test_keras_group_normalization(on_path, rng, shape, axis, groups):
    arguments = {"groups": groups, "axis": axis, "dtype": "float64"}
    ours = GroupNormalization(**arguments)
    theirs = keras.layers.GroupNormalization(**arguments)
    assert_same_layers(on_path, ours, theirs, rng, shape, axis)


def test_keras_layer_normalization(on_path, rng):
    plain = {"center": False, "scale": False, "dtype": "float64"}
    for ours, axes in [
        (GroupNormalization(1, axis=1, **plain), [1, 2]),
        (InstanceNormalization(axis=1, **plain), [2]),
    ]:
        theirs = keras.layers.LayerNormalization(axes, **plain)
        assert_same_layers(on_path, ours, theirs, rng, (3, 6, 5), 1)


def assert_same_layers(on_path, ours, theirs, rng, shape, axis):
    x, gamma, beta, dy = draw(rng, shape, axis)
    for layer in (ours, theirs):
        layer.build(shape)
        layer.set_weights([gamma, beta][: len(layer.weights)])
    actual = layer_gradients(on_path(ours.__call__), ours, x, dy)
    assert_close(actual, layer_gradients(theirs, theirs, x, dy), 1e-12)


def layer_gradients(function, layer, x, dy):
    x = tf.constant(x)
    weights = [weight.value for weight in layer.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, *tape.gradient(y, [x, *weights], dy)


def test_keras_in_float32(compute, rng):
    x, gamma, beta, _ = draw(rng, (3, 4, 5, 6), 3, "float32")
    layer = keras.layers.GroupNormalization(3)
    layer.build(x.shape)
    layer.set_weights([gamma, beta])
    assert_close([compute(x, 3, gamma, beta)], [layer(x)], 2e-6)
