"""`CriticalSamples`: the selector of the paper, the union of CET and CEP.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Section 3.1 and Algorithm 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tf_prac.data.prac_set import PracSet
from tf_prac.data.sample_set import SampleSet
from tf_prac.data.selection import choose, forgetting_scores
from tf_prac.search.context import SearchContext
from tf_prac.search.selection import RoundOutcome, Selection
from tf_prac.training.inference import disagreement


class CriticalSamples:
    """Selects the PrAC set: the critical examples for training (CET) and for pruning (CEP).

    The predictions that CEP compares with, such as those of the dense network, are stored in the
    run.

    Args:
        context: of the search; `config.prac` sets which of the two are used, and how.
    """

    def __init__(self, context: SearchContext):
        self._context, self._config = context, context.config.prac
        self._train, self._seed = context.train, context.seed
        if self._config.class_balanced and self._config.selects_data:
            _ = context.classes  # raises if samples have no single class

    def select(self, outcome: RoundOutcome) -> Selection:
        """Returns the PrAC set of a round."""
        config, size = self._config, len(self._train.samples)
        cep, forward_samples = self._cep(outcome)
        if not config.use_cet and cep is None:
            return Selection(SampleSet(outcome.ids, size), forward_samples)
        cet = self._cet(outcome) if config.use_cet else ()
        prac_set = PracSet(cet, () if cep is None else cep, size)
        return Selection(self._fill(prac_set, outcome), forward_samples)

    def _cet(self, outcome: RoundOutcome) -> np.ndarray:
        config, ids, forgetting = self._config, outcome.ids, outcome.trained.forgetting
        if config.cet_rate is None:
            cet = forgetting.critical_for_training(config.forget_threshold, config.never_learned)
            return self._without_hardest(cet, outcome)
        count = int(len(self._train.ids) * (1 - config.cet_rate) ** (outcome.number + 1))
        scores = forgetting_scores(forgetting, config.never_learned)[ids]
        return ids[choose(scores, min(count, len(ids)), seed=(self._seed, outcome.number))]

    def _without_hardest(self, cet: np.ndarray, outcome: RoundOutcome) -> np.ndarray:
        """Returns CET without its hardest samples, if it is small.

        Source: Zheng et al. 2023, "Coverage-centric Coreset Selection for High Pruning Rates",
        Section 4: with few samples, the hardest ones, which are the noisiest, cost accuracy.
        """
        config, available = self._config, len(self._train.ids)
        count = min(int(config.hard_cutoff * available), len(cet))
        if not count or len(cet) >= config.hard_cutoff_below * available:
            return cet
        scores = forgetting_scores(outcome.trained.forgetting, "critical")[cet]
        hardest = choose(scores, count, seed=(self._seed, outcome.number))
        return np.delete(cet, hardest)

    def _fill(self, prac_set: PracSet, outcome: RoundOutcome) -> PracSet:
        """Adds samples of the round up to the minimum size, in total or in each class."""
        fraction, ids = self._config.min_size, outcome.ids
        seed = self._seed, outcome.number
        if not self._config.class_balanced:
            return prac_set.fill(max(1, math.ceil(fraction * len(self._train.ids))), ids, seed)
        classes = self._context.classes
        labels = np.full(len(self._train.samples), -1)
        labels[self._train.ids] = classes
        of_a_class = classes[classes >= 0]
        for label, size in zip(*np.unique(of_a_class, return_counts=True), strict=True):
            missing = math.ceil(fraction * size) - np.count_nonzero(labels[prac_set.ids] == label)
            of_class = ids[labels[ids] == label]
            prac_set = prac_set.fill(len(prac_set) + int(missing), of_class, (*seed, int(label)))
        return prac_set if len(prac_set) else prac_set.fill(1, ids, seed)

    def _cep(self, outcome: RoundOutcome) -> tuple[np.ndarray | None, int]:
        """Returns CEP, or None in a round without it, and the number of samples predicted."""
        config, train, trainer = self._config, self._train, self._context.trainer
        if not config.use_cep:
            return None, 0
        reference, forward_samples = self._reference(outcome)
        if outcome.number < config.cep_from_round:
            return None, forward_samples
        pruned = config.cep_network == "pruned"
        trainer.load(self._weights(outcome), outcome.next_masks if pruned else outcome.masks)
        sparse = trainer.predictor.decisions(train)
        disagree = disagreement(trainer.task, reference, sparse)
        return train.ids[disagree], forward_samples + len(train.ids)

    def _reference(self, outcome: RoundOutcome) -> tuple[Any, int]:
        """Returns the predictions that CEP compares with, and the number of samples predicted."""
        number, reference, run = outcome.number, self._config.cep_reference, self._context.run
        if number and reference == "round_0":
            return run.load_predictions(0), 0
        own = self._predict(outcome)
        if reference != "own_round":
            run.save_predictions(number, own)
        if number and reference == "round_before":
            return run.load_predictions(number - 1), len(self._train.ids)
        return own, len(self._train.ids)

    def _predict(self, outcome: RoundOutcome) -> Any:
        """Returns what a round's trained network decides for each training sample."""
        trainer = self._context.trainer
        trainer.load(self._weights(outcome), outcome.masks)
        return trainer.predictor.decisions(self._train).values

    def _weights(self, outcome: RoundOutcome) -> Any:
        trained = outcome.trained
        return trained.best_weights if self._config.cep_weights == "best" else trained.weights
