"""What must hold for every input, on inputs that hypothesis draws.

Each property is held on each of the paths: on a few examples each day, because
every new shape is compiled anew, and on over 2,000 with `--hypothesis-profile=full`
(`--hypothesis-show-statistics` counts them).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import oracle
import tensorflow as tf
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from groupnorm import group_normalization

profile = settings().max_examples
drawn = settings(
    max_examples=-(-profile // 4) if profile > 20 else 4,
    # The fixture `compute` is meant to be the same for all examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

DTYPES = {
    name: tf.as_dtype(name).as_numpy_dtype
    for name in ("float32", "float64", "float16", "bfloat16")
}
# The largest relative error of one rounding.
ROUNDING = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 2**-24, "float64": 2**-53}
SMALLEST = {"float16": 2**-24, "bfloat16": 1e-38, "float32": 1e-38, "float64": 1e-300}
# The largest error of the computation, relative to the largest value of the group.
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}

# Which values are drawn: `scale * (unit variance) + shift`. Not all are for each path:
# see `squares_are_in_range`.
SCALES = {
    "float16": [1e-3, 1.0, 1e3],
    "bfloat16": [1e-17, 1e-15, 1e-3, 1.0, 1e13, 1e17],
    "float32": [1e-17, 1e-15, 1e-3, 1.0, 1e3, 1e13, 1e17],
    "float64": [1e-100, 1e-3, 1.0, 1e30, 1e100],
}
SHIFTS = {
    "float16": [0, 100],
    "bfloat16": [0, 100],
    "float32": [0, 1e3, -1e5],
    "float64": [0, 1e5, -1e9],
}
KINDS = ["normal", "rectified", "outlier", "constant"]
EPSILONS = [0.0, 1e-12, 1e-5, 1e-3, 0.5, 10.0]


# --- What is drawn -------------------------------------------------------------------


class Case(NamedTuple):
    """The arguments of one call."""

    x: np.ndarray
    groups: int
    gamma: np.ndarray | None
    beta: np.ndarray | None
    axis: int
    epsilon: float
    mask: np.ndarray | None

    @property
    def dtype(self):
        return tf.as_dtype(self.x.dtype).name

    @property
    def computed(self):
        """The dtype of the computation."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def channel_axis(self):
        """Counted from the front."""
        return self.axis % self.x.ndim

    def grouped(self, values):
        """Values in the shape of x as `(N, positions, groups, channels of a group)`."""
        last = np.moveaxis(values, self.axis, -1)
        positions = int(np.prod(last.shape[1:-1]))
        size = last.shape[-1] // self.groups
        return last.reshape(len(last), positions, self.groups, size)

    def spread(self, per_group):
        """From `(N, groups)` to a shape that broadcasts against x."""
        per_channel = np.repeat(per_group, self.x.shape[self.axis] // self.groups, 1)
        return self.expand(per_channel)

    def expand(self, per_channel):
        """From `(C,)` or `(N, C)` to a shape that broadcasts against x."""
        per_channel = np.atleast_2d(per_channel)
        shape = [1] * self.x.ndim
        shape[0], shape[self.channel_axis] = per_channel.shape
        return per_channel.reshape(shape)

    def counts(self):
        """Whether an entry takes part in the statistics, in the shape of x."""
        if self.mask is None:
            return np.ones(self.x.shape, bool)
        missing = self.x.ndim - 1 - self.mask.ndim
        mask = self.mask.reshape(self.mask.shape + (1,) * missing)
        mask = np.expand_dims(mask, self.channel_axis)
        return np.broadcast_to(mask, self.x.shape)

    def variances(self):
        """Of every group, in float64: shape `(N, groups)`, 0 where nothing counts."""
        x, counts = self.grouped(wide(self.x)), self.grouped(self.counts())
        found = np.zeros((len(x), self.groups))
        for n, g in np.ndindex(found.shape):
            values = x[n, :, g][counts[n, :, g]]
            _, found[n, g] = oracle.moments(values)
        return found

    def doubt_of_variance(self):
        """What rounding can make of each variance, in proportion to it.

        Deviations have the rounding error of the values. Their mean takes it off again,
        up to a rounding error of its square: more than the variance and epsilon only if
        all values of a group are nearly the same, and huge.
        """
        rounding = ROUNDING[self.computed]
        error = 8 * rounding * (rounding * self.largest(wide(self.x))) ** 2
        return error / (self.spread(self.variances()) + self.epsilon)

    def rstd(self):
        return self.spread(1 / np.sqrt(self.variances() + self.epsilon))

    def error_of_the_mean(self):
        """In standard deviations: a large mean has an error in proportion.

        The product takes it off again, up to an error of that error; the oracle, in
        float64, has it once.
        """
        rounding = ROUNDING[self.computed] ** 2 + ROUNDING["float64"]
        return 8 * rounding * self.largest(wide(self.x)) * self.rstd()

    def with_an_answer(self):
        """The case, with an epsilon if a group has no variance or too few digits."""
        largest = np.abs(self.grouped(wide(self.x))).max((1, 3), initial=0)
        rounding = 8 * ROUNDING["float64"] * largest
        least = np.maximum(rounding, 1e7 * SMALLEST[self.computed])
        if self.epsilon or (self.variances() > least**2).all():
            return self
        return self._replace(epsilon=1e-3)

    def squares_are_in_range(self):
        """Whether squares of deviations, and their inverses, have all their digits."""
        if self.computed == "float64":
            return True
        variances = self.variances()
        least = SMALLEST["float32"] / TOLERANCE["float32"]  # the rest is flushed to 0
        has_digits = self.epsilon > 0 or (variances > least).all()
        return has_digits and (variances < 1e30).all()

    def largest(self, values):
        """The largest magnitude in each group, to broadcast against x."""
        return self.spread(np.abs(self.grouped(values)).max((1, 3), initial=0))


def wide(values):
    return np.asarray(tf.cast(values, tf.float64))


@st.composite
def shapes(draw, ranks=(2, 5), batch=(2, 1, 3, 0), most=96):
    """A shape, and its channel axis counted from the front or from the end."""
    rank = draw(st.integers(*ranks))
    axis = draw(st.integers(1, rank - 1))
    widest = {3: 12, 4: 7, 5: 4}.get(rank, 1)
    shape = [draw(st.integers(1, widest)) for _ in range(rank)]
    shape[0] = draw(st.sampled_from(batch))
    shape[axis] = draw(st.sampled_from([1, 2, 3, 4, 6, 8, 12]))
    for other in range(1, rank):
        if other != axis and np.prod(shape[1:]) > most:
            shape[other] = 1
    return tuple(shape), axis - draw(st.sampled_from([0, rank]))


seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def cases(
    draw,
    shapes=shapes(),  # noqa: B008 (a strategy does not change)
    dtypes=tuple(DTYPES),
    kinds=tuple(KINDS),
    epsilons=tuple(EPSILONS),
    masked=False,
    any_range=False,
):
    shape, axis = draw(shapes)
    dtype, kind = draw(st.sampled_from(dtypes)), draw(st.sampled_from(kinds))
    rng = draw(seeds)
    x = rng.normal(size=shape)
    if kind == "rectified":
        x = np.maximum(x, 0)
    if kind == "constant":
        x[:] = rng.normal()
    if kind == "outlier" and x.size:
        x.flat[rng.integers(x.size)] = 60
    if any_range:
        x = x * draw(st.sampled_from(SCALES[dtype])) + draw(
            st.sampled_from(SHIFTS[dtype])
        )
    parameters = [None, None]
    for i in range(2):
        if draw(st.booleans()):
            parameters[i] = rng.normal(size=shape[axis])
    mask = None
    if masked and draw(st.booleans()):
        positions = [size for i, size in enumerate(shape) if i != axis % len(shape)]
        given_axes = draw(st.integers(1, len(positions)))
        mask = rng.random(positions[:given_axes]) < draw(st.sampled_from([0, 0.6, 0.9]))
    channels = shape[axis]
    groups = draw(st.sampled_from([d for d in range(1, 13) if channels % d == 0]))
    epsilon = draw(st.sampled_from(epsilons))
    case = Case(x.astype(DTYPES[dtype]), groups, *parameters, axis, epsilon, mask)
    return case.with_an_answer()


def definition(case):
    return oracle.group_normalization(*case._replace(x=wide(case.x)))


# --- How results are compared --------------------------------------------------------


def assert_is_the_definition(y, case):
    """Every entry by itself, in proportion to the largest of its own group."""
    assert y.shape == case.x.shape
    assert y.dtype == case.dtype
    expected = definition(case)
    tolerance = TOLERANCE[case.computed]
    z = definition(case._replace(gamma=None, beta=None))
    error_of_z = tolerance * case.largest(z) + case.error_of_the_mean()
    gamma = 1 if case.gamma is None else np.abs(case.expand(case.gamma))
    beta = 0 if case.beta is None else np.abs(case.expand(case.beta))
    allowed = gamma * error_of_z + tolerance * beta
    assert_within(y, expected, allowed, case.dtype)


def assert_agree(actual, expected, case):
    """Two results of the computation, on values of size one and no large mean."""
    expected = wide(expected)
    allowed = 2 * TOLERANCE[case.computed] * (case.largest(expected) + 1e-3)
    assert_within(actual, expected, allowed, case.dtype, roundings=2)


def assert_within(actual, expected, allowed, dtype, roundings=1):
    actual = wide(actual)
    fits = np.abs(expected) < 0.99 * float(tf.as_dtype(dtype).max)
    assert np.isfinite(actual[fits]).all()
    assert not np.isnan(actual).any()
    with np.errstate(invalid="ignore"):  # of infinities
        error = np.abs(actual - expected)
    allowed = allowed + roundings * (ROUNDING[dtype] * np.abs(expected))
    share = (error / (allowed + SMALLEST[dtype]))[fits]
    assert (share <= 1).all(), f"{share.max():.3g} times the error that is allowed"


# --- The properties ------------------------------------------------------------------

LAYOUTS = {
    "in order": lambda x: x,
    "Fortran order": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "backwards": lambda x: x[:, ::-1].copy()[:, ::-1],
    "transposed": lambda x: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1),
    "unaligned": lambda x: np.frombuffer(b" " + x.tobytes(), x.dtype, -1, 1).reshape(
        x.shape
    ),
    # bfloat16 is an extension of NumPy that knows no byte order.
    "bytes swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "tensor": tf.constant,
}


@settings(drawn, max_examples=max(20, drawn.max_examples))
@given(case=cases(masked=True, any_range=True), layout=st.sampled_from(sorted(LAYOUTS)))
def test_equals_the_definition(compute, takes_any_range, case, layout):
    assume(takes_any_range or case.squares_are_in_range())
    assume(not (layout == "bytes swapped" and case.dtype == "bfloat16"))
    assume(case.x.size or layout != "unaligned")
    y = compute(LAYOUTS[layout](case.x), *case[1:])
    assert_is_the_definition(y, case)


@drawn
@given(case=cases(dtypes=("float32", "float64")), rng=seeds)
def test_scaling_and_shifting_a_group_changes_nothing(compute, case, rng):
    # Factors are powers of two, and values are multiples of one: nothing is rounded.
    # What varies little is moved less: it would have a large mean.
    # Scaling by a is the same as dividing epsilon by its square; without epsilon each
    # group can have its own factor.
    case = case._replace(x=np.round(case.x * 256) / 256)
    if case.epsilon == 0 and (case.variances() == 0).any():
        case = case._replace(epsilon=1e-3)
    own = (len(case.x), case.groups)
    factors = rng.choice([-1.0, 1.0], own) * 2.0 ** rng.integers(
        -20, 21, own if case.epsilon == 0 else 1
    )
    deviations = np.sqrt(case.variances() + case.epsilon)
    shifts = np.round(rng.integers(-512, 513, own) * np.minimum(deviations, 1))
    factor = case.spread(factors).astype(case.x.dtype)
    moved = factor * (case.x + case.spread(shifts).astype(case.x.dtype))
    plain = case._replace(gamma=None, beta=None)
    epsilon = case.epsilon * float(factors.flat[0] ** 2 if factors.size else 1)
    y = compute(*plain._replace(x=moved, epsilon=epsilon))
    assert_agree(np.sign(factor) * y, compute(*plain), plain)


@drawn
@given(case=cases(masked=True), rng=seeds, data=st.data())
def test_samples_are_independent(compute, case, rng, data):
    y = compute(*case).numpy()
    samples = len(case.x)
    cut = data.draw(st.integers(0, samples), "first sample of the second part")
    for part in (slice(cut), slice(cut, None)):
        mask = None if case.mask is None else case.mask[part]
        piece = case._replace(x=case.x[part], mask=mask)
        assert_agree(compute(*piece), y[part], piece)
    among_others = case.x.copy()
    among_others[:cut] = rng.choice([0, 1e4, np.nan, np.inf])
    assert np.array_equal(compute(*case._replace(x=among_others))[cut:], y[cut:])


@drawn
@given(case=cases(masked=True), rng=seeds)
def test_positions_samples_and_groups_can_be_permuted(compute, case, rng):
    x, mask = case.x, case.mask
    expected = compute(*case).numpy()
    axes_of_mask = [axis for axis in range(x.ndim) if axis != case.channel_axis]
    for axis in axes_of_mask:
        order = rng.permutation(x.shape[axis])
        x, expected = x.take(order, axis), expected.take(order, axis)
        if mask is not None and axes_of_mask.index(axis) < mask.ndim:
            mask = mask.take(order, axes_of_mask.index(axis))
    by_group = np.arange(x.shape[case.axis]).reshape(case.groups, -1)
    order = rng.permutation(by_group).ravel()
    x, expected = x.take(order, case.axis), expected.take(order, case.axis)
    gamma, beta = (v if v is None else v[order] for v in (case.gamma, case.beta))
    permuted = case._replace(x=x, mask=mask, gamma=gamma, beta=beta)
    assert_agree(compute(*permuted), expected, permuted)


@drawn
@given(case=cases(any_range=True), instance=st.booleans())
def test_one_group_is_layer_and_all_groups_are_instance_normalization(
    compute, takes_any_range, case, instance
):
    case = case._replace(gamma=None, beta=None, mask=None)
    case = case._replace(groups=case.x.shape[case.axis] if instance else 1)
    case = case.with_an_answer()
    assume(takes_any_range or case.squares_are_in_range())
    axes = tuple(range(1, case.x.ndim))
    if instance:
        axes = tuple(axis for axis in axes if axis != case.channel_axis)
    x = wide(case.x)
    mean = x.mean(axes, keepdims=True)
    mean += (x - mean).mean(axes, keepdims=True)  # see `oracle.moments`
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    expected = (x - mean) / np.sqrt(variance + case.epsilon)
    y = compute(*case._replace(groups=-1 if instance else 1))
    level = 8 * (ROUNDING[case.computed] ** 2 + ROUNDING["float64"]) * np.abs(x)
    allowed = TOLERANCE[case.computed] * case.largest(expected) + case.largest(
        level / np.sqrt(variance + case.epsilon)
    )
    assert_within(y, expected, allowed, case.dtype)


@drawn
@given(case=cases(masked=True), data=st.data())
def test_channels_may_be_anywhere(compute, case, data):
    axis = data.draw(st.integers(1, case.x.ndim - 1), "another channel axis")
    moved = np.moveaxis(case.x, case.axis, axis)
    y = compute(*case._replace(x=moved, axis=axis))
    assert_agree(np.moveaxis(y, axis, case.axis), compute(*case), case)


@drawn
@given(case=cases(shapes(ranks=(3, 5))))
def test_positions_may_have_any_shape(compute, case):
    x = np.moveaxis(case.x, case.axis, -1)
    samples, *positions, channels = x.shape
    flat = x.reshape(samples, int(np.prod(positions)), channels)
    y = compute(*case._replace(x=flat, axis=2)).numpy().reshape(x.shape)
    assert_agree(np.moveaxis(y, -1, case.axis), compute(*case), case)


@drawn
@given(case=cases())
def test_neutral_arguments_change_nothing(compute, case):
    channels = case.x.shape[case.axis]
    positions = np.delete(case.x.shape, case.channel_axis)
    neutral = case._replace(
        gamma=np.ones(channels) if case.gamma is None else case.gamma,
        beta=np.zeros(channels) if case.beta is None else case.beta,
        mask=np.ones(positions, bool),
        groups=-1 if case.groups == channels else case.groups,
        axis=case.axis - case.x.ndim if case.axis > 0 else case.axis + case.x.ndim,
    )
    assert_agree(compute(*neutral), compute(*case), case)


def with_gradients(compute, case, dy):
    """The output, and the gradients of `sum(y * dy)` for x, gamma and beta."""
    inputs = [tf.constant(v) for v in (case.x, case.gamma, case.beta)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        x, gamma, beta = inputs
        y = compute(*case._replace(x=x, gamma=gamma, beta=beta))
    return y, *tape.gradient(y, inputs, tf.cast(dy, y.dtype))


def with_parameters(case, rng):
    gamma, beta = rng.normal(size=(2, case.x.shape[case.axis]))
    return case._replace(gamma=gamma, beta=beta)


def allowed_in_gradients(case, dy):
    """In proportion to the terms that are added up, as these may cancel."""
    tolerance = TOLERANCE[case.computed] + case.doubt_of_variance()
    z = case.largest(definition(case._replace(gamma=None, beta=None)))
    slope = case.largest(dy * case.expand(case.gamma)) * case.rstd()
    error_of_z = tolerance * (z + 1e-3) + case.error_of_the_mean()
    others = tuple(np.delete(np.arange(case.x.ndim), case.channel_axis))
    return (
        slope * (1 + z) * (tolerance + error_of_z),
        (np.abs(dy) * error_of_z).sum(others),
        TOLERANCE[case.computed] * np.abs(dy).sum(others),
    )


@drawn
@given(
    case=cases(
        shapes(ranks=(2, 4), batch=(2, 1), most=24),
        dtypes=("float64",),
        kinds=("normal", "rectified", "constant"),
        epsilons=(1e-3, 0.5),
        masked=True,
    ),
    rng=seeds,
)
def test_gradients_equal_finite_differences(compute, case, rng):
    case = with_parameters(case, rng)
    dy = rng.normal(size=case.x.shape)
    expected = oracle.gradients(
        case.x,
        case.groups,
        case.gamma,
        case.beta,
        dy,
        axis=case.axis,
        epsilon=case.epsilon,
        mask=case.mask,
    )
    _, *actual = with_gradients(compute, case, dy)
    for got, want in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@drawn
@given(
    case=cases(
        dtypes=("float16", "bfloat16", "float32"),
        epsilons=EPSILONS[1:],
        masked=True,
        any_range=True,
    ),
    rng=seeds,
)
def test_gradients_of_narrow_dtypes_equal_those_of_float64(
    compute, takes_any_range, case, rng
):
    assume(takes_any_range or case.squares_are_in_range())
    # Those of float64 are held against finite differences above.
    case = with_parameters(case, rng)
    dy = wide(rng.normal(size=case.x.shape).astype(case.x.dtype))
    _, dx, dgamma, dbeta = with_gradients(compute, case, dy)
    assert dx.dtype == case.dtype
    _, *expected = with_gradients(
        group_normalization, case._replace(x=wide(case.x)), dy
    )
    for got, want, allowed, dtype in zip(
        (dx, dgamma, dbeta),
        map(wide, expected),
        allowed_in_gradients(case, dy),
        (case.dtype, "float32", "float32"),
        strict=True,
    ):
        assert_within(got, want, allowed, dtype)


@drawn
@given(
    case=cases(shapes(ranks=(3, 4), batch=(2, 1)), dtypes=("float32", "float64")),
    padding=st.sampled_from([0.0, 1e6, np.nan, np.inf]),
    rng=seeds,
    data=st.data(),
)
def test_a_masked_sequence_gives_what_the_unpadded_one_gives(
    compute, case, padding, rng, data
):
    case = with_parameters(case, rng)._replace(epsilon=case.epsilon or 1e-3)
    time = 1 if case.channel_axis != 1 else 2
    longest = case.x.shape[time]
    lengths = data.draw(
        st.lists(st.integers(1, longest), min_size=len(case.x), max_size=len(case.x))
    )
    # The sequence may lie anywhere in its padding.
    starts = [data.draw(st.integers(0, longest - length)) for length in lengths]
    steps = np.arange(longest)
    mask = np.array(
        [(a <= steps) & (steps < a + n) for a, n in zip(starts, lengths, strict=True)]
    )
    padded = case._replace(mask=mask)
    x, dy = case.x.copy(), rng.normal(size=case.x.shape)
    x[~padded.counts()] = padding
    dy[~padded.counts()] = 0
    y, dx, *sums = with_gradients(compute, padded._replace(x=x), dy)
    assert not np.any(np.asarray(dx)[~padded.counts()])

    left = [wide(v) for v in sums]
    allowed = [0, 0]
    for n, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        whole = [slice(None)] * (time - 1)
        alone = (slice(n, n + 1), *whole, slice(start, start + length))
        sequence = case._replace(x=case.x[alone])
        want, want_dx, *wants = with_gradients(group_normalization, sequence, dy[alone])
        assert_agree(y[alone], want, sequence)
        of_dx, *of_sums = allowed_in_gradients(sequence, dy[alone])
        assert_within(dx[alone], wide(want_dx), 2 * of_dx, case.dtype)
        left = [rest - wide(v) for rest, v in zip(left, wants, strict=True)]
        allowed = [a + 2 * b for a, b in zip(allowed, of_sums, strict=True)]
    for rest, most in zip(left, allowed, strict=True):
        assert (np.abs(rest) <= most).all()
