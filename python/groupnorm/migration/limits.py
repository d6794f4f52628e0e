"""How much a file may ask for: memory in proportion to what it holds itself.

A few bytes can declare terabytes, in an archive, in an array of an HDF5 file, or as the
size of a layer. And an HDF5 file can tell its reader to fetch data from other files.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import tensorflow as tf

from groupnorm.migration.report import MigrationError

# Below this nothing is too large; Keras uses the same bounds for files of its own.
_SMALL = 1 << 28
_MOST_COMPRESSED = 100
_LONGEST_TEXT = 1 << 26
# Of variables that are not in files: the states of generators, for the most part.
_UNSAVED_VALUES = 1 << 20
_LARGEST_TENSOR = 1 << 30


def read_text(archive: zipfile.ZipFile, name: str) -> bytes:
    """What a text in an archive says.

    Raises:
        MigrationError: It is longer than any model's configuration.
    """
    size = archive.getinfo(name).file_size
    if size > _LONGEST_TEXT:
        raise MigrationError(f"The archive declares {size} bytes of {name}: too many.")
    return archive.read(name)


def extract(archive: zipfile.ZipFile, name: str, folder: str) -> str:
    """Take a file out of an archive, and return its path.

    Raises:
        MigrationError: It would grow beyond proportion.
    """
    member = archive.getinfo(name)
    _check_proportion(name, member.file_size, member.compress_size)
    return archive.extract(member, folder)


def count_values(group: h5py.Group) -> int:
    """How many numbers an HDF5 file holds.

    Raises:
        MigrationError: They are not in this file, or not as many as it says.
    """
    count = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise MigrationError(
                f"{name!r} is a link: the weights must be in the file."
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            count += count_values(item)
            continue
        if item.is_virtual or item.external:
            raise MigrationError(f"The numbers of {item.name!r} are in another file.")
        _check_proportion(item.name, item.nbytes, item.id.get_storage_size())
        count += item.size or 0
    return count


@contextmanager
def weights_at_most(values: int) -> Iterator[None]:
    """Stop a model from making more weights than there are numbers for."""
    left = values + _UNSAVED_VALUES

    def create(creator: Callable[..., Any], **arguments: Any) -> Any:
        nonlocal left
        left -= tf.TensorShape(arguments.get("shape")).num_elements() or 1
        if left < 0:
            raise MigrationError(
                f"Its layers have more weights than the {values} that are in the file."
            )
        return creator(**arguments)

    with tf.variable_creator_scope(create):
        yield


def check_tensors(model: Any, inputs: Any) -> None:
    """Check the sizes of all tensors that a call would make, without making any.

    Args:
        model: What is to be called.
        inputs: What it would be called with, as `tf.TensorSpec`.

    Raises:
        MigrationError: One is too large.
    """
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        inputs
    )
    for operation in graph.graph.get_operations():
        for tensor in operation.outputs:
            if (tensor.shape.num_elements() or 0) > _LARGEST_TENSOR:
                raise MigrationError(
                    f"A tensor inside the model has the shape {tensor.shape}: too "
                    "large for a proof that the new model predicts the same."
                )


def _check_proportion(name: str, declared: int, stored: int) -> None:
    if declared > _SMALL and declared > _MOST_COMPRESSED * stored:
        raise MigrationError(
            f"{name!r} declares {declared} bytes, and {stored} are there."
        )
