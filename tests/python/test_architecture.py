"""How the modules of the package hang together.

`python/pyproject.toml` says which may import which, and `make lint` holds that.
"""

from __future__ import annotations

import multiprocessing
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import groupnorm

grimp = pytest.importorskip("grimp", reason="import-linter is not installed")

HERE = Path(groupnorm.__file__).parent
PYPROJECT = Path(__file__).parents[2] / "python" / "pyproject.toml"


@pytest.fixture(scope="module")
def graph():
    """Which module imports which; imports inside functions count."""
    return grimp.build_graph("groupnorm", cache_dir=None)


def sort(graph):
    """Raise an error if a circle of imports leads back to where it began."""
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    TopologicalSorter(imports).prepare()


def test_no_circle_of_imports(graph):
    sort(graph)


def test_a_circle_would_be_seen(graph):
    graph.add_import(importer="groupnorm.op.context", imported="groupnorm.op.choice")
    with pytest.raises(CycleError):
        sort(graph)


def test_the_arrows_run_one_way():
    linter = import_module("importlinter.cli")
    assert (
        linter.lint_imports(str(PYPROJECT), no_cache=True) == linter.EXIT_STATUS_SUCCESS
    )


def modules():
    paths = (path.relative_to(HERE.parent) for path in HERE.rglob("*.py"))
    names = (".".join(path.with_suffix("").parts) for path in paths)
    return sorted(name.removesuffix(".__init__") for name in names)


@pytest.mark.parametrize("name", modules())
@pytest.mark.parametrize(
    "start",
    [
        # From a process that has loaded TensorFlow and Keras, and nothing of ours.
        "forkserver",
        pytest.param("spawn", marks=pytest.mark.full),
    ],
)
def test_every_module_can_be_imported_alone(name, start):
    processes = multiprocessing.get_context(start)
    processes.set_forkserver_preload(["tensorflow", "keras", "tf_keras"])
    process = processes.Process(target=import_module, args=(name,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
