"""Directories of exports: written whole or not at all, and never over something else."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from tf_prac.errors import ArgumentError, FileError

METADATA = "tf_prac.json"
_MARKS = (METADATA, f"assets/{METADATA}", "saved_model.pb")


@contextlib.contextmanager
def new_directory(directory: str | os.PathLike, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """Yields a directory beside `directory` that takes its place when the block ends well.

    Args:
        directory: where the export shall be.
        overwrite: whether an export that is there already is replaced.

    Raises:
        ArgumentError: it exists and `overwrite` is False.
        FileError: it exists and is no export, or cannot be written.
    """
    target = pathlib.Path(directory).absolute()
    check_free(target, overwrite)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    replaced = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        _exchange(temporary, target, replaced)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{target}: cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(new: pathlib.Path, target: pathlib.Path, old: pathlib.Path) -> None:
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


def check_free(directory: str | os.PathLike, overwrite: bool, argument: str = "directory") -> None:
    """Raises unless an export may be written to `directory`; errors name the argument."""
    target = pathlib.Path(directory)
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise ArgumentError(
            argument,
            str(target),
            "a directory that does not exist yet",
            "To replace an export that is there, ask for overwrite.",
        )
    if not any((target / mark).exists() for mark in _MARKS):
        raise FileError(
            f"{target}: not an export, so it is not overwritten. Name another directory."
        )


def directory_bytes(directory: str | os.PathLike) -> int:
    """Returns the bytes of all files of a directory, or of a file."""
    path = pathlib.Path(directory)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file())
