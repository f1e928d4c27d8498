"""`SparsityLogger`: how sparse a model is, in the logs of a `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.config import PruningConfig, check_bool
from tf_prac.keras_api import to_numpy
from tf_prac.training.callbacks.callback import Callback, built
from tf_prac.training.masked_weights import watched_weights


class SparsityLogger(Callback):
    """Puts the fraction of prunable weights that are exactly 0 into the logs of each epoch.

    Adds `sparsity` to `logs`, and with `per_layer` also `sparsity/NAME` for each prunable weight.
    Zeros are counted, not masks, so it says what any model has that something prunes: one of
    `prune`, a `PracModel`, one with TFMOT's wrappers, or a plain one.

    Example:

        >>> model = prune(network, schedule=schedule)  # doctest: +SKIP
        >>> model.fit(x, y, callbacks=[SparsityLogger(), ModelCheckpoint("{sparsity:.2f}.keras")])

    Args:
        per_layer: whether to tell of each weight too. Default False.
        pruning: which weights count, in a model that brings no masks. Default `PruningConfig()`.
    """

    def __init__(
        self, *, per_layer: bool = False, pruning: PruningConfig | Mapping[str, Any] | None = None
    ):
        check_bool("per_layer", per_layer)
        self.per_layer = per_layer
        self.pruning = built(PruningConfig, pruning)
        self._watched: dict[str, Any] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Finds the weights; raises `ArgumentError` for a model that has nothing to prune."""
        self._watched = watched_weights(self.model, self.pruning)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the figures to `logs`."""
        values = {name: to_numpy(variable) for name, variable in self._watched.items()}
        zeros = {name: value.size - np.count_nonzero(value) for name, value in values.items()}
        if logs is None:
            return
        logs["sparsity"] = sum(zeros.values()) / sum(value.size for value in values.values())
        if self.per_layer:
            for name, value in values.items():
                logs[f"sparsity/{name}"] = zeros[name] / value.size
