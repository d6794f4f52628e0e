"""Both packages from a checkout: by every way in which one installs them.

The checkout is a clone of the repository, made as Windows makes it: without links.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ARTICLES, README, ROOT, all_blocks, blocks

needs_r = pytest.mark.skipif(shutil.which("R") is None, reason="R is not installed")


@pytest.fixture
def clone(tmp_path):
    """The files that git has or would take, as they are now."""
    clone = tmp_path / "clone"
    command = ["git", "clone", "-q", "-c", "core.symlinks=false", ROOT, clone]
    subprocess.run(command, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for path in listed:
        if not (ROOT / path).exists():
            (clone / path).unlink(missing_ok=True)  # deleted, and not yet committed
            continue
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, clone / path)
    return clone


@pytest.fixture
def library(tmp_path):
    """A library of R packages that is empty."""
    library = tmp_path / "library"
    library.mkdir()
    return library


@pytest.fixture
def no_compiler(tmp_path):
    """A path to all programs but compilers of C++."""
    folder = tmp_path / "bin"
    folder.mkdir()
    compilers = re.compile(r"(.*-)?(c\+\+|g\+\+|gcc|cc|clang|clang\+\+|cpp)(-[\d.]+)?")
    for program in (*Path("/usr/bin").iterdir(), *Path("/bin").iterdir()):
        link = folder / program.name
        if not compilers.fullmatch(program.name) and not link.is_symlink():
            link.symlink_to(program)
    return str(folder)


def r(*command, cwd, fails=False, **environment):
    """What R prints. The kernel, which takes seconds to compile, is left out."""
    found = subprocess.run(
        [shutil.which(command[0]), *command[1:]],
        cwd=cwd,
        env={**os.environ, "GROUPNORM_KERNEL": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    output = found.stdout + found.stderr
    assert (found.returncode != 0) == fails, output
    return output


def install(what, library, cwd, **options):
    return r(
        *("R", "CMD", "INSTALL", "--no-docs", "--no-test-load"),
        *(f"--library={library}", str(what)),
        cwd=cwd,
        **options,
    )


def build(clone):
    """The file that R CMD build makes."""
    r("R", "CMD", "build", "--no-build-vignettes", "--no-manual", ".", cwd=clone)
    (built,) = clone.glob("groupnorm_*.tar.gz")
    return built


def assert_has_the_python_code(library):
    """What is installed is what the repository has."""
    source, copy = ROOT / "python" / "groupnorm", library / "groupnorm/python/groupnorm"
    kinds = ("*.py", "*.typed", "*.cc", "*.h", "*.inc")
    files = [path.relative_to(source) for kind in kinds for path in source.rglob(kind)]
    assert len(files) > 30
    for file in files:
        assert (copy / file).read_bytes() == (source / file).read_bytes(), file


def computes_with(folder):
    """What computes where the package is in this folder, and why."""
    code = (
        "import numpy as np, groupnorm; print(groupnorm.__file__); "
        "groupnorm.group_normalization(np.ones((2, 3, 4), 'f'), 2); "
        "print(*groupnorm.implementation())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(folder), "GROUPNORM_NATIVE": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    file, computes = found.stdout.splitlines()
    assert Path(file).is_relative_to(folder)
    return computes


def leave_an_old_copy(clone):
    """What an installation of an older version left in the checkout."""
    old = clone / "inst/python/groupnorm"
    old.mkdir(parents=True, exist_ok=True)
    (old / "__init__.py").write_text("raise ImportError('an old copy')")
    (old / "gone.py").write_text("")


# The kernel takes a while to compile. Every day the set-up of the tests does that, both
# ways, and test_kernel_build.py sees that it did.
with_and_without_kernel = pytest.mark.parametrize(
    "kernel", ["0", pytest.param("1", marks=pytest.mark.full)]
)


@needs_r
@with_and_without_kernel
def test_r_from_the_checkout(kernel, clone, library):
    leave_an_old_copy(clone)
    compiles = kernel == "1" and shutil.which("c++") is not None
    output = install(".", library, cwd=clone, GROUPNORM_KERNEL=kernel)
    assert ("groupnorm: the native kernel is compiled" in output) == compiles
    assert_has_the_python_code(library)
    assert not (library / "groupnorm/python/groupnorm/gone.py").exists()
    computes = computes_with(library / "groupnorm/python")
    assert computes.startswith("native" if compiles else "tensorflow")


@needs_r
@pytest.mark.full
def test_r_without_a_compiler(clone, library, no_compiler):
    output = install(".", library, cwd=clone, GROUPNORM_KERNEL="1", PATH=no_compiler)
    (line,) = (line for line in output.splitlines() if "native kernel" in line)
    assert line.startswith("groupnorm: no native kernel, plain TensorFlow will do: ")
    computes = computes_with(library / "groupnorm/python")
    assert computes.startswith("tensorflow there was no C++ compiler")


@needs_r
def test_r_from_what_it_built(clone, library):
    leave_an_old_copy(clone)
    install(build(clone), library, cwd=library)
    assert_has_the_python_code(library)
    assert not (library / "groupnorm/python/groupnorm/gone.py").exists()


@needs_r
def test_r_from_what_pkgbuild_built(clone, library):
    """As `remotes` and `devtools` build it."""
    code = "quit(status = if (requireNamespace('pkgbuild', quietly = TRUE)) 0 else 9)"
    if subprocess.run(["Rscript", "-e", code], check=False).returncode == 9:
        pytest.skip("the R package pkgbuild is not installed")
    leave_an_old_copy(clone)
    r("Rscript", "-e", "pkgbuild::build('.', '..', vignettes = FALSE)", cwd=clone)
    (built,) = clone.parent.glob("groupnorm_*.tar.gz")
    install(built, library, cwd=library)
    assert_has_the_python_code(library)


@needs_r
@pytest.mark.full
def test_r_by_the_bootstrap_that_pkgbuild_runs(clone, library):
    """Newer versions of it do, in the checkout, because DESCRIPTION asks for it."""
    assert "\nConfig/build/bootstrap: TRUE\n" in (clone / "DESCRIPTION").read_text()
    (clone / "cleanup").unlink()  # it is not this that does it
    leave_an_old_copy(clone)
    r("Rscript", "bootstrap.R", cwd=clone)
    install(build(clone), library, cwd=library)
    assert_has_the_python_code(library)


@needs_r
def test_r_refuses_what_has_no_python_code(clone, library):
    (clone / "cleanup").unlink()
    built = build(clone)
    output = install(built, library, cwd=library, fails=True)
    assert "was built without its Python code" in output
    assert not (library / "groupnorm").exists()


@needs_r
def test_on_windows_the_same_is_done(clone):
    """By `configure.win` and `cleanup.win`, which R runs there."""
    home = r("R", "RHOME", cwd=clone).strip()
    for script in ("configure.win", "cleanup.win"):
        shutil.rmtree(clone / "inst/python", ignore_errors=True)
        environment = {**os.environ, "R_HOME": home}
        subprocess.run(["sh", f"./{script}"], cwd=clone, env=environment, check=True)
        assert (clone / "inst/python/groupnorm/__init__.py").exists()


def pip_install(clone, target, **environment):
    """What pip prints."""
    command = [sys.executable, "-m", "pip", "install", "-v", "--no-deps", "--target"]
    return subprocess.run(
        [*command, target, "./python"],
        cwd=clone,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout


@with_and_without_kernel
def test_python_from_the_checkout(kernel, clone, tmp_path):
    compiles = kernel == "1" and shutil.which("c++") is not None
    pip_install(clone, tmp_path / "target", GROUPNORM_KERNEL=kernel)
    computes = computes_with(tmp_path / "target")
    assert computes.startswith("native" if compiles else "tensorflow")


def test_python_without_a_compiler(clone, tmp_path, no_compiler):
    output = pip_install(clone, tmp_path / "target", PATH=no_compiler)
    assert "there is no C++ compiler; plain TensorFlow will do instead" in output
    computes = computes_with(tmp_path / "target")
    assert computes.startswith("tensorflow there was no C++ compiler")


# By the very commands that the documents show. They fetch TensorFlow anew.

_R_CODE = """
{install}
library(groupnorm)
stopifnot(groupnorm_config()$usable)
{code}
stopifnot(model$count_params() == 32 * 9 + 2 * 32 + 33 * 10)
"""


@pytest.fixture
def run(clone, tmp_path):
    """Run a command in a clone, without what the tests themselves have installed."""
    ours = ("R_LIBS", "RETICULATE_PYTHON", "PYTHONPATH", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    # The one Python to be found is that which the tests' own environment was made from;
    # what pip was told is still known.
    config = env.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))
    env.pop("PYENV_ROOT", None)
    env.update(HOME=str(tmp_path), XDG_CONFIG_HOME=config)
    own = str(Path(sys.prefix) / "bin")
    others = [one for one in env["PATH"].split(os.pathsep) if one != own]
    env["PATH"] = os.pathsep.join([str(Path(sys.base_prefix) / "bin"), *others])

    def run(command, **more):
        subprocess.run(command, cwd=clone, env={**env, **more}, check=True, timeout=900)

    return run


@pytest.mark.full
def test_python_by_pip(run, tmp_path):
    command = next(c for c in blocks(README, "sh") if "pip install" in c)
    environment = tmp_path / "env"
    run([sys.executable, "-m", "venv", environment])
    run(["sh", "-c", f'PATH="{environment}/bin:$PATH"\n{command}'])
    code = "\n".join(blocks(README))
    run([environment / "bin/python", "-c", code])


@pytest.mark.full
def test_r_by_its_own_command_and_function(run, library, tmp_path):
    command = next(c for c in blocks(README, "sh") if "R CMD INSTALL" in c)
    own = {"R_LIBS": str(library), "WORKON_HOME": str(tmp_path / "envs")}
    run(["sh", "-c", command], **own)
    chunks = all_blocks(ARTICLES / "get-started.Rmd", "r")
    (install,) = [
        chunk.code for chunk in chunks if chunk.options.startswith(" install")
    ]
    code = "\n".join(blocks(README, "r"))
    script = tmp_path / "script.R"
    script.write_text(_R_CODE.format(install=install, code=code))
    run(["Rscript", script], **own)


# The wheels that `make dist` left.

_DIST = ROOT / "dist"
_WHEELS = sorted(path.name for path in _DIST.glob("*.whl"))


@pytest.mark.full
@pytest.mark.skipif(not _WHEELS, reason="there are no wheels: make dist")
@pytest.mark.parametrize("tensorflow", ["oldest", "newest"])
@pytest.mark.parametrize("kind", ["manylinux", "any"])
def test_a_wheel_in_an_empty_environment(kind, tensorflow, run, tmp_path):
    """TensorFlow comes after it."""
    fits = f"{kind}.*{platform.machine()}" if kind == "manylinux" else r"none-any\.whl"
    (wheel,) = (name for name in _WHEELS if re.search(fits, name))
    environment = tmp_path / "env"
    python = environment / "bin/python"
    run([sys.executable, "-m", "venv", environment])
    requirements = ROOT / "tools" / f"requirements-{tensorflow}.txt"
    run([python, "-m", "pip", "install", "-q", _DIST / wheel])
    run([python, "-m", "pip", "install", "-q", "-r", requirements])
    code = (
        "import numpy as np, keras, groupnorm\n"
        "layer = groupnorm.GroupNormalization(2)\n"
        "assert layer(np.ones((2, 3, 4), 'f')).shape == (2, 3, 4)\n"
        f"expected = {'native' if kind == 'manylinux' else 'tensorflow'!r}\n"
        "assert groupnorm.implementation().name == expected, groupnorm.implementation()"
    )
    run([python, "-c", code])
