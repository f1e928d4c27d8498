"""What a round after the first starts from: W_k, or weights as the round before trained them.

Sources: "Stabilizing the Lottery Ticket Hypothesis", Algorithm 1 (weight rewinding); Renda et al.
2020, "Comparing Rewinding and Fine-tuning in Neural Network Pruning", Section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.config import PruningConfig
from tf_prac.keras_api import named_weights
from tf_prac.pruning.masks import Masks
from tf_prac.search.ticket import Ticket
from tf_prac.storage.files import inside, read_npz, write_npz
from tf_prac.storage.run_directory import WEIGHTS, RunDirectory

Weights = Mapping[str, np.ndarray]


class RoundStart:
    """The weights that rounds and tickets of a run start with.

    Args:
        run: where the rounds are.
        config: says what is rewound.
        step: k.
        network: says which of its weights are statistics.
    """

    def __init__(self, run: RunDirectory, config: PruningConfig, step: int, network: Any):
        self._run, self._config, self._step = run, config, step
        self._statistics = {w.name for w in named_weights(network) if not w.variable.trainable}
        rewound = config.retraining == "weight_rewinding" and config.rewind_statistics
        self._needs_trained = not rewound

    def save_trained(self, number: int, weights: Weights) -> None:
        """Writes the weights that a round trained, if the next starts from them."""
        if self._needs_trained:
            write_npz(self._run.round_path(number) / WEIGHTS, "weights", weights)

    def weights(self, number: int, w_k: Weights) -> Weights:
        """Returns the weights that a round, or the ticket of its number, is trained from.

        Args:
            number: of the round; 0 and its ticket start from W_k.
            w_k: the rewind point.

        Raises:
            FileError: the weights of the round before are missing or damaged.
        """
        if number == 0 or not self._needs_trained:
            return w_k
        path = inside(self._run.path, self._run.round_path(number - 1).name, WEIGHTS)
        trained = read_npz(path, "weights")
        if self._config.retraining != "weight_rewinding":
            return trained
        return {n: trained[n] if n in self._statistics else w for n, w in w_k.items()}

    def ticket(self, number: int, masks: Masks, w_k: Weights) -> Ticket:
        """Returns the ticket after so many prunings."""
        retraining = self._config.retraining if number else "weight_rewinding"
        place = (number, self._step, self._config.lr_rewind)
        return Ticket(masks, self.weights(number, w_k), *place, retraining=retraining)
