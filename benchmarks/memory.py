"""Memory of one forward and backward pass, in units of the input's size.

Each implementation runs in a process of its own, which asks the kernel for its peak:
Linux can set the record back before the part that counts. Tensors of this size are
mapped when they are made and unmapped when they go, so the numbers are exact but for
some megabytes. Where oneDNN is on, which depends on the processor, TensorFlow keeps
what is freed for the next tensor, in an allocator that comes with it: it is turned off.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cases import Case, data

_QUICK = ("ours, native",)
_TRIES = 3


def measure(quick: bool) -> dict[str, Any]:
    """For each implementation the peak, and what is kept between the two passes."""
    from implementations import NORMALIZATIONS

    names = _QUICK if quick else tuple(NORMALIZATIONS)
    # Blocks of up to 32 MB may be kept by malloc and reused: stay well above.
    case = Case((4 if quick else 16, 256, 256, 64), 32)
    # Memory is not time: two children can run at once.
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda name: _in_child(name, case), names)
        return {
            "shape": case.shape,
            "groups": case.groups,
            "units": dict(zip(names, found, strict=True)),
        }


def _in_child(name: str, case: Case) -> dict[str, float]:
    for _ in range(_TRIES):
        units = _in_one_child(name, case)
        # An output is there after the forward pass, and dx after the other: less than
        # that, and memory was reused that had not been handed back, as happens once in
        # a while.
        if units["kept"] > -0.1 and units["peak"] > 0.9:
            return units
    raise RuntimeError(f"Memory of {name!r} could not be measured: {units}")


def _in_one_child(name: str, case: Case) -> dict[str, float]:
    output = subprocess.run(
        [sys.executable, __file__, name, json.dumps(case)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"},
    ).stdout
    return json.loads(output.splitlines()[-1])


def child(name: str, case: Case) -> dict[str, float]:
    """The two measurements of one implementation, in this process."""
    from implementations import NORMALIZATIONS, fix_threads

    fix_threads()
    implementation = NORMALIZATIONS[name]
    # First with a small tensor: libraries are loaded, threads are started.
    _kept(implementation, case._replace(shape=(1, *case.shape[1:])))
    _peak(implementation, case._replace(shape=(1, *case.shape[1:])))
    unit = data(case).x.nbytes
    return {
        "kept": _kept(implementation, case) / unit - 1,
        "peak": _peak(implementation, case) / unit,
    }


def _kept(implementation: Any, case: Case) -> int:
    """Bytes that a forward pass leaves for the backward pass, the output included."""
    forward, backward = implementation.halves(case, data(case))
    # The first run compiles; let its memory be taken before, and reused.
    backward(forward())
    before = _status("VmRSS")
    kept = forward()
    size = _status("VmRSS") - before
    backward(kept)
    return size


def _peak(implementation: Any, case: Case) -> int:
    """Most bytes in use at once beyond x and dy, in one run that gives y and dx."""
    step = implementation.step(case, data(case), 1)
    step()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS
    step()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


if __name__ == "__main__":
    shape, *rest = json.loads(sys.argv[2])
    print(json.dumps(child(sys.argv[1], Case(tuple(shape), *rest))))
