"""The same call from R and from Python: the same layer, or the same refusal.

Calls are drawn: either function, on every kind of object, with arguments of every kind.
Python's side is `compose()`, in this process; R's side is the function that users call.
"""

from __future__ import annotations

import math
import re
import warnings
from typing import Any, NamedTuple

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from test_parity import R, literal

from groupnorm.compose import compose

FUNCTIONS = {
    "GroupNormalization": "layer_group_normalization",
    "InstanceNormalization": "layer_instance_normalization",
}


# --- What is drawn --------------------------------------------------------------------


class Given(NamedTuple):
    """A value, made anew for each side, and what R writes for it if not its literal."""

    make: Any
    code: str | None = None  # `None`: a Python object, handed over


def plain(value):
    return Given(lambda: value, literal_of(value))


def literal_of(value):
    """R code for a Python value of a kind that R has too."""
    if isinstance(value, float) and math.isnan(value):
        return "NA"
    if isinstance(value, float) and math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if isinstance(value, list):
        kinds = {type(item) for item in value}
        is_vector = len(value) > 1 and len(kinds) == 1 and kinds != {list}
        items = ", ".join(map(literal_of, value))
        return f"{'c' if is_vector else 'list'}({items})"
    if isinstance(value, dict):
        items = (f"{name} = {literal_of(item)}" for name, item in value.items())
        return f"list({', '.join(items)})"
    if isinstance(value, np.ndarray):
        items = ", ".join(map(repr, value.ravel(order="F").tolist()))
        return f"array(c({items}), c({', '.join(map(str, value.shape))}))"
    return literal(value)


NUMBERS = [-7, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12, 2.5, 0.5, -0.25, 1e-5, 1e-300, 1e300]
ODD = [
    *(math.nan, math.inf, -math.inf, 2147483648.0, True, False, None),
    *("", "zeros", "no_such", "2", "gr\u00fc\u00df", "a'b{0}%s", "x" * 600),
    *([1, 2], [0.5, 1.5], ["a", "b"], [True, False], [1, "a"], [[1, 2], [3, 4]]),
    *({}, {"a": 1}, {"a": {"b": [1, 2]}}),
    *({"class_name": "NoSuch", "config": {}}, {"class_name": 1}, {"config": {}}),
    np.arange(6, dtype=np.int32).reshape(2, 3),
    np.arange(6).reshape(1, 2, 3) / 4,
]
OBJECTS = [
    Given(lambda: keras.optimizers.Adam()),
    Given(lambda: abs),
    Given(lambda: math),
    Given(lambda: tf.constant([1.0, 2.0])),
]
ANYTHING = st.sampled_from([*map(plain, NUMBERS), *map(plain, ODD), *OBJECTS])


def spec(class_name, **config):
    return {"class_name": class_name, "config": config}


FITTING = {
    "groups": [1, 2, 3, 6, -1],
    "axis": [-1, -2, 1, 2],
    "epsilon": [0, 1, 0.5, 1e-5, 1e-300],
    "center": [True, False],
    "scale": [True, False],
    "use_mask": [True, False],
    "initializer": ["zeros", "ones", spec("Constant", value=2.5)],
    "regularizer": [None, "l2", spec("L1L2", l1=1, l2=0.25)],
    "constraint": [None, "non_neg", spec("MaxNorm", max_value=2, axis=0)],
    "activity_regularizer": [None, "l2"],
    "name": ["a_name", "b/c"],
    "dtype": ["float32", "float64", "mixed_float16"],
    "trainable": [True, False],
    "input_shape": [(4, 6), (None, 6), (6,)],
    "batch_size": [None, 2],
    "no_such_argument": [],
}
INSTANCES = {
    "initializer": [Given(lambda: keras.initializers.Constant(0.5))],
    "regularizer": [Given(lambda: keras.regularizers.L1(0.5))],
    "constraint": [Given(lambda: keras.constraints.UnitNorm())],
}
NAMES = [
    *("groups", "axis", "epsilon", "center", "scale", "use_mask"),
    *("beta_initializer", "gamma_initializer", "beta_regularizer"),
    *("gamma_regularizer", "beta_constraint", "gamma_constraint"),
    *("activity_regularizer", "name", "dtype", "trainable", "input_shape"),
    *("batch_size", "no_such_argument"),
]


def kind_of(name):
    return name if name in FITTING else name.partition("_")[2]


def values(name):
    kind = kind_of(name)
    fitting = [*map(plain, FITTING[kind]), *INSTANCES.get(kind, [])]
    if name == "input_shape":
        anything = ANYTHING.map(as_shape)
        return st.one_of(st.sampled_from(fitting), anything)
    # Three to one, so that about as many calls are right as are wrong.
    return st.one_of(*([st.sampled_from(fitting)] * 3 if fitting else []), ANYTHING)


def as_shape(value):
    """What R's vectors and lists are where a shape is asked for: tuples."""

    def make():
        made = value.make()
        if isinstance(made, dict):
            made = list(made.values())
        if isinstance(made, int | float):
            made = [made]
        if not isinstance(made, list) or (made and all(type(i) is str for i in made)):
            return made
        return tuple(None if item != item else item for item in made)

    return value._replace(make=make)


def called(times):
    layer = keras.layers.Dense(6)
    for _ in range(times):
        layer(keras.Input((4, 6)))
    return layer


def functional(outputs):
    x = keras.Input((4, 6))
    return keras.Model(x, [keras.layers.ReLU()(x) for _ in range(outputs)])


def legacy_sequential():
    import tf_keras

    return tf_keras.Sequential([tf_keras.layers.Dense(6, input_shape=(4, 6))])


DATA = np.sin(np.arange(48.0)).reshape(2, 4, 6)
TARGETS = [
    Given(None),  # missing
    plain(None),
    Given(lambda: keras.Sequential()),
    Given(lambda: keras.Sequential([keras.Input((4, 6))])),
    Given(lambda: keras.Sequential([keras.layers.ReLU()])),
    Given(lambda: keras.Input((4, 6))),
    Given(lambda: keras.Input((None, 6))),
    Given(lambda: keras.Input((6, None))),
    Given(lambda: tf.constant(DATA, tf.float32)),
    Given(lambda: DATA),
    plain(DATA),
    Given(lambda: functional(1).outputs[0]),
    Given(lambda: functional(1)),
    Given(lambda: functional(2)),
    *(Given(lambda times=times: called(times)) for times in (0, 1, 2)),
    Given(legacy_sequential),
]


class Call(NamedTuple):
    """A call of one of the functions."""

    class_name: str
    target: Given
    arguments: dict[str, Given]


@st.composite
def calls(draw):
    odd = draw(st.integers(0, 9)) == 0
    target = draw(ANYTHING if odd else st.sampled_from(TARGETS))
    names = draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True))
    arguments = {name: draw(values(name)) for name in names}
    return Call(draw(st.sampled_from(sorted(FUNCTIONS))), target, arguments)


# --- The two sides --------------------------------------------------------------------


def in_python(call, target):
    """The result of the call, or the error as text, and the warnings."""
    given = {} if call.target.make is None else {"object": target}
    given.update({name: value.make() for name, value in call.arguments.items()})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = compose(call.class_name, **given)
        except Exception as error:
            result = error
    return result, any("`groups` is ignored" in str(one.message) for one in seen)


def in_r(r, call, target):
    """The same from R."""
    code, objects = [], {}
    if call.target.make is not None:
        code.append(call.target.code or "main$r_target")
        objects["r_target"] = target
    for i, (name, value) in enumerate(call.arguments.items()):
        if value.code is None:
            objects[f"r_value{i}"] = value.make()
        code.append(f"{name} = {value.code or f'main$r_value{i}'}")
    call_in_r = f"{FUNCTIONS[call.class_name]}({', '.join(code)})"
    return r.outcome(call_in_r, **objects)


def described(result, target, call):
    """What is to be compared: plain values only."""
    if isinstance(result, Exception):
        return "error", sentence(str(result))
    if isinstance(result, str):
        return "error", sentence(result)
    if hasattr(result, "add") and hasattr(result, "pop"):
        assert result is target
        return "model", configuration(result.layers[-1], call), *state(result)[1:]
    if hasattr(result, "get_config"):
        return "layer", configuration(result, call)
    history = getattr(result, "_keras_history", None)
    if history is not None:
        layer = getattr(history, "operation", None) or history.layer
        return "symbol", configuration(layer, call), tuple(result.shape), result.dtype
    return "tensor", result.dtype.name, result.numpy().tolist()


def configuration(layer, call):
    config = layer.get_config()
    name = call.arguments.get("name")
    if name is None or name.make() is None:
        del config["name"]  # Keras made one up
    return type(layer).__module__, type(layer).__name__, plainly(config)


def plainly(value):
    """A configuration with functions and tensors as text."""
    if isinstance(value, dict):
        return {name: plainly(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plainly(item) for item in value]
    return (
        value if isinstance(value, str | int | float | None) else sentence(str(value))
    )


def sentence(text):
    """Without what differs from one call to the next: numbers in names, addresses."""
    text = re.sub(
        r"(normalization|dense|keras_tensor|re_lu|functional)(_\d+)+", r"\1", text
    )
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    return re.sub(r"\s+", " ", text).strip()


class Caller(R):
    """R that evaluates a call, and takes an error for a result."""

    def __init__(self):
        super().__init__()
        # Called from Python through reticulate, R holds Python's global lock, and may
        # release Python objects whenever it tidies up.
        self(
            """
            function(code) {
              ignored <- FALSE
              result <- tryCatch(
                withCallingHandlers(
                  eval(parse(text = reticulate::py_to_r(code)), globalenv()),
                  warning = function(w) {
                    about_groups <- grepl("`groups` is ignored", conditionMessage(w))
                    ignored <<- ignored || about_groups
                    invokeRestart("muffleWarning")
                  }
                ),
                error = function(e) conditionMessage(e)
              )
              list(result, ignored)
            }
            """
        )
        self._outcome = self._main.r_result

    def outcome(self, code, **objects):
        """What a call gives in which objects are called `main$NAME`."""
        for name, value in objects.items():
            setattr(self._main, name, value)
        return self._outcome(code)


@pytest.fixture(scope="module")
def r():
    return Caller()


def check(r, call):
    targets = [
        None if call.target.make is None else call.target.make() for _ in range(2)
    ]
    before = [state(target) for target in targets]
    python, python_warned = in_python(call, targets[0])
    from_r, r_warned = in_r(r, call, targets[1])
    assert described(from_r, targets[1], call) == described(python, targets[0], call)
    if isinstance(python, Exception):
        assert [state(target) for target in targets] == before
    else:
        assert r_warned == python_warned


def state(target):
    """What there is of a model to be changed."""
    if not hasattr(target, "layers"):
        return None
    shape = target.output_shape if target.built and target.layers else None
    return [layer.name for layer in target.layers], len(target.weights), shape


settings = hypothesis.settings(
    deadline=None, print_blob=True, suppress_health_check=list(hypothesis.HealthCheck)
)


@hypothesis.given(call=calls())
@hypothesis.settings(settings, max_examples=300, derandomize=True)
def test_the_same_call_the_same_answer(r, call):
    check(r, call)


@pytest.mark.full
@hypothesis.given(call=calls())
@hypothesis.settings(settings, max_examples=5000)
def test_the_same_call_the_same_answer_five_thousand_times(r, call):
    check(r, call)
