"""Where the numbers come from: the machine, its load, and the versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any


def description() -> dict[str, Any]:
    """What does not change during a run."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = next(line for line in cpu.splitlines() if line.startswith("model name"))
    return {
        "cpu": model.split(":")[1].strip(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Versions of what is compared, and of what runs it."""
    packages = ("groupnorm", "tensorflow", "keras", "torch", "numpy")
    r = subprocess.run(
        ["Rscript", "--version"], capture_output=True, text=True, check=True
    )
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in packages},
        "R": (r.stdout + r.stderr).split("version")[1].split()[0],
    }


def load() -> list[float]:
    """Load averages of the last 1, 5 and 15 minutes."""
    return list(os.getloadavg())


def _version(package: str) -> str:
    # TensorFlow goes by several names; the module knows.
    if package == "tensorflow":
        import tensorflow

        return tensorflow.__version__
    return version(package)
