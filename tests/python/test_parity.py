"""R and Python are the same layer.

Python is the main process, R runs inside it through rpy2, and R's reticulate uses this
very Python: what R makes is a Python object that can be looked at here.
"""

from __future__ import annotations

import itertools
import os
import sys

import keras
import numpy as np
import pytest

import groupnorm
from groupnorm import GroupNormalization, InstanceNormalization

os.environ["RETICULATE_PYTHON"] = sys.executable
# While R runs inside it, Python's global lock is released, and R's garbage collector
# would release Python objects without it: start R so large that it need not collect.
os.environ["R_NSIZE"], os.environ["R_VSIZE"] = "40000000", "2G"
robjects = pytest.importorskip("rpy2.robjects", reason="rpy2 is not installed")

NAMES = {
    GroupNormalization: "layer_group_normalization",
    InstanceNormalization: "layer_instance_normalization",
}


class R:
    """Evaluate R code; Python objects are handed over by name and come back."""

    def __init__(self):
        robjects.r("library(groupnorm)")
        robjects.r("main <- reticulate::import_main(convert = FALSE)")
        self._main = sys.modules["__main__"]

    def __call__(self, code, **objects):
        for name, value in objects.items():
            setattr(self._main, f"r_{name}", value)
            robjects.r(f"{name} <- main$r_{name}")
        robjects.r(f"main$r_result <- {{ {code} }}")
        return self._main.r_result


@pytest.fixture(scope="module")
def r():
    return R()


def literal(value):
    """R code for a Python value."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return repr(value)  # 8, not 8L: R users write numbers
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return f"list({', '.join(f'{k} = {literal(v)}' for k, v in value.items())})"
    if isinstance(value, tuple):
        return f"c({', '.join('NA' if v is None else literal(v) for v in value)})"
    raise TypeError(value)


def call(cls, arguments, object_code=""):
    given = [object_code] if object_code else []
    given += [f"{name} = {literal(value)}" for name, value in arguments.items()]
    return f"{NAMES[cls]}({', '.join(given)})"


ARGUMENTS = [
    {},
    *({"groups": groups} for groups in (1, 2, 4, 8, -1)),
    *({"axis": axis} for axis in (1, 2, 3, -1, -2)),
    *({"epsilon": epsilon} for epsilon in (0, 1, 1e-3, 1e-5, 0.1)),
    *(
        {"center": center, "scale": scale}
        for center, scale in itertools.product([True, False], repeat=2)
    ),
    *(
        {f"{weight}_initializer": initializer}
        for weight in ("beta", "gamma")
        for initializer in (
            "zeros",
            "ones",
            {"class_name": "Constant", "config": {"value": 2.5}},
            {"class_name": "RandomNormal", "config": {"stddev": 0.5, "seed": 42}},
            {"class_name": "RandomUniform", "config": {"minval": -1, "seed": 1}},
        )
    ),
    *(
        {f"{weight}_regularizer": regularizer}
        for weight in ("beta", "gamma")
        for regularizer in (
            None,
            "l1",
            {"class_name": "L2", "config": {"l2": 0.5}},
            {"class_name": "L1L2", "config": {"l1": 1, "l2": 0.25}},
        )
    ),
    *(
        {f"{weight}_constraint": constraint}
        for weight in ("beta", "gamma")
        for constraint in (
            None,
            "non_neg",
            {"class_name": "MaxNorm", "config": {"max_value": 2, "axis": 0}},
            {"class_name": "UnitNorm", "config": {}},
        )
    ),
    *(
        {"dtype": dtype}
        for dtype in ("float32", "float64", "bfloat16", "mixed_float16")
    ),
    {"name": "a_name"},
    {"trainable": False},
    {"use_mask": True},
    {"activity_regularizer": "l2"},
    {
        "groups": 4,
        "axis": 1,
        "epsilon": 1e-6,
        "center": False,
        "gamma_regularizer": "l2",
        "gamma_constraint": "non_neg",
        "name": "several",
        "dtype": "float64",
    },
]


@pytest.mark.parametrize("cls", [GroupNormalization, InstanceNormalization])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_same_class_config_weights_and_output(r, rng, cls, arguments):
    if cls is InstanceNormalization:
        arguments = {k: v for k, v in arguments.items() if k != "groups"}
    arguments = {"name": "same", **arguments}
    from_python, from_r = cls(**arguments), r(call(cls, arguments))
    assert type(from_r) is cls
    assert from_r.get_config() == from_python.get_config()

    x = rng.normal(size=(3, 8, 8, 8)).astype(np.float32)
    from_python.build(x.shape)
    from_r.build(x.shape)
    weights = [rng.normal(size=w.shape) for w in from_python.weights]
    assert [w.name for w in from_r.weights] == [w.name for w in from_python.weights]
    for one, other in zip(from_r.weights, from_python.weights, strict=True):
        assert np.array_equal(one, other)  # as initialized
    from_python.set_weights(weights)
    from_r.set_weights(weights)
    _assert_bit_equal(r("layer(x)", layer=from_r, x=x), from_python(x))


@pytest.mark.parametrize("shape", [(3, 8), (3, 5, 8), (2, 3, 5, 8), (2, 3, 2, 5, 8)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_same_output_for_arrays_of_r(r, rng, shape, dtype):
    """The array is R's own, with R's order in memory."""
    x = (rng.normal(size=shape) * 9).astype(dtype)
    axis = rng.integers(1, len(shape))
    groups = shape[axis]
    y = r(f"layer_group_normalization(reticulate::py_to_r(x), {groups}, {axis})", x=x)
    # R has no float32: its numbers arrive as float64.
    x = x if dtype == "int32" else x.astype(np.float64)
    _assert_bit_equal(y, GroupNormalization(groups, axis=int(axis))(x))


def _assert_bit_equal(one, other):
    one, other = (keras.ops.convert_to_numpy(value) for value in (one, other))
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes()


# --- Models --------------------------------------------------------------------------

MODEL_IN_R = """
  keras <- reticulate::import("keras")
  keras$utils$set_random_seed(7L)
  model <- keras$Sequential(list(
    keras$Input(c(8L, 8L, 3L)),
    keras$layers$Conv2D(8L, 3L, name = "conv")
  )) |>
    layer_group_normalization(groups = 4, gamma_regularizer = "l2", name = "group") |>
    layer_instance_normalization(center = FALSE, name = "instance")
  model$add(keras$layers$GlobalAveragePooling2D(name = "pool"))
  model$add(keras$layers$Dense(3L, name = "dense"))
  model$compile(keras$optimizers$Adam(0.01), keras$losses$MeanSquaredError())
  model
"""


def model_in_python():
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, name="conv"),
            GroupNormalization(4, gamma_regularizer="l2", name="group"),
            InstanceNormalization(center=False, name="instance"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(3, name="dense"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), keras.losses.MeanSquaredError())
    return model


@pytest.fixture
def data(rng):
    return (
        rng.normal(size=(20, 8, 8, 3)).astype(np.float32),
        rng.normal(size=(20, 3)).astype(np.float32),
    )


def test_five_training_steps_give_bit_equal_weights(r, data):
    x, y = data
    from_r = r(
        f"model <- {{ {MODEL_IN_R} }}\n"
        "invisible(model$fit(x, y, batch_size = 4L, epochs = 1L, verbose = 0L))\n"
        "model",
        x=x,
        y=y,
    )
    from_python = model_in_python()
    before = from_python.get_weights()
    from_python.fit(x, y, batch_size=4, epochs=1, verbose=0)
    assert int(from_python.optimizer.iterations) == 5
    for r_weight, weight, old in zip(
        from_r.get_weights(), from_python.get_weights(), before, strict=True
    ):
        _assert_bit_equal(r_weight, weight)
        assert not np.array_equal(weight, old)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_files_cross(r, data, tmp_path, suffix):
    x, y = data
    by_r, by_python = str(tmp_path / f"r.{suffix}"), str(tmp_path / f"py.{suffix}")

    from_r = r(f"model <- {{ {MODEL_IN_R} }}; model$save('{by_r}'); model")
    loaded = keras.models.load_model(by_r)
    assert [type(layer) for layer in loaded.layers[1:3]] == list(NAMES)
    _assert_bit_equal(loaded(x), from_r(x))

    from_python = model_in_python()
    from_python.fit(x, y, verbose=0)
    from_python.save(by_python)
    loaded = r(f"reticulate::import('keras')$models$load_model('{by_python}')")
    _assert_bit_equal(r("model(x)", model=loaded, x=x), from_python(x))


def test_a_model_of_python_is_extended_in_r(r):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(8, 3)])
    result = r("model |> layer_group_normalization(groups = 4)", model=model)
    assert result is model
    assert type(model.layers[-1]) is GroupNormalization


# --- Errors --------------------------------------------------------------------------

BAD_VALUES = {
    "groups": ["0", "-3", "2.5", "NA", "NULL", "'4'", "TRUE", "c(2, 4)", "Inf"],
    "axis": ["0", "1.5", "NA", "NULL"],
    "epsilon": ["-1", "NA", "'small'", "c(1, 2)"],
    "center": ["NA", "NULL", "'yes'", "2"],
    "scale": ["NA", "NULL", "'yes'", "2"],
}


@pytest.mark.parametrize(
    ("code", "argument"),
    [
        *(
            (f"{argument} = {value}", f"`{argument}`")
            for argument, values in BAD_VALUES.items()
            for value in values
        ),
        ("no_such = 1", "no_such"),
        ("gamma_initializer = 'no_such'", "`gamma_initializer`"),
        ("input_shape = 'no_such'", "`input_shape`"),
    ],
)
def test_errors_of_r_name_the_argument(r, code, argument):
    from rpy2.rinterface_lib.embedded import RRuntimeError

    with pytest.raises(RRuntimeError, match=argument):
        r(f"layer_group_normalization({code})")


def test_r_loads_the_module_that_python_has(r):
    assert r("reticulate::import('groupnorm', convert = FALSE)") is groupnorm
