"""What of Keras 3 is in its later versions alone."""

from __future__ import annotations

import keras

_SINCE = {
    **{f"Addons>{kind}shrink": (3, 7) for kind in ("hard", "soft", "tanh")},
    **{
        f"Addons>Adaptive{kind}Pooling{rank}D": (3, 13)
        for kind in ("Average", "Max")
        for rank in (1, 2, 3)
    },
    "Lamb": (3, 5),
    "a layer as an activation": (3, 10),
    "a model in TimeDistributed": (3, 5),
}


def needed_for(name: object) -> str | None:
    """The first version of Keras that has it, `None` if this one is no older."""
    needed = _SINCE.get(str(name), (3, 0))
    major, minor, *_ = keras.__version__.split(".")
    if (int(major), int(minor)) >= needed:
        return None
    return ".".join(map(str, needed))
