"""The proof: on random input, the new model predicts what the old one predicts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from groupnorm.migration import limits
from groupnorm.migration.report import MigrationError

_BATCH = 3
# Sizes for the axes that are of any size, one after the other; all the same where a
# model needs that, and larger where it has many strides.
_SIZES = ((32, 64), (32,), (96, 128), (256,), (7,), (1,))
# Spread and middle of each draw.
_SCALES = ((1.0, 0.0), (0.3, 0.5), (50.0, 100.0))
# Between two ways of computing the same in one precision.
_TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-4, "float64": 1e-4}


@dataclass
class Evidence:
    """Random inputs and what the old model made of them."""

    inputs: list[Any]
    outputs: list[list[np.ndarray]]
    tolerance: float

    def compare(self, model: Any) -> float:
        """How far a model's predictions are from these, of the largest one.

        Raises:
            MigrationError: Further than rounding explains.
        """
        return max(
            self._distance(expected, _predict(model, inputs))
            for inputs, expected in zip(self.inputs, self.outputs, strict=True)
        )

    def _distance(self, expected: list[np.ndarray], actual: list[np.ndarray]) -> float:
        shapes = [x.shape for x in expected], [x.shape for x in actual]
        if shapes[0] != shapes[1]:
            raise MigrationError(
                f"The old model's predictions have shapes {shapes[0]}, the new one's "
                f"{shapes[1]}."
            )
        largest = max(map(_relative_difference, expected, actual))
        if not largest <= self.tolerance:
            raise MigrationError(
                "The new model does not predict what the old one predicts: on random "
                f"input they differ by {largest:.1e} of the largest prediction. "
                "Nothing was written."
            )
        return largest


def observe(model: Any) -> Evidence:
    """Random inputs that a tf_keras model takes, and its predictions.

    Raises:
        MigrationError: None is found, or the predictions are no numbers.
    """
    inputs, outputs = _run_on_random_input(model)
    if not all(np.isfinite(y).any() for call in outputs for y in call if y.size):
        raise MigrationError(
            "On random input the old model predicts no finite numbers, so that nothing "
            "can be proved about the new one."
        )
    dtypes = {layer.compute_dtype for layer in model._flatten_layers()}
    tolerance = max(_TOLERANCE.get(dtype, 0.0) for dtype in (*dtypes, "float64"))
    return Evidence(inputs, outputs, tolerance)


def _run_on_random_input(model: Any) -> tuple[list[Any], list[list[np.ndarray]]]:
    highest = _highest_index(model)
    kinds = (_numbers, _indices) if highest is None else (_indices, _numbers)
    problem: Exception | None = None
    for draw, sizes in product(kinds, _SIZES):
        rng = np.random.default_rng(20180322)
        try:
            limits.check_tensors(model, _specs(model, sizes))
            inputs = [
                _sample(model, draw, (rng, i, 9 if highest is None else highest), sizes)
                for i in range(len(_SCALES))
            ]
            return inputs, [_predict(model, x) for x in inputs]
        except MigrationError:
            raise
        except (ValueError, TypeError, tf.errors.OpError) as error:
            problem = problem or error
    raise MigrationError(
        "No random input was found that the old model takes, so that nothing can be "
        f"proved about the new one. The first that was tried gave: {problem}"
    )


def _sample(
    model: Any, draw: Any, seed: tuple[Any, ...], sizes: tuple[int, ...]
) -> Any:
    def array(tensor: Any) -> Any:
        if tensor.dtype == tf.string:
            raise MigrationError(
                f"The input {tensor.name!r} takes text, of which no random input can "
                "be made that says anything about the model."
            )
        whole = tensor.dtype.is_integer or tensor.dtype.is_bool
        values: Any = _indices if whole else draw
        return tf.cast(values(*seed, _shape(tensor.shape, sizes)), tensor.dtype)

    return tf.nest.map_structure(array, model._nested_inputs)


def _specs(model: Any, sizes: tuple[int, ...]) -> Any:
    """What a sample looks like, without its numbers."""
    return tf.nest.map_structure(
        lambda tensor: tf.TensorSpec(_shape(tensor.shape, sizes), tensor.dtype),
        model._nested_inputs,
    )


def _shape(shape: Any, sizes: tuple[int, ...]) -> tuple[int, ...]:
    batch, *rest = shape
    unknown = 0
    filled = [_BATCH if batch is None else batch]
    for size in rest:
        filled.append(sizes[unknown % len(sizes)] if size is None else size)
        unknown += size is None
    return tuple(filled)


def _numbers(
    rng: np.random.Generator, i: int, highest: int, shape: tuple[int, ...]
) -> np.ndarray:
    """Around 0, between 0 and 1, and large, in turn."""
    scale, shift = _SCALES[i]
    return rng.normal(shift, scale, shape)


def _indices(
    rng: np.random.Generator, i: int, highest: int, shape: tuple[int, ...]
) -> np.ndarray:
    """Indices that every embedding has, those of padding (0) at the end too."""
    values = rng.integers(0, highest + 1, shape)
    if len(shape) > 1 and shape[1] > 2:
        values[0, -(i + 1) :] = 0
    return values


def _highest_index(model: Any) -> int | None:
    """The highest index that every embedding has, `None` if there is none."""
    sizes = [
        layer.input_dim
        for layer in model._flatten_layers()
        if isinstance(layer, tf_keras.layers.Embedding)
    ]
    return min(sizes) - 1 if sizes else None


def _predict(model: Any, inputs: Any) -> list[np.ndarray]:
    outputs = tf.nest.flatten(model(inputs, training=False))
    return [np.asarray(output) for output in outputs]


def _relative_difference(expected: np.ndarray, actual: np.ndarray) -> float:
    if expected.dtype.kind not in "fV":  # indices, say; V is NumPy's for bfloat16
        return 0.0 if np.array_equal(expected, actual) else np.inf
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    same = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
    if same.all():
        return 0.0
    finite = expected[np.isfinite(expected)]
    scale = np.abs(finite).max(initial=0.0) or 1.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(expected - actual)[~same].max() / scale
    return float(np.nan_to_num(difference, nan=np.inf))
