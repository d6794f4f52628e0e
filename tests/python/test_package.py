"""The package as such: importing it, its version, its behaviour elsewhere."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import groupnorm
from groupnorm.configuration import configuration

ROOT = Path(__file__).parents[2]


def _python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_version_is_the_same_everywhere():
    description = (ROOT / "DESCRIPTION").read_text()
    assert f"\nVersion: {groupnorm.__version__}\n" in description
    assert importlib.metadata.version("groupnorm") == groupnorm.__version__
    assert f"# groupnorm {groupnorm.__version__}\n" in (ROOT / "NEWS.md").read_text()


def test_versions_are_those_that_the_modules_say(tmp_path, monkeypatch):
    found = configuration().versions
    for name, module in (("TensorFlow", tf), ("Keras", keras), ("NumPy", np)):
        assert found[name] == module.__version__
    # Under whatever name the package goes that brings a module, or none.
    build = tmp_path / "tensorflow_odd-9.8.dist-info"
    build.mkdir()
    (build / "METADATA").write_text("Name: tensorflow-odd\nVersion: 9.8\n")
    (build / "top_level.txt").write_text("tensorflow\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    found = configuration().versions
    assert found["TensorFlow"] == "9.8"
    assert found["Keras"] is None


def test_what_is_public_is_there():
    for name in groupnorm.__all__:
        assert getattr(groupnorm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'no_such'"):
        groupnorm.no_such  # noqa: B018


def test_another_keras_backend_gets_one_clear_sentence():
    pytest.importorskip("torch", reason="torch is not installed: make peers")
    found = _python(
        "import groupnorm; groupnorm.GroupNormalization()", KERAS_BACKEND="torch"
    )
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: GroupNormalization computes with TensorFlow")
    assert "'torch' backend" in last
    assert "KERAS_BACKEND=tensorflow" in last


def test_without_tensorflow_the_package_can_be_imported():
    pytest.importorskip("torch", reason="torch is not installed: make peers")
    found = _python(
        "import sys; sys.modules['tensorflow'] = None\n"
        "import groupnorm; print(groupnorm.GroupNormalization.__name__)",
        KERAS_BACKEND="torch",
    )
    assert found.stdout.strip() == "GroupNormalization", found.stderr
