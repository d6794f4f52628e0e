"""On a GPU: what XLA is given there, which is not what it is given for a CPU.

XLA's CPU runs it too, so its numbers are held against float64 here. What a compiler may
do with it is read off the HLO before XLA has optimized it; what XLA does is read off
the program that it makes for a GPU, by `benchmarks/gpu/`.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
import tensorflow as tf

from groupnorm import group_normalization
from groupnorm.op import context

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# Shape, channel axis, groups: columns of rows that are cut and that cannot be, rows of
# channels and pieces, one group and as many as channels.
CASES = [
    ((8, 32, 32, 64), -1, 32),
    ((2, 1009, 48), -1, 4),
    ((2, 4096, 8), -1, 2),
    ((3, 28, 28, 16), -1, 1),
    ((4, 64, 32, 32), 1, 8),
    ((4, 6, 64, 500), 2, 64),
    ((64, 512), -1, 8),
]


@pytest.fixture(autouse=True)
def _as_for_a_gpu(monkeypatch):
    monkeypatch.setattr(context, "is_compiled_for_cpu", lambda: False)


def forward(x, gamma, beta, groups, axis):
    return group_normalization(x, groups, gamma, beta, axis)


def step(x, gamma, beta, dy, groups, axis):
    with tf.GradientTape() as tape:
        tape.watch([x, gamma, beta])
        y = forward(x, gamma, beta, groups, axis)
    return y, *tape.gradient(y, [x, gamma, beta], output_gradients=dy)


def definition(x, gamma, beta, dy, groups, axis):
    """The same from the definition, by TensorFlow's own gradients, in float64."""
    x, gamma, beta, dy = (tf.cast(value, tf.float64) for value in (x, gamma, beta, dy))
    with tf.GradientTape() as tape:
        tape.watch([x, gamma, beta])
        last = tf.experimental.numpy.moveaxis(x, axis, -1)
        size = [x.shape[0], -1, groups, last.shape[-1] // groups]
        grouped = tf.reshape(last, size)
        centered = grouped - tf.reduce_mean(grouped, [1, 3], keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), [1, 3], keepdims=True)
        z = tf.reshape(centered / tf.sqrt(variance + 1e-3), last.shape)
        y = tf.experimental.numpy.moveaxis(z * gamma + beta, -1, axis)
    return y, *tape.gradient(y, [x, gamma, beta], output_gradients=dy)


def compiled(function, groups, axis):
    return tf.function(
        lambda *values: function(*values, groups, axis),
        jit_compile=True,
        autograph=False,
    )


@pytest.mark.sampled
@pytest.mark.parametrize(("shape", "axis", "groups"), CASES)
def test_output_and_gradients_are_accurate(rng, shape, axis, groups):
    x, dy = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    gamma, beta = (rng.normal(size=shape[axis]).astype(np.float32) for _ in range(2))
    ours = compiled(step, groups, axis)
    for mean in (0.0, 1e2, 1e3, 1e4, 1e5):
        values = [x + np.float32(mean), gamma, beta, dy]
        found = ours(*map(tf.constant, values))
        correct = definition(*values, groups, axis)
        assert max(map(oracle.relative_error, found, correct)) < 5e-6


@pytest.mark.parametrize("position", [0, -1])
def test_an_outlier_leaves_the_output_accurate(rng, position):
    x = rng.normal(size=(2, 1024, 16)).astype(np.float32) + np.float32(1e4)
    x[:, position] = 0
    ones, zeros = np.ones(16, np.float32), np.zeros(16, np.float32)
    y = compiled(forward, 4, -1)(*map(tf.constant, (x, ones, zeros)))
    assert oracle.relative_error(y, oracle.group_normalization(x, 4)) < 5e-6


# --- What a compiler is given --------------------------------------------------------


class Instruction:
    """A line of HLO."""

    def __init__(self, line: str) -> None:
        self.name, result = re.match(r"\s*(?:ROOT )?%(\S+) = (.*)", line).groups()
        self.opcode = re.search(r" ([a-z-]+)\(", result)[1]
        shape, operands = result.split(f" {self.opcode}(", 1)
        self.dtype = shape.split("[")[0].lstrip("(")
        sizes = re.search(r"\[([0-9,]*)\]", shape)[1]
        self.elements = math.prod(int(n) for n in sizes.split(",") if n)
        self.operands = re.findall(r"%([\w.-]+)", operands.split(")", 1)[0])


def instructions(shape, axis, groups, function=step, dtype="float32"):
    tensor = tf.TensorSpec(shape, dtype)
    values = [tensor, *[tf.TensorSpec(shape[axis : axis + 1 or None])] * 2]
    if function is step:
        values.append(tensor)
    program = compiled(function, groups, axis)
    text = program.experimental_get_compiler_ir(*values)(stage="hlo")
    body = text[text.index("\nENTRY ") :].splitlines()[2:]
    return [Instruction(line) for line in body if " = " in line]


def reductions_in_a_row(found, elements: int) -> int:
    """The most reductions of a tensor of this size of which each needs the last one.

    No compiler can do with fewer passes over the data, and one more for what depends
    on all of them.
    """
    size = {i.name: i.elements for i in found}
    before: dict[str, int] = {}
    for i in found:
        reduces = i.opcode == "reduce" and size[i.operands[0]] == elements
        before[i.name] = max((before[o] for o in i.operands), default=0) + reduces
    return max(before.values())


@pytest.mark.sampled
@pytest.mark.parametrize("function", [forward, step])
@pytest.mark.parametrize(("shape", "axis", "groups"), CASES)
def test_two_passes_are_enough(shape, axis, groups, function):
    found = instructions(shape, axis, groups, function)
    # Without positions, what belongs to channels is as large as x, and so is one more
    # reduction for the gradient.
    more = len(shape) == 2 and function is step
    assert reductions_in_a_row(found, math.prod(shape)) == 1 + more


def test_a_further_pass_would_be_seen():
    def standardized_twice(x, gamma, beta, groups, axis):
        return forward(forward(x, gamma, beta, groups, axis), gamma, beta, groups, axis)

    found = instructions((4, 32, 8), -1, 2, standardized_twice)
    assert reductions_in_a_row(found, 4 * 32 * 8) == 2


def sums_over(found, elements: int) -> list[Instruction]:
    """The reductions of what has this size."""
    size = {i.name: i.elements for i in found}
    return [
        i for i in found if i.opcode == "reduce" and size[i.operands[0]] == elements
    ]


# Rows of channels that are narrow and wide, and samples few and many.
@pytest.mark.parametrize(
    "shape", [(8, 32, 32, 64), (2, 4096, 8), (8, 16, 16, 128), (2, 9216, 32)]
)
def test_columns_are_short_and_many(shape):
    # Of longer ones, or of few, XLA would rather write down what is to be added.
    sums = sums_over(instructions(shape, -1, 2), math.prod(shape))
    assert sums
    columns = min(i.elements for i in sums)
    assert math.prod(shape) / columns <= 1024
    assert columns >= 128 * min(shape[-1], 64)


def test_columns_are_long_where_there_are_many():
    # Of short ones it has to write down more sums.
    shape = (32, 56, 56, 64)
    sums = sums_over(instructions(shape, -1, 32), math.prod(shape))
    assert max(i.elements for i in sums) == math.prod(shape) / 784


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("shape", "axis", "groups"), CASES)
def test_only_what_xla_joins_into_loops(shape, axis, groups, dtype):
    found = instructions(shape, axis, groups, dtype=dtype)
    # Elementwise, or names for the same numbers; slices are of what cannot be cut, and
    # of the part in which a number near the mean is looked for.
    assert {i.opcode for i in found} <= {
        *("parameter", "constant", "tuple", "get-tuple-element", "reshape"),
        *("broadcast", "convert", "reduce", "slice"),
        *("add", "subtract", "multiply", "divide", "negate", "maximum", "rsqrt"),
        *("bitcast-convert", "and"),
    }
    found = [i for i in found if i.elements > 1]
    assert {i.dtype for i in found} <= {"f32", "bf16", "f16", "s32"}
    # Those are the bits of the shifts, of which each sample's groups have one.
    bits = [i.elements for i in found if i.dtype == "s32"]
    assert max(bits, default=0) <= shape[0] * groups


# --- What XLA makes of it ------------------------------------------------------------


def run(module, *arguments) -> str:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=BENCHMARKS,
        check=True,
        text=True,
        capture_output=True,
    ).stdout


def needs(module) -> None:
    package = module.partition(".")[0]
    if not (importlib.util.find_spec(package) and importlib.util.find_spec(module)):
        pytest.skip(f"{module} is not installed: see benchmarks/gpu/README.md")


@pytest.mark.full
def test_the_benchmark_runs_on_jax_and_torch(tmp_path):
    needs("jax")
    needs("torch")
    run("gpu.programs", tmp_path, "--quick")
    run("gpu.run", tmp_path, "--budget", 0, "--rounds", 2)
    results = json.loads((tmp_path / "results.json").read_text())
    for entry in results["speed"]:
        assert {"ours, XLA", "keras, XLA", "one copy"} < entry["milliseconds"].keys()
        assert all(t["q1"] > 0 for t in entry["milliseconds"].values())
    assert [entry["backward"] for entry in results["speed"]] == [False, True]
    assert [entry["mean"] for entry in results["errors"]] == [0, 1e2, 1e3, 1e4, 1e5]
    for entry in results["errors"]:
        assert max(entry["errors"]["ours, XLA"].values()) < 5e-6
    # An error that it would be wrong not to find: Keras's layer, far from zero.
    assert results["errors"][-1]["errors"]["keras, XLA"]["y"] > 5e-6


@pytest.mark.full
def test_xla_reads_and_writes_no_more_of_our_layer_than_of_keras(tmp_path):
    needs("jax_plugins.xla_cuda12")
    run("gpu.programs", tmp_path)
    rows = [
        [part.strip() for part in line.strip("|").split("|")]
        for line in run("gpu.passes", tmp_path).splitlines()[2:]
    ]
    shapes = ("(32, 56, 56, 64)", "(8, 32, 32, 256)", "(32, 128, 512)")
    checked = [row for row in rows if row[0].startswith((*shapes, "(2, 224, 224, 32)"))]
    assert len(checked) == 4 * 2 * 3
    for _, kind, passes, traffic, accessed, temporary in checked:
        assert int(passes.split(",")[0]) <= (2 if kind == "forward" else 3)
        ours, keras = map(int, traffic.split(","))
        assert ours < keras
        ours, keras = map(float, accessed.split(","))
        assert ours < keras
        assert float(temporary.split(",")[0]) < 0.05
