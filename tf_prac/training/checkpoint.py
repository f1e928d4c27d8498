"""`Checkpoints`: the state of a training on disk, whole or not there at all.

A checkpoint is one directory, written under a temporary name, flushed and renamed. Its tensors are
in TensorFlow's own checkpoint format; checkpoint.json has the figures and the SHA-256 of the rest.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import CheckpointConfig
from tf_prac.errors import DamagedFileError, FileError
from tf_prac.storage.files import sync
from tf_prac.storage.layout import CHECKPOINT
from tf_prac.storage.manifest import read_manifest, write_manifest
from tf_prac.training.signals import DeferredSignals

KEPT = 2
_TENSORS = "tensors"


@dataclasses.dataclass(frozen=True)
class SavedState:
    """The state of a training after a step.

    Attributes:
        step: steps taken.
        tensors: arrays by name.
        figures: everything else, as JSON has it.
        path: where it was read from.
    """

    step: int
    tensors: Mapping[str, np.ndarray]
    figures: Mapping[str, Any]
    path: pathlib.Path | None = None


class Checkpoints:
    """The checkpoints of one training, of which the last two are kept.

    While it is entered, SIGINT and SIGTERM wait for the next `save`.

    Args:
        path: their directory; made when the first is written.
        config: how often they are written. Default `CheckpointConfig()`.
        say: takes a line about a checkpoint that is used, or cannot be.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        config: CheckpointConfig | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.path = pathlib.Path(path)
        self.config = config or CheckpointConfig()
        self._say = say
        self._signals = DeferredSignals()
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()

    def __enter__(self) -> Checkpoints:
        self._signals.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._signals.__exit__(*exception)

    def wanted(self, step: int = 0) -> bool:
        """Whether to `save` now: it is time, a signal waits, or this is a step for it."""
        every = self.config.checkpoint_steps
        if self._signals.pending or (every and step and step % every == 0):
            return True
        return time.monotonic() - self._saved_at >= self.config.checkpoint_seconds

    @property
    def last(self) -> str:
        """Names the newest checkpoint that was written or read, as a phrase."""
        if self._saved_step is None:
            return "none was due yet"
        return f"{self._place(self._saved_step)} (step {self._saved_step})"

    def cuts(self, steps: int) -> set[int]:
        """The steps below `steps` after which one is written, however short the time."""
        every = self.config.checkpoint_steps
        return set(range(every, steps, every)) if every else set()

    def save(self, state: SavedState) -> None:
        """Writes a checkpoint, unless the newest has the same step, and removes the oldest.

        Signals that have waited come after it.

        Raises:
            FileError: it cannot be written (read-only directory, full disk).
        """
        if state.step != self._saved_step:
            self._write(state)
            self._saved_step = state.step
            for old in self._all()[KEPT:]:
                _discard(old)
        self._saved_at = time.monotonic()
        self._signals.deliver()

    def _write(self, state: SavedState) -> None:
        place = self._place(state.step)
        temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        try:
            temporary.mkdir(parents=True)
            _write_tensors(temporary / _TENSORS, state.tensors)
            for file in temporary.iterdir():
                sync(file)
            figures = {"step": state.step, "tensors": list(state.tensors), **state.figures}
            write_manifest(temporary, CHECKPOINT, "checkpoint", figures)
            _discard(place)
            os.replace(temporary, place)
            sync(self.path)
        except FileError:
            raise
        except OSError as error:
            raise FileError(f"{place}: cannot be written: {error.strerror or error}.") from error
        except tf.errors.OpError as error:  # "...; No space left on device [Op:SaveV2]"
            reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
            raise FileError(f"{place}: cannot be written: {reason}.") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def newest(self, identity: str) -> SavedState | None:
        """Reads the newest intact checkpoint; those that are damaged are named.

        Args:
            identity: says which training this is; checkpoints of another are not used.

        Raises:
            FileError: a checkpoint cannot be read, or was written by a newer tf_prac.
        """
        for place in self._all():
            try:
                state = _read(place)
            except DamagedFileError as error:
                self._say(f"{error} The checkpoint is not used.")
                continue
            if state.figures.get("identity") != identity:
                self._say(f"{place}: of another training. The checkpoint is not used.")
                continue
            self._saved_step, self._saved_at = state.step, time.monotonic()
            self._say(f"going on at step {state.step:,}, from {place}")
            return state
        return None

    def remove(self) -> None:
        """Removes every checkpoint."""
        _discard(self.path)

    def _place(self, step: int) -> pathlib.Path:
        return self.path / f"step_{step:09d}"

    def _all(self) -> list[pathlib.Path]:
        """The newest first."""
        return sorted(self.path.glob("step_*"), reverse=True)


class NoCheckpoints(Checkpoints):
    """Keeps nothing, and leaves signals alone."""

    def __init__(self):
        super().__init__("", CheckpointConfig())

    def __enter__(self) -> Checkpoints:
        return self

    def wanted(self, step: int = 0) -> bool:
        """Never."""
        return False

    def newest(self, identity: str) -> SavedState | None:
        """There is none."""
        return None


def _write_tensors(prefix: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    with tf.device("CPU:0"):
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=[tf.constant(value) for value in tensors.values()],
        )


def _read(place: pathlib.Path) -> SavedState:
    figures = read_manifest(place, CHECKPOINT, "checkpoint")
    if figures is None:
        raise DamagedFileError(f"{place}: damaged, it has no {CHECKPOINT}.")
    try:
        reader = tf.train.load_checkpoint(str(place / _TENSORS))
        tensors = {name: reader.get_tensor(name) for name in figures.pop("tensors")}
        return SavedState(int(figures.pop("step")), tensors, figures, place)
    except (tf.errors.OpError, KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{place}: damaged, not a checkpoint ({error}).") from error


def _discard(path: pathlib.Path) -> None:
    """Removes a directory so that a kill meanwhile leaves no half of it under its name."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        os.replace(path, hidden)
    except FileNotFoundError:
        return
    shutil.rmtree(hidden, ignore_errors=True)
