"""`RewindCheckpoint`: keeps W_k, the weights after step k of a `fit`."""

from __future__ import annotations

import os
import warnings

import numpy as np

from tf_prac.config import RewindPoint
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import steps_per_execution
from tf_prac.pruning.weights import snapshot
from tf_prac.storage.files import read_npz, write_npz
from tf_prac.training.callbacks.callback import Callback
from tf_prac.training.masked_model import network_of


class RewindCheckpoint(Callback):
    """Keeps a copy of the weights after exactly k training steps of a `fit`, to rewind to later.

    Adds `rewind_step` to `logs`: k, or -1 while `step` is None. With `steps_per_execution` n,
    weights can be read only after every n steps of an epoch and at its end. For any other k, an
    error at the start of training names the nearest possible steps.

    k counts from step 0 of the whole training, as `epochs` does: in a `fit` that resumes with
    `initial_epoch` or `BackupAndRestore`, the steps of the earlier epochs count. If k is among
    these, W_k is read from `path`.

    Example:

        >>> early = RewindCheckpoint("500it")  # doctest: +SKIP
        >>> model.fit(x, y, epochs=10, callbacks=[early])
        >>> masks = global_magnitude({n: v.numpy() for n, v in prunable_weights(model).items()})
        >>> rewind(model, early.weights, masks)
        >>> model = prune(model, masks=masks)  # to train it again

    Source: "Stabilizing the Lottery Ticket Hypothesis", Algorithm 1 (W_k).

    Args:
        rewind: k, in iterations, epochs or percent of the steps of `fit`, such as "0it", "500it",
            "3ep" or "2%". A percentage needs a `fit` with a known number of steps. Default "2%".
        path: a `.npz` file to write the weights to, one array per weight under its name, for
            `numpy.load`. Default None.

    Raises:
        ArgumentError: If `rewind` is not a rewind point.

    Attributes:
        step: k in steps; None before step k, and if training resumed with data whose number of
            steps is unknown.
    """

    async_safe = False
    _supports_tf_logs = True
    _implements_train_batch_hooks = Callback._has_batch_hooks

    def __init__(self, rewind: str = "2%", *, path: str | os.PathLike | None = None):
        self.rewind = str(RewindPoint.parse(rewind))
        self.path = None if path is None else os.fspath(path)
        self._reset()

    def _reset(self) -> None:
        self.step: int | None = None
        self._weights: dict[str, np.ndarray] | None = None
        self._rewind_step: int | None = None
        self._steps_per_epoch: int | None = None
        self._is_first_epoch, self._counts_steps = True, True
        self._epochs = self._steps_before_epoch = self._steps = 0

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """W_k, every weight by its name; `ArgumentError` before step k."""
        if self._weights is None:
            remedy = f"Train {self.rewind}, or choose an earlier point."
            raise ArgumentError("weights", None, f"the weights after {self.rewind}", remedy)
        return self._weights

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Computes k in steps.

        Raises:
            ArgumentError: If k is not before the end of this `fit`, is a step after which weights
                cannot be read, or depends on an unknown number of steps.

        Warns:
            UserWarning: If k is a fraction of less than one step, which is step 0.
        """
        self._reset()
        self._steps_per_epoch = (self.params or {}).get("steps")
        self._rewind_step = self._k_in_steps((self.params or {}).get("epochs"))
        if self._rewind_step == 0:
            self._keep()
            if RewindPoint.parse(self.rewind).amount > 0:
                warnings.warn(
                    f"rewind: {self.rewind} of this training is less than one step, and the "
                    'weights of step 0 are kept. Name a later point, such as "1it".',
                    stacklevel=2,
                )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Counts the steps of the earlier epochs of a training that resumes.

        Args:
            epoch: index of the epoch; not 0 in the first one if training resumes.
            logs: not used.

        Raises:
            ArgumentError: If k is before this `fit`, and there is no file with W_k.
        """
        if self._is_first_epoch and epoch > 0:
            self._resume(epoch)
        self._is_first_epoch = False

    def _resume(self, epoch: int) -> None:
        point, length = RewindPoint.parse(self.rewind), self._steps_per_epoch
        if length is None and point.unit == "it" and point.amount > 0:
            raise ArgumentError(
                "rewind",
                self.rewind,
                "a point in epochs, if training resumes and its number of steps is unknown",
                "Or pass steps_per_epoch to fit.",
            )
        self._epochs, self._steps = epoch, epoch * (length or 0)
        self._counts_steps = length is not None
        self._steps_before_epoch = self._steps
        k, start = (
            (point.amount, epoch) if self._rewind_step is None else (self._rewind_step, self._steps)
        )
        if k == start > 0:
            self._keep()
        elif k <= start:
            self._read_kept(epoch)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Keeps the weights if this is step k.

        Args:
            batch: index of the step in its epoch, from 0; with `steps_per_execution`, index of the
                last step of the execution.
            logs: not used.
        """
        # Keras 3 counts a partial execution at the end of an epoch as full, and the optimizers of
        # both Keras flavors count a step that finds no more data.
        self._steps = self._steps_before_epoch + min(batch + 1, self._steps_per_epoch or batch + 1)
        if self._weights is None and self._steps == self._rewind_step:
            self._keep()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds k to `logs`, and keeps the weights if k is in epochs of unknown length."""
        self._epochs, self._steps_before_epoch = self._epochs + 1, self._steps
        point = RewindPoint.parse(self.rewind)
        if self._weights is None and point.unit == "ep" and point.amount == self._epochs:
            self._keep()
        if logs is not None:
            logs["rewind_step"] = -1 if self.step is None else self.step

    def _k_in_steps(self, epochs: int | None) -> int | None:
        """Returns k in steps, or None if k is in epochs of unknown length."""
        point = RewindPoint.parse(self.rewind)
        per_execution, length = steps_per_execution(self.model), self._steps_per_epoch
        if length is None or epochs is None:
            if per_execution == 1 and (point.unit == "it" or point.amount == 0):
                return int(point.amount)
            if per_execution == 1 and point.unit == "ep" and float(point.amount).is_integer():
                return None
            raise ArgumentError(
                "rewind",
                self.rewind,
                "a point in iterations or whole epochs, with steps_per_execution=1, if the "
                "number of steps of fit is unknown",
                "Or pass steps_per_epoch to fit.",
            )
        k = point.steps(length, length * epochs)
        before = k - k % length % per_execution
        after = min(before + per_execution, (before // length + 1) * length)
        if before != k:
            raise ArgumentError(
                "rewind",
                self.rewind,
                f"a step whose weights can be read with steps_per_execution={per_execution}, "
                f"such as {before}it or {after}it",
            )
        return k

    def _read_kept(self, epoch: int) -> None:
        """Reads W_k, which an earlier `fit` of this training kept."""
        if self.path is None or not os.path.exists(self.path):
            raise ArgumentError(
                "rewind",
                self.rewind,
                f"a point in this fit, which starts with epoch {epoch} (initial_epoch)",
                "Or pass path: the fit that trains step k writes W_k there.",
            )
        self.step, self._weights = self._rewind_step, read_npz(self.path, "rewind")

    def _keep(self) -> None:
        self.step = self._steps if self._counts_steps else None
        self._weights = snapshot(network_of(self.model))
        if self.path is not None:
            write_npz(self.path, "rewind", self._weights)
