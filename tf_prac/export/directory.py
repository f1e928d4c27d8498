"""Directories of exports: written atomically, and never over anything but an export."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from tf_prac.errors import ArgumentError, FileError
from tf_prac.storage.files import check_name

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
    target = pathlib.Path(directory).absolute()
    check_target(target, overwrite)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    replaced = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        _replace(target, temporary, replaced)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{target}: cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(target: pathlib.Path, new: pathlib.Path, old: pathlib.Path) -> None:
    """Renames `new` to `target`; an existing target is renamed to `old` first, then deleted."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


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
