"""Opening the old file: which kind it is, and the tf_keras model that it holds.

A model is rebuilt from its configuration, once that is known to name nothing but Keras,
and its weights are read as numbers. Nothing else in the file is looked at.
"""

from __future__ import annotations

import json
import math
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import tensorflow as tf
import tf_keras

from groupnorm.migration import limits, spelling, vetting
from groupnorm.migration.report import MigrationError


@dataclass
class Saved:
    """What a file of Keras 2 holds, while it is open.

    Attributes:
        path: The file, or the folder.
        config: The model's configuration, in the newest spelling.
        training_config: Optimizer, loss and metrics as the file has them, or `None`.
        values: How many numbers the file has.
        build: Makes a tf_keras model of a configuration.
        load: Gives a tf_keras model the weights.
        optimizer_arrays: Reads the optimizer's state, by the names that the file has,
            which may be empty.
        checkpoint: Where the weights of a SavedModel are.
    """

    path: Path
    config: dict[str, Any]
    training_config: dict[str, Any] | None
    values: int
    build: Callable[[Any], Any]
    load: Callable[[Any], Any]
    optimizer_arrays: Callable[[], list[tuple[str, Any]]]
    checkpoint: str | None = None

    def model(self, config: dict[str, Any]) -> Any:
        """The tf_keras model of a configuration, with the file's weights.

        Raises:
            MigrationError: It names something unknown, or does not fit the weights.
        """
        vetting.vet(config)
        with _damage_named(self.path):
            model = _rebuild(config, self.build, self.values)
            self.load(model)
        return model


@contextmanager
def opened(path: Path) -> Iterator[Saved]:
    """Open an `.h5` or `.keras` file or a SavedModel folder.

    Raises:
        MigrationError: It is damaged, holds no Keras model, is of Keras 3 already, or
            names something that is not Keras's.
    """
    with ExitStack() as stack:
        with _damage_named(path):
            saved = _opener(path)(path, stack)
        yield saved


def _opener(path: Path) -> Callable[[Path, ExitStack], Saved]:
    if path.is_dir():
        return _open_saved_model
    if zipfile.is_zipfile(path):
        return _open_keras
    if h5py.is_hdf5(path):
        return _open_h5
    raise MigrationError(
        f"{str(path)!r} is neither an HDF5 file (.h5) nor a zip archive (.keras): it "
        "is damaged, truncated, or something else."
    )


def _open_h5(path: Path, stack: ExitStack) -> Saved:
    file = stack.enter_context(h5py.File(path, "r"))
    _refuse_keras_3(path, file.attrs.get("keras_version", ""))
    if "model_config" not in file.attrs:
        raise _no_model(path, "weights alone")
    return Saved(
        path,
        spelling.modern(_json(file.attrs["model_config"])),
        _json(file.attrs.get("training_config", "null")),
        limits.count_values(file),
        tf_keras.models.model_from_config,
        lambda model: model.load_weights(str(path)),
        lambda: _arrays(file.get("optimizer_weights"), named=True),
    )


def _open_keras(path: Path, stack: ExitStack) -> Saved:
    archive = stack.enter_context(zipfile.ZipFile(path))
    if "config.json" not in archive.namelist():
        raise _no_model(path, "no config.json")
    metadata = _json(limits.read_text(archive, "metadata.json"))
    _refuse_keras_3(path, metadata.get("keras_version", ""))
    config = _json(limits.read_text(archive, "config.json"))
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    weights = limits.extract(archive, "model.weights.h5", folder)
    file = stack.enter_context(h5py.File(weights, "r"))
    return Saved(
        path,
        spelling.modern(config),
        config.get("compile_config"),
        limits.count_values(file),
        tf_keras.saving.deserialize_keras_object,
        lambda model: model.load_weights(weights),
        lambda: _arrays(file.get("optimizer/vars"), named=False),
    )


def _open_saved_model(path: Path, stack: ExitStack) -> Saved:
    metadata = path / "keras_metadata.pb"
    if not (path / "saved_model.pb").is_file() or not metadata.is_file():
        raise _no_model(path, "no Keras model (no keras_metadata.pb)")
    from tf_keras.protobuf.saved_metadata_pb2 import SavedMetadata

    nodes = SavedMetadata.FromString(metadata.read_bytes()).nodes
    root = next(node for node in nodes if node.node_path == "root")
    saved = _json(root.metadata)
    # The graph in the folder is never run: only configuration and weights count.
    config = {"class_name": saved["class_name"], "config": saved["config"]}
    variables = str(path / "variables" / "variables")
    checkpoint = tf.train.load_checkpoint(variables)
    shapes = checkpoint.get_variable_to_shape_map()

    def load(model: Any) -> None:
        status = model.load_weights(variables)
        status.assert_existing_objects_matched().expect_partial()

    return Saved(
        path,
        spelling.modern(config),
        saved.get("training_config"),
        sum(map(math.prod, shapes.values())),
        tf_keras.models.model_from_config,
        load,
        lambda: _checkpoint_arrays(checkpoint),
        variables,
    )


def _arrays(group: Any, named: bool) -> list[tuple[str, Any]]:
    """The optimizer's arrays in an HDF5 file, in their order."""
    if group is None:
        return []
    if not named:
        return [("", group[str(i)][()]) for i in range(len(group))]
    names: list[Any] = []
    # Long lists of names are in parts: an attribute is of limited size.
    for part in (
        "weight_names",
        *(f"weight_names{i}" for i in range(len(group.attrs))),
    ):
        names += list(group.attrs.get(part, []))
    texts = [name.decode() if isinstance(name, bytes) else name for name in names]
    return [(name, group[name][()]) for name in texts]


def _checkpoint_arrays(checkpoint: Any) -> list[tuple[str, Any]]:
    """The arrays of an optimizer of the newer kind, in their order."""
    value = "/.ATTRIBUTES/VARIABLE_VALUE"
    if not checkpoint.has_tensor(f"optimizer/_iterations{value}"):
        return []
    arrays = [("", checkpoint.get_tensor(f"optimizer/_iterations{value}"))]
    while checkpoint.has_tensor(f"optimizer/_variables/{len(arrays)}{value}"):
        key = f"optimizer/_variables/{len(arrays)}{value}"
        arrays.append(("", checkpoint.get_tensor(key)))
    return arrays


def _rebuild(config: dict[str, Any], build: Any, values: int) -> Any:
    try:
        with limits.weights_at_most(values):
            return build(config)
    except MigrationError:
        raise
    except Exception as error:  # of whatever type the layer that fails raises
        raise MigrationError(f"tf_keras cannot rebuild the model: {error}") from error


def _refuse_keras_3(path: Path, version: Any) -> None:
    version = version.decode() if isinstance(version, bytes) else str(version)
    if version.startswith("3"):
        raise MigrationError(
            f"{str(path)!r} was written by Keras {version}: there is nothing to "
            "migrate. Open it with keras.models.load_model()."
        )


def _no_model(path: Path, what: str) -> MigrationError:
    return MigrationError(
        f"{str(path)!r} holds {what}, not a whole model, and so does not say how the "
        "layers are connected. Build the model with the script that made it, under "
        "Keras 3, read the weights with model.load_weights(), then model.save() it."
    )


def _json(text: str | bytes) -> Any:
    """JSON as Keras 2 wrote it, where an object can stand for a tuple or a shape."""

    def tuples(value: dict[str, Any]) -> Any:
        if value.get("class_name") in ("__tuple__", "TensorShape") and "items" in value:
            return tuple(value["items"])
        return value

    return json.loads(text, object_hook=tuples)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Tell a damaged file from one that is merely not understood."""
    try:
        yield
    except MigrationError:
        raise
    except Exception as error:  # of h5py, zipfile, json, protobuf, TensorFlow
        raise MigrationError(
            f"{str(path)!r} is damaged or truncated, or its weights do not fit its "
            f"layers: {error}"
        ) from error
