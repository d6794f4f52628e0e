"""Bringing a model that Keras 2 saved over to Keras 3.

Read this file first: it has the steps in their order, each in a file of its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groupnorm.migration.report import MigrationError, Report

__all__ = ["MigrationError", "Report", "migrate"]

_LAYERS = ("groupnorm", "keras")


def migrate(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str] | None,
    overwrite: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
    layers: str = "groupnorm",
    dry_run: bool = False,
) -> Report:
    """Bring a model that Keras 2 saved over to Keras 3.

    The file is read, never run: a model with code in it, or with classes that are not
    known here, is refused, unless `custom_objects` has what takes their place. The new
    model must predict what the old one predicts on random input before the new file is
    put in its place. It is compiled as the old one was, and trains on from where that
    one stopped, if Keras 3 has the same optimizer, loss and metrics. If not, the report
    says why.

    Args:
        old: A `.h5` or `.keras` file of TensorFlow 2.15 and before (or of tf_keras), or
            a SavedModel folder that holds a Keras model. Only read.
        new: The `.keras` file to write. `None` in a dry run.
        overwrite: Whether `new` is replaced if it is there.
        custom_objects: Your own classes and functions, by the names that the file has
            for them: a Keras 3 class, a function that works under both generations
            (made of `keras.ops`, say), or a pair of one for Keras 2 and one for
            Keras 3. What takes the place of a Lambda layer goes under that layer's
            name.
        layers: Whose group normalization the new file has: "groupnorm" for this
            package's, "keras" for Keras's own, so that the file opens without this
            package, and on other backends than TensorFlow.
        dry_run: Whether to do all but write the new file.

    Returns:
        What was changed, layer by layer, what was proved and what was not. Printed, it
        is for people to read.

    Raises:
        FileNotFoundError: `old`, or the folder of `new`, is not there.
        FileExistsError: `new` is there, and `overwrite` is false.
        ImportError: tf_keras is not installed.
        MigrationError: A `ValueError`. The model cannot be brought over: the message
            names the layer and the argument.
        OSError: `new` cannot be written.
    """
    path, target = Path(old), _target(new, dry_run)
    _check_arguments(custom_objects, layers)
    _check_paths(path, target, overwrite)
    _check_libraries()
    # These need both Keras generations.
    from groupnorm.migration import (
        activations,
        compilation,
        custom,
        graph,
        progress,
        proof,
        source,
        vetting,
        weights,
    )

    report = Report(str(path), None if target is None else str(target))
    bar = progress.Bar(path, steps=8)
    with source.opened(path) as saved:
        own = custom.CustomObjects(custom_objects, saved.config, saved.training_config)
        with own.in_use():
            model = bar.after(saved.model(own.config))
            names = vetting.class_names(own.config)
            made = bar.after(graph.convert(model, names, layers, report))
            places = bar.after(weights.transfer(made.pairs))
            compilation.carry_over(saved, model, made.model, places, report)
            bar.after(None)
            evidence = bar.after(proof.observe(model))
            bar.after(evidence.compare(made.model))
            # Beside the target, so that the finished file moves in one step; and all
            # goes away by itself if anything fails.
            beside = None if target is None or dry_run else target.parent
            with tempfile.TemporaryDirectory(
                prefix=".groupnorm-", dir=beside
            ) as folder:
                written = Path(folder) / "model.keras"
                bar.after(made.model.save(written))
                difference = evidence.compare(_reopen(written))
                report.largest_difference = bar.after(difference)
                if target is not None and not dry_run:
                    _check_free(target, overwrite)
                    os.replace(written, target)
                    report.written = True
        report.notes += activations.doubts(own.config)
        own.report_on(report, names, made.model)
    return report


def _target(new: str | os.PathLike[str] | None, dry_run: bool) -> Path | None:
    if new is None and not dry_run:
        raise MigrationError(
            "Argument `new` must be the path of the file to write: it may be None with "
            "dry_run=True only. Received: new=None"
        )
    return None if new is None else Path(new)


def _check_arguments(custom_objects: Any, layers: Any) -> None:
    if custom_objects is not None and not isinstance(custom_objects, Mapping):
        raise MigrationError(
            "Argument `custom_objects` must be a dictionary, of classes and functions "
            f"by their names in the file. Received: custom_objects={custom_objects!r}"
        )
    if layers not in _LAYERS:
        raise MigrationError(
            "Argument `layers` must be 'groupnorm', for the layers of this package, or "
            f"'keras', for Keras's own. Received: layers={layers!r}"
        )


def _check_paths(path: Path, target: Path | None, overwrite: bool) -> None:
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    if target is None:
        return
    if target.suffix != ".keras":
        raise MigrationError(
            f"Keras 3 saves models in .keras files. Received: new={str(target)!r}"
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(target.parent)!r}.")
    if target.exists() and target.samefile(path):
        raise MigrationError(
            f"The old file is never changed: give the new one another name than "
            f"{str(path)!r}."
        )
    _check_free(target, overwrite)
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"Cannot write in the folder {str(target.parent)!r}.")


def _check_free(target: Path, overwrite: bool) -> None:
    if target.is_dir() or (target.exists() and not overwrite):
        raise FileExistsError(
            f"{str(target)!r} is there already: choose another name, or say "
            "overwrite=True (on the command line --overwrite; a folder is never "
            "replaced)."
        )


def _check_libraries() -> None:
    try:
        import tf_keras  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "tf_keras":
            raise
        raise ImportError(
            "Reading what Keras 2 saved needs tf_keras: "
            "`pip install groupnorm[tf-keras]` (or `pip install tf-keras`)."
        ) from None
    import keras

    if keras.config.backend() != "tensorflow":
        raise ImportError(
            "Migrating needs Keras 3 on TensorFlow: set the environment variable "
            "KERAS_BACKEND=tensorflow before Keras is loaded. It is using the backend "
            f"{keras.config.backend()!r}."
        )


def _reopen(path: Path) -> Any:
    import keras

    try:
        return keras.models.load_model(path)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise MigrationError(f"Keras 3 does not read it back: {error}") from error
