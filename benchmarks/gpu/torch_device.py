"""PyTorch on the device at hand: a GPU where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torch_layers import FORMATS, TorchLayer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAYERS = {
    f"torch, {how}{name}": TorchLayer(memory_format, compiled, DEVICE)
    for compiled, how in ((False, ""), (True, "compiled, "))
    for name, memory_format in FORMATS.items()
}


def wait() -> None:
    """Wait until the device has done what it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def captured(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same work as one unit, as XLA has it: a GPU need not wait for Python."""
    if DEVICE != "cuda":
        return run
    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        for _ in range(3):  # compiles, and lets PyTorch choose its kernels
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()

    def replay() -> Any:
        graph.replay()
        return results

    return replay
