"""Training on two devices and in two processes: the same weights as on one device.

Group normalization needs nothing from other samples, so a replica can do its part of a
batch without asking the others; batch normalization cannot.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import oracle
import pytest

# A minute of two more processes, in which little can break that other tests do not see.
pytestmark = pytest.mark.full

_PROGRAM = Path(__file__).with_name("distributed.py")
_LONGEST = 600  # seconds

# A few roundings of float32, after eight steps of training.
_ROUNDING = 1e-6


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    """What a process with two devices found."""
    return _found(tmp_path_factory.mktemp("devices"), {"devices": {}})["devices"]


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """What two processes found that train together."""
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    environments = {}
    for index in range(len(addresses)):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        environments[f"worker {index}"] = {"TF_CONFIG": json.dumps(config)}
    return list(_found(tmp_path_factory.mktemp("workers"), environments).values())


def _found(folder, environments):
    """What processes wrote that ran at the same time, by the name of each."""
    running = {
        name: subprocess.Popen(
            [sys.executable, _PROGRAM, name.split()[0], folder / f"{name}.npz"],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=(folder / f"{name}.log").open("w"),
        )
        for name, environment in environments.items()
    }
    try:
        for name, process in running.items():
            status = process.wait(_LONGEST)
            assert status == 0, (name, (folder / f"{name}.log").read_text()[-3000:])
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return {name: dict(np.load(folder / f"{name}.npz")) for name in environments}


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _weights(found, how):
    weights = [array for name, array in found.items() if name.startswith(f"{how}/")]
    if not weights:
        pytest.skip("tf_keras, the older Keras generation, is not installed")
    return weights


def _difference(actual, expected):
    """The largest, relative to the largest weight."""
    return oracle.relative_error(*map(_flat, (actual, expected)))


def _flat(weights):
    return np.concatenate([weight.ravel() for weight in weights])


def _skip_where_keras_differs_by_itself(devices, how):
    if how == "fit legacy":
        return
    one, many = (_weights(devices, f"{where}/fit plain") for where in ("one", "many"))
    if _difference(many, one) > _ROUNDING:
        pytest.skip(
            f"Keras {keras.__version__} trains another way under a strategy, without "
            f"any normalization, too (difference: {_difference(many, one):.0e})"
        )


@pytest.mark.parametrize("how", ["loop", "fit", "fit legacy"])
def test_two_devices_reach_the_weights_of_one(devices, how, record_property):
    _skip_where_keras_differs_by_itself(devices, how)
    difference = _difference(
        _weights(devices, f"many/{how}"), _weights(devices, f"one/{how}")
    )
    record_property("difference", difference)
    assert difference < _ROUNDING


@pytest.mark.parametrize("how", ["loop", "fit legacy"])
def test_two_processes_reach_the_weights_of_one_device(
    devices, workers, how, record_property
):
    _skip_where_keras_differs_by_itself(devices, how)
    first, second = (_weights(worker, f"many/{how}") for worker in workers)
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one, other)
    difference = _difference(first, _weights(devices, f"one/{how}"))
    record_property("difference", difference)
    assert difference < _ROUNDING


def test_batch_normalization_reaches_other_weights(devices):
    """What is compared above does depend on how the batch is divided."""
    one, many = (_weights(devices, f"{where}/fit batch") for where in ("one", "many"))
    assert _difference(many, one) > 0.01


def test_a_replica_needs_no_statistics_of_the_others(devices):
    whole, parts = (
        {
            name: devices[f"{where}/{name}"]
            for name in ("group", "batch", "synchronized")
        }
        for where in ("whole", "parts")
    )
    # Its part of the batch alone gives a replica what the whole gives, to the bit.
    assert np.array_equal(parts["group"], whole["group"])
    # Batch normalization has to exchange statistics for that, at every step.
    assert oracle.relative_error(parts["batch"], whole["batch"]) > 0.01
    assert oracle.relative_error(parts["synchronized"], whole["synchronized"]) < 1e-6


def test_keras_distribution_trains_as_without(devices):
    """With TensorFlow, Keras accepts its own `DataParallel` and divides nothing."""
    if "no keras.distribution" in devices:
        pytest.skip(
            f"Keras {keras.__version__} has no DataParallel for TensorFlow: "
            f"{devices['no keras.distribution']}"
        )
    parallel, one = _weights(devices, "parallel/fit"), _weights(devices, "one/fit")
    for weight, other in zip(parallel, one, strict=True):
        assert np.array_equal(weight, other)
