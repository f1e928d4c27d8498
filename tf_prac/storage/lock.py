"""A lock on a directory that is released when its process ends, however it ends."""

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
    """Locks a file during the block, and creates it if it does not exist.

    The operating system releases the lock when the process ends, so the file of a killed process
    blocks no one. On a file system without locks, the block runs unlocked.

    Args:
        path: the lock file. It contains the process id, and is not deleted.
        busy: start of the error message if another process holds the lock.

    Raises:
        FileError: If another process holds the lock (its id is named), or the file cannot be
            written.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="ascii", opener=_open_no_link)  # noqa: SIM115
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}.") from error
    with file:
        try:
            _acquire(file)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read(20).strip() or "unknown"
            raise FileError(f"{busy} (process {owner}). Wait for it, or end it.") from error
        yield


def _open_no_link(path: str, flags: int) -> int:
    """Opens a file, and refuses to follow a symbolic link."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _acquire(file: TextIO) -> None:
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
    with contextlib.suppress(OSError):  # the process id is optional; the disk may be full
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
