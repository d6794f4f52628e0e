"""Passes over the data, bytes and temporaries, as XLA compiles the layer for a GPU.

`python -m gpu.passes FOLDER`, in `benchmarks/`, for a folder that `programs.py` wrote.
No GPU is needed. What XLA would measure on one, to choose among its ways of doing a
matrix product, it leaves alone; there is none here.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("XLA_FLAGS", "--xla_gpu_autotune_level=0")
os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")

from jaxlib import _jax

from cases import Case
from gpu import xla

# What takes no time: names for what is there.
_FREE = {"Parameter", "Constant", "Bitcast", "Tuple", "GetTupleElement"}
# What a part can be read through: names, and what goes number by number.
_SEEN_THROUGH = {"Bitcast", "Convert"}
_KERNELS = {"Fusion", "Reduce", "Copy", "Transpose", "Broadcast", "Convert", "Pad"}


class Counts(NamedTuple):
    """Of one compiled program; `x` is the input's size."""

    kernels: int
    passes: int  # kernels that read or write a tensor as large as x
    traffic: int  # how many such tensors they read and write together
    # All that is read and written, in x: by XLA's cost analysis, but that a part which
    # is read through another name or number by number is no more than it is.
    bytes: float
    temporary: float  # memory for all that is neither given nor returned, in x


def main() -> None:
    """Print a table of all programs in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print("\n".join(_table(parser.parse_args().folder)))


def _table(folder: Path) -> Iterator[str]:
    gpu = xla.described_gpu()
    parts = ("passes", "tensors read and written", "bytes / x", "temporary / x")
    yield f"| | | {' | '.join(f'{part}: ours, Keras' for part in parts)} |"
    yield "| --- " * 6 + "|"
    for case, backward, programs in xla.read(folder):
        ours, keras = (
            counted(xla.function(programs[name], case, backward), case, backward, gpu)
            for name in ("ours", "keras")
        )
        yield (
            f"| {case.input_shape}, axis {case.axis}, {case.groups} groups, "
            f"{case.dtype} | {'forward + backward' if backward else 'forward'} "
            f"| {ours.passes}, {keras.passes} | {ours.traffic}, {keras.traffic} "
            f"| {ours.bytes:.3f}, {keras.bytes:.3f} "
            f"| {ours.temporary:.3f}, {keras.temporary:.3f} |"
        )


def counted(function: Callable, case: Case, backward: bool, gpu: Any) -> Counts:
    """Compile a function of a program's arguments, and count."""
    compiled = xla.compiled(function, case, backward, gpu)
    (module,) = compiled.runtime_executable().hlo_modules()
    instructions = module.make_nonfusion_computations()[-1].instructions()
    elements = math.prod(case.shape)
    large = {i.name: sum(size >= elements for size in _sizes(i)) for i in instructions}
    kernels = [i for i in instructions if _is_kernel(i)]
    sliced = {i.name: _sliced(i, module) for i in kernels}
    traffic = [
        large[i.name]
        + sum(large[o.name] for o in i.operands() if o.name not in sliced[i.name])
        for i in kernels
    ]
    width = 4 if case.dtype == "float32" else 2
    unit = elements * width
    unread = sum(sum(left.values()) for left in sliced.values())
    client = _jax.get_tfrt_cpu_client()  # the analysis needs one, of whatever device
    cost = _jax.hlo_module_cost_analysis(client, module)
    return Counts(
        kernels=len(kernels),
        passes=sum(number > 0 for number in traffic),
        traffic=sum(traffic),
        bytes=(cost["bytes accessed"] - width * unread) / unit,
        temporary=compiled.memory_analysis().temp_size_in_bytes / unit,
    )


def _is_kernel(instruction: Any) -> bool:
    name = instruction.opcode.name.removeprefix("k")
    if name in _FREE:
        return False
    if name not in _KERNELS:
        raise ValueError(f"What does this cost? {instruction.to_string()}")
    return True


def _sliced(kernel: Any, module: Any) -> dict[str, int]:
    """What a kernel reads a part of, and how many elements are left that XLA counts."""
    called = re.search(r"calls=%([\w.-]+)", kernel.to_string())
    if not called:
        return {}
    (computation,) = (c for c in module.computations() if c.name == called.group(1))
    left = {}
    for instruction in computation.instructions():
        index = re.search(r" parameter\(([0-9]+)\)", instruction.to_string())
        parts = list(_parts(instruction)) if index else []
        if parts and None not in parts:
            counted = any(u.opcode.name != "kSlice" for u in instruction.users())
            operand = kernel.operands()[int(index.group(1))]
            left[operand.name] = (sum(_sizes(instruction)) - sum(parts)) * counted
    return left


def _parts(instruction: Any) -> Iterator[int | None]:
    """How many elements are in the slices that users take, None for one taking all."""
    for user in instruction.users():
        name = user.opcode.name.removeprefix("k")
        if name == "Slice":
            yield sum(_sizes(user))
        elif name in _SEEN_THROUGH:
            yield from _parts(user)
        else:
            yield None


def _sizes(instruction: Any) -> list[int]:
    """How many elements each of its results has."""
    result = instruction.to_string().split(" = ", 1)[1]
    shapes = result[: re.search(r" [a-z-]+\(", result).start()]
    sizes = re.findall(r"[a-z]+[0-9]+\[([0-9,]*)\]", shapes)
    return [math.prod(int(n) for n in size.split(",") if n) for size in sizes]


if __name__ == "__main__":
    main()
