"""The Python code that README, articles and docstrings show: it is run."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "vignettes").glob("*.Rmd"))]


def blocks(file: Path) -> list[str]:
    """The code between ```python, or ```{python options}, and ```."""
    fenced = re.compile(r"^```(?:python|\{python([^}]*)\})\n(.*?)^```$", re.M | re.S)
    return [
        code
        for options, code in fenced.findall(file.read_text())
        if not re.search(r"eval\s*=\s*FALSE", options)
    ]


def run(file: Path, **names):
    """The names that all blocks of a document leave, run one after the other."""
    found = blocks(file)
    assert found, f"there is no Python code in {file.name}"
    for code in found:
        exec(compile(code, file.name, "exec"), names)
    return names


def test_readme():
    model = run(ROOT / "README.md")["model"]
    assert model.count_params() == 32 * 9 + 2 * 32 + 33 * 10
    assert model.predict(np.zeros((2, 28, 28, 1)), verbose=0).shape == (2, 10)


def test_the_article_for_a_start():
    digits = ROOT / "inst/extdata/digits.csv.gz"
    names = run(ROOT / "vignettes/get-started-python.Rmd", digits_file=digits)
    right = names["probability"].argmax(1) == names["labels"][names["test"]]
    assert right.mean() > 0.95
    again = names["again"].predict(names["images"][names["test"]], verbose=0)
    np.testing.assert_array_equal(again, names["probability"])


def test_the_article_names_a_file_that_is_there():
    text = (ROOT / "vignettes/get-started-python.Rmd").read_text()
    (named,) = re.findall(r'^digits_file = "(.*)"$', text, re.M)
    assert (ROOT / named).is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_what_is_only_shown_is_python(document):
    for code in blocks(document):
        compile(code, document.name, "exec")


@pytest.mark.parametrize("module", ["layers", "legacy", "op"])
def test_docstrings(module):
    if module == "legacy":
        pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    found = doctest.testmod(importlib.import_module(f"groupnorm.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
