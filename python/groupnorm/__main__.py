"""The command line: `python -m groupnorm`, or `groupnorm` where pip put it."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from typing import Any

from groupnorm._version import __version__

_EXAMPLES = """\
examples:
  groupnorm config
  groupnorm migrate old.h5 new.keras
  groupnorm migrate saved_model_folder new.keras --overwrite
"""
_MIGRATE_EXAMPLES = """\
examples:
  groupnorm migrate old.h5 new.keras
      a file of Keras 2, written with TensorFlow Addons or without
  groupnorm migrate saved_model_folder new.keras --overwrite
      a SavedModel; new.keras is replaced if it is there
  groupnorm migrate old.h5 --dry-run
      what would be changed, and whether it predicts the same; nothing is written
  groupnorm migrate old.h5 new.keras --custom-objects script.py
      a file with layers or functions of your own: script.py, which is run, defines
      them for Keras 3, or has a dictionary `custom_objects`, as for Lambda layers
  groupnorm migrate old.h5 new.keras --layers keras
      with Keras's own GroupNormalization, so that it opens without this package

It needs tf_keras: pip install tf-keras
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did what it was asked, 1 if not (2: wrong usage)."""
    options = _parser().parse_args(arguments)
    return options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="groupnorm",
        description="Group normalization for TensorFlow and Keras.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    config = commands.add_parser(
        "config",
        help="say what is installed, whether it will do, and what computes",
        description="Say which Python, TensorFlow and Keras are used, whether layers "
        "can be made with them, and what computes on this machine. The exit status is "
        "1 if they cannot be made.",
    )
    config.set_defaults(run=_config)

    migrate = commands.add_parser(
        "migrate",
        help="bring a model that Keras 2 saved over to Keras 3",
        description="Bring a model that Keras 2 saved over to Keras 3, and prove that "
        "it predicts the same.",
        epilog=_MIGRATE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    migrate.add_argument("old", help="a .h5 or .keras file, or a SavedModel folder")
    migrate.add_argument("new", nargs="?", help="the .keras file to write")
    migrate.add_argument(
        "--overwrite", action="store_true", help="replace NEW if it is there"
    )
    migrate.add_argument(
        "--custom-objects",
        metavar="SCRIPT",
        help="a Python file with your own classes and functions, by the names that "
        "OLD has for them",
    )
    migrate.add_argument(
        "--layers",
        choices=("groupnorm", "keras"),
        default="groupnorm",
        help="whose group normalization NEW has (default: groupnorm)",
    )
    migrate.add_argument(
        "--dry-run", action="store_true", help="do all but write; NEW may be left out"
    )
    migrate.set_defaults(run=_migrate, parser=migrate)
    return parser


def _config(options: argparse.Namespace) -> int:
    from groupnorm.configuration import configuration

    found = configuration()
    print(found)
    return 0 if found.usable else 1


def _migrate(options: argparse.Namespace) -> int:
    from groupnorm.migration import migrate

    if options.new is None and not options.dry_run:
        options.parser.error("NEW is missing: the .keras file to write")
    try:
        report = migrate(
            options.old,
            options.new,
            overwrite=options.overwrite,
            custom_objects=_custom_objects(options.custom_objects),
            layers=options.layers,
            dry_run=options.dry_run,
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"groupnorm migrate: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0


def _custom_objects(script: str | None) -> dict[str, Any] | None:
    """What a script of the user's own calls so, or all that it defines."""
    if script is None:
        return None
    name = "groupnorm_custom_objects"
    found = runpy.run_path(script, run_name=name)
    if "custom_objects" in found:
        return found["custom_objects"]
    return {
        key: value
        for key, value in found.items()
        if callable(value) and getattr(value, "__module__", None) == name
    }


if __name__ == "__main__":
    sys.exit(main())
