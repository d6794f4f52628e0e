"""What TensorFlow hands to XLA, of our layer and of Keras's, written to files.

`python -m gpu.programs FOLDER`, in `benchmarks/`. XLA itself is not asked: what is
written is StableHLO, which JAX's XLA takes on any device. So the machine with a GPU
needs no TensorFlow, whose build for GPUs is several gigabytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

import keras
import tensorflow as tf

import drawn
from cases import EPSILON, MAIN, TINY, Case
from groupnorm.layers import GroupNormalization
from groupnorm.op import context

LAYERS = {"ours": GroupNormalization, "keras": keras.layers.GroupNormalization}
DTYPES = ("float32", "bfloat16", "float16")
INDEX = "index.json"
STAGE = "stablehlo_serialized"

_DRAWN, _SEED = 20, 17
_SMALLEST = 2**16  # numbers in a tensor: below, a GPU only waits to be given work


def main() -> None:
    """Write the programs of all cases, or of a tiny one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="one tiny case")
    arguments = parser.parse_args()
    write(arguments.folder, [TINY] if arguments.quick else cases())


def cases() -> list[Case]:
    """The shapes of the design, then drawn ones, each in three dtypes."""
    many = (case for _, case in drawn.cases(_SEED, 4 * _DRAWN))
    large = (case for case in many if math.prod(case.shape) >= _SMALLEST)
    shapes = [case for case in MAIN if case != TINY]
    shapes += itertools.islice(large, _DRAWN)
    return [case._replace(dtype=dtype) for dtype in DTYPES for case in shapes]


def write(folder: Path, cases: Iterable[Case]) -> None:
    """Write each program to a file, and what it is to an index."""
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    for case in cases:
        for backward in (False, True):
            files = {}
            for name, layer in LAYERS.items():
                files[name] = f"{len(index):03d}-{name}.mlirbc"
                (folder / files[name]).write_bytes(program(layer, case, backward))
            index.append({"case": case, "backward": backward, "files": files})
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def program(layer: type, case: Case, backward: bool, stage: str = STAGE) -> bytes:
    """The layer as a function of x, gamma, beta (and dy) in XLA's language.

    It returns y, with the backward pass y, dx, dgamma and dbeta.
    """
    mixed = "float32" if case.dtype == "float32" else f"mixed_{case.dtype}"
    built = layer(groups=case.groups, axis=case.axis, epsilon=EPSILON, dtype=mixed)
    built.build(case.input_shape)

    def forward(x, gamma, beta):
        return built.stateless_call([gamma, beta], [], x)[0]

    def step(x, gamma, beta, dy):
        with tf.GradientTape() as tape:
            tape.watch([x, gamma, beta])
            y = forward(x, gamma, beta)
        return y, *tape.gradient(y, [x, gamma, beta], output_gradients=dy)

    tensor = tf.TensorSpec(case.input_shape, case.dtype)
    weights = [tf.TensorSpec(case.shape[-1:])] * 2
    function = tf.function(
        step if backward else forward, jit_compile=True, autograph=False
    )
    # As on a machine with a GPU: without one, the layer knows that XLA is for a CPU.
    with mock.patch.object(context, "is_compiled_for_cpu", return_value=False):
        compiler = function.experimental_get_compiler_ir(
            tensor, *weights, *([tensor] if backward else [])
        )
        return compiler(stage=stage)


if __name__ == "__main__":
    main()
