"""TensorFlow's programs as functions of JAX, to be run or looked at.

JAX is the client because it brings XLA alone. A GPU need not be there to compile for
one: XLA only wants to be told what it has, and `described_gpu` tells it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import export
from jax.experimental import topologies

from cases import Case

# Of an H100 with 80 GB (SXM5), as far as XLA asks: limits of CUDA for its generation
# (compute capability 9.0), sizes and speeds from NVIDIA's data sheet.
_H100 = """
platform_name: "CUDA"
device_description_str: "H100"
dnn_version_info { major: 9 minor: 10 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  driver_version: "13.0.0"
  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"
}
"""


class Entry(NamedTuple):
    """What `programs.py` wrote for one case: a program of each layer."""

    case: Case
    backward: bool
    programs: dict[str, bytes]


def read(folder: Path) -> Iterator[Entry]:
    """All that is in a folder that `programs.py` wrote."""
    for entry in json.loads((folder / "index.json").read_text()):
        shape, *rest = entry["case"]
        programs = {
            name: (folder / file).read_bytes() for name, file in entry["files"].items()
        }
        yield Entry(Case(tuple(shape), *rest), entry["backward"], programs)


def arguments(case: Case, backward: bool) -> list[jax.ShapeDtypeStruct]:
    """Shapes and dtypes that a program takes: x, gamma, beta, and dy for gradients."""
    x = jax.ShapeDtypeStruct(case.input_shape, case.dtype)
    weights = [jax.ShapeDtypeStruct(case.shape[-1:], "float32")] * 2
    return [x, *weights, *([x] if backward else [])]


def function(program: bytes, case: Case, backward: bool) -> Callable:
    """A program as a function that returns a list: y, and the three gradients."""
    given = arguments(case, backward)
    x, gamma, beta = given[:3]
    results = [x, x, gamma, beta] if backward else [x]
    # JAX calls what JAX exported: export something of this signature, and exchange it.
    stand_in = export.export(
        jax.jit(lambda *_: [jnp.zeros(r.shape, r.dtype) for r in results]),
        disabled_checks=[export.DisabledSafetyCheck.platform()],
    )(*given)
    exported = dataclasses.replace(
        stand_in,
        mlir_module_serialized=program,
        module_kept_var_idx=tuple(range(len(given))),
    )
    return exported.call


def chain(program: bytes, case: Case, backward: bool, links: int) -> Callable:
    """Calls in a row, each of what the one before returned, none joined with another.

    As in `implementations.py`: y is the next x, and dx the next dy. Returns what the
    last call did, but the gradients of the weights are those of all calls together.
    """
    call = function(program, case, backward)

    def chained(x, gamma, beta, dy=None):
        dgamma, dbeta = 0.0, 0.0
        for _ in range(links):
            if not backward:
                (x,) = jax.lax.optimization_barrier(call(x, gamma, beta))
                continue
            x, dy, dg, db = jax.lax.optimization_barrier(call(x, gamma, beta, dy))
            dgamma, dbeta = dgamma + dg, dbeta + db
        return [x, dy, dgamma, dbeta] if backward else [x]

    return chained


def described_gpu() -> jax.Device:
    """A GPU to compile for that is not there."""
    return topologies.get_topology_desc(
        platform="cuda", target_config=_H100, topology="1x1x1"
    ).devices[0]


def compiled(
    function: Callable, case: Case, backward: bool, device: jax.Device | None = None
) -> jax.stages.Compiled:
    """The function compiled for a device, JAX's own if none is named."""
    given = arguments(case, backward)
    if device is not None:
        place = jax.sharding.SingleDeviceSharding(device)
        given = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place) for a in given]
    return jax.jit(function).lower(*given).compile()
