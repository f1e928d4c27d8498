"""`.keras` files: what is in them, before Keras opens them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Iterator
from typing import Any

from tf_prac.checks import first_line
from tf_prac.errors import DamagedFileError, FileError
from tf_prac.keras_api import Flavor
from tf_prac.loading.sizes import hdf5_elements
from tf_prac.storage.files import MAX_JSON_BYTES, open_regular, zip_members

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


@dataclasses.dataclass(frozen=True)
class Archive:
    """The content of a `.keras` file.

    Attributes:
        flavor: the Keras that wrote it.
        version: of that Keras.
        config: the serialized model.
        elements: the number of elements of its weights.
    """

    flavor: Flavor
    version: str
    config: dict[str, Any]
    elements: int


def read_archive(path: str | os.PathLike) -> Archive:
    """Reads and checks a `.keras` file without building anything.

    Raises:
        DamagedFileError: If it is not a zip archive, lacks a part, declares sizes that it does not
            have, or has parts of a wrong type.
        FileError: If it cannot be read, or was written by an unknown version of Keras.
    """
    with _opened(path) as archive:
        members = zip_members(path, archive)
        metadata = _read_json(path, archive, members, _METADATA)
        version = metadata.get("keras_version")
        flavor = _flavor(path, version)
        config = _read_json(path, archive, members, _CONFIG)
        if _WEIGHTS not in members:
            raise DamagedFileError(f"{path}: damaged, it has no {_WEIGHTS}.")
        elements = _elements(path, archive, members[_WEIGHTS])
        return Archive(flavor, str(version), config, elements)


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[zipfile.ZipFile]:
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except FileError:
            raise
        except Exception as error:  # zipfile raises many kinds of errors on damaged bytes
            reason = first_line(error)
            raise DamagedFileError(
                f"{path}: damaged, or neither a .keras file nor a SavedModel directory ({reason}). "
                "Save the model as .keras; Keras's own load_model reads the older .h5 files."
            ) from error


def _read_json(
    path: str | os.PathLike,
    archive: zipfile.ZipFile,
    members: dict[str, zipfile.ZipInfo],
    name: str,
) -> dict[str, Any]:
    if name not in members:
        raise DamagedFileError(f"{path}: damaged, it has no {name}.")
    if members[name].file_size > MAX_JSON_BYTES:
        raise DamagedFileError(f"{path}: damaged, {name} has more than {MAX_JSON_BYTES} bytes.")
    try:
        document = json.loads(archive.read(members[name]))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path}: damaged, {name} is not JSON ({error}).") from error
    if not isinstance(document, dict):
        raise DamagedFileError(f"{path}: damaged, {name} is not a JSON object.")
    return document


def _flavor(path: str | os.PathLike, version: object) -> Flavor:
    flavors = {"2": "tf_keras", "3": "keras"}
    name = flavors.get(version.partition(".")[0]) if isinstance(version, str) else None
    if name is None:
        raise FileError(
            f"{path}: {_METADATA}: keras_version: received {version!r}; allowed: 2.x or 3.x. "
            "Save the model again with one of these."
        )
    return Flavor(name)


def _elements(path: str | os.PathLike, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The number of elements of the weights, which are read from the archive where they are."""
    try:
        with archive.open(member) as file:
            stored = member.compress_type == zipfile.ZIP_STORED
            return hdf5_elements(file if stored else io.BytesIO(file.read()), f"{path}: {_WEIGHTS}")
    except FileError:
        raise
    except Exception as error:  # h5py raises many kinds of errors on damaged bytes
        raise DamagedFileError(f"{path}: damaged, {_WEIGHTS} is no HDF5 file ({error}).") from error
