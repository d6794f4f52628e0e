"""The command line, `python -m groupnorm`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import groupnorm
from groupnorm.__main__ import main

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "tfaddons"


def run(*arguments, hidden=(), **options):
    """The command in a process of its own, in which some modules are not there."""
    hide = "".join(f"sys.modules[{name!r}] = None; " for name in hidden)
    start = (
        f"import sys; {hide}sys.argv[0] = 'groupnorm'; import runpy; "
        "runpy.run_module('groupnorm', run_name='__main__', alter_sys=True)"
    )
    return subprocess.run(
        [sys.executable, "-c", start, *map(str, arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def usage(capsys, *arguments):
    """What a call prints that ends at once, and how it ends."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr()
    return end.value.code, printed.out + printed.err


@pytest.mark.parametrize("arguments", [(), ("migrate",), ("config",)])
def test_help_teaches_by_example(arguments, capsys):
    status, text = usage(capsys, *arguments, "--help")
    assert status == 0
    if arguments != ("config",):
        assert "groupnorm migrate old.h5 new.keras" in text


def test_wrong_usage(capsys):
    assert usage(capsys)[0] == 2
    assert usage(capsys, "migrate", "old.h5")[0] == 2
    status, text = usage(capsys, "no_such_command")
    assert status == 2
    assert "no_such_command" in text


def test_help_and_version_load_neither_tensorflow_nor_keras():
    hidden = ("tensorflow", "keras", "tf_keras", "numpy")
    assert "groupnorm config" in run("--help", hidden=hidden).stdout
    assert run("--version", hidden=hidden).stdout.strip() == groupnorm.__version__


def test_config(capsys):
    assert main(["config"]) == 0
    text = capsys.readouterr().out
    assert sys.executable in text
    assert f"Keras {keras.__version__}" in text
    assert groupnorm.implementation().reason in text


@pytest.mark.parametrize("missing", ["keras", "tensorflow"])
def test_config_says_what_is_missing(missing):
    found = run("config", hidden=(missing, "tf_keras"))
    assert found.returncode == 1, found.stderr
    assert found.stdout.startswith("usable:    no\nproblem:")
    assert missing in found.stdout.lower().splitlines()[1]
    assert "Traceback" not in found.stdout + found.stderr


def test_migrate(tmp_path, capsys):
    pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    target = tmp_path / "new.keras"
    arguments = ["migrate", str(FIXTURES / "tfa_convnet.h5"), str(target)]
    assert main(arguments) == 0
    assert "predict the same" in capsys.readouterr().out
    assert main(arguments) == 1
    assert "overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_an_error_from_the_shell_is_one_sentence(tmp_path):
    found = run("migrate", "none.h5", "new.keras", cwd=tmp_path)
    assert found.returncode == 1
    assert found.stderr.startswith("groupnorm migrate: ")
    assert "none.h5" in found.stderr
    assert "Traceback" not in found.stderr
