"""The implementations that are compared, all with the same three methods.

Calls are chained, so that the cost of starting a run is paid once for many of them.
The output of one call is the input of the next; with the backward pass, the gradient
with respect to the input is the next gradient of the output too. So everything that is
computed is used, and an optimizer has nothing to leave out (`kept_work.py` checks it),
and the numbers stay in range, because normalizing twice changes little.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch

import groupnorm
from cases import EPSILON, Case, Data
from groupnorm.layers import GroupNormalization
from torch_layers import FORMATS, TorchLayer

THREADS = 2
Run = Callable[..., Any]


def fix_threads() -> None:
    """Give both frameworks the same number of threads; before anything is computed."""
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    torch.set_num_threads(THREADS)
    tf.get_logger().setLevel("ERROR")  # every case is traced anew, and it warns of that


@contextlib.contextmanager
def native_kernel(on: bool) -> Iterator[None]:
    """Lets functions that are traced inside use the native kernel, or not."""
    before = os.environ.pop("GROUPNORM_NATIVE", None)
    if not on:
        os.environ["GROUPNORM_NATIVE"] = "0"
    try:
        yield
    finally:
        os.environ.pop("GROUPNORM_NATIVE", None)
        if before is not None:
            os.environ["GROUPNORM_NATIVE"] = before


class KerasLayer:
    """A Keras layer inside a TensorFlow function."""

    def __init__(self, layer: type, *, native: bool = False, xla: bool = False) -> None:
        self._make_layer = layer
        self._native = native
        self._xla = xla

    def forward(self, case: Case, data: Data, links: int) -> Run:
        """A run of `links` calls without gradients, which returns the last output."""
        layer, (x, _) = self._layer(case, data), self.tensors(case, data)

        def chain(x):
            return self._chained(lambda x: [layer(x)], links, x)[0]

        return self._compiled(chain, x)

    def step(self, case: Case, data: Data, links: int) -> Run:
        """A run with gradients: the last output and dx, the summed dgamma and dbeta.

        It takes its own tensors, unless it is given others.
        """
        layer, (x, dy) = self._layer(case, data), self.tensors(case, data)

        def link(x, dy, dgamma, dbeta):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
            sources = [x, *layer.trainable_variables]
            dx, dg, db = tape.gradient(y, sources, output_gradients=dy)
            return [y, dx, dgamma + dg, dbeta + db]

        def chain(x, dy):
            zeros = tf.zeros(case.shape[-1:])
            return self._chained(link, links, x, dy, zeros, zeros)

        return self._compiled(chain, x, dy)

    def halves(self, case: Case, data: Data) -> tuple[Run, Callable[[Any], Any]]:
        """Forward and backward apart: what is between them is kept in memory."""
        layer, (x, dy) = self._layer(case, data), self.tensors(case, data)
        function = tf.function(layer, jit_compile=self._xla, autograph=False)

        def forward():
            with native_kernel(self._native), tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return y, tape

        def backward(kept):
            y, tape = kept
            sources = [x, *layer.trainable_variables]
            return tape.gradient(y, sources, output_gradients=dy)

        return forward, backward

    def tensors(self, case: Case, data: Data) -> tuple[tf.Tensor, tf.Tensor]:
        """x and dy as the runs take them."""
        return _tensors(case, data)

    def numpy(self, tensor: tf.Tensor, case: Case) -> np.ndarray:
        """A result as a float64 array in the layout of the case."""
        return tensor.numpy().astype(np.float64)

    def _layer(self, case: Case, data: Data) -> keras.layers.Layer:
        mixed = "float32" if case.dtype == "float32" else f"mixed_{case.dtype}"
        layer = self._make_layer(
            groups=case.groups, axis=case.axis, epsilon=EPSILON, dtype=mixed
        )
        layer.build(case.input_shape)
        layer.set_weights([data.gamma, data.beta])
        return layer

    def _chained(self, link: Callable, links: int, *state: tf.Tensor) -> Any:
        if self._xla:
            return _looped(link, links, *state)
        for _ in range(links):
            state = link(*state)
        return state

    def _compiled(self, function: Callable, *arguments: tf.Tensor) -> Compiled:
        compiled = tf.function(function, jit_compile=self._xla, autograph=False)
        return Compiled(compiled, arguments, self._native)


class Compiled:
    """A run of a function on these tensors, unless it is given others."""

    def __init__(self, function: Any, arguments: tuple[tf.Tensor, ...], native: bool):
        self._function, self._arguments = function, arguments
        self._native = native
        self._traced = False

    def __call__(self, *others: tf.Tensor) -> Any:
        """The results. On a CPU the call returns when they are there."""
        arguments = others or self._arguments
        if self._traced:
            return self._function(*arguments)
        self._traced = True
        # The first call traces; get_concrete_function() leaves the kernel out.
        with native_kernel(self._native):
            return self._function(*arguments)

    def program(self) -> str:
        """What XLA makes of the function."""
        self()
        program = self._function.experimental_get_compiler_ir(*self._arguments)
        return program(stage="optimized_hlo")


def _looped(link: Callable, links: int, *state: tf.Tensor) -> Any:
    """A loop, which XLA compiles ten times as fast as ten copies.

    Two calls at a time, for what comes out of a loop's body goes where its input was:
    of a single one that writes elsewhere, as in a network, all would be copied. Each is
    the branch of a condition of which XLA does not know that it holds. It joins no
    loops across that, as it does across a barrier, which it takes out before: reading a
    call's result was then working it out again, in each loop of the next call.
    """
    with tf.init_scope():
        holds = tf.constant(True)  # from outside of what is compiled

    def apart(*state: tf.Tensor) -> Any:
        return tf.cond(holds, lambda: list(link(*state)), lambda: list(state))

    if links == 1:
        return link(*state)
    return tf.while_loop(
        lambda *_: True,
        lambda *state: apart(*apart(*state)),
        list(state),
        maximum_iterations=links // 2,
    )


class Elementwise:
    """A TensorFlow operation without weights or gradient: a bound on what can be."""

    def __init__(self, operation: Callable[[tf.Tensor], tf.Tensor]) -> None:
        self._operation = operation

    def forward(self, case: Case, data: Data, links: int) -> Run:
        """A run of `links` operations in a row."""

        @tf.function(autograph=False)
        def chain(x):
            for _ in range(links):
                x = self._operation(x)
            return x

        x, _ = _tensors(case, data)
        return lambda: chain(x)


class MultiplyAndRelu:
    """Two elementwise operations, with gradients: what TensorFlow hardly goes below."""

    def forward(self, case: Case, data: Data, links: int) -> Run:
        """A run of `links` pairs in a row."""

        @tf.function(autograph=False)
        def chain(x, factor):
            for _ in range(links):
                x = tf.nn.relu(x * factor)
            return x

        x, _ = _tensors(case, data)
        factor = tf.cast(1.01, case.dtype)  # not a constant, which would be folded
        return lambda: chain(x, factor)

    def step(self, case: Case, data: Data, links: int) -> Run:
        """As `forward()`, each with the gradient of its input."""

        @tf.function(autograph=False)
        def chain(x, dx, factor):
            for _ in range(links):
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    y = tf.nn.relu(x * factor)
                x, dx = y, tape.gradient(y, x, output_gradients=dx)
            return x, dx

        x, dy = _tensors(case, data)
        factor = tf.cast(1.01, case.dtype)
        return lambda: chain(x, dy, factor)


def _tensors(case: Case, data: Data) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(data.x, case.dtype), tf.cast(data.dy, case.dtype)


OURS, THEIRS = GroupNormalization, keras.layers.GroupNormalization
NORMALIZATIONS: dict[str, KerasLayer | TorchLayer] = {
    "ours, native": KerasLayer(OURS, native=True),
    "ours, TensorFlow": KerasLayer(OURS),
    "ours, XLA": KerasLayer(OURS, native=True, xla=True),
    "ours, XLA alone": KerasLayer(OURS, xla=True),  # where there is no kernel
    "keras, graph": KerasLayer(THEIRS),
    "keras, XLA": KerasLayer(THEIRS, xla=True),
    **{f"torch, {name}": TorchLayer(layout) for name, layout in FORMATS.items()},
}
FLOORS = {
    # The graph optimizer leaves these two as they are; it would join multiplications.
    "one elementwise op": Elementwise(tf.nn.softsign),
    "one copy": Elementwise(lambda x: tf.raw_ops.DeepCopy(x=x)),
}
RELU = MultiplyAndRelu()
BASELINE = "keras, graph"


def require_native() -> None:
    """Stop if the native kernel is not there: its numbers would be another's."""
    with native_kernel(True):
        name, reason = groupnorm.implementation()
    if name != "native":
        raise SystemExit(f"The native kernel is not in use: {reason}")
