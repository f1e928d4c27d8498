"""`CriticalSamples`: the selector of the paper, from a trained round to the PrAC set of the next.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Section 3.1 and Algorithm 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tf_prac.config import PracConfig
from tf_prac.data.prac_set import PracSet
from tf_prac.data.search_data import Subset
from tf_prac.data.selection import choose, forgetting_scores
from tf_prac.pruning.masks import Masks
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.trainer import TrainedNetwork, Trainer


class Selection(NamedTuple):
    """The set for the next round, and what it took to find it.

    Attributes:
        prac_set: the samples; those that a selector other than "prac" chose are its `filled`.
        forward_samples: how many samples went forward.
        gradient_samples: how many samples went forward and backward, for a score.
    """

    prac_set: PracSet
    forward_samples: int = 0
    gradient_samples: int = 0


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
    ) -> Selection:
        """Returns the set for the next round.

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
            return Selection(PracSet((), (), size, filled=ids), forward_samples)
        cet = self._cet(number, trained, ids) if config.use_cet else ()
        prac_set = PracSet(cet, () if cep is None else cep, size)
        return Selection(self._fill(prac_set, ids, number), forward_samples)

    def _cet(self, number: int, trained: TrainedNetwork, ids: np.ndarray) -> np.ndarray:
        config = self._config
        if config.cet_rate is None:
            return trained.forgetting.critical_for_training(
                config.forget_threshold, config.never_learned
            )
        count = int(len(self._train.ids) * (1 - config.cet_rate) ** (number + 1))
        scores = forgetting_scores(trained.forgetting, config.never_learned)[ids]
        return ids[choose(scores, min(count, len(ids)), seed=(self._seed, number))]

    def _fill(self, prac_set: PracSet, ids: np.ndarray, number: int) -> PracSet:
        """Fills up to the minimum size from the set trained on, or to that of each class."""
        labels, share = self._train.samples.labels, self._config.min_size
        if not self._config.class_balanced:
            minimum = max(1, math.ceil(share * len(self._train.ids)))
            return prac_set.fill(minimum, ids, (self._seed, number))
        for each, size in zip(*np.unique(self._train.labels, return_counts=True), strict=True):
            missing = math.ceil(share * size) - np.count_nonzero(labels[prac_set.ids] == each)
            of_class = ids[labels[ids] == each]
            seed = (self._seed, number, int(each))
            prac_set = prac_set.fill(len(prac_set) + int(missing), of_class, seed)
        return prac_set if len(prac_set) else prac_set.fill(1, ids, (self._seed, number))

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
