"""`CriticalSamples`: from a trained round to the set that the next one trains on.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Section 3.1 and Algorithm 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tf_prac.config import PracConfig
from tf_prac.data.prac_set import PracSet
from tf_prac.data.search_data import Subset
from tf_prac.pruning.masks import Masks
from tf_prac.run_directory import RunDirectory
from tf_prac.training.trainer import TrainedNetwork, Trainer


class CriticalSamples:
    """Finds CET and CEP of each round of a search, and unites them.

    Args:
        config: which of the two are used, and how.
        trainer: whose network makes the predictions.
        run: keeps the dense network's predictions, which are made once.
        train: the full training set.
        seed: of the samples that fill up a set that is too small.
    """

    def __init__(
        self, config: PracConfig, trainer: Trainer, run: RunDirectory, train: Subset, seed: int
    ):
        self._config, self._trainer, self._run = config, trainer, run
        self._train, self._seed = train, seed
        self._dense_classes: np.ndarray | None = None

    def next_set(
        self,
        number: int,
        trained: TrainedNetwork,
        masks: Masks,
        next_masks: Masks,
        ids: np.ndarray,
    ) -> tuple[PracSet, int]:
        """Returns the set for the next round, and how many samples went forward to find it.

        Args:
            number: the round, from 0.
            trained: what the round's training gave.
            masks: the masks it trained under.
            next_masks: the masks after its pruning.
            ids: the samples it trained on.
        """
        config, size = self._config, len(self._train.samples)
        cep, forward_samples = self._cep(number, trained, masks, next_masks)
        if not config.use_cet and cep is None:
            return PracSet((), (), size, filled=ids), forward_samples
        cet: Any = ()
        if config.use_cet:
            cet = trained.forgetting.critical_for_training(
                config.forget_threshold, config.never_learned
            )
        minimum = max(1, math.ceil(config.min_size * len(self._train.ids)))
        prac_set = PracSet(cet, () if cep is None else cep, size)
        return prac_set.fill(minimum, ids, (self._seed, number)), forward_samples

    def _cep(
        self, number: int, trained: TrainedNetwork, masks: Masks, next_masks: Masks
    ) -> tuple[np.ndarray | None, int]:
        """Returns CEP, or None in a round without it, and how many samples went forward."""
        config, everything = self._config, self._train
        if not config.use_cep:
            return None, 0
        weights = trained.best_weights if config.cep_weights == "best" else trained.weights
        forward_samples = 0
        if number == 0:
            self._trainer.load(weights)
            self._dense_classes = self._trainer.predictor.classes(everything)
            self._run.save_predictions(0, self._dense_classes)
            forward_samples += len(everything.ids)
        if number < config.cep_from_round:
            return None, forward_samples
        if self._dense_classes is None:
            self._dense_classes = self._run.load_predictions(0)
        self._trainer.load(weights, next_masks if config.cep_network == "pruned" else masks)
        sparse_classes = self._trainer.predictor.classes(everything)
        disagree = sparse_classes != self._dense_classes
        return everything.ids[disagree], forward_samples + len(everything.ids)
