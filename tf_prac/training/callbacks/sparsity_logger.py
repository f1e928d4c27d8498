"""`SparsityLogger`: adds the sparsity of a model to the logs of a `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.checks import check_bool
from tf_prac.config import PruningConfig
from tf_prac.keras_api import to_numpy
from tf_prac.training.callbacks.callback import Callback, as_options
from tf_prac.training.masked_weights import get_prunable


class SparsityLogger(Callback):
    """Adds the fraction of the prunable weights that are exactly 0 to the logs of each epoch.

    Adds `sparsity` to `logs`, and with `per_layer` also `sparsity/NAME` for each prunable weight.
    This counts zeros, not masks, so it works with any model: one that `prune` returned, a
    `PracModel`, one with TFMOT's wrappers, or a plain one.

    Example:

        >>> model = prune(network, schedule=schedule)  # doctest: +SKIP
        >>> model.fit(x, y, callbacks=[SparsityLogger(), ModelCheckpoint("{sparsity:.2f}.keras")])

    Args:
        per_layer: whether to add the sparsity of each prunable weight too. Default False.
        pruning: which weights are prunable, in a model without masks. Default `PruningConfig()`.
    """

    def __init__(
        self, *, per_layer: bool = False, pruning: PruningConfig | Mapping[str, Any] | None = None
    ):
        check_bool("per_layer", per_layer)
        self.per_layer = per_layer
        self.pruning = as_options(PruningConfig, pruning)
        self._prunable: dict[str, Any] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Finds the prunable weights.

        Raises:
            ArgumentError: If the model has nothing to prune.
        """
        self._prunable = get_prunable(self.model, self.pruning)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the sparsity to `logs`."""
        values = {name: to_numpy(variable) for name, variable in self._prunable.items()}
        zeros = {name: int(value.size - np.count_nonzero(value)) for name, value in values.items()}
        if logs is None:
            return
        logs["sparsity"] = sum(zeros.values()) / sum(value.size for value in values.values())
        if self.per_layer:
            for name, value in values.items():
                logs[f"sparsity/{name}"] = zeros[name] / value.size
