"""How many threads the kernel may use: as many as TensorFlow uses, or fewer."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf


def setting() -> int:
    """TensorFlow's setting, or what this process may use if that is less; 0 for all."""
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    # TensorFlow's own default where nothing was set.
    threads = threads or _from_environment()
    limit = quota()
    if limit is None:
        return threads
    return min(threads or _processors(), limit)


@functools.cache
def quota(root: Path = Path("/")) -> int | None:
    """How many processors' time a container has: whole ones, but one at least.

    TensorFlow counts the processors of the host. `None` without such a limit.

    Args:
        root: Where `proc` and `sys` are.
    """
    shares = [share for share in _shares(root) if share is not None]
    return max(1, int(min(shares))) if shares else None


def _shares(root: Path) -> Iterator[float | None]:
    """The shares of the process's control groups, and of those above them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _number, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # A container may see a path of the host's that is not there; its mount is.
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            yield _share(folder)
            if folder == mount:
                break


def _share(folder: Path) -> float | None:
    """Of one control group; the files of version 2, and those of version 1."""
    found = _numbers(folder / "cpu.max") or (
        _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us")
    )
    if len(found) != 2 or found[0] <= 0:
        return None
    return found[0] / found[1]


def _numbers(file: Path) -> list[int]:
    try:
        return [int(word) for word in file.read_text().split()]
    except (OSError, ValueError):  # it is not there, or says "max"
        return []


def _from_environment() -> int:
    try:
        return max(0, int(os.environ.get("TF_NUM_INTRAOP_THREADS", "0")))
    except ValueError:
        return 0


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
