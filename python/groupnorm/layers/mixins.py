"""What the group normalization layers of both Keras generations have in common.

Keras 3 and the older Keras share the parts of the `Layer` interface that are used here.
A concrete class inherits from a mixin below and from its own generation's `Layer`, and
says which Keras it belongs to.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from groupnorm.layers import arguments
from groupnorm.op.arguments import (
    check_axis,
    check_epsilon,
    check_groups,
    resolve_axis,
    resolve_groups,
)

if TYPE_CHECKING:
    from keras.layers import Layer as _Base
else:
    _Base = object  # the concrete class brings its generation's Layer


# Arguments of every Keras layer that are shapes; each generation has one of its own.
_SHAPES = {"input_shape", "batch_input_shape"}


class GroupNormalizationMixin(_Base):
    """Arguments, weights, call and configuration of the layer."""

    _keras: ClassVar[ModuleType]
    # Keeps a weight in its own dtype under mixed precision.
    _no_autocast: ClassVar[dict[str, bool]] = {"autocast": False}
    _printed: ClassVar[tuple[str, ...]] = ("name", "groups", "axis")

    def __init__(
        self,
        groups: int = 2,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        use_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        groups = check_groups(groups)
        axis = check_axis(axis)
        epsilon = check_epsilon(epsilon)
        center = arguments.check_flag("center", center)
        scale = arguments.check_flag("scale", scale)
        use_mask = arguments.check_flag("use_mask", use_mask)
        # Statistics are taken from the input as it comes: cast to float16 first, a
        # large float32 value would overflow.
        kwargs["autocast"] = False
        for name, value in kwargs.items():
            self._check_names(name, value)
        for name in _SHAPES.intersection(kwargs):
            kwargs[name] = arguments.check_shape(name, kwargs[name])
        with warnings.catch_warnings():
            # `input_shape` is an argument of this layer; Keras 3 would rather not.
            warnings.filterwarnings("ignore", "Do not pass an `input_shape`")
            super().__init__(**kwargs)
        self.supports_masking = True
        self.groups = groups
        self.axis = axis
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.use_mask = use_mask
        self.beta_initializer = self._get("beta_initializer", beta_initializer)
        self.gamma_initializer = self._get("gamma_initializer", gamma_initializer)
        self.beta_regularizer = self._get("beta_regularizer", beta_regularizer)
        self.gamma_regularizer = self._get("gamma_regularizer", gamma_regularizer)
        self.beta_constraint = self._get("beta_constraint", beta_constraint)
        self.gamma_constraint = self._get("gamma_constraint", gamma_constraint)

    def build(self, input_shape: Any) -> None:
        axis, channels = self._resolve(input_shape)
        self.input_spec = self._keras.layers.InputSpec(
            ndim=len(input_shape), axes={axis: channels}
        )
        self.gamma = self._add_parameter("gamma", channels) if self.scale else None
        self.beta = self._add_parameter("beta", channels) if self.center else None
        super().build(input_shape)

    def call(self, inputs: Any, mask: Any = None) -> Any:
        # TensorFlow is wanted from here on only: the package can be imported, and say
        # what is missing, without it.
        import tensorflow as tf

        from groupnorm.op.function import group_normalization

        outputs = group_normalization(
            inputs,
            self.groups,
            self.gamma,
            self.beta,
            self.axis,
            self.epsilon,
            mask if self.use_mask else None,
        )
        return tf.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        self._resolve(input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        keras = self._keras
        return {
            **super().get_config(),
            "groups": self.groups,
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": keras.initializers.serialize(self.beta_initializer),
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": keras.regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": keras.constraints.serialize(self.beta_constraint),
            "gamma_constraint": keras.constraints.serialize(self.gamma_constraint),
            "use_mask": self.use_mask,
        }

    def __repr__(self) -> str:
        named = ", ".join(f"{name}={value}" for name, value in self._described())
        return f"<{type(self).__name__} {named}>"

    __str__ = __repr__

    def _described(self) -> Iterator[tuple[str, Any]]:
        """What a print of the layer says, in Keras's manner."""
        for name in self._printed:
            yield name, getattr(self, name)
        if self.input_spec is None:
            yield "built", False
            return
        # It was built, for which Keras loaded TensorFlow.
        from groupnorm.op.choice import implementation

        (channels,) = self.input_spec.axes.values()
        yield "channels", channels
        yield "computed_by", implementation().name

    def _resolve(self, input_shape: Any) -> tuple[int, int]:
        """The channel axis, counted from the front, and the number of channels."""
        shape = tuple(input_shape)
        axis = resolve_axis(self.axis, shape)
        resolve_groups(self.groups, axis, shape)
        return axis, shape[axis]

    def _add_parameter(self, name: str, channels: int) -> Any:
        return self.add_weight(
            name=name,
            shape=(channels,),
            initializer=getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer"),
            constraint=getattr(self, f"{name}_constraint"),
            **self._no_autocast,
        )

    def _get(self, argument: str, value: Any) -> Any:
        """Keras's own reading of an initializer, regularizer or constraint."""
        self._check_names(argument, value)
        kind = argument.split("_")[1]
        get = getattr(self._keras, f"{kind}s").get
        try:
            found = get(value)
        except (ValueError, TypeError) as error:
            raise arguments.cannot_interpret(argument, kind, value) from error
        # tf_keras gives back the name of a regularizer that it does not find.
        if not callable(found) and (found is not None or kind == "initializer"):
            raise arguments.cannot_interpret(argument, kind, value)
        return found

    def _check_names(self, argument: str, value: Any) -> None:
        registered = self._keras.saving.get_registered_object
        arguments.check_names(argument, value, registered)


class InstanceNormalizationMixin(GroupNormalizationMixin):
    """Group normalization with one group per channel: `groups` is ignored."""

    _printed: ClassVar[tuple[str, ...]] = ("name", "axis")

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        use_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        if "groups" in kwargs:  # Addons had it, and scripts and files give it
            del kwargs["groups"]
            warnings.warn(
                "`groups` is ignored: instance normalization has one group per channel",
                stacklevel=2,
            )
        super().__init__(
            groups=-1,
            axis=axis,
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            use_mask=use_mask,
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["groups"]
        return config
