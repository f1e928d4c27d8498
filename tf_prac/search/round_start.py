"""`RoundStart`: the weights that a round starts from, W_k or those trained in the round before.

Sources: "Stabilizing the Lottery Ticket Hypothesis", Algorithm 1 (weight rewinding); Renda et al.
2020, "Comparing Rewinding and Fine-tuning in Neural Network Pruning", Section 2.
"""

from __future__ import annotations

import numpy as np

from tf_prac.keras_api import named_weights
from tf_prac.pruning.masks import Masks, Weights
from tf_prac.search.context import SearchContext
from tf_prac.search.larger_cuts import makes_larger_cuts
from tf_prac.search.ticket import Ticket
from tf_prac.storage.files import inside, read_npz, write_npz
from tf_prac.storage.layout import AVERAGED, WEIGHTS
from tf_prac.training.trained_network import TrainedNetwork


class RoundStart:
    """The weights that the rounds and tickets of a run start from.

    Args:
        context: of the search; `config.pruning` sets what is rewound.
        k: the rewind point, in steps.
    """

    def __init__(self, context: SearchContext, k: int):
        self._run, self._pruning, self._k = context.run, context.config.pruning, k
        self._recipe = context.config.recipe
        variables = named_weights(context.trainer.network)
        self._statistics = {w.name for w in variables if not w.variable.trainable}
        rewinds_weights = self._pruning.retraining == "weight_rewinding"
        self._rewinds_all = rewinds_weights and self._pruning.rewind_statistics
        sizes_from = context.finished_runs.get("sizes_from")
        larger_cuts = makes_larger_cuts(self._pruning, sizes_from)
        self._stores_trained = larger_cuts or not self._rewinds_all

    def is_rewound(self, number: int) -> bool:
        """Whether a round, or the ticket of its number, starts from exactly W_k."""
        return number == 0 or self._rewinds_all

    def weights(self, number: int, w_k: Weights) -> Weights:
        """Returns the weights that a round, or the ticket of its number, starts from.

        Args:
            number: of the round; 0 and its ticket start from W_k.
            w_k: the weights of the rewind point.

        Raises:
            FileError: If the weights of the round before are missing or damaged.
        """
        if self.is_rewound(number):
            return w_k
        trained = self.trained(number - 1)
        if self._pruning.retraining != "weight_rewinding":
            return trained
        return {n: trained[n] if n in self._statistics else w for n, w in w_k.items()}

    def trained(self, number: int) -> Weights:
        """Returns the trained weights of a round, which `save_trained` wrote.

        Raises:
            FileError: If they are missing or damaged.
        """
        path = inside(self._run.path, self._run.round_path(number).name, WEIGHTS)
        return read_npz(path, "weights")

    def averaged(self, number: int) -> dict[str, np.ndarray]:
        """Returns the averaged weights of a round, which `save_trained` wrote; empty if none.

        Raises:
            FileError: If they are damaged.
        """
        path = self._run.round_path(number)
        return read_npz(inside(path, AVERAGED), "weights") if (path / AVERAGED).exists() else {}

    def save_trained(self, number: int, trained: TrainedNetwork) -> None:
        """Writes the trained weights of a round, if the next round needs them."""
        path = self._run.round_path(number)
        if self._stores_trained:
            write_npz(path / WEIGHTS, "weights", trained.weights)
            if trained.averaged:
                write_npz(path / AVERAGED, "weights", trained.averaged)

    def ticket_is_rewound(self, number: int) -> bool:
        """Whether the ticket after `number` prunings starts from exactly W_k."""
        return self.is_rewound(number) or self._pruning.ticket_start == "rewind_point"

    def ticket(self, number: int, masks: Masks, w_k: Weights) -> Ticket:
        """Returns the ticket after `number` prunings."""
        retraining = self._pruning.retraining
        if number == 0 or self._pruning.ticket_start == "rewind_point":
            retraining = "weight_rewinding"
        return Ticket(
            masks,
            w_k if self.ticket_is_rewound(number) else self.weights(number, w_k),
            number,
            self._k,
            self._pruning.lr_rewind,
            retraining=retraining,
            recipe=self._recipe,
            pruning=self._pruning,
        )
