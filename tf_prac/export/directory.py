"""Directories of exports: written atomically, and never over anything but an export."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

from tf_prac.errors import ArgumentError, FileError
from tf_prac.storage.atomic import atomic_directory, restore
from tf_prac.storage.names import check_name

METADATA = "tf_prac.json"
_EXPORT_FILES = (METADATA, f"assets/{METADATA}", "saved_model.pb")


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
            f"{target}: not an export, so it is not overwritten. Name another directory."
        )


def directory_bytes(directory: str | os.PathLike) -> int:
    """Returns the total size of the files of a directory, or the size of a file, in bytes."""
    path = pathlib.Path(directory)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file())
