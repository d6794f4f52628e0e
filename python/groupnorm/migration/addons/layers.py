"""The layers of TensorFlow Addons: as they computed, and what comes in their place.

The weights are made under the names and in the order of Addons, so that tf_keras reads
them from any file.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tf_keras

from groupnorm.migration import activations, layers
from groupnorm.migration.report import MigrationError


class _Layer(tf_keras.layers.Layer):
    """What they have in common: `make_new()` and `changes`, which the converter asks.

    Attributes:
        changes: What else there is to say of the change.
    """

    changes: tuple[str, ...] = ()

    def _common(self) -> dict[str, Any]:
        config = super().get_config()
        return {
            "name": layers.legal_name(config["name"]),
            "dtype": self._dtype_policy.name,
        }

    def _made(self, inner: Any) -> tuple[Any, list[str]]:
        """The Keras 3 layer for one that this wraps, frozen if this is."""
        new, changes = layers.make(inner)
        new.trainable = new.trainable and self.trainable
        return new, changes


class GELU(_Layer):
    def __init__(self, approximate: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.approximate = approximate
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        self.shape = tuple(inputs.shape)
        return tf.nn.gelu(inputs, approximate=self.approximate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "approximate": self.approximate}

    def make_new(self) -> Any:
        if self.approximate:
            return activations.of_operations("gelu", self.shape, **self._common())
        return keras.layers.Activation("gelu", **self._common())


class Sparsemax(_Layer):
    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        if self.axis not in (-1, len(inputs.shape) - 1):
            raise MigrationError(
                f"The layer {self.name!r} is Sparsemax of TensorFlow Addons along axis "
                f"{self.axis}: Keras 3 has it for the last axis. Permute before it."
            )
        self.shape = tuple(inputs.shape)
        return activations.sparsemax(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}

    def make_new(self) -> Any:
        return activations.of_operations("sparsemax", self.shape, **self._common())


class _AdaptivePooling(_Layer):
    """Addons divided each axis into bins of one size, which Keras 3 does where it can.

    Attributes:
        rank: The number of axes that are pooled.
        reduce: What is done with a bin.
        new_class: Of Keras 3.
    """

    rank: int
    reduce: Any
    new_class: Any

    def __init__(self, output_size: Any, data_format: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        sizes = output_size if isinstance(output_size, list | tuple) else [output_size]
        self.sizes = list(sizes) * (self.rank // len(sizes))
        self.data_format = data_format or "channels_last"

    def call(self, inputs: Any) -> Any:
        first = 1 if self.data_format == "channels_last" else 2
        for axis, bins in enumerate(self.sizes, first):
            parts = tf.stack(tf.split(inputs, bins, axis=axis), axis=axis)
            inputs = type(self).reduce(parts, axis=axis + 1)
        return inputs

    def get_config(self) -> dict[str, Any]:
        own = {"output_size": self.sizes, "data_format": self.data_format}
        return {**super().get_config(), **own}

    def make_new(self) -> Any:
        size = self.sizes[0] if self.rank == 1 else tuple(self.sizes)
        return self.new_class(size, data_format=self.data_format, **self._common())


class SpectralNormalization(_Layer, tf_keras.layers.Wrapper):
    """It is in training that the kernel is divided: predictions take it as it is."""

    def __init__(self, layer: Any, power_iterations: int = 1, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.power_iterations = power_iterations

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        is_embedding = isinstance(self.layer, tf_keras.layers.Embedding)
        self.w = self.layer.embeddings if is_embedding else self.layer.kernel
        self.u = self.add_weight(
            name="sn_u", shape=(1, self.w.shape[-1]), trainable=False
        )

    def call(self, inputs: Any) -> Any:
        return self.layer(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power_iterations": self.power_iterations}

    def make_new(self) -> Any:
        inner, changes = self._made(self.layer)
        self.changes = tuple(changes)
        iterations = self.power_iterations
        return keras.layers.SpectralNormalization(inner, iterations, **self._common())


class WeightNormalization(_Layer, tf_keras.layers.Wrapper):
    """A layer whose kernel is v, in each column of the length g."""

    changes = (
        "its length and direction are folded into the kernel of the layer that it "
        "wrapped: predictions are equal, and training goes on without it",
    )

    def __init__(self, layer: Any, data_init: bool = True, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.data_init = data_init

    def build(self, input_shape: Any) -> None:
        if isinstance(self.layer, tf_keras.layers.RNN):
            raise MigrationError(
                f"The layer {self.name!r} is WeightNormalization of TensorFlow Addons "
                "around a recurrent layer, which migrate does not fold."
            )
        if not self.layer.built:
            self.layer.build(input_shape)
        kernel = self.layer.kernel
        # Known to nobody else: TensorFlow would take the list for more weights.
        object.__setattr__(self, "_wrapped", list(self.layer.weights))
        self.g = self.add_weight(
            name="g", shape=(kernel.shape[-1],), dtype=kernel.dtype
        )
        self.v = kernel
        self._initialized = self.add_weight(
            name="initialized", shape=None, dtype=tf.bool, trainable=False
        )
        if self.data_init:
            self._naked_clone_layer = type(self.layer).from_config(
                {**self.layer.get_config(), "trainable": False}
            )
            self._naked_clone_layer.build(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        if tf.executing_eagerly() and not self._initialized:
            raise MigrationError(
                f"The layer {self.name!r} (WeightNormalization) was never called "
                "before it was saved, so that its length g is not known."
            )
        # So did Addons: to the layer this is no weight any more, in files neither.
        self.layer.kernel = self._kernel()
        return self.layer(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_init": self.data_init}

    def make_new(self) -> Any:
        return self._made(self.layer)[0]

    def new_weights(self) -> list[Any]:
        """The weights of the wrapped layer, with the folded kernel."""
        return [self._kernel() if w is self.v else w for w in self._wrapped]

    def _kernel(self) -> Any:
        axes = list(range(len(self.v.shape) - 1))
        return tf.nn.l2_normalize(self.v, axis=axes) * self.g


def _adaptive_pooling() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, reduce in (("Average", tf.reduce_mean), ("Max", tf.reduce_max)):
        for rank in (1, 2, 3):
            name = f"Adaptive{kind}Pooling{rank}D"
            new_class = getattr(keras.layers, name, None)  # not in each Keras 3
            members = {"rank": rank, "reduce": reduce, "new_class": new_class}
            found[name] = type(name, (_AdaptivePooling,), members)
    return {name: old for name, old in found.items() if old.new_class is not None}


LAYERS: dict[str, Any] = {
    f"Addons>{name}": old
    for name, old in {
        "GELU": GELU,
        "SpectralNormalization": SpectralNormalization,
        "WeightNormalization": WeightNormalization,
        "Sparsemax": Sparsemax,
        **_adaptive_pooling(),
    }.items()
}
