"""Compile the native kernel when the package is built; all else is in pyproject.toml.

Without a C++ compiler the package is built all the same, and computes with plain
TensorFlow. In the environment, `CXX` names the compiler, with options if there are any,
and `GROUPNORM_KERNEL=0` leaves the kernel out.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

NATIVE = Path("groupnorm/op/native")


class BuildKernel(build_ext):
    """A library that TensorFlow loads: it has nothing to do with Python's own API."""

    def get_ext_filename(self, fullname):
        return f"{fullname.replace('.', os.sep)}.so"

    def build_extension(self, ext):
        library = Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        command = ["sh", str(NATIVE / "compile.sh"), str(library), *compiler()]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CompileError(f"plain TensorFlow will do instead ({error})") from error


def compiler():
    """The command that compiles C++."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    for command in (chosen, ["c++"], ["g++"], ["clang++"]):
        if command and shutil.which(command[0]):
            return command
    raise CompileError("there is no C++ compiler; plain TensorFlow will do instead")


class Wheel(bdist_wheel):
    """One wheel serves every Python of a platform."""

    def get_tag(self):
        _python, _abi, platform = super().get_tag()
        return "py3", "none", platform


kernel = Extension(
    "groupnorm.op.native.groupnorm_ops",
    sources=[str(NATIVE / "groupnorm_ops.cc")],
    depends=[str(path) for path in sorted(NATIVE.glob("*.*")) if path.suffix != ".so"],
    optional=True,
)
left_out = sys.platform == "win32" or os.environ.get("GROUPNORM_KERNEL") == "0"

setup(
    ext_modules=[] if left_out else [kernel],
    cmdclass={"build_ext": BuildKernel, "bdist_wheel": Wheel},
)
