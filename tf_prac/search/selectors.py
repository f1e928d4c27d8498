"""Selectors, which choose the samples of the next round.

To add a selector that ranks samples, write a function that scores the training set after a round,
and add it to `SELECTORS` in `tf_prac/registry.py`.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Figures A10 and A14, and the papers
named in `tf_prac.data.selection` and `tf_prac.training.gradients`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tf_prac.checks import function_name
from tf_prac.config import PracConfig
from tf_prac.data.sample_set import SampleSet
from tf_prac.data.selection import choose, forgetting_scores
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError
from tf_prac.registry import SELECTORS as SELECTORS
from tf_prac.search.context import SearchContext
from tf_prac.search.critical_samples import CriticalSamples
from tf_prac.search.finished_run import FinishedRun
from tf_prac.search.selection import RoundOutcome, Selection, Selector
from tf_prac.training.scores import check_score


class Scores(NamedTuple):
    """A score of each training sample, and the cost of computing it.

    Example:

        >>> def newest(context: SearchContext, outcome: RoundOutcome) -> Scores:
        ...     return Scores(np.arange(len(context.train.ids)))

    Attributes:
        values: numbers [len(context.train.ids)], in that order; the highest are chosen.
        forward_samples: number of samples that went forward.
        gradient_samples: number of samples that went forward and backward.
    """

    values: np.ndarray
    forward_samples: int = 0
    gradient_samples: int = 0


Scorer = Callable[[SearchContext, RoundOutcome], Scores]
"""A selector that ranks samples, as in `SELECTORS`."""


def random(context: SearchContext, outcome: RoundOutcome) -> Scores:
    """Scores all samples alike; ties are broken at random."""
    return Scores(np.zeros(len(context.train.ids)))


def _score_predictions(score: str, context: SearchContext, outcome: RoundOutcome) -> Scores:
    trainer = context.trainer
    trainer.load(outcome.trained.weights, outcome.masks)
    values = trainer.predictor.scores(context.train, score)
    return Scores(values, forward_samples=len(values))


def grand(context: SearchContext, outcome: RoundOutcome) -> Scores:
    """Scores samples by the norm of their gradient (GraNd)."""
    trainer, norms = context.trainer, context.gradient_norms
    trainer.load(outcome.trained.weights, outcome.masks)
    norms.set_masks(outcome.masks)
    values = trainer.predictor.gradient_norms(context.train, norms)
    return Scores(values, gradient_samples=len(values))


def forgetting(context: SearchContext, outcome: RoundOutcome) -> Scores:
    """Scores samples by their forgetting events in round 0, of this search or of a proxy."""
    own = outcome.number == 0 and "proxy_from" not in context.finished_runs
    stats = outcome.trained.forgetting if own else context.proxy
    scores = forgetting_scores(stats, context.config.prac.never_learned)
    return Scores(scores[context.train.ids])


entropy = functools.partial(_score_predictions, "entropy")
margin = functools.partial(_score_predictions, "margin")
el2n = functools.partial(_score_predictions, "el2n")
loss = functools.partial(_score_predictions, "loss")


def selector_name(selector: Any) -> str:
    """Returns the name of a selector: as registered, or MODULE.NAME of the function.

    Raises:
        ArgumentError: If it is not a function with a name.
    """
    for name, each in SELECTORS.imported():
        if each is selector:
            return name
    if not callable(selector):
        allowed = f"one of prac, {', '.join(SELECTORS)}, or a function like those"
        raise ArgumentError("selector", selector, allowed)
    return function_name("selector", selector)


class HighestScores:
    """Selects the samples with the highest scores, `subset_size` or as many as in `sizes_from`.

    Ties are broken at random, in the same way in each round: random subsets are nested.

    Args:
        context: of the search.

    Raises:
        ArgumentError: If the sets of `sizes_from` are larger than the training set, or the task
            lacks the classes or probabilities that the selection needs.
    """

    def __init__(self, context: SearchContext):
        self._context, config = context, context.config.prac
        selector = config.selector
        if config.class_balanced:
            _ = context.classes  # raises if samples have no single class
        check_score(config.selector_name, context.trainer.task)
        self._scorer: Scorer = SELECTORS[selector] if isinstance(selector, str) else selector
        available, rounds = len(context.train.ids), context.config.pruning.rounds
        if config.subset_size is not None:
            self._sizes = [max(1, round(config.subset_size * available))] * rounds
            return
        other = context.finished_runs["sizes_from"]
        self._sizes = [metrics["prac_size"] for metrics in other.rounds]
        if max(self._sizes[:rounds]) > available:
            raise ArgumentError(
                "sizes_from",
                config.sizes_from,
                f"sets no larger than the training set, {available} samples",
                f"Its largest has {max(self._sizes)}.",
            )

    def select(self, outcome: RoundOutcome) -> Selection:
        """Returns the samples with the highest scores after a round."""
        train, config = self._context.train, self._context.config.prac
        scores = self._scores(outcome)
        labels = self._context.classes if config.class_balanced else None
        size, seed = self._sizes[outcome.number], (self._context.seed, 0)
        chosen = choose(scores.values, size, seed=seed, labels=labels)
        sample_set = SampleSet(train.ids[chosen], len(train.samples))
        return Selection(sample_set, scores.forward_samples, scores.gradient_samples)

    def _scores(self, outcome: RoundOutcome) -> Scores:
        scores, count = self._scorer(self._context, outcome), len(self._context.train.ids)
        shape = np.shape(scores.values) if isinstance(scores, Scores) else type(scores).__name__
        if shape != (count,) or np.isnan(scores.values).any():
            name = self._context.config.prac.selector_name
            allowed = f"a function that returns Scores of the {count} training samples, without NaN"
            raise ArgumentError("selector", f"{name}, which returned {shape}", allowed)
        return scores


class TransferredSets:
    """Selects the sets of the finished run `prac_from`.

    Args:
        context: of the search.

    Raises:
        ArgumentError: If the run lacks a requested round.
        MismatchError: If its sets contain samples that are held out for validation here.
    """

    def __init__(self, context: SearchContext):
        other, which = context.finished_runs["prac_from"], context.config.prac.prac_from_round
        rounds = context.config.pruning.rounds
        if which == "each":
            other.check_rounds(rounds)
            numbers = list(range(rounds))
        else:
            number = len(other.rounds) - 1 if which == "last" else int(which)
            if number >= len(other.rounds):
                raise ArgumentError(
                    "prac_from_round", which, f"a round before {len(other.rounds)}, each or last"
                )
            numbers = [number] * rounds
        self._sets = [other.prac_set(number, context.train) for number in numbers]

    def select(self, outcome: RoundOutcome) -> Selection:
        """Returns the set of the other run for a round."""
        return Selection(self._sets[outcome.number])


def open_finished_runs(config: PracConfig, train: Split, rounds: int) -> dict[str, FinishedRun]:
    """Opens the runs that options such as `sizes_from` name, by option.

    Raises:
        ArgumentError: If one is not a finished run, or has too few rounds.
        MismatchError: If a run whose sample ids are used is on other data.
    """
    finished_runs = {}
    for name, path in config.other_runs.items():
        run = finished_runs[name] = FinishedRun(name, path)
        if name == "sizes_from":
            run.check_rounds(rounds)
        else:
            run.check_same_samples(train)
    return finished_runs


def make_selector(context: SearchContext) -> Selector:
    """Returns the selector that the configuration of a search names."""
    if "proxy_from" in context.finished_runs:
        _ = context.proxy  # read before training, so that its errors come first
    if context.config.prac.prac_from is not None:
        return TransferredSets(context)
    if context.config.prac.selector != "prac":
        return HighestScores(context)
    return CriticalSamples(context)
