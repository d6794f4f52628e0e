"""The code that documents show, in fenced blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ARTICLES = ROOT / "vignettes"


class Block(NamedTuple):
    options: str  # of a block like ```{python options}
    code: str


def all_blocks(file: Path, language: str) -> list[Block]:
    """The code between ```language, or ```{language options}, and ```."""
    head = rf"^```(?:{language}|\{{{language}\b([^}}]*)\}})\n"
    return [
        Block(*found)
        for found in re.findall(head + r"(.*?)^```$", file.read_text(), re.M | re.S)
    ]


def blocks(file: Path, language: str = "python") -> list[str]:
    """The code of all blocks but those that are only shown."""
    return [
        block.code
        for block in all_blocks(file, language)
        if not re.search(r"eval\s*=\s*FALSE", block.options)
    ]
