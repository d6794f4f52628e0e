from __future__ import annotations
from typing import Any
OLD: dict[str, Any] = {}
def refuse(layer: str, name: Any) -> None: ...
def inner_optimizer(*a): return None
def optimizer(*a): return None
def loss_or_metric(*a): return None
