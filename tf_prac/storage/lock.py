"""Locks that are released when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import pathlib
import time
import warnings
from collections.abc import Iterator

from tf_prac.errors import FileError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

INTERVAL = 0.05
"""Seconds between two attempts to lock a file."""

_BUSY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)  # EACCES: CIFS
# The file system has no locks, its lock service does not run, or a sandbox forbids them.
_NO_LOCKS = (
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOLCK,
    errno.EINVAL,
    errno.EPERM,
    errno.EBADF,  # NFS, for a directory
)

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)


class Lock(enum.Enum):
    """The result of `try_lock`."""

    HELD, BUSY, NONE = range(3)


def try_lock(descriptor: int) -> Lock:
    """Locks an open file or directory until it is closed.

    Args:
        descriptor: of the open file.

    Returns:
        `HELD`, `BUSY` if another process or descriptor has the lock, or `NONE` if there are no
        locks on this file system.

    Raises:
        OSError: If the file system fails, such as with EIO or ESTALE.
    """
    if fcntl is None:
        return Lock.NONE
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return Lock.BUSY
        if error.errno in _NO_LOCKS:
            return Lock.NONE
        raise
    return Lock.HELD


@contextlib.contextmanager
def locked(path: str | os.PathLike, busy: str, wait: float = 0.0) -> Iterator[None]:
    """Locks a file during the block, and creates it if it does not exist.

    The operating system releases the lock when the process ends, so the file of a killed process
    blocks no one. On a file system without locks, the block runs unlocked, after a warning.

    Args:
        path: the lock file. It contains the process id, and is not deleted.
        busy: start of the error message if another process holds the lock.
        wait: seconds to wait for a process that holds the lock. Default 0.

    Raises:
        FileError: If another process holds the lock (its id is named), or the file cannot be
            written or locked.
    """
    descriptor = _open_locked(pathlib.Path(path), busy, time.monotonic() + wait)
    try:
        yield
    finally:
        os.close(descriptor)


def is_same(descriptor: int, path: pathlib.Path) -> bool:
    """Returns whether a path still leads to the file or directory that was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _open_locked(path: pathlib.Path, busy: str, end: float) -> int:
    """Opens and locks a lock file; returns its descriptor."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, _FLAGS, 0o666)
        except OSError as error:
            raise FileError(f"{path}: cannot be written: {error.strerror or error}.") from error
        try:
            _lock(path, descriptor, busy, end)
        except BaseException:
            os.close(descriptor)
            raise
        if is_same(descriptor, path):
            return descriptor
        os.close(descriptor)  # its last owner has just removed it, see `exclusive`


def _lock(path: pathlib.Path, descriptor: int, busy: str, end: float) -> None:
    """Locks an open lock file, waiting until `end`, and writes the process id into it."""
    try:
        while (state := try_lock(descriptor)) is Lock.BUSY and time.monotonic() < end:
            time.sleep(INTERVAL)
    except OSError as error:
        raise FileError(
            f"{path}: cannot be locked: {error.strerror or error}. Use another file system."
        ) from error
    if state is Lock.BUSY:
        raise FileError(f"{busy} (process {_owner(descriptor)}). Wait for it, or end it.")
    if state is Lock.NONE and fcntl is not None:
        warnings.warn(
            f"{path}: this file system has no locks, so two processes that use the directory at "
            "the same time are not detected.",
            stacklevel=2,
        )
    with contextlib.suppress(OSError):  # the process id is optional; the disk may be full
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())


def _owner(descriptor: int) -> str:
    """Returns the process id in an open lock file."""
    with contextlib.suppress(OSError):
        return os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
    return "unknown"
