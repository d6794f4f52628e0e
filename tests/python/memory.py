"""What the kernel says about the memory of this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PROC = Path("/proc/self")


def need_proc() -> None:
    if not (_PROC / "clear_refs").exists():
        pytest.skip("this system does not say how much memory a process has used")


def resident(field: str = "VmRSS") -> int:
    """Bytes in use now, or with `VmHWM` the most there were since the last reset."""
    status = (_PROC / "status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


def available() -> int:
    """Bytes that could be taken now."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024


@contextmanager
def peak() -> Iterator[list[int]]:
    """Put into a list how many more bytes than before were in use at most."""
    need_proc()
    growth: list[int] = []
    before = resident()
    (_PROC / "clear_refs").write_text("5")  # sets the record back
    try:
        yield growth
    finally:
        growth.append(resident("VmHWM") - before)
