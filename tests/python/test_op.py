"""The function `group_normalization`: values, gradients, accuracy and modes."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
import tensorflow as tf

from groupnorm import group_normalization

SHAPES = [(3, 8), (3, 5, 8), (2, 8, 5), (2, 4, 3, 8), (2, 3, 4, 8), (2, 3, 2, 3, 8)]


CASES = [
    (shape, axis, groups)
    for shape in SHAPES
    for axis in range(1, len(shape))
    for groups in range(1, shape[axis] + 1)
    if shape[axis] % groups == 0
]


@pytest.mark.parametrize(("shape", "axis", "groups"), CASES)
def test_equals_the_definition(compute, rng, shape, axis, groups):
    x = rng.normal(2, 3, shape).astype(np.float32)
    gamma, beta = rng.normal(size=(2, shape[axis])).astype(np.float32)
    y = compute(x, groups, gamma, beta, axis)
    assert y.dtype == tf.float32
    expected = oracle.group_normalization(x, groups, gamma, beta, axis)
    assert oracle.relative_error(y, expected) < 1e-6


@pytest.mark.parametrize(
    ("shape", "axis", "groups"), [case for case in CASES if case[2] == case[0][case[1]]]
)
def test_an_axis_can_be_counted_from_the_end(compute, rng, shape, axis, groups):
    x = rng.normal(2, 3, shape).astype(np.float32)
    gamma, beta = rng.normal(size=(2, groups)).astype(np.float32)
    y = compute(x, groups, gamma, beta, axis - len(shape))
    expected = oracle.group_normalization(x, groups, gamma, beta, axis)
    assert oracle.relative_error(y, expected) < 1e-6


@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 6), 1), ((2, 3, 4), 1), ((2, 3, 4), 2), ((2, 2, 4, 3), 2)]
)
@pytest.mark.parametrize("groups", [1, 2, -1])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_equal_finite_differences(compute, rng, shape, axis, groups, masked):
    channels = shape[axis]
    groups = channels if groups == -1 or channels % groups else groups
    x, dy = rng.normal(size=(2, *shape))
    gamma, beta = rng.normal(size=(2, channels))
    positions = [size for i, size in enumerate(shape) if i != axis]
    mask = rng.random(positions) < 0.6 if masked and len(shape) > 2 else None
    expected = oracle.gradients(x, groups, gamma, beta, dy, axis=axis, mask=mask)
    inputs = [tf.constant(value) for value in (x, gamma, beta)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = compute(inputs[0], groups, inputs[1], inputs[2], axis, mask=mask)
    for actual, want in zip(tape.gradient(y, inputs, dy), expected, strict=True):
        assert np.allclose(actual, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("shape", "axis", "groups"),
    # The primes leave a rest of every slice and block that sums are taken in.
    [
        ((2, 56, 56, 16), 3, 8),
        ((2, 16, 5003), 1, 4),
        ((2, 1511, 8), 2, 2),
        ((2, 1511, 128), 2, 2),
        ((2, 11, 13, 8), 3, 2),
        ((4, 4096), 1, 32),
        ((1, 47, 48, 128), 3, 64),
        ((2, 46, 48, 64), 3, 2),
        ((64, 2, 64), 2, 8),
        ((16, 31, 8), 2, 8),
        ((16, 8, 4, 4), 1, 4),
        ((64, 256), 1, 16),
    ],
)
def test_is_accurate_at_any_mean(on_path, rng, shape, axis, groups):
    check_accuracy(on_path, rng, shape, axis, groups)


@pytest.mark.parametrize(
    ("shape", "axis", "groups"),
    # XLA takes the number near the mean from one of eight or less, or from two of 16.
    [
        ((64,), 1, 8),
        ((7, 16), 2, 16),
        ((16, 2, 2), 1, 8),
        ((4, 16), 2, 8),
        ((2, 64), 2, 8),
        ((4, 64), 2, 16),
        ((31, 8), 2, 8),
        ((8, 4, 4), 1, 4),
        ((64,), 1, 4),
        # Plain TensorFlow takes it from one of few, or from an eighth of the channels.
        ((512,), 1, 1),
        ((4, 48), 2, 1),
        ((16, 49), 1, 2),
    ],
)
@pytest.mark.parametrize("size", [1, 10, 1e4])
def test_any_number_of_a_group_may_be_an_outlier(
    on_path, rng, shape, axis, groups, size
):
    shape = (512, *shape)
    x = np.moveaxis(rng.normal(size=shape) * 1e-3, axis, 1)
    in_groups = x.reshape(512, groups, -1)
    for sample, values in enumerate(in_groups):
        values[:, sample % values.shape[-1]] += size
    x = np.moveaxis(in_groups.reshape(x.shape), 1, axis).astype(np.float32)
    y = on_path(tf.function(group_normalization))(x, groups, axis=axis, epsilon=1e-6)
    expected = oracle.group_normalization(x, groups, axis=axis, epsilon=1e-6)
    assert oracle.relative_error(y, expected) < 5e-6


def test_rows_in_more_blocks_than_a_block_has_rows(monkeypatch, rng):
    # Of 8 * 1031 rows: no other divisor is both few enough and many enough.
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    x = rng.normal(3, 2, (1, 8248, 128)).astype(np.float32)
    for groups in (4, 64):
        y = tf.function(group_normalization)(tf.constant(x), groups)
        expected = oracle.group_normalization(x, groups)
        assert oracle.relative_error(y, expected) < 5e-6


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 700, 64), 2), ((2, 37, 19, 8), 3), ((2, 8, 1511), 1), ((2, 29, 8, 3), 2)],
)
def test_is_accurate_where_sizes_are_unknown(on_path, rng, shape, axis):
    spec = [None] * len(shape)
    spec[axis] = shape[axis]
    check_accuracy(on_path, rng, shape, axis, 2, spec)


ENDS = [
    "plain",
    "outlier first",
    "padding last",
    "part in the middle",
    "channels in the middle",
    "zero there",
]


def _middle_eighth(length):
    count = -(-length // 8)
    begin = (length - count) // 2
    return slice(begin, begin + count)


def check_accuracy(on_path, rng, shape, axis, groups, spec=None):
    data, parameter = tf.TensorSpec(spec or shape), tf.TensorSpec(shape[axis])

    @on_path
    @tf.function(input_signature=[data, parameter, parameter, data])
    def run(x, gamma, beta, dy):
        with tf.GradientTape() as tape:
            tape.watch((x, gamma, beta))
            y = group_normalization(x, groups, gamma, beta, axis)
        return y, *tape.gradient(y, (x, gamma, beta), dy)

    gamma, beta = rng.normal(size=(2, shape[axis])).astype(np.float32)
    dy = rng.normal(size=shape).astype(np.float32)
    for shift, ends in itertools.product([0, 1e2, 1e3, 1e4, 1e5], ENDS):
        x = (rng.normal(size=shape) + shift).astype(np.float32)
        positions = np.moveaxis(x, axis, -1)  # a view
        if ends == "outlier first":
            positions[:, 0] += 1e4
        if ends == "padding last":
            positions[:, -3:] = 0
        # Plain TensorFlow looks there for a number near the mean.
        if ends == "part in the middle":
            positions[:, _middle_eighth(positions.shape[1])] -= shift
        if ends == "channels in the middle":
            in_groups = positions.reshape(*positions.shape[:-1], groups, -1)
            in_groups[..., _middle_eighth(in_groups.shape[-1])] -= shift
            positions[:] = in_groups.reshape(positions.shape)
        if ends == "zero there":
            positions[:, positions.shape[1] // 2] = 0
        actual = run(*map(tf.constant, (x, gamma, beta, dy)))
        expected = _closed_form(x, groups, gamma, beta, axis, dy)
        for what, got, want in zip(
            ("y", "dx", "dgamma", "dbeta"), actual, expected, strict=True
        ):
            error = oracle.relative_error(got, want)
            assert error < 5e-6, (shift, ends, what)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((2, 7, 8), 2),
        ((2, 64, 64, 32), 3),
        ((1, 47, 48, 128), 3),
        ((1, 1511, 40), 2),
        ((2, 8, 5003), 1),
        ((256, 512), 1),
    ],
)
@pytest.mark.parametrize("value", [65_472.0, 33_333.0, 0.1])
def test_equal_halves_are_normalized_to_zero(on_path, shape, axis, value):
    x = tf.fill(shape, tf.constant(value, tf.float16))
    y = on_path(tf.function(group_normalization))(x, 4, axis=axis)
    assert np.abs(y).max() < 1e-3


@pytest.mark.parametrize("rows", [200_003, None])
@pytest.mark.parametrize("channels", [4, 16])
def test_long_sums_keep_their_digits(on_path, rows, channels):
    # A running sum of equal numbers is rounded to the same side again and again.
    x = np.full((1, 200_003, channels), 0.3, np.float32)
    x[:, ::2] *= -1
    gamma, beta = tf.ones(channels), tf.zeros(channels)

    def output_and_gradients(x):
        with tf.GradientTape() as tape:
            tape.watch((gamma, beta))
            y = group_normalization(x, 2, gamma, beta)
        return y, *tape.gradient(y, (gamma, beta), tf.abs(x) + x)

    signature = [tf.TensorSpec([None, rows, channels])]
    actual = on_path(tf.function(output_and_gradients, input_signature=signature))(x)
    y, _, *sums = _closed_form(x, 2, np.ones(channels), 0, 2, np.abs(x) + x)
    assert oracle.relative_error(actual[0], y) < 1e-6
    for got, want in zip(actual[1:], sums, strict=True):
        assert oracle.relative_error(got, want) < 1e-5


@pytest.mark.parametrize(
    ("shape", "axis", "groups"),
    [
        # What is taken off XLA works out anew in each loop, and may leave unrounded.
        ((4, 200, 128), 2, 128),
        # Rows of few numbers are added by a product, few rows as pairs.
        ((2, 983, 12), 2, 4),
        ((2, 31, 33, 12), 3, 4),
        ((2, 5, 5, 16), 3, 8),
        ((2, 41, 8), 2, 8),
        # Many positions are added axis by axis, few as two axes or in slices.
        ((2, 8, 11, 12, 13), 1, 2),
        ((2, 6, 8, 8), 1, 3),
        ((2, 61, 4, 4), 1, 1),
        ((2, 11, 8, 8), 1, 1),
        ((2, 24, 8, 8), 1, 2),
        ((2, 16, 4, 4), 1, 4),
        ((2, 64, 16, 16), 1, 1),
        # More than a sum is long are cut in two, if they can be.
        ((2, 8, 1568), 1, 2),
        ((2, 4, 3022), 1, 2),
        # One group is read in rows, or in one piece.
        ((2, 983, 8), 2, 1),
        ((2, 3, 40), 2, 1),
        # Many samples are added by a product, or down the rows.
        ((97, 2, 96), 2, 4),
        ((97, 96), 1, 4),
        # Numbers of one position are added by a product, if they are not few, nor more
        # than its sums may be long of: then in slices.
        ((5, 196), 1, 4),
        ((5, 148), 1, 4),
        ((5, 192), 1, 2),
        ((3, 2144), 1, 2),
        ((3, 2206), 1, 2),
        ((2, 4096), 1, 1),
        ((2, 4128), 1, 1),
        ((3, 256), 1, 8),
        ((2, 18), 1, 6),
    ],
)
def test_xla_is_accurate_in_every_form_of_a_sum(
    monkeypatch, under_xla, rng, shape, axis, groups
):
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    check_accuracy(under_xla, rng, shape, axis, groups)


def test_xla_takes_masks_of_many_axes(monkeypatch, under_xla, rng):
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    x, dy = rng.normal(size=(2, 2, 2, 9, 10, 12)).astype(np.float32)
    gamma, beta = rng.normal(size=(2, 2)).astype(np.float32)
    mask = rng.random((2, 9, 10, 12)) < 0.7

    @under_xla
    def run(x, gamma, beta):
        with tf.GradientTape() as tape:
            tape.watch((x, gamma, beta))
            y = group_normalization(x, 1, gamma, beta, 1, mask=mask)
        return tape.gradient(y, (x, gamma, beta), dy)

    actual = run(*map(tf.constant, (x, gamma, beta)))
    expected = oracle.gradients(x, 1, gamma, beta, dy, axis=1, mask=mask)
    for got, want in zip(actual, expected, strict=True):
        assert oracle.relative_error(got, want) < 1e-5


LARGE_AND_SMALL = pytest.mark.parametrize(
    ("shape", "axis", "groups"),
    [((3, 5, 9, 8), 3, 2), ((3, 6, 11), 1, 3), ((3, 6), 1, 2)],
)


@pytest.mark.parametrize("exponent", [-50, 50])
@LARGE_AND_SMALL
def test_large_and_small_numbers(on_path, rng, shape, axis, groups, exponent):
    x, dy = rng.normal(size=(2, *shape)).astype(np.float32)
    assert _error_at_scale(on_path, x, dy, axis, groups, 2.0**exponent) < 5e-6


@pytest.mark.parametrize("exponent", [-480, 480])
def test_large_and_small_numbers_in_float64(on_path, rng, exponent):
    x, dy = rng.normal(size=(2, 3, 5, 9, 8))
    assert _error_at_scale(on_path, x, dy, 3, 2, 2.0**exponent) < 1e-13


@pytest.mark.parametrize("exponent", [-100, -66, 66, 100])
@LARGE_AND_SMALL
def test_squares_may_be_out_of_range(natively, rng, shape, axis, groups, exponent):
    x, dy = rng.normal(size=(2, *shape)).astype(np.float32)
    assert _error_at_scale(natively, x, dy, axis, groups, 2.0**exponent) < 5e-6


def _error_at_scale(wrap, x, dy, axis, groups, scale):
    """The largest error of output and gradients when x is multiplied by `scale`.

    Without epsilon that changes nothing but the gradient of x, which it divides. One
    sample keeps its ordinary values, and must not be drawn along.
    """

    def run(x, gamma, beta, dy):
        with tf.GradientTape() as tape:
            tape.watch((x, gamma, beta))
            y = group_normalization(x, groups, gamma, beta, axis, epsilon=0)
        return y, *tape.gradient(y, (x, gamma, beta), dy)

    gamma = np.linspace(-1, 2, x.shape[axis]).astype(x.dtype)
    expected = _closed_form(x, groups, gamma, -gamma, axis, dy, epsilon=0)
    factors = np.array([scale, 1, scale], x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    y, dx, *sums = wrap(run)(*map(tf.constant, (x * factors, gamma, -gamma, dy)))
    return max(map(oracle.relative_error, (y, dx * factors, *sums), expected))


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_epsilon_counts_where_squares_are_out_of_range(natively, rng, scale):
    compute = natively(group_normalization)
    x = (rng.normal(size=(2, 7, 6)) * scale).astype(np.float32)
    for epsilon in (1e-3, 1e-36):
        expected = oracle.group_normalization(x, 3, epsilon=epsilon)
        assert oracle.relative_error(compute(x, 3, epsilon=epsilon), expected) < 5e-6


def _closed_form(x, groups, gamma, beta, axis, dy, epsilon=1e-3):
    """The output and its gradients in float64, the gradient of x by the chain rule."""
    x, dy = (np.moveaxis(np.asarray(v, np.float64), axis, -1) for v in (x, dy))
    n, channels = x.shape[0], x.shape[-1]
    grouped = x.reshape(n, -1, groups, channels // groups)
    centered = grouped - grouped.mean((1, 3), keepdims=True)
    variance = (centered**2).mean((1, 3), keepdims=True)
    z = centered / np.sqrt(variance + epsilon)
    dz = (dy * gamma).reshape(grouped.shape)
    dvariance = (dz * centered).sum((1, 3), keepdims=True) * (
        -0.5 * (variance + epsilon) ** -1.5
    )
    size = grouped.shape[1] * grouped.shape[3]
    dcentered = dz / np.sqrt(variance + epsilon) + dvariance * 2 * centered / size
    dx = dcentered - dcentered.mean((1, 3), keepdims=True)
    others = tuple(range(x.ndim - 1))
    z = z.reshape(x.shape)
    return (
        np.moveaxis(z * gamma + beta, -1, axis),
        np.moveaxis(dx.reshape(x.shape), -1, axis),
        (dy * z).sum(others),
        dy.sum(others),
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_keeps_the_dtype(compute, rng, dtype):
    x = tf.cast(rng.normal(size=(4, 6, 8)), dtype)
    y = compute(x, 4)
    assert y.dtype == x.dtype
    expected = oracle.group_normalization(tf.cast(x, tf.float64), 4)
    resolution = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6, "float64": 1e-14}
    assert oracle.relative_error(tf.cast(y, tf.float64), expected) < resolution[dtype]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_statistics_of_narrow_inputs_are_wide(compute, dtype):
    # In float16 the sum of these would overflow, and in bfloat16 stand still.
    x = tf.cast(tf.reshape(tf.range(4096) % 7, (1, 4096, 1)), dtype) * 100
    expected = oracle.group_normalization(tf.cast(x, tf.float64), 1)
    y = tf.cast(compute(x, 1), tf.float64)
    assert oracle.relative_error(y, expected) < 8e-3
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = compute(x, 1)
    assert tape.gradient(y, x).dtype == x.dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 8, 32])
def test_narrow_inputs_of_dense_layers_lose_no_digits(on_path, rng, dtype, size):
    # Under XLA the mean of most is taken off without a number near it before, and none
    # after. What is float32, the gradient of gamma, shows how near it is.
    shape, groups = (16, 8 * size), 8
    gamma = rng.normal(size=shape[-1]).astype(np.float32)
    dy = tf.cast(rng.normal(size=shape), dtype)

    @on_path
    @tf.function
    def run(x, gamma, dy):
        with tf.GradientTape() as tape:
            tape.watch(gamma)
            y = group_normalization(x, groups, gamma)
        return y, tape.gradient(y, gamma, dy)

    resolution = {"float16": 1e-3, "bfloat16": 8e-3}[dtype]
    for shift, outlier in itertools.product([0, 1, 100, 2000], [0, 1, 3e4]):
        values = rng.normal(size=shape) + shift
        values[:, 1] += outlier
        x = tf.cast(values, dtype)
        wide_x, wide_dy = (tf.cast(tensor, tf.float64).numpy() for tensor in (x, dy))
        expected, _, dgamma, _ = _closed_form(wide_x, groups, gamma, 0, 1, wide_dy)
        y, actual = run(x, tf.constant(gamma), dy)
        error = oracle.relative_error(tf.cast(y, tf.float64), expected)
        assert error < resolution, (shift, outlier)
        assert oracle.relative_error(actual, dgamma) < 5e-6, (shift, outlier)


def test_whole_numbers_are_taken_as_float32(compute):
    x = np.arange(24).reshape(2, 3, 4)
    y = compute(x, 2)
    assert y.dtype == tf.float32
    assert oracle.relative_error(y, oracle.group_normalization(x, 2)) < 1e-6


@pytest.mark.parametrize("axis", [1, 3])
def test_sizes_may_be_unknown(on_path, rng, axis):
    known = [None, None, None, None]
    known[axis] = 6
    run = tf.function(
        lambda x: group_normalization(x, 3, axis=axis),
        input_signature=[tf.TensorSpec(known)],
    )
    assert run.get_concrete_function().output_shapes.as_list() == known
    run = on_path(run)
    for sizes in [(2, 3, 4, 5), (1, 1, 1, 1), (3, 7, 1, 2050)]:
        shape = list(sizes)
        shape[axis] = 6
        x = rng.normal(size=shape).astype(np.float32)
        expected = oracle.group_normalization(x, 3, axis=axis)
        assert oracle.relative_error(run(x), expected) < 1e-6


@pytest.mark.parametrize("shape", [(0, 4, 6), (3, 0, 6), (0, 0, 6)])
def test_empty_inputs_give_empty_outputs_and_finite_gradients(compute, shape):
    x, gamma, beta = tf.zeros(shape), tf.ones(6), tf.zeros(6)
    with tf.GradientTape() as tape:
        tape.watch((x, gamma, beta))
        y = compute(x, 2, gamma, beta)
    dx, dgamma, dbeta = tape.gradient(y, (x, gamma, beta))
    assert y.shape == dx.shape == shape
    assert not np.any(dgamma)
    assert not np.any(dbeta)


@pytest.mark.parametrize(
    ("groups", "axis", "masked"),
    [
        (1, 3, False),
        (2, 1, False),
        (2, 2, False),
        (2, 3, False),
        (6, 3, False),
        (2, 1, True),
        (2, 3, True),
    ],
)
def test_sizes_that_are_unknown_may_be_zero(on_path, groups, axis, masked):
    spec, shape = [None] * 4, [3, 0, 0, 0]
    spec[axis] = shape[axis] = 6

    @on_path
    @tf.function(input_signature=[tf.TensorSpec(spec)])
    def gradients(x):
        gamma, beta = tf.ones(6), tf.zeros(6)
        mask = tf.math.is_finite(tf.reduce_sum(x, axis)) if masked else None
        with tf.GradientTape() as second, tf.GradientTape() as tape:
            second.watch(gamma)
            tape.watch((x, gamma, beta))
            y = group_normalization(x, groups, gamma, beta, axis, mask=mask)
            found = tape.gradient(y, (x, gamma, beta))
            penalty = tf.add_n([tf.reduce_sum(tf.square(d)) for d in found])
        return y, *found, second.gradient(penalty, gamma)

    y, dx, *of_parameters = gradients(tf.zeros(shape))
    assert y.shape == dx.shape == tuple(shape)
    for gradient in of_parameters:
        assert not np.any(gradient)


def test_nan_and_infinity_stay_in_their_group(compute, rng):
    x = rng.normal(size=(3, 5, 6)).astype(np.float32)
    clean = compute(x, 3).numpy()
    x[0, 2, 1] = np.nan
    x[1, 0, 4] = np.inf
    y = compute(x, 3).numpy()
    with np.errstate(invalid="ignore"):
        expected = oracle.group_normalization(x, 3)
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    elsewhere = ~np.isnan(expected)
    assert np.array_equal(y[elsewhere], clean[elsewhere])


def test_constant_groups_give_beta(compute, rng):
    x = np.full((2, 50, 4), 12345.678, np.float32)
    beta = rng.normal(size=4).astype(np.float32)
    assert np.allclose(compute(x, 2, beta=beta), beta, atol=1e-5)


# --- Masks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis", "mask_shape"),
    [
        ((3, 7, 4), -1, (3, 7)),
        ((3, 4, 7), 1, (3, 7)),
        ((3, 5, 6, 4), -1, (3, 5, 6)),
        ((3, 5, 6, 4), -1, (3, 5)),
        ((3, 4, 5, 6), 1, (3, 5)),
        ((3, 5, 4, 6), 2, (3, 5, 6)),
        ((3, 5, 4), -1, (3,)),
    ],
)
def test_masked_positions_do_not_count(compute, rng, shape, axis, mask_shape):
    x = rng.normal(size=shape).astype(np.float32)
    mask = rng.random(mask_shape) < 0.6
    expected = oracle.group_normalization(x, 2, axis=axis, mask=mask)
    y = compute(x, 2, axis=axis, mask=mask)
    assert oracle.relative_error(y, expected) < 1e-6


def test_padding_changes_nothing(compute, rng):
    x = rng.normal(size=(2, 9, 6)).astype(np.float32)
    gamma, beta = rng.normal(size=(2, 6)).astype(np.float32)
    for padding in (0, 1e6, np.nan, np.inf):
        padded = np.full((2, 12, 6), padding, np.float32)
        padded[:, :9] = x
        mask = np.arange(12) < 9
        inputs = [tf.constant(v) for v in (x, gamma, beta)]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            wide = tf.concat([inputs[0], padded[:, 9:]], 1)
            alone = compute(inputs[0], 3, *inputs[1:])
            among = compute(wide, 3, *inputs[1:], mask=np.tile(mask, (2, 1)))[:, :9]
            losses = [tf.reduce_sum(tf.sin(y)) for y in (alone, among)]
        assert oracle.relative_error(among, alone) < 1e-6
        for one, other in zip(
            *(tape.gradient(loss, inputs) for loss in losses), strict=True
        ):
            assert oracle.relative_error(other, one) < 1e-5


def test_a_fully_masked_sample_is_finite(compute, rng):
    x = tf.constant(rng.normal(size=(2, 5, 4)).astype(np.float32))
    mask = np.array([[True] * 5, [False] * 5])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = compute(x, 2, mask=mask)
        loss = tf.reduce_sum(tf.square(y))
    assert np.isfinite(y).all()
    assert np.isfinite(tape.gradient(loss, x)).all()
    assert oracle.relative_error(y[:1], oracle.group_normalization(x[:1], 2)) < 1e-6


# --- How TensorFlow differentiates and transforms it ---------------------------------


def _plain(x, gamma, beta):
    """The definition in operations that TensorFlow differentiates by itself."""
    grouped = tf.reshape(x, (*x.shape[:2], 3, 2))
    centered = grouped - tf.reduce_mean(grouped, [1, 3], keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), [1, 3], keepdims=True)
    z = tf.reshape(centered / tf.sqrt(variance + 1e-3), tf.shape(x))
    return z * gamma + beta


def _ours(x, gamma, beta):
    return group_normalization(x, 3, gamma, beta)


@pytest.fixture(params=["native", "tensorflow", "native, xla", "xla"])
def compiled(request, monkeypatch):
    """Make XLA compile a function, or not: for transformations in it, and of it."""
    if request.param == "native, xla":
        return request.getfixturevalue("natively_under_xla")
    monkeypatch.setenv("GROUPNORM_NATIVE", "1" if request.param == "native" else "0")
    if request.param == "xla":
        return request.getfixturevalue("under_xla")
    return lambda f: f


@pytest.fixture
def inputs(rng):
    return [tf.constant(rng.normal(size=size)) for size in ((3, 4, 6), (6,), (6,))]


def _second(f):
    def run(*inputs):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                loss = tf.reduce_sum(tf.sin(f(*inputs)))
            penalty = sum(tf.reduce_sum(g**3) for g in inner.gradient(loss, inputs))
        return outer.gradient(penalty, inputs)

    return run


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_second_derivatives(on_path, inputs, wrap):
    for got, want in zip(
        on_path(wrap(_second(_ours)))(*inputs), _second(_plain)(*inputs), strict=True
    ):
        assert oracle.relative_error(got, want) < 1e-11


def _squared_gradient(f):
    def run(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = f(*inputs)
        return sum(tf.reduce_sum(tf.square(g)) for g in tape.gradient(value, inputs))

    return run


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
def test_third_derivatives(on_path, inputs, wrap, masked):
    # A group of equal values, and with a mask a position more than counts.
    x = tf.concat([inputs[0][..., :4], tf.ones_like(inputs[0][..., 4:])], -1)
    counted = x.shape[1] - masked
    mask = tf.sequence_mask([counted] * x.shape[0], x.shape[1]) if masked else None

    def ours(x, gamma, beta):
        return group_normalization(x, 3, gamma, beta, mask=mask)[:, :counted]

    def plain(x, gamma, beta):
        return _plain(x[:, :counted], gamma, beta)

    def third(f):
        def first(*inputs):
            y = f(*inputs)
            return tf.reduce_sum(y * tf.square(y))

        def run(*inputs):
            loss = _squared_gradient(_squared_gradient(first))
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                found = loss(*inputs)
            return tape.gradient(found, inputs)

        return run

    arguments = x, *inputs[1:]
    for got, want in zip(
        on_path(wrap(third(ours)))(*arguments), third(plain)(*arguments), strict=True
    ):
        assert oracle.relative_error(got, want) < 1e-10


def test_jacobian(compiled, inputs):
    def jacobian(f):
        with tf.GradientTape() as tape:
            tape.watch(inputs[0])
            y = f(*inputs)
        return tape.jacobian(y, inputs[0])

    expected = jacobian(_plain)
    for actual in (
        jacobian(compiled(_ours)),
        tf.function(lambda: jacobian(compiled(_ours)))(),
        compiled(lambda: jacobian(_ours))(),
    ):
        assert oracle.relative_error(actual, expected) < 1e-12


def test_forward_mode(compiled, inputs):
    def tangent(f):
        with tf.autodiff.ForwardAccumulator(inputs[0], inputs[0] ** 2) as accumulator:
            y = f(*inputs)
        return accumulator.jvp(y)

    expected = tangent(_plain)
    for actual in (
        tangent(compiled(_ours)),
        tangent(tf.function(compiled(_ours))),
        tf.function(lambda: tangent(compiled(_ours)))(),
        compiled(lambda: tangent(_ours))(),
    ):
        assert oracle.relative_error(actual, expected) < 1e-12


def test_second_derivatives_of_what_is_compiled(compiled, inputs):
    for got, want in zip(
        _second(compiled(_ours))(*inputs), _second(_plain)(*inputs), strict=True
    ):
        assert oracle.relative_error(got, want) < 1e-11


def test_vectorized_map(compiled, inputs):
    x, gamma, beta = inputs

    def gradient(sample):
        with tf.GradientTape() as tape:
            tape.watch(sample)
            loss = tf.reduce_sum(tf.sin(_ours(sample[tf.newaxis], gamma, beta)))
        return tape.gradient(loss, sample)

    @compiled
    def mapped(x):
        return tf.vectorized_map(lambda s: _ours(s[tf.newaxis], gamma, beta)[0], x)

    assert oracle.relative_error(mapped(x), _plain(x, gamma, beta)) < 1e-12
    one_by_one = tf.stack([gradient(sample) for sample in x])
    mapped_gradient = compiled(lambda x: tf.vectorized_map(gradient, x))(x)
    assert oracle.relative_error(mapped_gradient, one_by_one) < 1e-12


@pytest.mark.parametrize("rows", [1511, None])  # a prime, or unknown
def test_vectorized_map_over_long_samples(monkeypatch, rng, rows):
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    x = tf.constant(rng.normal(size=(3, 1511, 4)))

    def gradient(sample):
        with tf.GradientTape() as tape:
            tape.watch(sample)
            loss = tf.reduce_sum(tf.sin(group_normalization(sample[tf.newaxis], 2)))
        return tape.gradient(loss, sample)

    @tf.function(input_signature=[tf.TensorSpec([None, rows, 4], tf.float64)])
    def mapped(x):
        return tf.vectorized_map(gradient, x, fallback_to_while_loop=False)

    one_by_one = tf.stack([gradient(sample) for sample in x])
    assert oracle.relative_error(mapped(x), one_by_one) < 1e-12


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("batch", [(3, 70, 32), (3, 90, 400), (1, 270, 400)])
def test_a_gradient_through_a_vectorized_map(monkeypatch, rng, batch, groups):
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    x = rng.normal(size=(2, *batch))
    x[0, 0] = x[..., : batch[-1] // 4] = 1  # a sample of one value, and a group

    @tf.function
    def gradient(map_over, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            mapped = map_over(lambda batch: group_normalization(batch, groups), x)
            loss = tf.reduce_sum(tf.sin(mapped))
        return tape.gradient(loss, x)

    vectorized = gradient(tf.vectorized_map, tf.constant(x))
    one_by_one = gradient(tf.map_fn, tf.constant(x))
    assert oracle.relative_error(vectorized, one_by_one) < 1e-12


def test_recompute_grad(compiled, inputs):
    def gradients(f):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(tf.sin(f(*inputs)))
        return tape.gradient(loss, inputs)

    actual = compiled(lambda: gradients(tf.recompute_grad(_ours)))()
    for got, want in zip(actual, gradients(_plain), strict=True):
        assert oracle.relative_error(got, want) < 1e-12


def test_a_saved_model_holds_plain_operations(inputs, tmp_path):
    module = tf.Module()
    module.run = tf.function(_ours)
    module.run.get_concrete_function(*inputs)  # traced before it is saved
    module = tf.Module()
    module.run = tf.function(
        _ours, input_signature=[tf.TensorSpec(v.shape, v.dtype) for v in inputs]
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    assert oracle.relative_error(loaded.run(*inputs), _plain(*inputs)) < 1e-12
    with tf.GradientTape() as tape:
        tape.watch(inputs[0])
        loss = tf.reduce_sum(tf.sin(loaded.run(*inputs)))
    assert np.isfinite(tape.gradient(loss, inputs[0])).all()


# --- Bad arguments -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 0}, "`groups`, expected a positive integer"),
        ({"groups": 2.0}, "`groups`, expected a positive integer"),
        ({"groups": True}, "`groups`, expected a positive integer"),
        ({"groups": 4}, "must divide it"),
        ({"groups": 12}, "cannot be more than the number of channels"),
        ({"axis": 0}, "0 is the batch axis"),
        ({"axis": -3}, "is the batch axis"),
        ({"axis": 3}, "out of bounds"),
        ({"axis": "1"}, "`axis`, expected one integer"),
        ({"epsilon": -1e-3}, "`epsilon`, expected one finite number"),
        ({"epsilon": None}, "`epsilon`, expected one finite number"),
        ({"gamma": [1.0, 2.0]}, "`gamma`, expected shape"),
        ({"beta": [[1.0] * 6]}, "`beta`, expected shape"),
        ({"mask": np.ones((2, 5), bool)}, "`mask`, expected a tensor of shape"),
        ({"mask": np.ones((2, 4, 6), bool)}, "`mask`, expected a tensor of shape"),
        ({"x": np.ones(3, np.float32)}, "rank 2 or more"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    good = {"x": np.ones((2, 4, 6), np.float32), "groups": 2}
    with pytest.raises(ValueError, match=message):
        group_normalization(**{**good, **arguments})


@pytest.mark.parametrize(("channels", "groups"), [(64, 2), (64, 1), (6, 3)])
def test_sizes_of_masked_sequences_may_be_unknown(compute, rng, channels, groups):
    run = tf.function(
        lambda x, mask: compute(x, groups, mask=mask),
        input_signature=[
            tf.TensorSpec([None, None, channels]),
            tf.TensorSpec([None, None], tf.bool),
        ],
    )
    for length in (7, 1511):
        x = rng.normal(3, 1, (3, length, channels)).astype(np.float32)
        mask = rng.random((3, length)) < 0.7
        expected = oracle.group_normalization(x, groups, mask=mask)
        assert oracle.relative_error(run(x, mask), expected) < 1e-6


def test_unknown_rank_and_unknown_channels_are_refused():
    with pytest.raises(ValueError, match="known rank"):
        tf.function(lambda x: group_normalization(x, 2)).get_concrete_function(
            tf.TensorSpec(None)
        )
    with pytest.raises(ValueError, match="should have a defined dimension"):
        tf.function(lambda x: group_normalization(x, 2)).get_concrete_function(
            tf.TensorSpec((2, 3, None))
        )


# --- How much is done ----------------------------------------------------------------

BRANCHES = {"If", "StatelessIf", "While", "StatelessWhile", "PyFunc"}


def _operations(shape, axis, groups):
    """The operations of one call in a graph, without what it is given."""
    graph = tf.Graph()
    with graph.as_default():
        sizes = (shape, shape[axis : axis + 1 or None], shape[axis : axis + 1 or None])
        x, gamma, beta = (tf.compat.v1.placeholder(tf.float32, s) for s in sizes)
        given = len(graph.get_operations())
        group_normalization(x, groups, gamma, beta, axis)
        return [op.type for op in graph.get_operations()[given:]]


@pytest.mark.parametrize("groups", [1, 4, -1])
@pytest.mark.parametrize("batch", [8, None])
@pytest.mark.parametrize(
    ("sizes", "axis", "most"),
    [
        ([512], -1, 27),  # one number of a group, instead of a mean of all
        ([128, 512], -1, 39),
        ([2048, 16], 1, 31),
        ([56, 56, 64], -1, 39),
        ([64, 56, 56], 1, 31),
        ([7, 7, 8], -1, 39),
        ([5, 64, 7], 2, 37),
        ([5, 7, 64, 7], 3, 41),
        ([8, 8, 8, 32], -1, 39),
        ([4, 200, 200, 3], 1, 31),
        ([256, 256, 128], -1, 43),  # sums in two steps
        ([11810, 128], -1, 45),  # 1181 blocks, or blocks of as many
        ([64, None], 1, 35),
    ],
)
def test_few_operations_and_no_branch(monkeypatch, sizes, axis, most, batch, groups):
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    found = _operations([batch, *sizes], axis, groups)
    assert len(found) <= most
    assert not BRANCHES & {*found}


@pytest.mark.parametrize(("groups", "most"), [(1, 43), (4, 43), (16, 73), (-1, 68)])
@pytest.mark.parametrize("batch", [8, None])
@pytest.mark.parametrize(
    ("sizes", "axis"),
    [
        ([12241, 64], -1),  # a prime
        # Sizes that have to be asked for, and multiplied.
        ([None, None, 64], -1),
        ([None, 64], -1),
        ([None, 64, None], 2),
    ],
)
def test_few_operations_if_rows_cannot_be_cut(
    monkeypatch, sizes, axis, batch, groups, most
):
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    found = _operations([batch, *sizes], axis, groups)
    assert len(found) <= most
    assert not BRANCHES & {*found}


@pytest.mark.parametrize(
    ("sizes", "axis"), [([28, 28, 64], -1), ([64, 56, 56], 1), ([128, 512], -1)]
)
def test_a_batch_of_any_size_is_not_taken_for_a_small_one(monkeypatch, sizes, axis):
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    assert _operations([None, *sizes], axis, 4) == _operations([32, *sizes], axis, 4)


def test_samples_are_independent(compute, rng):
    x = rng.normal(size=(6, 5, 8)).astype(np.float32)
    whole = compute(x, 4).numpy()
    for start, stop in itertools.pairwise([0, 1, 3, 6]):
        assert (
            oracle.relative_error(compute(x[start:stop], 4), whole[start:stop]) < 1e-6
        )
