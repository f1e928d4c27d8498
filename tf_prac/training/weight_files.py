"""Files of weights: whether they contain masks, and writing them without losing the file before."""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from collections.abc import Iterator

import tensorflow as tf

from tf_prac.storage.atomic import atomic_path

WEIGHTS_IN_KERAS_FILE = "model.weights.h5"
MASK = re.compile(r"mask(_\d+)?(:0)?")
"""The last name of a mask: ours, numbered, or that of TFMOT's wrapper."""


def contains_masks(path: str | os.PathLike) -> bool:
    """Returns whether a file of weights contains masks; True if that cannot be known.

    Args:
        path: a `.keras`, `.weights.h5` or `.h5` file, or the prefix of a TensorFlow checkpoint.
    """
    path = os.fspath(path)
    if os.path.isfile(path):
        names = _names_in_file(path)
    elif os.path.isfile(f"{path}.index"):
        names = [name for name, _ in tf.train.list_variables(path)]
    else:
        return True
    return any(MASK.fullmatch(part) for name in names for part in name.split("/"))


def _names_in_file(path: str) -> list[str]:
    import h5py

    names: list[str] = []
    with contextlib.ExitStack() as stack:
        file: object = path
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            if WEIGHTS_IN_KERAS_FILE not in archive.namelist():
                return ["mask"]
            file = stack.enter_context(archive.open(WEIGHTS_IN_KERAS_FILE))
        elif not h5py.is_hdf5(path):
            return ["mask"]  # of no format that is known here: Keras decides
        stack.enter_context(h5py.File(file, "r")).visit(names.append)
    return names


def is_legacy_h5(path: str | os.PathLike, save_format: str | None = None) -> bool:
    """Returns whether tf_keras writes the weights to this path in its legacy HDF5 format."""
    name = os.fspath(path)
    if name.endswith((".weights.h5", ".keras")):
        return False
    return name.endswith((".h5", ".hdf5")) or save_format in ("h5", "hdf5")


@contextlib.contextmanager
def replacing(path: str | os.PathLike, overwrite: bool = True) -> Iterator[str]:
    """Provides a temporary path whose file replaces `path` if the block succeeds.

    If the block fails, the file at `path` stays as it was. Directories, remote paths and the
    prefixes of checkpoints are written directly, and so is a file that must not be overwritten.

    Args:
        path: where Keras is to write.
        overwrite: whether an existing file is replaced. Default True.
    """
    path = os.fspath(path)
    directory, name = os.path.split(path)
    is_file = name.endswith((".keras", ".h5", ".hdf5")) and not os.path.isdir(path)
    if not (is_file and overwrite and os.path.isdir(directory or ".")):
        yield path
        return
    with atomic_path(path) as temporary:
        yield os.fspath(temporary)
