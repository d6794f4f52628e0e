"""Run what a model was exported to, in the engines that it was exported for."""

from __future__ import annotations

import importlib.util

import keras
import pytest
import tensorflow as tf


def run_lite(lite, x):
    interpreter = tf.lite.Interpreter(model_content=lite)
    (given,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(given["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    (found,) = interpreter.get_output_details()
    return interpreter.get_tensor(found["index"])


def skip_without_format(name):
    if f'"{name}"' not in (keras.Model.export.__doc__ or ""):
        pytest.skip(f"Keras {keras.__version__} does not export to {name}")


def skip_without_onnx():
    for package in ("onnx", "onnxruntime", "tf2onnx"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: make peers")


def run_onnx(file, x):
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(file), full_check=True)
    session = onnxruntime.InferenceSession(file)
    (given,) = session.get_inputs()
    (y,) = session.run(None, {given.name: x})
    return y
