"""The command `python -m groupnorm.migrate OLD NEW`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from groupnorm._migration import migrate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the file was written, 1 if not (2: wrong usage)."""
    parser = argparse.ArgumentParser(
        prog="python -m groupnorm.migrate",
        description="Bring a model that Keras 2 saved over to Keras 3, and prove that "
        "it predicts the same.",
    )
    parser.add_argument("old", help="a .h5 or .keras file, or a SavedModel folder")
    parser.add_argument("new", help="the .keras file to write")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace NEW if it is there"
    )
    options = parser.parse_args(arguments)
    try:
        report = migrate(options.old, options.new, overwrite=options.overwrite)
    except (ValueError, OSError, ImportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0
