"""Opening the old file: which kind it is, and the tf_keras model that it holds.

A model is rebuilt from its configuration, once that is known to name nothing but Keras,
and its weights are read as numbers. Nothing else in the file is looked at.
"""

from __future__ import annotations

import json
import math
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import tensorflow as tf
import tf_keras

from groupnorm.migration import limits, vetting
from groupnorm.migration.report import MigrationError


@dataclass
class Saved:
    """What a file of Keras 2 holds.

    Attributes:
        model: The model under tf_keras, not compiled.
        class_names: The class of each layer as the file names it.
        training_config: Optimizer, loss and metrics as the file has them, or `None`.
    """

    model: Any
    class_names: dict[str, str]
    training_config: dict[str, Any] | None


def read(path: Path) -> Saved:
    """Open an `.h5` or `.keras` file or a SavedModel folder.

    Raises:
        MigrationError: It is damaged, holds no Keras model, is of Keras 3 already, or
            names something that is not Keras's.
    """
    if path.is_dir():
        return _read_saved_model(path)
    if zipfile.is_zipfile(path):
        return _read_keras(path)
    if h5py.is_hdf5(path):
        return _read_h5(path)
    raise MigrationError(
        f"{str(path)!r} is neither an HDF5 file (.h5) nor a zip archive (.keras): it "
        "is damaged, truncated, or something else."
    )


def _read_h5(path: Path) -> Saved:
    with _damage_named(path), h5py.File(path, "r") as file:
        _refuse_keras_3(path, file.attrs.get("keras_version", ""))
        if "model_config" not in file.attrs:
            raise _no_model(path, "weights alone")
        config = _json(file.attrs["model_config"])
        training = _json(file.attrs.get("training_config", "null"))
        model = _rebuild(
            config, tf_keras.models.model_from_config, limits.count_values(file)
        )
        model.load_weights(str(path))
    return Saved(model, vetting.class_names(config), training)


def _read_keras(path: Path) -> Saved:
    with _damage_named(path), zipfile.ZipFile(path) as archive:
        if "config.json" not in archive.namelist():
            raise _no_model(path, "no config.json")
        metadata = _json(limits.read_text(archive, "metadata.json"))
        _refuse_keras_3(path, metadata.get("keras_version", ""))
        config = _json(limits.read_text(archive, "config.json"))
        training = config.get("compile_config")
        with tempfile.TemporaryDirectory() as folder:
            weights = limits.extract(archive, "model.weights.h5", folder)
            with h5py.File(weights, "r") as file:
                values = limits.count_values(file)
            model = _rebuild(config, tf_keras.saving.deserialize_keras_object, values)
            model.load_weights(weights)
    return Saved(model, vetting.class_names(config), training)


def _read_saved_model(path: Path) -> Saved:
    metadata = path / "keras_metadata.pb"
    if not (path / "saved_model.pb").is_file() or not metadata.is_file():
        raise _no_model(path, "no Keras model (no keras_metadata.pb)")
    from tf_keras.protobuf.saved_metadata_pb2 import SavedMetadata

    with _damage_named(path):
        nodes = SavedMetadata.FromString(metadata.read_bytes()).nodes
        root = next(node for node in nodes if node.node_path == "root")
        saved = _json(root.metadata)
        # The graph in the folder is never run: only configuration and weights count.
        config = {"class_name": saved["class_name"], "config": saved["config"]}
        variables = str(path / "variables" / "variables")
        shapes = tf.train.load_checkpoint(variables).get_variable_to_shape_map()
        values = sum(map(math.prod, shapes.values()))
        model = _rebuild(config, tf_keras.models.model_from_config, values)
        status = model.load_weights(variables)
        status.assert_existing_objects_matched().expect_partial()
    return Saved(model, vetting.class_names(config), saved.get("training_config"))


def _rebuild(config: dict[str, Any], build: Any, values: int) -> Any:
    vetting.vet(config)
    try:
        with limits.weights_at_most(values):
            return build(vetting.without_compilation(config))
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
