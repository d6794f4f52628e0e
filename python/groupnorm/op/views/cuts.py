"""How many positions are cut up, where each of them has all channels."""

from __future__ import annotations

from typing import NamedTuple

from groupnorm.op import context, reductions
from groupnorm.op.reductions import LONGEST_SUM, Size

# With so many numbers side by side an elementwise operation runs at full speed.
_WIDE_ENOUGH = 128
# So few are slow to add row by row: more of them in a row than one sum may be long of
# are faster all the same.
_NARROW = 16
# Coefficients for a whole row are few beside an input of so many rows.
_MANY_ROWS = 8


class Cut(NamedTuple):
    """How positions are cut up."""

    blocks: int  # of rows: a sum is taken down each
    repeats: int  # positions in a row


def cut_of(positions: Size, channels: int, groups: int) -> Cut:
    """How positions are best read."""
    if not isinstance(positions, int) or not positions or context.is_compiled():
        return Cut(1, 1)
    cut = _in_blocks(positions, channels) if groups > 1 else None
    if cut is not None:
        return cut
    most = LONGEST_SUM if channels >= _NARROW else positions
    repeats = reductions.divisors(positions, most)
    fitting = [d for d in repeats if _is_column(positions // d)]
    wide = (d for d in fitting if d * channels >= _WIDE_ENOUGH)
    return Cut(1, next(wide, max(fitting, default=1)))


def _in_blocks(positions: int, channels: int) -> Cut | None:
    """Blocks of rows, if there are many, and they can be cut evenly."""
    repeats = reductions.divisors(positions)
    wide = next((d for d in repeats if d * channels >= _WIDE_ENOUGH), 1)
    rows = positions // wide
    if rows <= LONGEST_SUM:
        return None
    fitting = reductions.divisors(rows, LONGEST_SUM)
    blocks = next((b for b in fitting if _is_column(rows // b)), None)
    return None if blocks is None else Cut(blocks, wide)


def _is_column(rows: int) -> bool:
    return _MANY_ROWS <= rows <= LONGEST_SUM
