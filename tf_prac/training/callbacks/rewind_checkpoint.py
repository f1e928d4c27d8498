"""`RewindCheckpoint`: W_k, taken in the middle of a `fit`."""

from __future__ import annotations

import os

import numpy as np

from tf_prac.config import RewindPoint
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import steps_per_execution
from tf_prac.pruning.weights import snapshot
from tf_prac.storage.files import write_npz
from tf_prac.training.callbacks.callback import Callback


class RewindCheckpoint(Callback):
    """Keeps the weights after exactly k training steps of a `fit`, to rewind to later.

    Adds `rewind_step`, the k of the weights it has, to `logs`; -1 while it has none. With
    `steps_per_execution` n, weights can be read after every n steps of an epoch and at its end;
    a k between is refused before training, with those beside it named.

    Example:

        >>> early = RewindCheckpoint("500it")  # doctest: +SKIP
        >>> model.fit(x, y, epochs=10, callbacks=[early])
        >>> masks = global_magnitude({n: v.numpy() for n, v in prunable_weights(model).items()})
        >>> rewind(model, early.weights, masks)
        >>> model = prune(model, masks=masks)  # to train it again

    Source: "Stabilizing the Lottery Ticket Hypothesis", Algorithm 1 (W_k).

    Args:
        rewind: k, such as "0it", "500it", "3ep" or "2%" of the steps of this `fit`, which has to
            know its steps for "%". Default "2%".
        path: a `.npz` file to write the weights to, one array for each by its name, as
            `numpy.load` reads it. Default None.

    Raises:
        ArgumentError: a point that cannot be read.

    Attributes:
        step: k in steps, or None before.
    """

    async_safe = False
    _supports_tf_logs = True
    _implements_train_batch_hooks = Callback._has_batch_hooks

    def __init__(self, rewind: str = "2%", *, path: str | os.PathLike | None = None):
        self.rewind = str(RewindPoint.parse(rewind))
        self.path = None if path is None else os.fspath(path)
        self._start()

    def _start(self) -> None:
        self.step: int | None = None
        self._weights: dict[str, np.ndarray] | None = None
        self._wanted: int | None = None
        self._length: int | None = None
        self._epochs = self._before = self._taken = 0

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """W_k, every weight by its name; raises `ArgumentError` before step k."""
        if self._weights is None:
            remedy = f"Train {self.rewind}, or choose an earlier point."
            raise ArgumentError("weights", None, f"the weights after {self.rewind}", remedy)
        return self._weights

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Works out k.

        Raises:
            ArgumentError: k is not before the end of this `fit`, lies between two steps whose
                weights can be read, or needs a number of steps that `fit` does not know.
        """
        self._start()
        self._length = (self.params or {}).get("steps")
        self._wanted = self._find((self.params or {}).get("epochs"))
        if self._wanted == 0:
            self._keep()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Keeps the weights if this was step k.

        Args:
            batch: number of the step in its epoch, from 0; with `steps_per_execution`, of the
                last of those that were taken together.
            logs: not used.
        """
        # Keras 3 counts an execution at the end of an epoch as whole, and both Kerases' optimizers
        # count a step that found the data at its end.
        self._taken = self._before + min(batch + 1, self._length or batch + 1)
        if self._weights is None and self._taken == self._wanted:
            self._keep()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds k to `logs`; keeps the weights if k is the end of an epoch of unknown length."""
        self._epochs, self._before = self._epochs + 1, self._taken
        point = RewindPoint.parse(self.rewind)
        if self._weights is None and point.unit == "ep" and point.amount == self._epochs:
            self._keep()
        if logs is not None:
            logs["rewind_step"] = -1 if self.step is None else self.step

    def _find(self, epochs: int | None) -> int | None:
        """K in steps; None where the end of an epoch tells it."""
        point = RewindPoint.parse(self.rewind)
        at_once, length = steps_per_execution(self.model), self._length
        if length is None or epochs is None:
            if at_once == 1 and (point.unit == "it" or point.amount == 0):
                return int(point.amount)
            if at_once == 1 and point.unit == "ep" and float(point.amount).is_integer():
                return None
            raise ArgumentError(
                "rewind",
                self.rewind,
                "a point in iterations or whole epochs, with steps_per_execution=1, where fit "
                "does not know its steps",
                "Or give steps_per_epoch to fit.",
            )
        k = point.steps(length, length * epochs)
        before = k - k % length % at_once
        after = min(before + at_once, (before // length + 1) * length)
        if before != k:
            raise ArgumentError(
                "rewind",
                self.rewind,
                f"a step whose weights can be read with steps_per_execution={at_once}, "
                f"such as {before}it or {after}it",
            )
        return k

    def _keep(self) -> None:
        self.step = self._taken
        self._weights = snapshot(getattr(self.model, "network", self.model))
        if self.path is not None:
            write_npz(self.path, "rewind", self._weights)
