"""What the arguments of the function may be, which are the layers' too.

Every check returns the value in its plain Python form or raises `ValueError`
(the type that Keras raises) naming the argument, what came and what is accepted.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

_LONGEST = 500


def check_groups(groups: Any) -> int:
    """A positive whole number, or -1 for one group per channel."""
    if not _is_integer(groups) or (groups <= 0 and groups != -1):
        raise ValueError(
            "Received an invalid value for argument `groups`, expected a positive "
            "integer (or `-1` for instance normalization). "
            f"Received: groups={shown(groups)}"
        )
    return int(groups)


def check_axis(axis: Any) -> int:
    """A whole number other than 0, which is the batch axis."""
    if not _is_integer(axis):
        raise ValueError(
            "Received an invalid value for argument `axis`, expected one integer, the "
            "channel axis: 1 is the axis after the batch axis, -1 the last one. "
            f"Received: axis={shown(axis)}"
        )
    if axis == 0:
        raise ValueError(
            "Received an invalid value for argument `axis`: 0 is the batch axis, and "
            "each sample is normalized on its own. Expected the channel axis: 1 is "
            "the axis after the batch axis, -1 the last one. Received: axis=0"
        )
    return int(axis)


def check_epsilon(epsilon: Any) -> float:
    """A finite number that is not negative."""
    is_number = isinstance(epsilon, numbers.Real) and not is_flag(epsilon)
    if not is_number or not math.isfinite(epsilon) or epsilon < 0:
        raise ValueError(
            "Received an invalid value for argument `epsilon`, expected one finite "
            f"number that is not negative. Received: epsilon={shown(epsilon)}"
        )
    return float(epsilon)


def resolve_axis(axis: int, shape: Sequence[int | None]) -> int:
    """The channel axis of a tensor of this shape, counted from the front."""
    rank = len(shape)
    if rank < 2:
        raise ValueError(
            "Group normalization needs an input of rank 2 or more, the batch axis "
            f"first. Received an input of shape {tuple(shape)}."
        )
    if not -rank <= axis < rank:
        raise ValueError(
            f"Axis {axis} is out of bounds for input shape {tuple(shape)}. "
            f"Expected `axis` from 1 to {rank - 1}, or from {1 - rank} to -1. "
            f"Received: axis={axis}"
        )
    if axis == -rank:
        raise ValueError(
            f"Received an invalid value for argument `axis`: axis {axis} of an input "
            f"of shape {tuple(shape)} is the batch axis, and each sample is "
            f"normalized on its own. Expected `axis` from 1 to {rank - 1}, or from "
            f"{1 - rank} to -1. Received: axis={axis}"
        )
    return axis % rank


def resolve_groups(groups: int, axis: int, shape: Sequence[int | None]) -> int:
    """The number of groups for the channels of this shape, `-1` replaced."""
    channels = shape[axis]
    if channels is None:
        raise ValueError(
            f"Axis {axis} of input tensor should have a defined dimension but the "
            f"layer received an input with shape {tuple(shape)}. The channel axis "
            "(argument `axis`) must be of known size."
        )
    if groups == -1:
        return channels
    if channels < groups:
        raise ValueError(
            f"Number of groups ({groups}) cannot be more than the number of channels "
            f"({channels}). {_accepted_groups(channels)} Received: groups={groups}"
        )
    if channels % groups != 0:
        raise ValueError(
            f"Number of groups ({groups}) must be a multiple of the number of "
            f"channels ({channels}), that is, it must divide it. "
            f"{_accepted_groups(channels)} Received: groups={groups}"
        )
    return groups


def check_mask_shape(
    mask_shape: Sequence[int | None], shape: Sequence[int | None], axis: int
) -> None:
    """The mask must follow the axes of the input, the channel axis left out."""
    expected = [size for i, size in enumerate(shape) if i != axis]
    fits = 1 <= len(mask_shape) <= len(expected) and all(
        have is None or want is None or have == want
        for have, want in zip(mask_shape, expected, strict=False)
    )
    if not fits:
        raise ValueError(
            "Received an invalid value for argument `mask`, expected a tensor of shape "
            f"{tuple(expected)}, the input's without its channel axis (axes may be "
            f"left out at the end). Received a mask of shape {tuple(mask_shape)} for "
            f"an input of shape {tuple(shape)} with axis={axis}."
        )


def _accepted_groups(channels: int) -> str:
    divisors = [d for d in range(1, channels + 1) if channels % d == 0]
    return f"Accepted for {channels} channels: {divisors}, or -1 for one per channel."


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not is_flag(value)


def is_count(value: Any) -> bool:
    """Whether it is a whole number that is not negative."""
    return _is_integer(value) and value >= 0


def is_flag(value: Any) -> bool:
    """Whether it is True or False, and nothing that merely counts as one of them."""
    return isinstance(value, bool | np.bool_)


def shown(value: Any) -> str:
    """A value in an error message, which must stay readable whatever came."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
