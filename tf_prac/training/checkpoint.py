"""`Checkpoints`: the state of a training run on disk, written atomically.

A checkpoint is one directory, written under a temporary name, flushed and renamed. Its tensors are
in TensorFlow's own checkpoint format; checkpoint.json contains the metadata and the SHA-256 of the
other files.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import CheckpointConfig
from tf_prac.errors import DamagedFileError, FileError
from tf_prac.loading.sizes import open_checkpoint
from tf_prac.storage.atomic import atomic_directory, remove_directory
from tf_prac.storage.layout import CHECKPOINT
from tf_prac.storage.manifest import read_manifest, write_manifest
from tf_prac.training.signals import DeferredSignals

MAX_TO_KEEP = 2
_TENSORS = "tensors"


@dataclasses.dataclass(frozen=True)
class SavedState:
    """The state of a training run after a step.

    Attributes:
        step: the number of training steps taken.
        tensors: arrays by name.
        metadata: everything else, as JSON values by name.
        path: the directory it was read from, or None.
    """

    step: int
    tensors: Mapping[str, np.ndarray]
    metadata: Mapping[str, Any]
    path: pathlib.Path | None = None


class Checkpoints:
    """Saves the checkpoints of one training run and keeps the last two.

    As a context manager, it delays SIGINT and SIGTERM until after the next `save`.

    Args:
        path: the directory of the checkpoints; created with the first one.
        config: how often they are saved. Default `CheckpointConfig()`.
        log: called with a line of text about each checkpoint that is used or unusable. Default: no
            logging.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        config: CheckpointConfig | None = None,
        log: Callable[[str], None] = lambda line: None,
    ):
        self.path = pathlib.Path(path)
        self.config = config or CheckpointConfig()
        self._log = log
        self._signals = DeferredSignals()
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()

    def __enter__(self) -> Checkpoints:
        self._signals.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._signals.__exit__(*exception)

    def is_due(self, step: int = 0) -> bool:
        """Returns whether to `save` now: by time, for a pending signal or, if given, by step."""
        every = self.config.checkpoint_steps
        if self._signals.pending or (every and step and step % every == 0):
            return True
        return time.monotonic() - self._saved_at >= self.config.checkpoint_seconds

    @property
    def last(self) -> str:
        """The latest checkpoint that was saved or read, as a phrase for messages."""
        if self._saved_step is None:
            return "none was due yet"
        return f"{self._step_path(self._saved_step)} (step {self._saved_step})"

    def due_steps(self, steps: int) -> set[int]:
        """Returns the steps below `steps` after which a checkpoint is saved regardless of time."""
        every = self.config.checkpoint_steps
        return set(range(every, steps, every)) if every else set()

    def save(self, state: SavedState) -> None:
        """Saves a checkpoint, unless the latest has the same step.

        Removes the oldest, and those of later steps, which were not used. Delivers the signals
        that were delayed.

        Raises:
            FileError: If it cannot be written (read-only directory, full disk).
        """
        if state.step != self._saved_step:
            self._write(state)
            self._saved_step = state.step
            paths = self._newest_first()
            unused = [path for path in paths if path > self._step_path(state.step)]
            for path in [*unused, *paths[len(unused) + MAX_TO_KEEP :]]:
                remove_directory(path)
        self._saved_at = time.monotonic()
        self._signals.deliver()

    def _write(self, state: SavedState) -> None:
        path = self._step_path(state.step)
        try:
            with atomic_directory(path, replace=True) as temporary:
                _write_tensors(temporary / _TENSORS, state.tensors)
                content = {"step": state.step, "tensors": list(state.tensors), **state.metadata}
                write_manifest(temporary, CHECKPOINT, "checkpoint", content)
        except tf.errors.OpError as error:  # "...; No space left on device [Op:SaveV2]"
            reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
            raise FileError(f"{path}: cannot be written: {reason}.") from error

    def load_latest(self, identity: str) -> SavedState | None:
        """Reads the latest intact checkpoint of a training run; None if there is none.

        Damaged checkpoints and those of another training run are logged and skipped.

        Args:
            identity: identifies the training run, see `state.identity_of`.

        Raises:
            FileError: If a checkpoint cannot be read or was written by a newer tf_prac.
        """
        for path in self._newest_first():
            try:
                state = _read(path)
            except DamagedFileError as error:
                self._log(f"{error} The checkpoint is not used.")
                continue
            if state.metadata.get("identity") != identity:
                self._log(f"{path}: of another training run. The checkpoint is not used.")
                continue
            self._saved_step, self._saved_at = state.step, time.monotonic()
            self._log(f"resuming at step {state.step:,}, from {path}")
            return state
        return None

    def remove(self) -> None:
        """Removes every checkpoint."""
        remove_directory(self.path)

    def _step_path(self, step: int) -> pathlib.Path:
        return self.path / f"step_{step:09d}"

    def _newest_first(self) -> list[pathlib.Path]:
        return sorted(self.path.glob("step_*"), reverse=True)


class NoCheckpoints(Checkpoints):
    """Saves no checkpoints and does not delay signals."""

    def __init__(self):
        super().__init__("", CheckpointConfig())

    def __enter__(self) -> Checkpoints:
        return self

    def is_due(self, step: int = 0) -> bool:
        """Returns False."""
        return False

    def load_latest(self, identity: str) -> SavedState | None:
        """Returns None."""
        return None

    def remove(self) -> None:
        """Removes nothing."""


def _write_tensors(prefix: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    with tf.device("CPU:0"):
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=[tf.constant(value) for value in tensors.values()],
        )


def _read(path: pathlib.Path) -> SavedState:
    metadata = read_manifest(path, CHECKPOINT, "checkpoint")
    if metadata is None:
        raise DamagedFileError(f"{path}: damaged, it has no {CHECKPOINT}.")
    if path.name != f"step_{metadata['step']:09d}":
        raise DamagedFileError(f"{path}: damaged, it is of step {metadata['step']}.")
    try:
        reader = open_checkpoint(path / _TENSORS)
        tensors = {name: reader.get_tensor(name) for name in metadata.pop("tensors")}
        return SavedState(metadata.pop("step"), tensors, metadata, path)
    except (tf.errors.OpError, KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path}: damaged, not a checkpoint ({error}).") from error
