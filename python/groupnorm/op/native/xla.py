"""The native kernel under XLA on a CPU: a call that XLA makes like one of its own.

XLA is given a module in StableHLO, its own language, in which nothing stands but the
call. The calls are registered by name when the library is loaded (`xla_calls.h`).
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.framework.ops import get_default_graph

from groupnorm.op import formulas
from groupnorm.op.native import library
from groupnorm.op.native.gradients import gradient_of_backward

# Of the operation below: the newest that TensorFlow 2.16 knows.
_VERSION = 9
_DTYPES = {
    tf.bool: "i1",
    tf.bfloat16: "bf16",
    tf.float16: "f16",
    tf.float32: "f32",
    tf.float64: "f64",
    tf.int64: "i64",
}


class _Type(NamedTuple):
    """Of a tensor; sizes that are unknown are None."""

    sizes: tuple[int | None, ...]
    dtype: tf.DType

    @classmethod
    def of(cls, tensor: tf.Tensor) -> _Type:
        return cls(tuple(tensor.shape), tensor.dtype)

    def __str__(self) -> str:
        sizes = ["?" if size is None else str(size) for size in self.sizes]
        return f"tensor<{'x'.join([*sizes, _DTYPES[self.dtype]])}>"


def forward(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    mask: tf.Tensor | None,
    layout: formulas.Layout,
    epsilon: float,
) -> tf.Tensor:
    """Group normalization, with its gradient; arguments as in `formulas.value`.

    For graphs that only `tf.gradients` differentiates, as those of functions are.
    """
    operands = (x, gamma, beta, tf.zeros([0], tf.bool) if mask is None else mask)
    results = [_Type.of(x), _Type((x.shape[0], layout.groups, 2), tf.float64)]
    return _call("forward", operands, results, layout, epsilon)[0]


def _gradient_of_forward(
    layout: formulas.Layout,
    epsilon: float,
    op: tf.Operation,
    dy: tf.Tensor,
    _dstats: Any,
) -> list[tf.Tensor | None]:
    x, gamma, beta, counts = op.inputs
    operands = (x, gamma, beta, counts, op.outputs[1], dy)
    results = [_Type.of(tensor) for tensor in (x, gamma, beta)]
    return [*_call("backward", operands, results, layout, epsilon), None]


_GRADIENTS: dict[str, Callable[..., Any]] = {
    "forward": _gradient_of_forward,
    "backward": gradient_of_backward,
}
_registered: set[str] = set()
_registering = threading.Lock()


def _gradient(name: str, layout: formulas.Layout, epsilon: float) -> str:
    """The name under which TensorFlow knows the gradient of such a call."""
    arguments = "-".join(map(str, [*layout, epsilon]))
    registered = f"Groupnorm{name.title()}UnderXla-{arguments}"
    with _registering:
        if registered not in _registered:
            gradient = functools.partial(_GRADIENTS[name], layout, epsilon)
            tf.RegisterGradient(registered)(gradient)
            _registered.add(registered)
    return registered


def _call(
    name: str,
    operands: Sequence[tf.Tensor],
    results: Sequence[_Type],
    layout: formulas.Layout,
    epsilon: float,
) -> Any:
    library.prepared()
    attributes = {
        "groups": f"{layout.groups} : i64",
        "axis": f"{layout.axis} : i64",
        "epsilon": f"{epsilon:.17e} : f64",
    }
    types = [_Type.of(operand) for operand in operands]
    # Not tf.custom_gradient: functions would hand x from pass to pass twice.
    gradient = {"XlaCallModule": _gradient(name, layout, epsilon)}
    with get_default_graph().gradient_override_map(gradient):
        return importlib.import_module(library.CALLS_MODULES).call_module(
            operands,
            version=_VERSION,
            module=_module(f"groupnorm_{name}", types, results, attributes),
            Tout=[result.dtype for result in results],
            Sout=[result.sizes for result in results],
            platforms=["CPU"],
        )


def _module(
    target: str,
    operands: Sequence[_Type],
    results: Sequence[_Type],
    attributes: dict[str, str],
) -> str:
    """A StableHLO module that hands its arguments to `target`, and back what it gives.

    Sizes of results that are unknown are those of the first operand. XLA knows it when
    it compiles, and learns them from one more operand for each result.
    """
    inputs = {f"%input{number}": kind for number, kind in enumerate(operands)}
    shapes: dict[str, _Type] = {}
    lines: list[str] = []
    if any(None in result.sizes for result in results):
        for number, result in enumerate(results):
            shapes[f"%shape{number}"] = _Type((len(result.sizes),), tf.int64)
            lines += _shape(f"%shape{number}", result.sizes, operands[0])
    indices = [str(len(inputs) + number) for number in range(len(shapes))]
    called = inputs | shapes
    config = _listed(f"{name} = {value}" for name, value in attributes.items())
    options = [
        "api_version = 4 : i32",
        f"backend_config = {{{config}}}",
        f"indices_of_shape_operands = dense<[{_listed(indices)}]> : "
        f"tensor<{len(indices)}xi64>",
    ]
    returned = _listed(f"%results#{number}" for number in range(len(results)))
    return "\n".join(
        [
            # What JAX calls it: sizes become known after this was written.
            "module attributes {jax.uses_shape_polymorphism = true} {",
            "func.func public @main("
            f"{_listed(f'{name}: {kind}' for name, kind in inputs.items())}"
            f") -> ({_listed(results)}) {{",
            *lines,
            f"%results:{len(results)} = stablehlo.custom_call "
            f"@{target}({_listed(called)}) {{{_listed(options)}}} : "
            f"({_listed(called.values())}) -> ({_listed(results)})",
            f"return {returned} : {_listed(results)}",
            "}",
            "}",
        ]
    )


def _shape(name: str, sizes: Sequence[int | None], first: _Type) -> list[str]:
    """Operations that make `name` of the sizes: those of %input0 where unknown."""
    lines, parts = [], []
    for axis, size in enumerate(sizes):
        part = f"{name}_{axis}"
        parts.append(part)
        if size is not None:
            lines.append(f"{part} = stablehlo.constant dense<{size}> : tensor<1xi32>")
            continue
        lines += [
            f"{part}_scalar = stablehlo.get_dimension_size %input0, dim = {axis} : "
            f"({first}) -> tensor<i32>",
            f"{part} = stablehlo.reshape {part}_scalar : "
            "(tensor<i32>) -> tensor<1xi32>",
        ]
    joined = f"tensor<{len(parts)}xi32>"
    return [
        *lines,
        f"{name}_joined = stablehlo.concatenate {_listed(parts)}, dim = 0 : "
        f"({_listed(['tensor<1xi32>'] * len(parts))}) -> {joined}",
        f"{name} = stablehlo.convert {name}_joined : "
        f"({joined}) -> tensor<{len(parts)}xi64>",
    ]


def _listed(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))
