"""How configurations were spelt over the years, in the one way that is read here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Spec = dict[str, Any]


def modern(config: Any) -> Any:
    """A model's configuration in the newest spelling, without what compiled it."""
    if isinstance(config, list | tuple):
        return type(config)(map(modern, config))
    if not isinstance(config, dict):
        return config
    new = {key: modern(item) for key, item in config.items() if key != "compile_config"}
    if "dtype" in new:
        new["dtype"] = policy_name(new["dtype"])
    return new


def policy_name(dtype: Any) -> Any:
    """A policy by its name: what else was written about it (loss scales) is gone."""
    if isinstance(dtype, dict) and isinstance(dtype.get("config"), dict):
        return dtype["config"].get("name", dtype)
    return dtype


def specs(value: Any, layer: str = "the model") -> Iterator[tuple[str, Spec]]:
    """Everything that names a class, with the name of the layer that it belongs to."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from specs(item, layer)
    if not isinstance(value, dict):
        return
    if "class_name" in value and "config" in value:
        config = value["config"]
        if isinstance(config, dict) and isinstance(config.get("name"), str):
            layer = config["name"]
        yield layer, value
    for item in value.values():
        yield from specs(item, layer)


def known_as(spec: Spec) -> Any:
    """The name that a class or a function has in a file."""
    if spec["class_name"] == "function":
        registered, name = spec.get("registered_name"), spec["config"]
        return name if registered in (None, "function") else registered
    return spec.get("registered_name") or spec["class_name"]
