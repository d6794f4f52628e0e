"""Builds and finds the library of native operations.

Nothing here runs when the package is imported: the library is built when
somebody asks for it, with ``build()`` or ``python -m groupnorm.native.build``.
The file's name carries a hash of its sources and of how it is compiled, and the
platform, so that a stale or foreign library is never taken for this one.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import pathlib
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile

_HERE = pathlib.Path(__file__).resolve().parent
_SOURCE = _HERE / "groupnorm_ops.cc"
_SOURCES = (
    _SOURCE,
    *(_HERE / f for f in ("kernel.h", "loops.h", "loops.inc", "pool.h")),
)
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-pthread",
    "-Wno-psabi",  # vectors are passed between inlined functions only
)
_COMPILERS = ("c++", "g++", "clang++")


def build(force: bool = False, verbose: bool = False) -> pathlib.Path:
    """Compiles the library against the installed TensorFlow.

    It goes into this folder if only its owner can write there, and this user can; else
    into the user's cache.

    Args:
        force: build even if there is a library of these sources.
        verbose: print the command and what the compiler says.

    Returns:
        The path of the library.

    Raises:
        RuntimeError: without a compiler or TensorFlow, or if compiling fails.
    """
    found = find()
    if found is not None and not force:
        return found
    if sys.platform == "win32":
        raise RuntimeError("groupnorm has no native kernel for Windows.")
    compiler = _compiler()
    include, framework = _tensorflow()
    own = os.access(_HERE, os.W_OK) and _distrusted(_HERE) is None
    folder = _HERE if own else _make_cache()
    target = folder / _name()
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".build-", suffix=".so")
    os.close(handle)
    try:
        command = [*compiler, *_FLAGS, f"-I{include}", str(_SOURCE), "-o", temporary]
        _compile([*command, framework], verbose)
        os.chmod(temporary, 0o755)
        # In one step: who builds or loads at the same time sees a whole file.
        os.replace(temporary, target)
    finally:
        pathlib.Path(temporary).unlink(missing_ok=True)
    _remove_others(target)
    return target


def find() -> pathlib.Path | None:
    """Returns the library that was built from these sources, or None."""
    there = (path for path in _places() if _refusal(path) is None)
    return next(there, None)


def why_not() -> str:
    """Says why ``find()`` finds none."""
    refusals = [_refusal(path) for path in _places() if os.path.lexists(path)]
    return "; ".join(filter(None, refusals)) or (
        "it is not built: groupnorm.build_kernel() in Python, build_kernel() in R, or "
        "python -m groupnorm.native.build"
    )


def _places() -> list[pathlib.Path]:
    return [folder / _name() for folder in (_HERE, _cache())]


def _refusal(library: pathlib.Path) -> str | None:
    """Why a library is not to be loaded: whoever can change it can run code here."""
    for path in (library.parent, library):
        reason = _distrusted(path)
        if reason is not None:
            return f"{library} is not loaded, because {path} {reason}"
    return None


@functools.cache
def _name() -> str:
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for path in _SOURCES:
        digest.update(path.read_bytes())
    return f"groupnorm_ops-{digest.hexdigest()[:16]}-{_platform()}.so"


def _platform() -> str:
    return f"{sys.platform}_{platform.machine()}".lower()


def _remove_others(target: pathlib.Path) -> None:
    for path in target.parent.glob(f"groupnorm_ops-*-{_platform()}.so"):
        if path != target:
            path.unlink(missing_ok=True)


def _cache() -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(base) / "groupnorm"


def _make_cache() -> pathlib.Path:
    folder = _cache()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    reason = _distrusted(folder)
    if reason is not None:
        raise RuntimeError(f"No native kernel is put into {folder}, which {reason}.")
    return folder


def _distrusted(path: pathlib.Path) -> str | None:
    """Why others might have a say in what is there, or None if they have none."""
    if not hasattr(os, "geteuid"):
        return "is on a system where owners are not known"
    try:
        info = path.lstat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    # Who owns the package itself decides what runs here, whatever is in this folder.
    trusted = {os.geteuid(), 0, pathlib.Path(__file__).stat().st_uid}
    if stat.S_ISLNK(info.st_mode):
        return "is a link to elsewhere"
    if info.st_uid not in trusted:
        return f"belongs to another user (number {info.st_uid})"
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"is one that others may write to (mode {stat.S_IMODE(info.st_mode):o})"
    return None


def _compiler() -> list[str]:
    chosen = shlex.split(os.environ.get("CXX", ""))
    for command in (chosen, *([name] for name in _COMPILERS)):
        if command and shutil.which(command[0]):
            return command
    raise RuntimeError(
        "The native kernel needs a C++ compiler: none of $CXX, "
        f"{', '.join(_COMPILERS)} is there. Everything works without it, slower."
    )


def _tensorflow() -> tuple[str, str]:
    """Returns TensorFlow's include folder and the library to link against."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise RuntimeError("The native kernel needs TensorFlow.") from error
    names = {"darwin": "libtensorflow_framework.2.dylib"}
    name = names.get(sys.platform, "libtensorflow_framework.so.2")
    # Linked by its path, found by its own name: in a process that uses
    # TensorFlow it is loaded already, so no search path is needed.
    return tf.sysconfig.get_include(), os.path.join(tf.sysconfig.get_lib(), name)


def _compile(command: list[str], verbose: bool) -> None:
    if verbose:
        print(shlex.join(command), flush=True)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if verbose and result.stderr:
        print(result.stderr, file=sys.stderr)
    if result.returncode != 0:
        tail = "\n".join(result.stderr.splitlines()[-20:])
        raise RuntimeError(f"Compiling the native kernel failed:\n{tail}")


def main() -> None:
    """The command line: ``python -m groupnorm.native.build``."""
    parser = argparse.ArgumentParser(description="Builds groupnorm's native kernel.")
    parser.add_argument("--force", action="store_true", help="build again")
    parser.add_argument("--verbose", action="store_true", help="show the command")
    arguments = parser.parse_args()
    try:
        print(build(arguments.force, arguments.verbose))
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
