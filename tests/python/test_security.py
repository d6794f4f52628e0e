"""Files from strangers: nothing in them is run, and no more than they hold is taken.

And the native library: only one that nobody else can have written is loaded.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
import sys
import time
import zipfile

import keras
import memory
import numpy as np
import pytest
import tensorflow as tf

import groupnorm
from groupnorm import layers
from groupnorm.layers import generation as generations
from groupnorm.op.native import library as native

h5py = pytest.importorskip("h5py", reason="h5py, which reads HDF5, is not installed")

KERAS = tuple(int(part) for part in keras.__version__.split(".")[:2])
GIGABYTE = 1 << 30
TRAP = """
import pathlib

def spring(*arguments, **named):
    pathlib.Path(__file__).with_name("canary").touch()

relu = Zeros = Dense = spring
spring()
"""


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file that is made if the module `groupnorm_trap` is as much as imported."""
    (tmp_path / "groupnorm_trap.py").write_text(TRAP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "groupnorm_trap", raising=False)
    return tmp_path / "canary"


def test_the_trap_works(canary):
    import groupnorm_trap  # noqa: F401

    assert canary.exists()


@contextlib.contextmanager
def bounded(seconds=60, size=GIGABYTE // 2):
    """What is done inside takes neither long nor much memory."""
    start = time.monotonic()
    with memory.peak() as growth:
        yield
    assert time.monotonic() - start < seconds
    assert growth[0] < size


def edit(path, change):
    """Change the configuration in a model file; the path again."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config["config"]["layers"])
            file.attrs["model_config"] = json.dumps(config)
        return path
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    change(config["config"]["layers"])
    return repack(path, {"config.json": json.dumps(config)})


def repack(path, changed, compression=zipfile.ZIP_STORED):
    """Write members of an archive anew, or add them; the path again."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**members, **changed}.items():
            archive.writestr(name, content)
    return path


def edit_weights(path, change):
    """Change the HDF5 file with the weights in a model file; the path again."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            change(file)
        return path
    weights = path.with_name("weights")
    with zipfile.ZipFile(path) as archive:
        weights.write_bytes(archive.read("model.weights.h5"))
    with h5py.File(weights, "r+") as file:
        change(file)
    repack(path, {"model.weights.h5": weights.read_bytes()}, zipfile.ZIP_DEFLATED)
    weights.unlink()
    return path


def first_dataset(group):
    found = []
    group.visititems(
        lambda name, item: (
            found.append(name) if isinstance(item, h5py.Dataset) else None
        )
    )
    return found[0]


# Names of code in a file. (`keras` never means a module of somebody else's.)

SPECS = {
    "function": {
        "module": "groupnorm_trap",
        "class_name": "function",
        "config": "spring",
        "registered_name": "spring",
    },
    "class": {
        "module": "groupnorm_trap",
        "class_name": "spring",
        "config": {},
        "registered_name": None,
    },
    "os": {
        "module": "os",
        "class_name": "function",
        "config": "system",
        "registered_name": "system",
    },
    "lambda": {
        "module": "builtins",
        "class_name": "__lambda__",
        "config": {"value": ["4wAAAAA=", None, None]},
        "registered_name": None,
    },
    "known name": {
        "module": "groupnorm_trap",
        "class_name": "function",
        "config": "relu",
        "registered_name": "groupnorm>GroupNormalization",
    },
    "known class": {
        "module": "groupnorm_trap",
        "class_name": "Dense",
        "config": {},
        "registered_name": None,
    },
    "registered class": {
        "module": "groupnorm_trap",
        "class_name": "groupnorm>GroupNormalization",
        "config": {},
        "registered_name": "spring",
    },
    "inside": {
        "module": "keras.initializers",
        "class_name": "Constant",
        "config": {
            "value": {
                "module": "groupnorm_trap",
                "class_name": "spring",
                "config": {},
                "registered_name": None,
            }
        },
        "registered_name": None,
    },
}
ARGUMENTS = [
    f"{weight}_{kind}"
    for weight in ("beta", "gamma")
    for kind in ("initializer", "regularizer", "constraint")
] + ["activity_regularizer", "dtype"]


def our_model(path, generation=keras):
    classes = generations.layers_for(generation.__name__)
    generation.Sequential(
        [generation.Input((4, 6)), classes.GroupNormalization(3, name="gn")]
    ).save(path)
    return path


@pytest.mark.parametrize("extension", ["keras", "h5"])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_arguments_in_a_file_name_no_code(
    generation, spec, extension, tmp_path, canary
):
    generation = pytest.importorskip(
        generation, reason=f"{generation} is not installed"
    )
    path = our_model(tmp_path / f"model.{extension}", generation)
    with_argument = tmp_path / f"other.{extension}"
    for argument in ARGUMENTS:
        shutil.copy(path, with_argument)
        value = {argument: SPECS[spec]}
        edit(
            with_argument, lambda layers, value=value: layers[1]["config"].update(value)
        )
        with pytest.raises((AttributeError, TypeError, ValueError)):
            generation.models.load_model(with_argument)
    assert not canary.exists()
    assert generation.models.load_model(path).layers[-1].groups == 3


@pytest.mark.skipif(
    KERAS < (3, 9),
    reason=f"Keras {keras.__version__} imports what a file names (CVE-2025-1550)",
)
@pytest.mark.parametrize("extension", ["keras", "h5"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_layer_beside_ours_names_no_code(spec, extension, tmp_path, canary):
    path = our_model(tmp_path / f"model.{extension}")
    edit(path, lambda layers: layers.append(SPECS[spec]))
    with pytest.raises((TypeError, ValueError)):
        keras.models.load_model(path)
    assert not canary.exists()


@pytest.mark.parametrize("extension", ["keras", "h5"])
def test_a_lambda_beside_ours_is_not_run(extension, tmp_path):
    if extension == "h5" and KERAS < (3, 12):
        pytest.skip(f"Keras {keras.__version__} has no safe mode for .h5 files")
    canary, path = tmp_path / "canary", tmp_path / f"model.{extension}"
    model = keras.Sequential([keras.Input((4, 6)), layers.GroupNormalization(3)])
    model.add(keras.layers.Lambda(eval(f"lambda x: open({str(canary)!r}, 'w') and x")))
    model.save(path)
    canary.unlink()
    with pytest.raises(ValueError, match="safe_mode"):
        keras.models.load_model(path)
    assert not canary.exists()
    keras.models.load_model(path, safe_mode=False)
    assert canary.exists()  # the test would see it


class Pickled:
    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return open, (self.canary, "w")


@pytest.mark.parametrize("where", ["model.h5", "model.keras", "weights", "npz"])
def test_a_pickle_is_not_read(where, tmp_path):
    canary = tmp_path / "canary"
    content = pickle.dumps(Pickled(canary))
    path = tmp_path / "model.keras"
    if where.startswith("model"):
        path = tmp_path / where
        path.write_bytes(content)
    elif where == "weights":
        repack(our_model(path), {"model.weights.h5": content})
    else:
        np.savez(tmp_path / "w.npz", np.array(Pickled(canary), object))
        without = our_model(path)
        with zipfile.ZipFile(without) as archive:
            config = {name: archive.read(name) for name in archive.namelist()[:2]}
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in config.items():
                archive.writestr(name, text)
            archive.writestr("model.weights.npz", (tmp_path / "w.npz").read_bytes())
    with pytest.raises((ValueError, OSError, KeyError)):
        keras.models.load_model(path)
    if where != "npz":
        refuse_to_migrate(path, tmp_path)
    assert not canary.exists()
    with pickle.loads(content):
        assert canary.exists()


def test_an_archive_writes_nowhere_else(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    escapes = ("../escaped", "assets/../../escaped", str(tmp_path / "escaped"))
    path = repack(our_model(inner / "model.keras"), dict.fromkeys(escapes, "x"))
    keras.models.load_model(path)
    if tf_keras_is_there():
        path = repack(old_model(inner / "old.keras"), dict.fromkeys(escapes, "x"))
        groupnorm.migrate(path, inner / "new.keras")
    assert [item.name for item in tmp_path.iterdir()] == ["inner"]
    assert {item.name for item in inner.iterdir()} <= {
        "model.keras",
        "old.keras",
        "new.keras",
    }


def test_safe_mode_stays_on(tmp_path):
    from keras.src.saving import serialization_lib

    keras.models.load_model(our_model(tmp_path / "model.keras"))
    if tf_keras_is_there():
        groupnorm.migrate(old_model(tmp_path / "old.h5"), tmp_path / "new.keras")
    assert serialization_lib.in_safe_mode() in (None, True)


@pytest.mark.skipif(
    KERAS < (3, 15),
    reason=f"Keras {keras.__version__} follows a file's links to other files",
)
@pytest.mark.parametrize("extension", ["keras", "h5"])
@pytest.mark.parametrize("way", ["external storage", "external link", "virtual"])
def test_weights_in_another_file_are_not_read(way, extension, tmp_path):
    path = our_model(tmp_path / f"model.{extension}")
    edit_weights(path, lambda file: redirect(file, way, tmp_path))
    with pytest.raises((ValueError, KeyError, OSError)):
        keras.models.load_model(path)


def redirect(file, way, folder):
    """Let the first array of a file come from another one."""
    name = first_dataset(file)
    shape = file[name].shape
    secret = folder / "secret.h5"
    with h5py.File(secret, "w") as other:
        other["x"] = np.full(shape, 42, np.float32)
    raw = folder / "secret.raw"
    raw.write_bytes(np.full(shape, 42, np.float32).tobytes())
    del file[name]
    if way == "external link":
        file[name] = h5py.ExternalLink(str(secret), "x")
    elif way == "soft link":
        file[name] = h5py.SoftLink("/elsewhere")
    elif way == "external storage":
        file.create_dataset(
            name, shape, "float32", external=[(str(raw), 0, h5py.h5f.UNLIMITED)]
        )
    else:
        layout = h5py.VirtualLayout(shape, "float32")
        layout[...] = h5py.VirtualSource(str(secret), "x", shape)
        file.create_virtual_dataset(name, layout)


# Migrating. tf_keras itself runs what a file names, so all is up to this package.


def tf_keras_is_there():
    try:
        import tf_keras  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def old_model(path, *more):
    """A file of Keras 2: one Dense layer, or the layers that are given."""
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    added = more or (tf_keras.layers.Dense(3),)
    tf_keras.Sequential([tf_keras.Input((4, 6)), *added]).save(path)
    return path


def refuse_to_migrate(path, folder, match=None):
    """The error it ends in, soon: with the input untouched, and nothing left behind."""
    pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    before = path.read_bytes(), sorted(folder.rglob("*"))
    with bounded(), pytest.raises(ValueError, match=match) as caught:
        groupnorm.migrate(path, folder / "new.keras")
    assert type(caught.value).__name__ == "MigrationError"
    assert (path.read_bytes(), sorted(folder.rglob("*"))) == before


@pytest.mark.parametrize("extension", ["keras", "h5"])
@pytest.mark.parametrize("spec", SPECS)
def test_migrating_runs_no_code_that_a_file_names(spec, extension, tmp_path, canary):
    for place in ("layer", "argument"):
        path = old_model(tmp_path / f"old.{extension}")
        if place == "layer":
            edit(path, lambda layers: layers.append(SPECS[spec]))
        else:
            edit(
                path,
                lambda layers: layers[1]["config"].update(
                    kernel_constraint=SPECS[spec]
                ),
            )
        refuse_to_migrate(path, tmp_path, "neither Keras's|Lambda")
    assert not canary.exists()


@pytest.mark.parametrize("extension", ["keras", "h5"])
@pytest.mark.parametrize(
    "way", ["external storage", "external link", "soft link", "virtual"]
)
def test_migrating_reads_no_other_file(way, extension, tmp_path):
    path = old_model(tmp_path / f"old.{extension}")
    edit_weights(path, lambda file: redirect(file, way, tmp_path))
    refuse_to_migrate(path, tmp_path, "in another file|is a link")


def test_migrating_reads_no_vocabulary_from_elsewhere(tmp_path):
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    secret = tmp_path / "secret"
    secret.write_text("1\n2\n")
    lookup = tf_keras.layers.IntegerLookup(vocabulary=[1, 2])
    path = old_model(tmp_path / "old.keras", lookup)
    edit(path, lambda layers: layers[1]["config"].update(vocabulary=str(secret)))
    refuse_to_migrate(path, tmp_path, "vocabulary from the file")


@pytest.mark.parametrize("extension", ["keras", "h5"])
def test_more_weights_than_the_file_holds_are_not_made(extension, tmp_path):
    path = old_model(tmp_path / f"old.{extension}")
    edit(path, lambda layers: layers[1]["config"].update(units=10**9))
    refuse_to_migrate(path, tmp_path, "more weights than")


@pytest.mark.parametrize("extension", ["keras", "h5"])
def test_an_array_of_nothing_is_not_read(extension, tmp_path):
    def declare(file):
        name = first_dataset(file)
        del file[name]
        file.create_dataset(name, (GIGABYTE, 3), "float32", chunks=(1000, 3))

    path = old_model(tmp_path / f"old.{extension}")
    edit(path, lambda layers: layers[1]["config"].update(units=3))
    edit_weights(path, declare)
    refuse_to_migrate(path, tmp_path, "declares .* bytes, and 0 are there")


def huge(name):
    from tf_keras import layers

    return {
        "known": lambda: layers.RepeatVector(10**9),
        "grown": lambda: layers.ZeroPadding1D(10**9),
        "inside": lambda: layers.CategoryEncoding(10**9),
    }[name]()


@pytest.mark.parametrize("kind", ["known", "grown", "inside"])
def test_huge_tensors_are_not_made(kind, tmp_path):
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    shape = (None, 6) if kind == "grown" else (6,)
    model = tf_keras.Sequential([tf_keras.Input(shape), huge(kind)])
    model.save(tmp_path / "old.keras")
    refuse_to_migrate(tmp_path / "old.keras", tmp_path, "too large")


def test_a_huge_input_is_not_made(tmp_path):
    tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    model = tf_keras.Sequential(
        [tf_keras.Input((10**6, 10**4)), tf_keras.layers.ReLU()]
    )
    model.save(tmp_path / "old.keras")
    refuse_to_migrate(tmp_path / "old.keras", tmp_path, "too large")


@pytest.mark.parametrize("member", ["config.json", "metadata.json", "model.weights.h5"])
def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(member, tmp_path):
    path = old_model(tmp_path / "old.keras")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in members.keys() - {member}:
            archive.writestr(name, members[name])
        with archive.open(member, "w", force_zip64=True) as file:
            for _ in range(64):
                file.write(bytes(GIGABYTE // 64))
    assert path.stat().st_size < GIGABYTE / 100
    refuse_to_migrate(path, tmp_path, "declares")


@pytest.mark.parametrize("extension", ["keras", "h5"])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_without_end_is_an_error(opening, extension, tmp_path):
    text = opening * 20_000
    path = old_model(tmp_path / f"old.{extension}")
    if extension == "keras":
        repack(path, {"config.json": text})
    else:
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = text[:60_000]
    refuse_to_migrate(path, tmp_path, "damaged")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_loading_json_without_end_is_an_error(opening, tmp_path):
    path = repack(our_model(tmp_path / "m.keras"), {"config.json": opening * 100_000})
    with bounded(), pytest.raises((RecursionError, ValueError)):
        keras.models.load_model(path)


# The native library.


def test_a_library_is_loaded_from_the_package_only(tmp_path, monkeypatch):
    """Whoever can write elsewhere gets nothing loaded, whatever it is called."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    for folder in (tmp_path, tmp_path / ".cache" / "groupnorm", tmp_path / "groupnorm"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / native._PATH.name).write_text("no library")
    native._load.cache_clear()
    monkeypatch.setattr(native, "_PATH", tmp_path / "package" / native._PATH.name)
    monkeypatch.setattr(
        tf, "load_op_library", lambda path: pytest.fail(f"loads {path}")
    )
    try:
        assert native.load().ops is None
    finally:
        native._load.cache_clear()
