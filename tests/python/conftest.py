"""What several test files share."""

from __future__ import annotations

import functools
import os
import sys
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf

import groupnorm
from groupnorm import implementation
from groupnorm.op import choice, function, native
from groupnorm.op.views import whole

# Every day the same few cases; `make test-full` draws new ones, and many more.
hypothesis.settings.register_profile(
    "quick", max_examples=20, deadline=None, derandomize=True
)
hypothesis.settings.register_profile(
    "full",
    max_examples=250,
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("quick")


def pytest_collection_modifyitems(items):
    """Leave most of the cases of sampled tests to the full run.

    A test keeps its first case and about a third of the others: always the same ones,
    which follow no pattern of its parameters.
    """
    seen = set()
    for item in items:
        if item.get_closest_marker("sampled") is None:
            continue
        test = item.nodeid.partition("[")[0]
        if test in seen and zlib.crc32(item.nodeid.encode()) % 3:
            item.add_marker(pytest.mark.full)
        seen.add(test)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# XLA compiles every case anew.
@pytest.fixture(
    params=[
        "native",
        "tensorflow",
        pytest.param("tensorflow, as if large", marks=pytest.mark.sampled),
        pytest.param("xla", marks=pytest.mark.sampled),
        pytest.param("native, xla", marks=pytest.mark.sampled),
    ]
)
def on_path(request, monkeypatch):
    """Make a function run on one of the ways that the computation can go."""
    if request.param == "native":
        return request.getfixturevalue("natively")
    if request.param == "native, xla":
        return request.getfixturevalue("natively_under_xla")
    monkeypatch.setenv("GROUPNORM_NATIVE", "0")
    if request.param == "tensorflow, as if large":
        return request.getfixturevalue("as_if_large")
    if request.param == "xla":
        return request.getfixturevalue("under_xla")
    return lambda f: f


@pytest.fixture
def under_xla():
    """Make XLA compile a function."""
    return functools.partial(tf.function, jit_compile=True, autograph=False)


@pytest.fixture
def as_if_large(monkeypatch):
    """Make few numbers, which most tests have, computed as many are."""
    monkeypatch.setattr(whole, "_FEW", 0)
    monkeypatch.setattr(whole, "_FEW_IF_TORN", 0)
    # What eager calls have traced is kept, by what a call looks like.
    function._traced.cache_clear()
    yield lambda f: f
    function._traced.cache_clear()


@pytest.fixture
def natively(monkeypatch):
    """Make a function run on the native kernel."""
    monkeypatch.setenv("GROUPNORM_NATIVE", "1")
    if implementation().name != "native":
        pytest.skip(f"the native kernel is not in use: {implementation().reason}")
    return lambda f: f


@pytest.fixture
def natively_under_xla(natively, under_xla, monkeypatch):
    """Make XLA compile a function, and call the native kernel even for few numbers."""
    library = native.load()
    if not library.under_xla:
        pytest.skip(f"XLA cannot call the native kernel: {library.status}")
    monkeypatch.setattr(choice, "_A_CALL", 0)
    monkeypatch.setattr(choice, "_A_GROUP", 0)
    return under_xla


@pytest.fixture
def compute(on_path):
    """`group_normalization` on each of the paths."""
    return on_path(groupnorm.group_normalization)


@pytest.fixture
def takes_any_range(request):
    """Whether squares may be out of the range of the dtype, as in the kernel."""
    return request.node.callspec.params["on_path"].startswith("native")


@pytest.fixture(autouse=True)
def _clean_keras():
    """Names and policies of one test must not show in another."""
    yield
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session(free_memory=False)


def pytest_sessionfinish(session, exitstatus):
    session.config.exitstatus = exitstatus


def pytest_unconfigure(config):
    # R and Python, one inside the other, cannot both tidy up: with R in the process,
    # leave at once. All has been reported by now.
    if "rpy2.robjects" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.exitstatus)
