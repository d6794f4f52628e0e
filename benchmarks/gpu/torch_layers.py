"""torch.nn.GroupNorm on the device at hand: in two layouts, as it is and compiled.

Not the class in `implementations.py`, which needs TensorFlow beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cases import EPSILON, Case, Data

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_FORMATS = {
    "NCHW": torch.contiguous_format,
    "channels last": torch.channels_last,
}


class TorchLayer:
    """One way of running torch.nn.GroupNorm."""

    def __init__(self, memory_format: torch.memory_format, compiled: bool) -> None:
        self._format = memory_format
        self._compiled = compiled

    def chain(self, case: Case, data: Data, backward: bool, links: int) -> Callable:
        """A function without arguments that runs `chain` of `xla.py` in PyTorch."""
        layer, (x, dy) = self._layer(case, data), self._tensors(case, data)
        if not backward:

            @torch.no_grad()
            def forward():
                y = x
                for _ in range(links):
                    y = layer(y)
                return [y]

            return _captured(forward)

        def step():
            y, dx, dgamma, dbeta = x, dy, 0, 0
            for _ in range(links):
                source = y.detach().requires_grad_()
                y = layer(source)
                sources = [source, *layer.parameters()]
                dx, dg, db = torch.autograd.grad(y, sources, dx)
                dgamma, dbeta = dgamma + dg, dbeta + db
            return [y, dx, dgamma, dbeta]

        return _captured(step)

    def _layer(self, case: Case, data: Data) -> Any:
        layer = torch.nn.GroupNorm(case.groups, case.shape[-1], eps=EPSILON)
        layer.weight.data = torch.from_numpy(data.gamma.copy())
        layer.bias.data = torch.from_numpy(data.beta.copy())
        # PyTorch wants the weights in the dtype of the input.
        layer.to(DEVICE, getattr(torch, case.dtype))
        return torch.compile(layer, dynamic=False) if self._compiled else layer

    def _tensors(self, case: Case, data: Data) -> list[torch.Tensor]:
        """x and dy: channels first by shape, always four axes."""
        tensors = []
        for array in (data.x, data.dy):
            if case.axis == -1:
                array = np.moveaxis(array, -1, 1)
            array = array.reshape(*array.shape[:2], -1, 1)
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            tensor = tensor.to(DEVICE, getattr(torch, case.dtype))
            tensors.append(tensor.contiguous(memory_format=self._format))
        return tensors


LAYERS = {
    f"torch, {how}{name}": TorchLayer(memory_format, compiled)
    for compiled, how in ((False, ""), (True, "compiled, "))
    for name, memory_format in _FORMATS.items()
}


def wait(_: Any = None) -> None:
    """Wait until the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def numpy(tensor: torch.Tensor, case: Case) -> np.ndarray:
    """A result as a float64 array in the layout of the case."""
    array = tensor.detach().cpu().double().numpy()
    if array.ndim == 1:
        return array
    if case.axis == -1:
        array = np.moveaxis(array, 1, -1)
    return array.reshape(case.input_shape)


def _captured(run: Callable[[], list]) -> Callable[[], list]:
    """The same work as one unit, as XLA has it: a GPU need not wait for Python."""
    if DEVICE.type != "cuda":
        return run
    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        for _ in range(3):  # compiles, and lets PyTorch choose its kernels
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()

    def replay() -> list:
        graph.replay()
        return results

    return replay
