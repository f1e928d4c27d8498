"""Directories of exports: written atomically, and never over anything but an export."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tf_prac.errors import ArgumentError, DamagedFileError, FileError
from tf_prac.storage.atomic import atomic_directory, restore
from tf_prac.storage.files import read_json, sha256, write_json
from tf_prac.storage.names import check_name

METADATA = "tf_prac.json"
DETAILS = "tf_prac.model.json.gz"  # weights and architecture, by far the largest part
_DETAILS = ("weights", "groups", "streams", "architecture")
_EXPORT_FILES = (METADATA, f"assets/{METADATA}")


@contextlib.contextmanager
def new_directory(directory: str | os.PathLike, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """Yields a temporary directory that becomes `directory` if the block ends without an error.

    Args:
        directory: where the export is to be.
        overwrite: whether an existing export is replaced. Default False.

    Raises:
        ArgumentError: If the directory exists and `overwrite` is False.
        FileError: If the directory exists and is not an export, or cannot be written.
    """
    check_target(directory, overwrite)
    with atomic_directory(directory, replace=overwrite) as temporary:
        yield temporary


def check_target(
    directory: str | os.PathLike, overwrite: bool, argument: str = "directory"
) -> None:
    """Raises an error unless an export may be written to `directory`, see `new_directory`.

    Args:
        directory: where the export is to be.
        overwrite: whether an existing export is replaced.
        argument: name of the argument in the error. Default "directory".
    """
    check_name(directory)
    target = pathlib.Path(directory)
    restore(target)
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise ArgumentError(
            argument,
            str(target),
            "a directory that does not exist yet",
            "Pass overwrite=True (--overwrite) to replace an existing export.",
        )
    if not any((target / name).exists() for name in _EXPORT_FILES):
        raise FileError(
            f"{target}: not an export, as it has no {METADATA}, so it is not overwritten. "
            "Name another directory."
        )


def write_metadata(directory: pathlib.Path, document: Mapping[str, Any]) -> None:
    """Writes the metadata of a SavedModel: what people read, and compressed what programs read.

    Args:
        directory: the SavedModel, with a directory of assets.
        document: the metadata.
    """
    assets = directory / "assets"
    details = {name: document[name] for name in _DETAILS if name in document}
    rest = {name: value for name, value in document.items() if name not in _DETAILS}
    write_json(assets / DETAILS, "export_model", details, indent=None)
    rest["model_sha256"] = sha256(assets / DETAILS)
    write_json(assets / METADATA, "export", rest, indent=None)


def read_metadata(directory: str | os.PathLike) -> dict[str, Any]:
    """Reads the metadata of an export.

    Raises:
        FileError: If there is none, or it is damaged.
    """
    check_name(directory)
    path = pathlib.Path(directory)
    restore(path)
    for file in (path / "assets" / METADATA, path / METADATA):
        if file.exists():
            document = read_json(file, "export")
            digest = document.pop("model_sha256", None)
            if digest is None:  # not a SavedModel, or an export of 0.1
                return document
            details = file.with_name(DETAILS)
            if sha256(details) != digest:
                raise DamagedFileError(f"{details}: damaged, or of another export than {file}.")
            return {**document, **read_json(details, "export_model")}
    raise FileError(f"{path}: not an export of tf_prac, it has no {METADATA}.")


def directory_bytes(directory: str | os.PathLike) -> int:
    """Returns the total size of the files of a directory, or the size of a file, in bytes."""
    path = pathlib.Path(directory)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file())
