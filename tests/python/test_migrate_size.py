"""What a large file takes: time and memory."""

from __future__ import annotations

import time

import numpy as np
import pytest

tf_keras = pytest.importorskip(
    "tf_keras", reason="tf_keras, the older Keras generation, is not installed"
)

import memory  # noqa: E402

import groupnorm  # noqa: E402
from groupnorm.legacy import GroupNormalization  # noqa: E402

L = tf_keras.layers


@pytest.mark.full
@pytest.mark.parametrize("extension", [".h5", ".keras", ""])
def test_a_file_of_100_megabytes(extension, tmp_path):
    layers = [L.Dense(4000), GroupNormalization(8), L.Dense(5000), L.Dense(100)]
    model = tf_keras.Sequential([tf_keras.Input((1000,)), *layers])
    path, target = tmp_path / f"old{extension}", tmp_path / "new.keras"
    model.save(path)
    size = sum(np.prod(weight.shape) for weight in model.weights) * 4
    assert 98e6 < size < 110e6
    del model
    start = time.process_time()
    with memory.peak() as growth:
        groupnorm.migrate(path, target)
    assert time.process_time() - start < 60
    assert growth[0] < 20 * size
    assert target.stat().st_size > size
