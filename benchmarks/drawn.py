"""Shapes drawn from a seed, weighted towards what networks have.

The generator is Python's `random.Random`, whose `random()` gives the same numbers in
every version; so a seed names the same shapes everywhere.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

from cases import Case

LARGEST = 12_000_000  # numbers in a tensor
SMALLEST = 2_000
_TRIES = 1_000

Shape = tuple[int, ...]


class Kind(NamedTuple):
    """Where in a network a shape occurs, how often it is drawn, and how."""

    name: str
    weight: int
    draw: Callable[[random.Random], Shape]


def cases(seed: int, count: int) -> list[tuple[str, Case]]:
    """Return the `count` cases of a seed, each with the name of its kind."""
    generator = random.Random(seed)
    weights = [kind.weight for kind in KINDS]
    drawn = []
    for _ in range(count):
        kind = generator.choices(KINDS, weights)[0]
        drawn.append((kind.name, _case(generator, kind)))
    return drawn


def _case(generator: random.Random, kind: Kind) -> Case:
    shape = _bounded(generator, kind)
    axis = -1 if len(shape) == 2 or generator.random() < 0.65 else 1
    dtype = generator.choices(("float32", "bfloat16", "float16"), (60, 20, 20))[0]
    return Case(shape, _groups(generator, shape[-1]), axis, dtype, _links(shape))


def _bounded(generator: random.Random, kind: Kind) -> Shape:
    """Return a shape of the kind, drawn again until it is neither huge nor trivial."""
    for _ in range(_TRIES):
        shape = kind.draw(generator)
        if kind.name in _ANY_SIZE or SMALLEST <= math.prod(shape) <= LARGEST:
            return shape
    raise RuntimeError(f"No shape of the kind {kind.name!r} is of a size to measure.")


def _groups(generator: random.Random, channels: int) -> int:
    """Return 32 groups, as in the paper, for about half; otherwise any power of two."""
    fitting = [g for g in (1, 2, 4, 8, 16, 32, 64) if channels % g == 0]
    if channels % 32 == 0 and generator.random() < 0.5:
        return 32
    return generator.choice([*fitting, channels])  # the last: instance normalization


def _links(shape: Shape) -> int:
    """Return how many calls make a run, an even number: more if they take less."""
    return 2 * max(2, min(50, 8_000_000 // max(1, math.prod(shape))))


def _power(generator: random.Random, least: int, most: int) -> int:
    """Return a power of two, both ends included."""
    return 2 ** generator.randint(int(math.log2(least)), int(math.log2(most)))


def _dense(generator: random.Random) -> Shape:
    return _power(generator, 1, 256), 32 * generator.randint(2, 96)


def _residual(generator: random.Random) -> Shape:
    """A stage of a ResNet, for large or small images, with or without bottleneck."""
    stage = generator.randint(0, 3)
    side = generator.choice((56, 32)) >> stage
    channels = generator.choice((16, 64, 256)) << stage
    return _power(generator, 1, 256), side, side, channels


def _u_net(generator: random.Random) -> Shape:
    level = generator.randint(0, 4)
    side = generator.choice((128, 224, 256, 512)) >> level
    return _power(generator, 1, 16), side, side, generator.choice((16, 32, 64)) << level


def _u_net_3d(generator: random.Random) -> Shape:
    level = generator.randint(0, 3)
    side = generator.choice((48, 64, 96)) >> level
    channels = generator.choice((8, 16, 32)) << level
    return _power(generator, 1, 4), side, side, side, channels


def _sequence(generator: random.Random) -> Shape:
    steps = generator.choice(
        (generator.randint(8, 512), generator.randint(512, 60_000))
    )
    return (
        _power(generator, 1, 128),
        steps,
        generator.choice((12, 40, 64, 128, 256, 512)),
    )


def _free(generator: random.Random) -> Shape:
    """Anything: two to five axes, 4 to 3,072 channels, the rest as it comes."""
    between = generator.randint(0, 3)
    positions = (_spread(generator, 2, 60_000) for _ in range(between))
    channels = 4 * _spread(generator, 1, 768)
    return _spread(generator, 1, 256), *positions, channels


def _tiny(generator: random.Random) -> Shape:
    side = generator.randint(1, 6)
    return generator.randint(1, 8), side, side, 8 * generator.randint(1, 8)


def _empty(generator: random.Random) -> Shape:
    return 0, 8, 8, 32 * generator.randint(1, 8)


def _spread(generator: random.Random, least: int, most: int) -> int:
    """Return an integer whose logarithm is even between the two."""
    return round(math.exp(generator.uniform(math.log(least), math.log(most))))


KINDS = (
    Kind("dense", 15, _dense),
    Kind("ResNet", 25, _residual),
    Kind("U-Net", 15, _u_net),
    Kind("U-Net, 3-d", 10, _u_net_3d),
    Kind("sequence", 15, _sequence),
    Kind("free", 15, _free),
    Kind("tiny", 4, _tiny),
    Kind("empty", 1, _empty),
)
_ANY_SIZE = ("tiny", "empty")
