"""What the arguments of a layer may be that the function does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from groupnorm.op.arguments import is_count, is_flag, shown

# That a configuration may name; all else in one must be registered.
_MODULES = {"keras", "tf_keras", "tensorflow", "builtins"}


def check_flag(name: str, value: Any) -> bool:
    """True or False, and nothing that merely counts as one of them."""
    if not is_flag(value):
        raise ValueError(
            f"Received an invalid value for argument `{name}`, expected True or "
            f"False. Received: {name}={shown(value)}"
        )
    return bool(value)


def check_shape(name: str, value: Any) -> tuple[int | None, ...] | None:
    """Sizes, `None` where one is unknown; or no shape."""
    if value is None:
        return None
    sizes = () if isinstance(value, str | Mapping) else _items(value)
    if not sizes or not all(size is None or is_count(size) for size in sizes):
        raise ValueError(
            f"Received an invalid value for argument `{name}`, expected a tuple of "
            "whole numbers that are not negative, None where a size is unknown. "
            f"Received: {name}={shown(value)}"
        )
    return tuple(None if size is None else int(size) for size in sizes)


def _items(value: Any) -> tuple:
    try:
        return tuple(value)
    except TypeError:
        return ()


def cannot_interpret(argument: str, kind: str, value: Any) -> ValueError:
    """The error for something that is not an initializer, regularizer or constraint."""
    return ValueError(
        f"Could not interpret {kind} identifier for argument `{argument}`, expected "
        f"the name of a Keras {kind}, its config, an instance or a callable"
        f"{'' if kind == 'initializer' else ', or None'}. Received: "
        f"{argument}={shown(value)}"
    )


def check_names(argument: str, value: Any, registered: Callable[[Any], Any]) -> None:
    """A configuration in a file names classes of Keras and registered ones only.

    Args:
        argument: What it is given for.
        value: The configuration, or anything else.
        registered: Finds an object by the name that it was registered under.
    """
    if isinstance(value, list | tuple):
        for item in value:
            check_names(argument, item, registered)
    if not isinstance(value, dict):
        return
    if is_foreign(value, registered):
        raise ValueError(
            f"Argument `{argument}` names {value.get('class_name')!r} of the module "
            f"{value['module']!r}, which is neither Keras's nor registered: decorate "
            "it with @keras.saving.register_keras_serializable(). Received: "
            f"{argument}={shown(value)}"
        )
    for item in value.values():
        check_names(argument, item, registered)


def is_foreign(spec: Mapping[str, Any], registered: Callable[[Any], Any]) -> bool:
    """Whether a configuration names a module of which nothing is registered.

    Keras before 3.9, and tf_keras, import that module, whatever it is, unless they know
    the name that they look up first: mind which name that is.
    """
    module = spec.get("module")
    if not module or str(module).partition(".")[0] in _MODULES:
        return False
    name, known_as = spec.get("class_name"), spec.get("registered_name")
    if name != "function":
        return registered(spec.get("registered_name", name)) is None
    function = registered(known_as)
    is_that_function = getattr(function, "__module__", None) == module and getattr(
        function, "__name__", None
    ) == spec.get("config")
    return registered(spec.get("config")) is None and not is_that_function
