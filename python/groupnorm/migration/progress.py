"""How far a migration is: shown where a file is so large that it takes its time."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import keras

# Some seconds of work.
_LARGE = 100 * 2**20
_T = TypeVar("_T")


class Bar:
    """A bar that grows with each step of a large file's migration."""

    def __init__(self, path: Path, steps: int) -> None:
        self._bar = keras.utils.Progbar(steps) if _size(path) >= _LARGE else None
        self._done = -1
        self.after(None)

    def after(self, result: _T) -> _T:
        """Record that the step that gave this is done; the result itself."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._done)
        return result


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
