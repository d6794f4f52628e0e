from __future__ import annotations
from typing import Any

OLD: dict[str, Any] = {}


def refuse(layer: str, name: Any) -> None: ...
