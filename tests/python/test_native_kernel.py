"""The native kernel: its C++ tests, under sanitizers and on other processors, and its
operations against the definition in float64."""

from __future__ import annotations

import hashlib
import pathlib
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import oracle  # noqa: E402

from groupnorm import group_normalization  # noqa: E402
from groupnorm.op import formulas, native  # noqa: E402

_TESTS = pathlib.Path(__file__).resolve().parents[1]
_NATIVE = pathlib.Path(native.__file__).resolve().parent


def _succeeds(command: list) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def ops():
    """The operations; without a compiler there are none."""
    library = native.load()
    if library.ops is None:
        pytest.skip(library.status)
    return library.ops


# ---------------------------------------------------------------- C++ program


# What the library is compiled with, so that the same sums are tested.
_ARITHMETIC = re.search(
    '^arithmetic="(.*)"$', (_NATIVE / "compile.sh").read_text(), re.M
)
# Source, compiler, options, the program's arguments, and what runs it if this processor
# cannot.
_KERNEL, _XLA = "test_kernel.cc", "test_xla_calls.cc"
_PLAIN = [(_KERNEL, "c++", "-O3", [], []), (_XLA, "c++", "-O0", [], [])]
_ADDRESS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
_OTHERS = [
    (_KERNEL, "c++", f"-O1 -g {_ADDRESS}", [], []),
    (_KERNEL, "c++", "-O1 -g -fsanitize=thread", ["1", "threads"], []),
    (_KERNEL, "c++", "-O1 -DGROUPNORM_BASELINE", [], []),
    (_KERNEL, "clang++", "-O1", [], []),
    (_KERNEL, "aarch64-linux-gnu-g++", "-O1 -static", [], ["qemu-aarch64-static"]),
    (_XLA, "c++", f"-O0 -g {_ADDRESS}", [], []),
]


@pytest.mark.parametrize(
    ("source", "compiler", "options", "arguments", "runner"),
    [*_PLAIN, *(pytest.param(*other, marks=pytest.mark.full) for other in _OTHERS)],
)
def test_cpp(
    source, compiler, options, arguments, runner, tmp_path, pytestconfig
) -> None:
    """The numerics against long double, and what XLA calls."""
    for program in (compiler, *runner):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: make test-full does that")
    command = [compiler, "-std=c++17", "-pthread", "-Wno-psabi"]
    command += [*_ARITHMETIC[1].split(), *options.split()]
    probe, program = tmp_path / "probe.cc", tmp_path / "probe"
    probe.write_text("int main() {}")
    if not all(
        _succeeds(c) for c in ([*command, probe, "-o", program], [*runner, program])
    ):
        pytest.skip(f"the compiler cannot do {options}")
    program = _compiled(source, command, pytestconfig.cache.mkdir("kernel"))
    result = subprocess.run(
        [*runner, program, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def _compiled(name: str, command: list[str], folder: pathlib.Path) -> pathlib.Path:
    """The program, which is kept in a folder until a source or the command changes."""
    source = _TESTS / "native" / name
    sources = [source, *sorted(_NATIVE.glob("*.h")), *sorted(_NATIVE.glob("*.inc"))]
    text = b"".join(path.read_bytes() for path in sources) + repr(command).encode()
    program = folder / hashlib.sha256(text).hexdigest()
    if not program.exists():
        part = program.with_suffix(".part")
        subprocess.run([*command, f"-I{_NATIVE}", source, "-o", part], check=True)
        part.rename(program)
    return program


# ----------------------------------------------------------------- operations


def _definition(x, gamma, beta, groups, axis, epsilon, dy):
    """Output and gradients in float64."""
    shape = x.shape
    before, after = np.prod(shape[1:axis]), np.prod(shape[axis + 1 :])
    split = (shape[0], int(before), groups, shape[axis] // groups, int(after))
    x, dy = (v.astype(np.float64).reshape(split) for v in (x, dy))
    over = {"axis": (1, 3, 4), "keepdims": True}
    rstd = 1 / np.sqrt(x.var(**over) + epsilon)
    xhat = (x - x.mean(**over)) * rstd
    gamma, beta = (np.reshape(v, (1, 1, groups, -1, 1)) for v in (gamma, beta))
    inner = gamma * dy
    dx = inner - inner.mean(**over) - xhat * (inner * xhat).mean(**over)
    return (
        (xhat * gamma + beta).reshape(shape),
        (dx * rstd).reshape(shape),
        (dy * xhat).sum((0, 1, 4)).ravel(),
        dy.sum((0, 1, 4)).ravel(),
    )


def _data(shape, axis, dtype="float32", shift=0.0):
    random = np.random.default_rng(7)
    real = "float64" if dtype == "float64" else "float32"
    x, dy = (random.standard_normal(shape) + s for s in (shift, 0))
    gamma, beta = (random.standard_normal(shape[axis]).astype(real) for _ in "gb")
    return tf.cast(x, dtype), gamma, beta, tf.cast(dy, dtype)


def _errors(got, want):
    return [
        np.abs(tf.cast(a, tf.float64).numpy() - b).max() / np.abs(b).max()
        for a, b in zip(got, want, strict=True)
    ]


def _both(x, gamma, beta, dy, groups, axis, epsilon=1e-3):
    y, stats = native.forward(x, gamma, beta, groups, axis, epsilon)
    return (y, *native.backward(x, gamma, beta, stats, dy, groups, axis, epsilon))


_LAYOUTS = [
    ((2, 7, 5, 6), 3, 3),
    ((3, 4, 7, 7), 1, 2),
    ((2, 8, 40, 50), 1, 4),
    ((5, 12), 1, 4),
    ((2, 3, 3, 6, 2, 2), 3, 2),
    ((2, 300, 200, 16), 3, 4),
    ((4, 128, 512), 2, 8),
    ((2, 1000, 3), 2, 1),
    ((9, 33, 100), 2, 10),
    ((3, 5, 64, 37), 2, 8),
]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 1e-6), ("float64", 1e-12), ("float16", 1e-3), ("bfloat16", 5e-3)],
)
@pytest.mark.parametrize(("shape", "axis", "groups"), _LAYOUTS)
def test_values_and_gradients(ops, shape, axis, groups, dtype, tolerance) -> None:
    x, gamma, beta, dy = _data(shape, axis, dtype)
    got = _both(x, gamma, beta, dy, groups, axis)
    want = _definition(
        x.numpy(), gamma, beta, groups, axis, 1e-3, tf.cast(dy, tf.float64).numpy()
    )
    assert max(_errors(got, want)) < tolerance


@pytest.mark.parametrize("shift", [0, 1e2, 1e3, 1e4, 1e5])
@pytest.mark.parametrize(("shape", "axis", "groups"), _LAYOUTS[:6])
def test_shifted_data(ops, shape, axis, groups, shift) -> None:
    x, gamma, beta, dy = _data(shape, axis, shift=shift)
    got = _both(x, gamma, beta, dy, groups, axis)
    want = _definition(x.numpy(), gamma, beta, groups, axis, 1e-3, dy.numpy())
    assert max(_errors(got, want)) < 1e-6


def test_absent_parameters(ops) -> None:
    x, gamma, beta, dy = _data((3, 10, 8), 2)
    none = np.zeros(0, np.float32)
    y, dx, dgamma, dbeta = _both(x, none, none, dy, 4, 2)
    want = _both(x, np.ones_like(gamma), np.zeros_like(beta), dy, 4, 2)
    np.testing.assert_array_equal(y, want[0])
    np.testing.assert_array_equal(dx, want[1])
    assert dgamma.shape == dbeta.shape == (0,)


def test_unknown_sizes_and_static_shapes(ops) -> None:
    x, gamma, beta, dy = _data((3, 5, 4, 8), 3)
    seen = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 8])] * 2)
    def run(x, dy):
        y, stats = native.forward(x, gamma, beta, 2, 3, 1e-3)
        grads = native.backward(x, gamma, beta, stats, dy, 2, 3, 1e-3)
        seen.extend(t.shape.as_list() for t in (y, stats, *grads))
        return y, *grads

    for got, want in zip(run(x, dy), _both(x, gamma, beta, dy, 2, 3), strict=True):
        np.testing.assert_array_equal(got, want)
    full = [None, None, None, 8]
    assert seen[:5] == [full, [None, 2, 2], full, [8], [8]]


@pytest.mark.parametrize("shape", [(0, 5, 8), (2, 0, 8)])
def test_empty(ops, shape) -> None:
    x, gamma, beta, dy = _data(shape, 2)
    y, dx, dgamma, dbeta = _both(x, gamma, beta, dy, 2, 2)
    assert y.shape == dx.shape == shape
    assert not np.any(dgamma)
    assert not np.any(dbeta)


def test_bad_arguments_are_errors(ops) -> None:
    x, gamma, beta, dy = _data((2, 5, 8), 2)
    _, stats = native.forward(x, gamma, beta, 2, 2, 1e-3)
    cases = [
        (lambda: native.forward(x, gamma, beta, 3, 2, 1e-3), "must divide"),
        (lambda: native.forward(x, gamma, beta, 2, 3, 1e-3), "axis 3"),
        (lambda: native.forward(x[0, 0], gamma, beta, 2, 1, 1e-3), "rank >= 2"),
        (lambda: native.forward(x, gamma[:7], beta, 2, 2, 1e-3), "gamma must"),
        (lambda: native.forward(x, gamma, beta[:1], 2, 2, 1e-3), "beta must"),
        (lambda: native.backward(x, gamma, beta, stats, dy, 4, 2, 1e-3), "stats must"),
        (lambda: native.backward(x, gamma, beta, stats, dy[1:], 2, 2, 1e-3), "dy must"),
    ]
    for call, message in cases:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "axis", "groups", "mask_shape"),
    [
        ((4, 30, 12), 2, 3, (4, 30, 1)),
        ((4, 12, 40), 1, 3, (4, 1, 40)),
        ((4, 12, 7), 1, 3, (4, 1, 7)),
        ((4, 5, 12, 6), 2, 3, (4, 5, 1, 6)),
        ((4, 5, 6, 12), 3, 3, (4, 5, 1, 1)),
        ((4, 12, 5, 6), 1, 3, (4, 1, 5, 1)),
        ((8, 32), 1, 2, (8, 1)),
        ((8, 4), 1, 2, (8, 1)),
    ],
)
def test_masks(ops, rng, shape, axis, groups, mask_shape, dtype) -> None:
    x, gamma, beta, dy = _data(shape, axis, dtype)
    mask = rng.random(mask_shape) < 0.6
    mask[-1] = False  # a sample without anything that counts
    layout = formulas.Layout(len(shape), axis, shape[axis], groups)
    y, stats = native.forward(x, gamma, beta, groups, axis, 1e-3, mask)
    got = (
        y,
        *native.backward(x, gamma, beta, stats, dy, groups, axis, 1e-3, mask),
    )
    wide = [tf.cast(v, tf.float64) for v in (x, gamma, beta, dy)]
    want = (
        formulas.value(*wide[:3], layout, 1e-3, mask)[0],
        *formulas.gradient(wide[0], wide[1], wide[3], layout, 1e-3, mask),
    )
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    assert max(_errors(got, [w.numpy() for w in want])) < tolerance
    np.testing.assert_array_equal(stats[-1, :, 0], 0)


def test_a_mask_that_does_not_fit_is_an_error(ops) -> None:
    x, gamma, beta, dy = _data((2, 5, 8), 2)
    _, stats = native.forward(x, gamma, beta, 2, 2, 1e-3)
    for shape in [(2, 5), (2, 5, 8), (1, 5, 1), (2, 4, 1)]:
        mask = np.ones(shape, bool)
        with pytest.raises(tf.errors.InvalidArgumentError, match="mask must"):
            native.forward(x, gamma, beta, 2, 2, 1e-3, mask)
        with pytest.raises(tf.errors.InvalidArgumentError, match="mask must"):
            native.backward(x, gamma, beta, stats, dy, 2, 2, 1e-3, mask)


def _operations(function, shape) -> set[str]:
    """The types of those that a function of a tensor puts into a graph."""
    with tf.Graph().as_default() as graph:
        function(tf.compat.v1.placeholder(tf.float32, shape))
    return {op.type for op in graph.get_operations()}


def test_masked_calls_reach_the_kernel(natively, rng) -> None:
    x = tf.constant(rng.normal(size=(3, 7, 4)).astype(np.float32))
    mask = rng.random((3, 7)) < 0.6
    traced = tf.function(lambda x: group_normalization(x, 2, mask=mask))
    assert "GroupnormForward" in _operations(traced.python_function, x.shape)
    want = oracle.group_normalization(x, 2, mask=mask)
    assert oracle.relative_error(traced(x), want) < 1e-6


def test_a_tensor_that_is_known_to_be_empty_needs_no_kernel(natively) -> None:
    kernel = {
        shape: "GroupnormForward"
        in _operations(lambda x: group_normalization(x, 2), shape)
        for shape in [(0, 5, 8), (2, 0, 8), (None, 0, 8), (None, 5, 8), (2, 5, 8)]
    }
    assert [*kernel.values()] == [False, False, False, True, True], kernel


def test_inputs_stay_as_they_are(ops) -> None:
    x, gamma, beta, dy = _data((4, 50, 8), 2)
    before = x.numpy().copy(), dy.numpy().copy()
    _both(x, gamma, beta, dy, 2, 2)
    np.testing.assert_array_equal(before[0], x)
    np.testing.assert_array_equal(before[1], dy)


@pytest.mark.parametrize(("shape", "axis", "groups"), [_LAYOUTS[2], _LAYOUTS[5]])
def test_threads_make_no_difference(ops, shape, axis, groups) -> None:
    x, gamma, beta, dy = _data(shape, axis)
    want = [t.numpy() for t in _both(x, gamma, beta, dy, groups, axis)]
    handle = native.load().handle
    try:
        for threads in (1, 2, 3, 4):
            handle.groupnorm_set_threads(threads)
            for a, b in zip(_both(x, gamma, beta, dy, groups, axis), want, strict=True):
                np.testing.assert_array_equal(a, b)
    finally:
        handle.groupnorm_set_threads(0)


def test_calls_at_the_same_time(ops) -> None:
    x, gamma, beta, dy = _data((2, 300, 200, 16), 3)
    want = [t.numpy() for t in _both(x, gamma, beta, dy, 4, 3)]
    same = []

    def work() -> None:
        for _ in range(5):
            got = _both(x, gamma, beta, dy, 4, 3)
            same.append(
                all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
            )

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 40


@pytest.mark.skipif(
    not pathlib.Path("/sys/kernel/mm/transparent_hugepage").exists(),
    reason="this system has no large pages to ask for",
)
def test_a_large_output_asks_for_large_pages(ops):
    x = tf.zeros([4, 1024, 1024])  # kept, so that it is not overwritten
    y = group_normalization(x, 8)
    address = np.asarray(memoryview(y)).ctypes.data + 2**22
    assert "hg" in _flags_of_mapping(address)


def _flags_of_mapping(address: int) -> list[str]:
    """What the system notes of the memory there, in the words of proc(5)."""
    inside = False
    for line in pathlib.Path("/proc/self/smaps").read_text().splitlines():
        first = line.partition(" ")[0]
        if "-" in first:
            start, end = (int(part, 16) for part in first.split("-"))
            inside = start <= address < end
        if inside and first == "VmFlags:":
            return line.split()[1:]
    return []
