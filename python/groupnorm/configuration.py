"""What is installed, whether it will do, and what computes: for people to read."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path

from groupnorm._version import __version__

# What is printed for a module. The package that brings it may have another name, as
# TensorFlow's builds do.
_MODULES = {
    "TensorFlow": "tensorflow",
    "Keras": "keras",
    "tf_keras": "tf_keras",
    "NumPy": "numpy",
}


@dataclass
class Configuration:
    """What `configuration` found. Printed, it is for people to read.

    Attributes:
        usable: Whether layers can be made.
        problem: What is wrong, or `None`.
        python: Path of the Python program.
        versions: Of groupnorm, Python, TensorFlow, Keras, tf_keras and NumPy; `None`
            where one is not found.
        keras: The Keras that a layer without an object is made for, "keras" or
            "tf_keras"; `None` where none can be used.
        backend: The backend of that Keras, or `None`.
        implementation: What computes on this machine, "native" or "tensorflow", or
            `None`.
        reason: Why it is that one, or `None`.
        location: Folder that this package was loaded from.
    """

    usable: bool = False
    problem: str | None = None
    python: str = sys.executable
    versions: dict[str, str | None] = field(default_factory=dict)
    keras: str | None = None
    backend: str | None = None
    implementation: str | None = None
    reason: str | None = None
    location: str = os.fspath(Path(__file__).parent)

    def __str__(self) -> str:
        versions = (f"{name} {found or '-'}" for name, found in self.versions.items())
        layers = f"for {self.keras} on {self.backend}" if self.keras else None
        computing = f"{self.implementation}: {self.reason}"
        rows = {
            "usable": "yes" if self.usable else "no",
            "problem": self.problem and self.problem.replace("\n", "\n" + " " * 11),
            "python": self.python,
            "versions": ", ".join(versions),
            "layers": layers,
            "computing": computing if self.implementation else None,
            "location": self.location,
        }
        return "\n".join(f"{name + ':':<11}{row}" for name, row in rows.items() if row)


def configuration() -> Configuration:
    """Find what the layers need, try it, and say what is missing. It never fails."""
    found = Configuration(versions=_versions())
    try:
        _try(found)
    except Exception as error:  # whatever it is, it is what this is here to tell
        found.problem = str(error) or type(error).__name__
    found.usable = found.problem is None
    return found


def _try(found: Configuration) -> None:
    from groupnorm.compose import compose
    from groupnorm.layers import generation

    found.keras = generation.default()
    layer = compose("GroupNormalization")
    found.backend = layer._keras.backend.backend()
    from groupnorm.op.choice import implementation

    found.implementation, found.reason = implementation()


def _versions() -> dict[str, str | None]:
    packages = importlib.metadata.packages_distributions()
    found = {name: packages.get(module) for name, module in _MODULES.items()}
    return {
        "groupnorm": __version__,
        "Python": platform.python_version(),
        **{
            name: importlib.metadata.version(brought_by[0]) if brought_by else None
            for name, brought_by in found.items()
        },
    }
