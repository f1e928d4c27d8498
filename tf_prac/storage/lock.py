"""A lock that keeps a second process out of a directory, and never outlives the first."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator
from typing import TextIO

from tf_prac.errors import FileError

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextlib.contextmanager
def locked(path: str | os.PathLike, busy: str) -> Iterator[None]:
    """Holds a lock on a file, which is made if needed, during the block.

    The operating system lets go of it when the process ends, however it ends: the file of a dead
    process blocks nobody. Where the file system has no locks, nothing is locked.

    Args:
        path: the file; it holds the number of the process, and stays.
        busy: what to say when another process holds the lock.

    Raises:
        FileError: another process holds the lock, which is named; or the file cannot be written.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="ascii", opener=_itself)  # noqa: SIM115
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}.") from error
    with file:
        try:
            _take(file)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read(20).strip() or "unknown"
            raise FileError(f"{busy} (process {owner}). Wait for it, or end it.") from error
        yield


def _itself(path: str, flags: int) -> int:
    """Opens a file, but not the one that a link leads to."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _take(file: TextIO) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return
        raise
    with contextlib.suppress(OSError):  # the number only helps; the disk may be full
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
