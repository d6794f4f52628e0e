"""The native kernel under XLA: where it computes there, and where it does not.

What it computes is held by the tests of `group_normalization` on every path.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from groupnorm import group_normalization
from groupnorm.layers import GroupNormalization
from groupnorm.op import choice, formulas, native
from groupnorm.op.native import library

SHAPE = (4, 24, 5, 16)


def with_gradients(x, gamma, beta, dy, **arguments):
    with tf.GradientTape() as tape:
        tape.watch((x, gamma, beta))
        y = group_normalization(x, 4, gamma, beta, **arguments)
    return y, *tape.gradient(y, (x, gamma, beta), dy)


def some(rng, dtype="float32", axis=-1):
    x, dy = (tf.cast(rng.normal(size=SHAPE), dtype) for _ in range(2))
    real = "float64" if dtype == "float64" else "float32"
    gamma, beta = (tf.cast(rng.normal(size=SHAPE[axis]), real) for _ in range(2))
    return x, gamma, beta, dy


def calls(compiled, *arguments):
    """How often the program that XLA makes of a function calls the kernel."""
    program = compiled.experimental_get_compiler_ir(*arguments)(stage="optimized_hlo")
    return program.count('custom_call_target="groupnorm_')


@pytest.fixture
def kernel_under_xla(natively):
    if not native.load().under_xla:
        pytest.skip(f"XLA cannot call the native kernel: {native.load().status}")


def test_this_xla_can_call_the_kernel():
    """Or else all tests here would be skipped."""
    found = native.load()
    if found.ops is None:
        pytest.skip(found.status)
    minor = int(tf.__version__.split(".")[1])
    assert found.under_xla == (minor >= 18), found.status


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("axis", "known"),
    [
        (-1, SHAPE),
        (-1, (None, *SHAPE[1:])),
        (-1, (None, None, None, SHAPE[-1])),
        (1, (SHAPE[0], SHAPE[1], None, SHAPE[3])),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_it_gives_what_it_gives_without_xla(
    kernel_under_xla, under_xla, rng, dtype, axis, known, masked
):
    x, gamma, beta, dy = some(rng, dtype, axis)
    mask = tf.constant(
        rng.random(SHAPE[:1] + SHAPE[1 if axis == -1 else 2 :][:1]) < 0.7
    )
    arguments = {"axis": axis, "mask": mask if masked else None}

    def run(*tensors):
        return with_gradients(*tensors, **arguments)

    specs = [
        tf.TensorSpec(known, dtype),
        *[tf.TensorSpec(g.shape, g.dtype) for g in (gamma, beta)],
    ]
    compiled = under_xla(run, input_signature=[*specs, specs[0]])
    assert calls(compiled, x, gamma, beta, dy) == 2
    exact = dtype != "float64"  # where epsilon is handed over in two parts without XLA
    for got, want in zip(
        compiled(x, gamma, beta, dy), run(x, gamma, beta, dy), strict=True
    ):
        got, want = (tf.cast(value, tf.float64) for value in (got, want))
        largest = float(tf.reduce_max(tf.abs(want)))
        assert (
            float(tf.reduce_max(tf.abs(got - want)))
            <= (0 if exact else 1e-14) * largest
        )


def test_training_calls_it(kernel_under_xla, under_xla, rng):
    layer = GroupNormalization(4)
    x = tf.constant(rng.normal(size=SHAPE), tf.float32)
    layer.build(x.shape)

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(layer(x)))
        return tape.gradient(loss, layer.trainable_variables)

    assert calls(under_xla(step), x) == 2


def test_the_input_is_handed_from_pass_to_pass_once(kernel_under_xla, under_xla, rng):
    x = tf.constant(rng.normal(size=SHAPE), tf.float32)
    normalize = under_xla(lambda x: group_normalization(x, 4))

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = normalize(x)
        return tape.gradient(y, x)

    graph = run.get_concrete_function(x).graph
    first, *_ = (op for op in graph.get_operations() if "PartitionedCall" in op.type)
    y_and_x = [output for output in first.outputs if output.shape == x.shape]
    assert len(y_and_x) == 2


def test_errors_of_the_kernel_reach_the_caller(kernel_under_xla, under_xla):
    layout = formulas.Layout(rank=2, axis=1, channels=6, groups=2)

    @under_xla
    def run(x, gamma):
        return native.xla.forward(x, gamma, gamma, None, layout, 1e-3)

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"gamma must have shape"):
        run(tf.ones((4, 6)), tf.ones(5))


def test_small_tensors_are_left_to_xla(kernel_under_xla, under_xla, rng):
    few = choice._A_CALL // 8 + choice._A_GROUP * 4
    for size, wanted in [(few - 4, 0), (few, 1)]:
        x = tf.constant(rng.normal(size=(8, size)), tf.float32)
        assert calls(under_xla(lambda x: group_normalization(x, 4)), x) == wanted


@pytest.mark.parametrize("batch", [512, None])
@pytest.mark.parametrize(("of_a_group", "wanted"), [(8, 0), (10, 1)])
def test_groups_of_few_numbers_are_left_to_xla(
    kernel_under_xla, under_xla, rng, batch, of_a_group, wanted
):
    x = tf.constant(rng.normal(size=(512, of_a_group, 8)), tf.float32)
    signature = [tf.TensorSpec((batch, of_a_group, 8), tf.float32)]
    compiled = under_xla(lambda x: group_normalization(x, 8), input_signature=signature)
    assert calls(compiled, x) == wanted


def test_it_can_be_switched_off(kernel_under_xla, under_xla, monkeypatch, rng):
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    assert calls(under_xla(with_gradients), *some(rng)) == 0


def test_it_is_not_for_other_devices(kernel_under_xla, under_xla, monkeypatch, rng):
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    devices = tf.config.get_visible_devices()
    monkeypatch.setattr(
        tf.config,
        "get_visible_devices",
        lambda kind=None: [gpu] if kind == "GPU" else [*devices, gpu],
    )
    assert calls(under_xla(with_gradients), *some(rng)) == 0


@pytest.mark.parametrize("called", [False, True])
def test_it_is_not_in_exported_models(
    kernel_under_xla, under_xla, rng, tmp_path, called
):
    x = tf.constant(rng.normal(size=SHAPE), tf.float32)
    module = tf.Module()
    module.run = under_xla(
        lambda x: group_normalization(x, 4),
        input_signature=[tf.TensorSpec((None, *SHAPE[1:]))],
    )
    if called:
        module.run(x)
    tf.saved_model.save(module, str(tmp_path))
    assert b"groupnorm_forward" not in (tmp_path / "saved_model.pb").read_bytes()
    loaded = tf.saved_model.load(str(tmp_path))
    assert np.abs(loaded.run(x) - module.run(x)).max() < 1e-5


def test_samples_are_the_same_whatever_the_batch(kernel_under_xla, under_xla, rng):
    x = tf.constant(rng.normal(size=SHAPE), tf.float32)
    run = under_xla(lambda x: group_normalization(x, 4))
    assert np.array_equal(run(x)[:2], run(x[:2]))


def test_what_cannot_be_called_says_why(kernel_under_xla, monkeypatch):
    compiled_before = object()  # without the function that registers
    assert "install groupnorm again" in library._register_with_xla(compiled_before)
    monkeypatch.setattr(library, "_xla_interface", lambda: None)
    assert "shows no interface" in library._register_with_xla(native.load().handle)


def test_the_kernel_is_there_where_xla_fails_to_take_it(kernel_under_xla, monkeypatch):
    def failing():
        raise OSError("no such symbol")

    monkeypatch.setattr(library, "_xla_interface", failing)
    loaded = library._load.__wrapped__()
    assert loaded.ops is not None
    assert not loaded.under_xla
    assert "not for XLA: no such symbol" in loaded.status
