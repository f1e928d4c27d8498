"""Faults in file operations: a process is killed at one of them, or the operation fails.

`FileFaults` replaces the functions by which Python changes files. Each call below one of its
directories has two points, before and after it; the fault comes at one point. TensorFlow writes
files itself: the calls that make it write are operations too.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PATHS = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir")
DESCRIPTORS = ("fsync", "ftruncate")

Fault = Callable[["FileFaults", str, pathlib.Path], None]


class FileFaults:
    """Counts points of file operations, and calls a fault at one of them.

    Args:
        directories: only operations below these count.
        at: number of the point, from 0; None: no fault.
        fault: what happens; called with this object, the operation and the path.
        lasting: whether the fault comes at every later point too.

    Attributes:
        points: the operation and path of each point so far.
        follows_power: whether what was not flushed is recorded, for `power_failure`.
    """

    def __init__(
        self,
        directories: Iterable[os.PathLike],
        at: int | None = None,
        fault: Fault | None = None,
        lasting: bool = False,
    ):
        self.directories = [os.path.realpath(d) for d in directories]
        self.at, self.fault, self.lasting = at, fault, lasting
        self.follows_power = fault is power_failure
        self.points: list[tuple[str, pathlib.Path]] = []
        self.synced: set[tuple[int, int]] = set()  # files whose content is on the disk
        self.renames: list[tuple[pathlib.Path, pathlib.Path, pathlib.Path | None]] = []
        self.started = time.time_ns()
        self._paused = False

    @contextlib.contextmanager
    def injected(self) -> Iterator[FileFaults]:
        """Replaces the functions for a block."""
        with contextlib.ExitStack() as stack:
            for name in PATHS:
                self._replace(stack, os, name, lambda path, *_, **options: _at(path, **options))
            for name in DESCRIPTORS:
                self._replace(stack, os, name, lambda descriptor, *_: _of(descriptor))
            self._replace(stack, os, "open", _opened_by_os)
            for module in (builtins, io):
                self._replace(stack, module, "open", _opened)
            for module, name, path_of in _of_other_code():
                self._replace(stack, module, name, path_of)
            yield self

    def _replace(self, stack: Any, owner: Any, name: str, path_of: Callable) -> None:
        original = getattr(owner, name)

        def function(*arguments: Any, **options: Any) -> Any:
            path = None if self._paused else path_of(*arguments, **options)
            if path is None or not self._is_below(path):
                return original(*arguments, **options)
            self._point(f"before {name}", path)
            kept = self._before(name, path, arguments)
            result = original(*arguments, **options)
            self._after(name, path, arguments, kept)
            self._point(f"after {name}", path)
            return result

        stack.enter_context(mock.patch.object(owner, name, function))

    def _is_below(self, path: pathlib.Path) -> bool:
        real = os.path.join(os.path.realpath(path.parent), path.name)
        return any(real == d or real.startswith(d + os.sep) for d in self.directories)

    def _point(self, operation: str, path: pathlib.Path) -> None:
        number = len(self.points)
        self.points.append((operation, path))
        if self.at is not None and (number == self.at or (self.lasting and number > self.at)):
            self._paused = True
            try:
                self.fault(self, operation, path)
            finally:
                self._paused = False

    def _before(self, name: str, path: pathlib.Path, arguments: tuple) -> pathlib.Path | None:
        """Keeps the file that a rename replaces, for `power_failure`."""
        if name not in ("replace", "rename") or not self.follows_power:
            return None
        target = pathlib.Path(arguments[1])
        if not target.is_file():
            return None
        kept = pathlib.Path(self.directories[-1], f"kept_{len(self.points)}")
        os.link(target, kept)
        return kept

    def _after(self, name: str, path: pathlib.Path, arguments: tuple, kept: Any) -> None:
        if not self.follows_power:
            return
        if name in ("replace", "rename"):
            self.renames.append((path, pathlib.Path(arguments[1]), kept))
        elif name == "fsync":
            if path.is_dir():
                self.renames = [r for r in self.renames if r[1].parent != path]
            else:
                status = path.stat()
                self.synced.add((status.st_dev, status.st_ino))


def kill(faults: FileFaults, operation: str, path: pathlib.Path) -> None:
    """The process is killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def fails(number: int) -> Fault:
    """The operation fails with an error number."""

    def fault(faults: FileFaults, operation: str, path: pathlib.Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return fault


def read_only(faults: FileFaults, operation: str, path: pathlib.Path) -> None:
    """The file system refuses every change; files can still be closed."""
    if operation.startswith("before"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


def torn_write(faults: FileFaults, operation: str, path: pathlib.Path) -> None:
    """Half of a file is written when the process is killed."""
    if path.is_file():
        os.truncate(path, path.stat().st_size // 2)
    kill(faults, operation, path)


def power_failure(faults: FileFaults, operation: str, path: pathlib.Path) -> None:
    """The machine stops: renames and contents that were not flushed are lost."""
    for source, target, kept in reversed(faults.renames):
        if target.exists() and not source.exists():
            os.rename(target, source)
        if kept is not None:
            os.replace(kept, target)
    scratch = pathlib.Path(faults.directories[-1])
    for file in scratch.glob("kept_*"):
        file.unlink()
    for directory in faults.directories:
        for root, _, names in os.walk(directory):
            for file in (pathlib.Path(root, name) for name in names):
                status = file.stat()
                new = status.st_mtime_ns > faults.started
                if new and (status.st_dev, status.st_ino) not in faults.synced:
                    os.truncate(file, 0)
    kill(faults, operation, path)


def clock_set_back(faults: FileFaults, operation: str, path: pathlib.Path) -> None:
    """The clock is set back by a day."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() - 86_400
    time.time_ns = lambda: now_ns() - 86_400 * 10**9


def hold(faults: FileFaults, operation: str, path: pathlib.Path) -> None:
    """The process waits for a file `go` next to the directory of temporary files."""
    while not pathlib.Path(faults.directories[-1], "..", "go").exists():
        time.sleep(0.02)


FAULTS: dict[str, tuple[Fault, bool]] = {
    "kill": (kill, False),
    "torn_write": (torn_write, False),
    "power_failure": (power_failure, False),
    "EIO": (fails(errno.EIO), False),
    "ENOSPC": (fails(errno.ENOSPC), False),
    "read_only": (read_only, True),
    "clock_set_back": (clock_set_back, False),
    "hold": (hold, False),
}
"""What can happen at a point, and whether it then happens at every later point too."""


def _at(path: Any, *_: Any, dir_fd: int | None = None, **__: Any) -> pathlib.Path:
    parent = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
    return pathlib.Path(os.path.abspath(os.path.join(parent, os.fspath(path))))


def _of(descriptor: Any) -> pathlib.Path:
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    return pathlib.Path(os.readlink(f"/proc/self/fd/{number}"))


def _opened_by_os(path: Any, flags: int, *_: Any, **options: Any) -> pathlib.Path | None:
    return _at(path, **options) if flags & WRITING else None


def _opened(file: Any, mode: str = "r", *_: Any, **__: Any) -> pathlib.Path | None:
    if isinstance(file, int) or not set(mode) & set("wax+"):
        return None
    return _at(file)


def _of_other_code() -> Iterator[tuple[Any, str, Callable]]:
    """Functions that change files by other ways than Python's, and their paths."""
    from tf_prac.storage import atomic

    yield atomic, "exchange", lambda one, other: _at(other)
    if "tensorflow" not in sys.modules:
        return
    import tensorflow as tf

    from tf_prac.training import checkpoint

    yield checkpoint, "_write_tensors", lambda prefix, tensors: _at(prefix)
    yield tf.saved_model, "save", lambda root, directory, *_, **__: _at(directory)
