"""torch.nn.GroupNorm with the methods of `KerasLayer` in `implementations.py`.

Needs no TensorFlow: `gpu/run.py` has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cases import EPSILON, Case, Data

FORMATS = {
    "NCHW": torch.contiguous_format,
    "channels last": torch.channels_last,
}


class _GroupNorm(torch.nn.GroupNorm):
    """The layer without its check, which refuses one sample in groups of one value."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.group_norm(
            input, self.num_groups, self.weight, self.bias, self.eps
        )


class TorchLayer:
    """The layer on tensors that lie in memory in the given format.

    Args:
        memory_format: of the tensors.
        compiled: by `torch.compile()`.
        device: where the tensors are.
    """

    def __init__(
        self,
        memory_format: torch.memory_format,
        compiled: bool = False,
        device: str = "cpu",
    ) -> None:
        self._format = memory_format
        self._compiled = compiled
        self._device = device

    def forward(self, case: Case, data: Data, links: int) -> Callable[[], Any]:
        """As the method of `KerasLayer`."""
        layer, (x, _) = self._layer(case, data), self.tensors(case, data)

        @torch.no_grad()
        def run():
            y = x
            for _ in range(links):
                y = layer(y)
            return y

        return run

    def step(self, case: Case, data: Data, links: int) -> Callable[..., Any]:
        """As the method of `KerasLayer`."""
        layer, (x, dy) = self._layer(case, data), self.tensors(case, data)

        def run(x=x, dy=dy):
            y, dx, dgamma, dbeta = x, dy, 0, 0
            for _ in range(links):
                source = y.detach().requires_grad_()
                y = layer(source)
                sources = [source, *layer.parameters()]
                dx, dg, db = torch.autograd.grad(y, sources, dx)
                dgamma, dbeta = dgamma + dg, dbeta + db
            return y, dx, dgamma, dbeta

        return run

    def halves(
        self, case: Case, data: Data
    ) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """As the method of `KerasLayer`."""
        layer, (x, dy) = self._layer(case, data), self.tensors(case, data)
        x.requires_grad_()
        sources = [x, *layer.parameters()]
        return lambda: (layer(x),), lambda kept: torch.autograd.grad(*kept, sources, dy)

    def tensors(self, case: Case, data: Data) -> list[torch.Tensor]:
        """x and dy as PyTorch wants them: channels first by shape, always four axes."""
        tensors, dtype = [], getattr(torch, case.dtype)
        for array in (data.x, data.dy):
            if case.axis == -1:
                array = np.moveaxis(array, -1, 1)
            # Its formats are for four axes. All positions in one serve every rank.
            if array.ndim != 4:
                positions = math.prod(array.shape[2:])
                array = array.reshape(*array.shape[:2], positions, 1)
            tensor = torch.from_numpy(array).to(self._device, dtype)
            tensors.append(tensor.contiguous(memory_format=self._format))
        return tensors

    def numpy(self, tensor: torch.Tensor, case: Case) -> np.ndarray:
        """As the method of `KerasLayer`."""
        array = tensor.detach().cpu().double().numpy()
        if array.ndim == 1:
            return array
        if case.axis == -1:
            array = np.moveaxis(array, 1, -1)
        return array.reshape(case.input_shape)

    def _layer(self, case: Case, data: Data) -> Any:
        layer = _GroupNorm(case.groups, case.shape[-1], eps=EPSILON)
        layer.weight.data = torch.from_numpy(data.gamma.copy())
        layer.bias.data = torch.from_numpy(data.beta.copy())
        if self._device != "cpu":
            # There PyTorch wants the weights in the dtype of the input.
            layer.to(self._device, getattr(torch, case.dtype))
        return torch.compile(layer, dynamic=False) if self._compiled else layer
