"""Files and directories that are either complete or not there, however the process ends.

Each is written under a temporary name in the same directory, flushed to disk and renamed. The
writer holds a lock on its temporary, which the operating system releases when the process ends. So
any later writer of the same name, and `clean`, can tell the temporaries of killed processes from
those in use, and remove them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pathlib
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

from tf_prac.errors import FileError, TfPracError
from tf_prac.storage.lock import Lock, is_same, locked, try_lock
from tf_prac.storage.names import check_name

LOCK = ".lock"
_NAME = re.compile(  # tf_prac 0.1 had no token, and wrote model.keras under the last name
    r"\.(?P<target>.+?)\.(?P<process>\d+)(\.[0-9a-f]{8}|\.removed)?\.(?P<kind>tmp|old)"
    r"|\.model\.tmp\.keras"
)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Yields a binary file that replaces `path` only if the block ends without an error.

    Raises:
        FileError: If the file cannot be written (read-only directory, full disk).
    """
    path = _file_path(path)
    with _errors(path), _temporary(path, _create_file) as temporary:
        with open(temporary, "r+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a path with the same name for a library to write; the file then replaces `path`.

    Raises:
        FileError: If the file cannot be written.
    """
    path = _file_path(path)
    with _errors(path), _temporary(path, os.mkdir) as temporary:
        yield temporary / path.name
        sync(temporary / path.name)
        os.replace(temporary / path.name, path)
        sync(path.parent)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike, replace: bool = False) -> Iterator[pathlib.Path]:
    """Yields a new directory that becomes `path` if the block ends without an error.

    Its files are flushed to disk first. An existing directory is exchanged with the new one in one
    operation; on file systems that cannot, `restore` undoes a replacement that was interrupted.

    Args:
        path: the directory.
        replace: whether it may exist and is then replaced. Default False.

    Raises:
        FileError: If another process writes the same directory (its process is named), `path`
            exists and is not to be replaced, or it cannot be written.
    """
    path = pathlib.Path(path).absolute()
    with _errors(path):
        make_directory(path.parent)
        for process in _clear(path.parent, path.name):
            raise FileError(
                f"{path}: another process writes it (process {process}). Wait for it, or end it."
            )
        with _temporary(path, os.mkdir) as temporary:
            yield temporary
            _sync_below(temporary)
            _rename_directory(temporary, path, replace)
            sync(path.parent)


@contextlib.contextmanager
def scratch_directory() -> Iterator[pathlib.Path]:
    """Yields a directory for temporary files, and removes it and those of killed processes.

    Raises:
        FileError: If it, or a file in it, cannot be written.
    """
    path = pathlib.Path(tempfile.gettempdir(), "tf_prac")
    with contextlib.ExitStack() as stack:
        with _errors(path):
            private = stack.enter_context(_temporary(path, lambda name: os.mkdir(name, 0o700)))
        try:
            yield private
        except TfPracError:
            raise
        except OSError as error:
            if not str(error.filename).startswith(str(private)):
                raise
            with _errors(pathlib.Path(error.filename)):
                raise


@contextlib.contextmanager
def temporary_files() -> Iterator[None]:
    """Puts all temporary files of Python, also those of libraries, into one scratch directory.

    Keras and AutoGraph leave files in the system's directory if the process is killed. Those in a
    scratch directory are removed by the next one. If none can be created, nothing changes.
    """
    before = tempfile.tempdir
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(FileError):
            tempfile.tempdir = str(stack.enter_context(scratch_directory()))
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextlib.contextmanager
def exclusive(
    directory: str | os.PathLike, busy: str, below: bool = False, wait: float = 0.0
) -> Iterator[None]:
    """Locks a directory for a block, and removes the temporaries of killed processes in it.

    Args:
        directory: created if it does not exist, and removed again if the block writes nothing.
        busy: start of the error message if another process has the lock.
        below: whether temporaries in its subdirectories are removed too. Default False.
        wait: seconds to wait for another process that has the lock. Default 0.

    Raises:
        FileError: If another process has the lock (it is named), or as for `locked`.
    """
    path = pathlib.Path(directory)
    with contextlib.ExitStack() as stack:
        with _errors(path):
            created = make_directory(path)
            stack.enter_context(locked(path / LOCK, busy, wait))
            stack.callback(_remove_empty, created)
            clean(path, below)
        yield


def clean(directory: str | os.PathLike, below: bool = False) -> None:
    """Removes the temporaries of killed processes; those in use are kept.

    Args:
        directory: the directory.
        below: whether those in its subdirectories are removed too. Default False.
    """
    path = pathlib.Path(directory)
    with contextlib.suppress(OSError):  # those that cannot be removed do no harm
        _clear_all(path)
        for child in path.iterdir() if below else ():
            if child.is_dir() and not child.is_symlink():
                clean(child, below)


def restore(path: str | os.PathLike) -> None:
    """Renames back a directory whose replacement by `atomic_directory` was interrupted, if any."""
    path = pathlib.Path(path).absolute()
    if not os.path.lexists(path):
        with contextlib.suppress(OSError):
            _clear_all(path.parent, path.name)


def is_temporary(name: str) -> bool:
    """Returns whether a file name is one of those that this module uses for temporaries."""
    return _NAME.fullmatch(name) is not None


def is_foreign(name: str) -> bool:
    """Returns whether a file name is neither that of a lock nor of a temporary of this module."""
    return name != LOCK and not is_temporary(name)


def make_directory(path: pathlib.Path) -> list[pathlib.Path]:
    """Creates a directory and its parents, so that they survive a power failure.

    Returns:
        Those that did not exist, the directory first.
    """
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        sync(directory.parent)
    return missing


def remove_directory(path: pathlib.Path) -> None:
    """Removes a directory; renames it first, so that it is never incomplete under its name.

    Raises:
        FileError: If it cannot be renamed.
    """
    hidden = _temporary_name(path)
    try:
        os.replace(path, hidden)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError(f"{path}: cannot be removed: {error.strerror or error}.") from error
    _remove(hidden)


def sync(path: str | os.PathLike) -> None:
    """Flushes a file, or the entries of a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _errors(path: pathlib.Path) -> Iterator[None]:
    """Converts errors of the operating system to `FileError`."""
    try:
        yield
    except TfPracError:
        raise
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}.") from error


@contextlib.contextmanager
def _temporary(
    path: pathlib.Path, create: Callable[[pathlib.Path], None]
) -> Iterator[pathlib.Path]:
    """Creates a temporary for `path`, and locks it for the block; removes it at the end."""
    make_directory(path.parent)
    _clear_all(path.parent, path.name)
    with contextlib.ExitStack() as stack:
        while True:
            temporary = _temporary_name(path)
            stack.callback(_remove, temporary)
            create(temporary)
            if (descriptor := _open(temporary)) is not None:
                stack.callback(os.close, descriptor)
                if try_lock(descriptor) is not Lock.BUSY and is_same(descriptor, temporary):
                    break
            elif temporary.exists():
                break
            # Another process took it for a temporary of a killed one, before it was locked.
        yield temporary


def _file_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a file; raises `FileError` if no file can have it, such as "." or "/"."""
    check_name(path)
    if not pathlib.Path(path).name or os.path.isdir(path):
        raise FileError(f"{os.fspath(path)}: cannot be written: Is a directory.")
    return pathlib.Path(path)


def _create_file(path: pathlib.Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def _temporary_name(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def _clear(directory: pathlib.Path, target: str = "") -> Iterator[str]:
    """Removes temporaries of killed processes, and yields the process of each that is in use.

    Args:
        directory: where they are.
        target: only those for this name. Default: all.
    """
    for name in os.listdir(directory):
        match = _NAME.fullmatch(name)
        if match is None or target not in ("", match["target"]):
            continue
        path, process = directory / name, match["process"] or ""
        descriptor = None if path.is_symlink() else _open(path)
        try:
            if _is_used(descriptor, process):
                yield process
            elif match["kind"] == "old" and not os.path.lexists(directory / match["target"]):
                os.rename(path, directory / match["target"])
            else:
                _remove(path)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _clear_all(directory: pathlib.Path, target: str = "") -> None:
    """Removes temporaries of killed processes, see `_clear`, and skips those in use."""
    for _ in _clear(directory, target):
        pass


def _open(path: pathlib.Path) -> int | None:
    """Opens a file or directory for its lock; returns None if that is impossible."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with contextlib.suppress(OSError):
        return os.open(path, flags if path.is_dir() else flags | os.O_RDWR)
    return None


def _is_used(descriptor: int | None, process: str) -> bool:
    """Whether the process that created a temporary still uses it.

    Args:
        descriptor: of the temporary. None, or without locks: whether the process exists decides.
        process: its number.
    """
    state = Lock.NONE if descriptor is None else try_lock(descriptor)
    if state is not Lock.NONE:
        return state is Lock.BUSY
    if not process or os.name == "nt":  # Windows: os.kill would end it
        return bool(process)
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # the process of another user
    return True


def _remove(path: pathlib.Path) -> None:
    """Removes a file or directory as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _remove_empty(directories: list[pathlib.Path]) -> None:
    """Removes directories that have no content, the first of them except for its lock file."""
    with contextlib.suppress(OSError):
        if directories and os.listdir(directories[0]) == [LOCK]:
            (directories[0] / LOCK).unlink()
            for directory in directories:
                directory.rmdir()


def _sync_below(directory: pathlib.Path) -> None:
    """Flushes a directory and everything in it."""
    for root, _, names in os.walk(directory):
        for name in names:
            sync(os.path.join(root, name))
        sync(root)


def _rename_directory(new: pathlib.Path, path: pathlib.Path, replace: bool) -> None:
    """Renames a directory; one with the new name takes the old name of `new`, or is removed."""
    if not replace or not os.path.lexists(path):
        try:
            os.rename(new, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            raise FileError(
                f"{path}: exists, another process has written it in the meantime."
            ) from error
    elif not exchange(new, path):
        old = new.with_suffix(".old")
        descriptor = _open(path)  # a lock on `old`: only a killed process leaves one unlocked
        try:
            if descriptor is not None:
                try_lock(descriptor)
            os.rename(path, old)
            try:
                os.rename(new, path)
            except OSError:
                os.rename(old, path)
                raise
            sync(path.parent)
            _remove(old)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def exchange(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Exchanges two paths in one operation; returns False if the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # neither Linux nor glibc or musl
        return False
    at_fdcwd, rename_exchange = -100, 2
    if rename(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))
