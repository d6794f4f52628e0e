"""What an optimizer remembers: its momenta and the like, for each weight.

Keras 2 had two kinds of optimizers, and wrote the arrays of each in another order and
under other names. Here they are sorted by what they are ("slots"), each a list in the
order of the weights that were trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

# By an optimizer's class: slots, as either kind names them, and the Keras 3 attribute.
_ADAM = {"m": "_momentums", "v": "_velocities", "vhat": "_velocity_hats"}
_SLOTS: dict[str, dict[str, str]] = {
    "Adadelta": {
        "accum_grad": "_accumulated_grads",
        "accum_var": "_accumulated_delta_vars",
        "accumulated_delta_var": "_accumulated_delta_vars",
        "accumulated_grad": "_accumulated_grads",
    },
    "Adafactor": {"c": "_c", "r": "_r", "v": "_v"},
    "Adagrad": {"accumulator": "_accumulators"},
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "Adamax": {"m": "_m", "u": "_u", "v": "_u"},
    "Ftrl": {"accumulator": "_accumulators", "linear": "_linears"},
    "Lamb": _ADAM,
    "Lion": {"m": "_momentums"},
    "Nadam": _ADAM,
    "RMSprop": {
        "average_gradient": "_average_gradients",
        "mg": "_average_gradients",
        "momentum": "_momentums",
        "rms": "_velocities",
        "velocity": "_velocities",
    },
    "SGD": {"m": "momentums", "momentum": "momentums"},
}
_MOVING_AVERAGES = {"average": "_model_variables_moving_average"}


class CannotCarryOver(Exception):
    """Why an optimizer's state starts anew."""


def carry_over(
    saved: Any, spec: dict[str, Any], old: Any, new: Any, places: dict[int, Any]
) -> None:
    """Give the new model's optimizer the state that the file has.

    Args:
        saved: The file.
        spec: The optimizer as the file has it, without what is wrapped around it.
        old: The tf_keras model.
        new: The compiled Keras 3 model.
        places: Each new weight, by the id of the old one.

    Raises:
        CannotCarryOver: It is not there, or does not fit.
    """
    optimizer = getattr(new.optimizer, "inner_optimizer", new.optimizer)
    known = _SLOTS.get(type(optimizer).__name__)
    if known is None:
        name = type(optimizer).__name__
        raise CannotCarryOver(f"migrate does not know the state of {name}")
    arrays = _named_arrays(saved, spec, old)
    if not arrays:
        raise CannotCarryOver("the file does not have it")
    trained = old.trainable_variables
    order = _order(trained, new.trainable_variables, places)
    iterations, slots = _sort(arrays, {**known, **_MOVING_AVERAGES})
    for slot, values in slots.items():
        targets = getattr(optimizer, {**known, **_MOVING_AVERAGES}[slot], None)
        if not targets and not getattr(optimizer, "momentum", True):
            continue  # Keras 2 wrote momenta also where they are not used
        # Adafactor has rows and columns for matrices alone.
        matrices = [i for i in order if len(new.trainable_variables[i].shape) > 1]
        positions = matrices if slot in ("r", "c") else order
        chosen = [targets[i] for i in positions] if targets else []
        _check_fit(slot, values, chosen)
        for target, value in zip(chosen, values, strict=True):
            target.assign(value)
    optimizer.iterations.assign(iterations)


def caveats(optimizer: Any, spec: dict[str, Any]) -> list[str]:
    """In what the next step can still be another one."""
    kind = type(getattr(optimizer, "inner_optimizer", optimizer)).__name__
    is_older = spec["config"].get("is_legacy_optimizer", True)
    if kind == "Nadam":
        return [
            "Of Nadam the schedule of the momentum starts anew: no file of Keras 3 has "
            "it."
        ]
    if kind == "RMSprop" and is_older and not spec["config"].get("momentum"):
        return [
            "RMSprop of Keras 2.10 and before added epsilon outside the root: steps "
            "differ by about that much where gradients are as small."
        ]
    return []


def _order(old: list[Any], new: list[Any], places: dict[int, Any]) -> list[int]:
    """The place of each trained old weight among the new ones."""
    positions = {id(weight): i for i, weight in enumerate(new)}
    found = [positions.get(id(places.get(id(weight)))) for weight in old]
    if None in found or len(found) != len(new):
        raise CannotCarryOver("the trained weights are not the same")
    return [i for i in found if i is not None]


def _sort(
    arrays: Iterable[tuple[str, np.ndarray]], known: dict[str, str]
) -> tuple[int, dict[str, list[np.ndarray]]]:
    """The number of steps, and the arrays by their slots."""
    iterations, slots = 0, dict[str, list[np.ndarray]]()
    for name, array in arrays:
        parts = name.partition(":")[0].split("/")
        if parts[-1] in ("iter", "iteration"):
            iterations = int(array)
            continue
        # OPTIMIZER/SLOT/WEIGHT, SLOT/WEIGHT, or of the older kind OPTIMIZER/WEIGHT/SLOT
        slot = next((p for p in (*parts[:2], parts[-1]) if p in known), None)
        if slot is not None:
            slots.setdefault(slot, []).append(array)
    return iterations, slots


def _check_fit(slot: str, values: list[np.ndarray], targets: list[Any]) -> None:
    before = [tuple(value.shape) for value in values]
    after = [tuple(target.shape) for target in targets]
    if before != after:
        raise CannotCarryOver(
            f"what it remembers as {slot!r} has shapes {before}, and {after} in Keras 3"
        )


def _named_arrays(
    saved: Any, spec: dict[str, Any], old: Any
) -> list[tuple[str, np.ndarray]]:
    """The arrays, with the names that they had."""
    named = saved.optimizer_arrays()
    if named and named[0][0]:
        return named
    if not named and saved.checkpoint is not None:
        return _of_slots(saved.checkpoint, old)
    is_older = spec["config"].get("is_legacy_optimizer", True)
    if not named and is_older and saved.path.suffix == ".keras":
        raise CannotCarryOver("Keras 2 wrote none for such an optimizer into .keras")
    if not named:
        return []
    optimizer = _tf_keras_optimizer(spec)
    optimizer.build(old.trainable_variables)
    names = [variable.name for variable in optimizer.variables]
    if len(names) > len(named):
        raise CannotCarryOver("the file has not all of it")
    # The older ones of this kind had the learning rate after the number of steps.
    arrays = [array for _, array in named]
    arrays = arrays[:1] + arrays[len(arrays) - len(names) + 1 :]
    return list(zip(names, arrays, strict=True))


def _tf_keras_optimizer(spec: dict[str, Any]) -> Any:
    """An optimizer of the same slots: a class of tf_keras's, made of plain values."""
    kinds = tf_keras.optimizers
    found: Any = getattr(kinds, spec["class_name"].rpartition(">")[2], None)
    if kinds.Optimizer not in getattr(found, "__mro__", ()):
        raise CannotCarryOver(f"{spec['class_name']!r} is not one of Keras 2's own")
    config = {k: v for k, v in spec["config"].items() if not isinstance(v, dict)}
    return found.from_config(config)


def _of_slots(checkpoint: str, old: Any) -> list[tuple[str, np.ndarray]]:
    """The arrays of an optimizer of the older kind, which are beside the weights."""
    reader = tf.train.load_checkpoint(checkpoint)
    arrays, slots = [], dict[str, dict[str, str]]()
    for key in sorted(reader.get_variable_to_shape_map()):
        name = key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
        weight, is_slot, slot = name.partition("/.OPTIMIZER_SLOT/")
        if is_slot:
            slots.setdefault(weight, {})[slot.rpartition("/")[2]] = key
        elif name.startswith("optimizer/") and name.endswith("/iter"):
            arrays.append(("iter", reader.get_tensor(key)))
    paths = _paths(old)
    for weight in old.trainable_variables:
        found = next((slots[p] for p in paths[id(weight)] if p in slots), {})
        arrays += [(f"weight/{s}", reader.get_tensor(key)) for s, key in found.items()]
    return arrays


def _paths(root: Any) -> dict[int, list[str]]:
    """The names that a checkpoint can have for each part of a model, by its id."""
    view = tf.train.TrackableView(root)
    paths: dict[int, list[str]] = {}
    queue = [("", root)]
    for prefix, parent in queue:  # which grows on the way
        for name, child in view.children(parent).items():
            path = f"{prefix}{name}"
            if id(child) not in paths:
                queue.append((f"{path}/", child))
            paths.setdefault(id(child), []).append(path)
    return paths
