"""Bringing a model that Keras 2 saved over to Keras 3.

Read this file first: it has the steps in their order, each in a file of its own.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from groupnorm.migration.report import MigrationError, Report

__all__ = ["MigrationError", "Report", "migrate"]


def migrate(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    overwrite: bool = False,
) -> Report:
    """Bring a model that Keras 2 saved over to Keras 3.

    The file is read, never run: a model with Lambda layers, or with classes that are
    not known here, is refused. The new model must predict what the old one predicts on
    random input before the new file is put in its place. It is compiled as the old one
    was, if optimizer, loss and metrics are Keras's own and Keras 3 can save them; the
    optimizer's state starts anew. If not, the report says why.

    Args:
        old: A `.h5` or `.keras` file of TensorFlow 2.15 and before (or of tf_keras), or
            a SavedModel folder that holds a Keras model. Only read.
        new: The `.keras` file to write.
        overwrite: Whether `new` is replaced if it is there.

    Returns:
        What was changed, layer by layer, and how far the predictions differ at most.
        Printed, it is for people to read.

    Raises:
        FileNotFoundError: `old`, or the folder of `new`, is not there.
        FileExistsError: `new` is there, and `overwrite` is false.
        ImportError: tf_keras is not installed.
        MigrationError: A `ValueError`. The model cannot be brought over: the message
            names the layer and the argument.
        OSError: `new` cannot be written.
    """
    path, target = Path(old), Path(new)
    _check_paths(path, target, overwrite)
    _check_libraries()
    # These need both Keras generations.
    from groupnorm.migration import compilation, graph, proof, source, weights

    report = Report(str(path), str(target))
    saved = source.read(path)
    conversion = graph.convert(saved.model, saved.class_names, report)
    weights.transfer(conversion.pairs)
    compilation.carry_over(saved.training_config, conversion.model, report)
    evidence = proof.observe(saved.model)
    evidence.compare(conversion.model)
    # In a folder beside the target, so that the finished file moves in one step, and
    # goes away by itself if anything fails.
    with tempfile.TemporaryDirectory(prefix=".groupnorm-", dir=target.parent) as folder:
        written = Path(folder) / "model.keras"
        conversion.model.save(written)
        report.largest_difference = evidence.compare(_reopen(written))
        _check_free(target, overwrite)
        os.replace(written, target)
    return report


def _check_paths(path: Path, target: Path, overwrite: bool) -> None:
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
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


def _reopen(path: Path):
    import keras

    try:
        return keras.models.load_model(path)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise MigrationError(f"Keras 3 does not read it back: {error}") from error
