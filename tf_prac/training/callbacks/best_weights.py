"""`BestWeights`: a copy of the weights of the best epoch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tf_prac.checks import check_choice
from tf_prac.pruning.weights import snapshot
from tf_prac.training.callbacks.callback import Callback
from tf_prac.training.masked_model import network_of


class BestWeights(Callback):
    """Keeps a copy of the weights of the best epoch of a `fit`.

    A value that is not finite, such as the loss of a training that diverged, is never the best.

    Example:

        >>> best = BestWeights()
        >>> model.fit(x_train, y_train, validation_split=0.1, epochs=10, callbacks=[best])
        >>> rewind(model, best.weights)

    Args:
        monitor: the metric in `logs`. Default "val_accuracy".
        mode: "max" or "min", whether high or low values are better. Default "max".

    Raises:
        ArgumentError: If `mode` is another word.

    Attributes:
        value: the best value so far, or None.
        epoch: the epoch of the best value, from 0, or None.
        weights: the `snapshot` of the network at the end of that epoch, or None.
    """

    def __init__(self, monitor: str = "val_accuracy", mode: str = "max"):
        check_choice("mode", mode, ("max", "min"))
        self.monitor, self.mode = monitor, mode
        self._reset()

    def _reset(self) -> None:
        self.value: float | None = None
        self.epoch: int | None = None
        self.weights: dict[str, np.ndarray] | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forgets the best epoch of an earlier `fit`."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Copies the weights if the epoch is better than all before."""
        value: Any = (logs or {}).get(self.monitor)
        if value is not None and math.isfinite(value) and self._is_better(value):
            self.value, self.epoch = float(value), epoch
            self.weights = snapshot(network_of(self.model))

    def _is_better(self, value: float) -> bool:
        if self.value is None:
            return True
        return value > self.value if self.mode == "max" else value < self.value
