"""Several workers on one run: the chief writes it, the others have temporary copies.

Every worker performs the same search, on its shard of each batch, and computes the same masks and
sets. When they start, the other workers get the files of the run from the chief, so that they
resume where it does; no shared file system is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tf_prac.errors import MismatchError
from tf_prac.storage.atomic import LOCK, scratch_directory
from tf_prac.storage.config_check import check_same
from tf_prac.storage.files import inside
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.checkpoint import Checkpoints, SavedState
from tf_prac.training.distribution import Distribution


@contextlib.contextmanager
def worker_directory(distribution: Distribution, path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the directory that a worker writes to: the run for the chief, else a temporary one."""
    if distribution.is_chief:
        yield path
        return
    with scratch_directory() as temporary:
        yield temporary / "run"


@contextlib.contextmanager
def opened(
    distribution: Distribution, run: RunDirectory, config: Mapping[str, Any]
) -> Iterator[None]:
    """Opens a run in every worker, with the same content, for the duration of the block.

    Args:
        distribution: of the search.
        run: the directory of this worker.
        config: the run configuration.

    Raises:
        MismatchError: If a worker has another configuration, data set or version than the chief,
            in all workers; that worker names the difference. Or as for `RunDirectory.locked`.
        FileError: As for `RunDirectory.locked`.
    """
    several = distribution.workers > 1
    if several:
        check_configuration(distribution, config)
    if not distribution.is_chief:
        _unpack(distribution.broadcast_from_chief(b""), run.path)
    with run.locked(config):
        if several and distribution.is_chief:
            distribution.broadcast_from_chief(_pack(run.path))
        yield


def check_configuration(distribution: Distribution, config: Mapping[str, Any]) -> None:
    """Raises `MismatchError` in all workers unless their run configurations are the same."""
    chief_config = json.loads(distribution.broadcast_from_chief(json.dumps(config).encode()))
    own_config = json.loads(json.dumps(config))
    mismatch: MismatchError | None = None
    try:
        check_same(pathlib.Path("worker 0, the chief,"), own_config, chief_config)
    except MismatchError as error:
        mismatch = MismatchError(f"worker {distribution.worker}: {error}")
    if any(distribution.any_worker(mismatch is not None)):
        raise mismatch or MismatchError(
            "a worker has another configuration, data set or version than worker 0, the chief. "
            "That worker names the difference. Start every worker with the same command."
        )


class ReadOnlyCheckpoints(Checkpoints):
    """Checkpoints of a worker that is not the chief: read, and never written."""

    def _write(self, state: SavedState) -> None:
        """Writes nothing; the chief does."""


def _pack(path: pathlib.Path) -> bytes:
    """Returns the files of a directory as bytes: names and sizes as JSON, then the contents."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    contents = {p.relative_to(path).as_posix(): p.read_bytes() for p in files if p.name != LOCK}
    head = json.dumps({name: len(content) for name, content in contents.items()})
    return head.encode() + b"\n" + b"".join(contents.values())


def _unpack(packed: bytes, path: pathlib.Path) -> None:
    """Writes the files that `_pack` returned into a directory."""
    head, _, rest = packed.partition(b"\n")
    start = 0
    for name, size in json.loads(head).items():
        file = path / os.path.normpath(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        inside(path, *pathlib.PurePosixPath(name).parts).write_bytes(rest[start : start + size])
        start += size
