"""Which cases of a table run each day, and which in the full run alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def by_turns(rows: Iterable[Any], columns: Iterable[Any], every: int = 1) -> list[Any]:
    """All pairs; every day each row, or each EVERYth one, in one column."""
    columns = list(columns)
    return [
        pytest.param(row, column, marks=[] if is_daily else pytest.mark.full)
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
        for is_daily in [i % every == 0 and j == i // every % len(columns)]
    ]
