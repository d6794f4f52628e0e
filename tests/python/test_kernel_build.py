"""How the native kernel is compiled, found and told what it may use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
import tensorflow as tf

import groupnorm
from groupnorm.op.native import library, threads

NATIVE = Path(library.__file__).parent
SCRIPT = NATIVE / "compile.sh"


# --- Compiling ------------------------------------------------------------------------


def compile_with(compiler, target):
    return subprocess.run(
        ["sh", SCRIPT, target, *compiler], capture_output=True, text=True, check=False
    )


@pytest.fixture
def compiler(tmp_path):
    """A compiler of no substance: it writes its arguments."""
    program = tmp_path / "compiler"
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -dumpmachine ] || [ "$2" = -dumpmachine ]; then\n'
        '  echo "${MACHINE:-x86_64-linux-gnu}"; exit; fi\n'
        'words=$*; while [ "$1" != -o ]; do shift; done; echo "$words" > "$2"\n'
    )
    program.chmod(0o755)
    return str(program)


def test_the_users_options_come_first(compiler, tmp_path):
    assert compile_with([compiler, "-O2"], tmp_path / "library").returncode == 0
    words = (tmp_path / "library").read_text().split()
    assert words[0] == "-O2"
    assert words.index("-O2") < words.index("-O3")


def test_where_symbols_are_looked_up_late(compiler, tmp_path, monkeypatch):
    option = "-Wl,-undefined,dynamic_lookup"
    for machine, wanted in [
        ("arm64-apple-darwin23", True),
        ("aarch64-linux-gnu", False),
    ]:
        monkeypatch.setenv("MACHINE", machine)
        compile_with([compiler], tmp_path / "library")
        assert (option in (tmp_path / "library").read_text()) == wanted


def test_a_failure_leaves_what_was_there(compiler, tmp_path):
    target = tmp_path / "library"
    target.write_text("of before")
    assert compile_with(["false"], target).returncode != 0
    assert compile_with(["no_such_compiler"], target).returncode != 0
    broken = Path(compiler)
    broken.write_text(broken.read_text() + "exit 1\n")
    assert compile_with([compiler], target).returncode != 0
    assert target.read_text() == "of before"
    assert {path.name for path in tmp_path.iterdir()} == {"library", "compiler"}


def test_what_is_declared_is_what_tensorflow_declares(tmp_path):
    """The kernel is compiled without TensorFlow's headers: they are the oracle."""
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    headers = ("kernels", "ops", "tf_datatype", "tf_status", "tf_tensor")
    values = {
        **{"TF_OK": 0, "TF_INVALID_ARGUMENT": 3, "TF_RESOURCE_EXHAUSTED": 8},
        **{"TF_INTERNAL": 13, "TF_FLOAT": 1, "TF_DOUBLE": 2, "TF_BOOL": 10},
        **{"TF_BFLOAT16": 14, "TF_HALF": 19},
    }
    code = [f"static_assert({name} == {value});" for name, value in values.items()]
    ours, theirs = tmp_path / "ours.cc", tmp_path / "theirs.cc"
    ours.write_text("\n".join(['#include "tensorflow_c.h"', *code]))
    theirs.write_text(
        "\n".join(
            [
                *(f'#include "tensorflow/c/{header}.h"' for header in headers),
                "#define GROUPNORM_TENSORFLOW_IS_HERE",
                '#include "tensorflow_c.h"',
                *code,
            ]
        )
    )
    for source in (ours, theirs):
        check_syntax(source)


def check_syntax(source):
    command = ["c++", "-std=c++17", "-fsyntax-only", f"-I{NATIVE}"]
    command += [f"-I{tf.sysconfig.get_include()}", str(source)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def fields(declarations):
    """The structures in C++ code, and the fields that are declared in each."""
    for name, body in re.findall(r"struct (\w+) \{(.*?)\n\};", declarations, re.S):
        code = re.sub("//.*", "", body)
        # The name of a field, or of a pointer to a function.
        found = re.findall(r"(\w+)(?:;|\)\()", code)
        yield name, list(dict.fromkeys(found))


def test_what_is_declared_is_what_xla_declares(tmp_path):
    """As above: every field that the kernel may read is where XLA's headers have it."""
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    declarations = (NATIVE / "xla_ffi.h").read_text()
    code = [
        "#include <cstddef>",
        "#include <cstdint>",
        '#include "xla/ffi/api/c_api.h"',
        'namespace ours {\n#include "xla_ffi.h"\n}',
    ]
    checked = 0
    for struct, names in fields(declarations):
        for field in names:
            code += [
                f"static_assert(offsetof(ours::{struct}, {field}) == "
                f"offsetof(::{struct}, {field}));",
                f"static_assert(sizeof(ours::{struct}::{field}) == "
                f"sizeof(::{struct}::{field}));",
            ]
            checked += 1
    assert checked > 60
    for constant in re.findall(r"constexpr int (\w+) =", declarations):
        code.append(f"static_assert(int(ours::{constant}) == int(::{constant}));")
    # The size of a frame tells how it is laid out.
    code.append(
        "static_assert(offsetof(ours::XLA_FFI_CallFrame, attrs) + "
        "sizeof(ours::XLA_FFI_CallFrame::attrs) == XLA_FFI_CallFrame_STRUCT_SIZE);"
    )
    source = tmp_path / "both.cc"
    source.write_text("\n".join(code))
    check_syntax(source)


# --- Loading --------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_where_there_is_a_compiler_there_is_a_kernel():
    """Or else all tests of the kernel would be skipped."""
    assert library.load().ops is not None, library.load().status


@pytest.fixture
def found_at(monkeypatch):
    """Have the library looked for at another place."""

    def find(path):
        monkeypatch.setattr(library, "_PATH", path)
        monkeypatch.setenv("GROUPNORM_NATIVE", "1")
        library._load.cache_clear()
        return groupnorm.implementation()

    yield find
    library._load.cache_clear()


def assert_it_computes():
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("f")
    y = groupnorm.group_normalization(x, 3)
    assert oracle.relative_error(y, oracle.group_normalization(x, 3)) < 5e-6


def test_where_there_is_none(found_at, tmp_path):
    name, reason = found_at(tmp_path / "none.so")
    assert name == "tensorflow"
    assert "no C++ compiler when groupnorm was installed" in reason
    assert_it_computes()


@pytest.mark.parametrize("damage", ["text", "foreign"])
def test_one_that_does_not_load(damage, found_at, tmp_path):
    path = tmp_path / "groupnorm_ops.so"
    path.write_text("no library")
    if damage == "foreign":
        if not library._PATH.exists():
            pytest.skip("there is no library to change")
        content = bytearray(library._PATH.read_bytes())
        content[18:20] = (243).to_bytes(
            2, "little"
        )  # the ELF number of another processor
        path.write_bytes(content)
    name, reason = found_at(path)
    assert name == "tensorflow"
    assert f"{path} could not be loaded" in reason
    assert_it_computes()


def test_importing_neither_compiles_nor_loads():
    code = (
        "import sys, groupnorm; assert 'tensorflow' not in sys.modules; "
        "from groupnorm.op.native import library; "
        "assert library._load.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- Threads --------------------------------------------------------------------------


@pytest.fixture
def groups(tmp_path):
    """Write the control groups of a system, and ask what they allow."""

    def write(membership, **files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return threads.quota(tmp_path)

    return write


V1 = "3:cpuset:/\n2:cpu,cpuacct:/docker/a\n1:memory:/docker/b\n"


@pytest.mark.parametrize(
    ("membership", "files", "wanted"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        # The narrowest of those above it holds, too.
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 50000", "a/cpu.max": "300000 100000"}, 2),
        # The path is the host's, the mount the container's own.
        ("0::/../../c\n", {"cpu.max": "400000 100000"}, 4),
        (V1, {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "50000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        (V1, {"memory/cpu.max": "100000 100000"}, None),
    ],
)
def test_the_quota_of_a_container(groups, membership, files, wanted):
    assert groups(membership, **files) == wanted


def test_without_control_groups(tmp_path):
    assert threads.quota(tmp_path) is None


@pytest.mark.parametrize(
    ("configured", "environment", "processors", "quota", "wanted"),
    [
        (0, None, 8, None, 0),  # all that there are
        (0, None, 8, 2, 2),
        (0, None, 1, 2, 1),
        (3, None, 8, None, 3),
        (3, "5", 8, None, 3),
        (0, "5", 8, None, 5),
        (0, "5", 8, 4, 4),
        (6, None, 8, 4, 4),
        (0, "many", 8, None, 0),
    ],
)
def test_no_more_threads_than_tensorflow_uses_or_the_container_has(
    monkeypatch, configured, environment, processors, quota, wanted
):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if environment is not None:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", environment)
    monkeypatch.setattr(
        tf.config.threading, "get_intra_op_parallelism_threads", lambda: configured
    )
    monkeypatch.setattr(threads, "_processors", lambda: processors)
    monkeypatch.setattr(threads, "quota", lambda: quota)
    assert threads.setting() == wanted


COUNT = """
import os, threading, numpy as np, tensorflow as tf
from groupnorm import group_normalization, implementation
assert implementation().name == "native", implementation()
x = tf.constant(np.random.default_rng(0).normal(size=(8, 64, 64, 64)).astype("f"))
under_xla = os.environ["UNDER_XLA"] == "1"
tf.function(tf.nn.relu, jit_compile=under_xla)(x)
run = tf.function(lambda x: group_normalization(x, 8), jit_compile=under_xla)
before = len(os.listdir("/proc/self/task"))
for _ in range(20):
    run(x)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="Linux counts threads so"
)
@pytest.mark.parametrize("under_xla", ["0", "1"])
@pytest.mark.parametrize("allowed", [pytest.param(1, marks=pytest.mark.full), 3])
def test_the_kernel_takes_as_many_threads_as_it_is_told(allowed, under_xla):
    """Itself and helpers: the thread that calls works too."""
    if library.load().ops is None:
        pytest.skip(library.load().status)
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": str(allowed)}
    found = subprocess.run(
        [sys.executable, "-c", COUNT],
        env={**environment, "GROUPNORM_NATIVE": "1", "UNDER_XLA": under_xla},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) == allowed - 1
