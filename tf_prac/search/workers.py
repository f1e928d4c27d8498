"""Several processes on one run: the chief's directory is the run, the others work on copies of it.

Every worker goes through the same search, on its share of each batch, and computes the same masks
and sets. So the others only need what the chief had on disk when they started: they get it from
the chief, into a temporary directory that goes when they end, and no shared file system is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from tf_prac.errors import MismatchError
from tf_prac.storage.files import inside
from tf_prac.storage.run_directory import LOCK, RunDirectory, check_same
from tf_prac.training.checkpoint import Checkpoints, SavedState
from tf_prac.training.distribution import Distribution


@contextlib.contextmanager
def own_directory(distribution: Distribution, path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives the directory that a worker writes to: the run's for the chief, or a temporary one."""
    if distribution.is_chief:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tf_prac_worker_") as temporary:
        yield pathlib.Path(temporary) / "run"


@contextlib.contextmanager
def opened(
    distribution: Distribution, run: RunDirectory, config: Mapping[str, Any]
) -> Iterator[None]:
    """Opens a run in every worker, with the same content, during the block.

    Args:
        distribution: of the search.
        run: this worker's directory.
        config: what decides the result.

    Raises:
        MismatchError: a worker has another configuration, data set or version than the chief; it
            says what differs, and all end. Or as for `RunDirectory.locked`.
        FileError: as for `RunDirectory.locked`.
    """
    if distribution.workers == 1:
        with run.locked(config):
            yield
        return
    check_configuration(distribution, config)
    if distribution.is_chief:
        with run.locked(config):
            distribution.of_chief(_packed(run.path))
            yield
    else:
        _unpack(distribution.of_chief(b""), run.path)
        with run.locked(config):
            yield


def check_configuration(distribution: Distribution, config: Mapping[str, Any]) -> None:
    """Raises `MismatchError` in all workers unless their configurations decide the same result."""
    there = json.loads(distribution.of_chief(json.dumps(config).encode()))
    here = json.loads(json.dumps(config))
    wrong: MismatchError | None = None
    try:
        check_same(pathlib.Path("worker 0, the chief,"), here, there)
    except MismatchError as error:
        wrong = MismatchError(f"worker {distribution.worker}: {error}")
    if any(distribution.any(wrong is not None)):
        raise wrong or MismatchError(
            "a worker has another configuration, data set or version than worker 0, the chief. "
            "It says which. Start every worker with the same command."
        )


class UnwrittenCheckpoints(Checkpoints):
    """Those of a worker that is not the chief: read where there are some, never written."""

    def _write(self, state: SavedState) -> None:
        """Leaves it to the chief."""


def _packed(path: pathlib.Path) -> bytes:
    """Returns the files of a directory as one piece: names and sizes, then their content."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    contents = {p.relative_to(path).as_posix(): p.read_bytes() for p in files if p.name != LOCK}
    head = json.dumps({name: len(content) for name, content in contents.items()})
    return head.encode() + b"\n" + b"".join(contents.values())


def _unpack(packed: bytes, path: pathlib.Path) -> None:
    head, _, rest = packed.partition(b"\n")
    start = 0
    for name, size in json.loads(head).items():
        file = path / os.path.normpath(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        inside(path, *pathlib.PurePosixPath(name).parts).write_bytes(rest[start : start + size])
        start += size
