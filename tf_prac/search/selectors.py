"""What chooses the samples of the next round: the paper's way, and its controls, by name.

Each has the method `next_set` of `CriticalSamples`. To add one that ranks samples, write a
function that scores the training set after a round, and name it in `SELECTORS`.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Figures A10 and A14, and the papers
named in `tf_prac.data.selection` and `tf_prac.training.gradients`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from tf_prac.checks import check_choice
from tf_prac.config import PracConfig
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet
from tf_prac.data.search_data import Subset
from tf_prac.data.selection import SCORES, choose, forgetting_scores
from tf_prac.errors import ArgumentError
from tf_prac.pruning.masks import Masks
from tf_prac.search.critical_samples import CriticalSamples, Selection
from tf_prac.search.finished_run import FinishedRun
from tf_prac.storage.run_directory import FORGETTING, RunDirectory
from tf_prac.training.gradients import GradientNorms, cross_entropy
from tf_prac.training.trainer import TrainedNetwork, Trainer


class Selector(Protocol):
    """What a search asks for the samples of its next round."""

    def next_set(
        self,
        number: int,
        trained: TrainedNetwork,
        masks: Masks,
        next_masks: Masks,
        ids: np.ndarray,
    ) -> Selection:
        """Returns the set for the next round; see `CriticalSamples.next_set`."""


@dataclasses.dataclass(frozen=True)
class SelectionContext:
    """What selectors work with.

    Attributes:
        config: which selector, and its options.
        trainer: whose network makes the predictions.
        run: the directory of this search.
        train: the full training set, without validation samples.
        seed: of what is drawn at random.
        others: the runs that `config` names, by option.
    """

    config: PracConfig
    trainer: Trainer
    run: RunDirectory
    train: Subset
    seed: int
    others: dict[str, FinishedRun]

    @functools.cached_property
    def gradient_norms(self) -> GradientNorms:
        """Computes GraNd; compiled once."""
        model, from_logits = self.trainer.model, self.trainer.from_logits
        loss = functools.partial(cross_entropy, from_logits=from_logits)
        return GradientNorms(self.trainer.network, model.prunable, loss)

    @functools.cached_property
    def proxy(self) -> ForgettingStats:
        """The statistics of the proxy's round 0, or of this search's own."""
        if "proxy_from" in self.others:
            return self.others["proxy_from"].forgetting(self.train)
        return ForgettingStats.load(self.run.round_path(0) / FORGETTING)


class Scores(NamedTuple):
    """A score for each training sample, [len(train.ids)], and what it took; see `Selection`."""

    values: np.ndarray
    forward_samples: int = 0
    gradient_samples: int = 0


Scorer = Callable[[SelectionContext, int, TrainedNetwork, Masks], Scores]
"""(context, round, what its training gave, masks it trained under) -> scores; high is chosen."""


def _random(
    context: SelectionContext, number: int, trained: TrainedNetwork, masks: Masks
) -> Scores:
    return Scores(np.zeros(len(context.train.ids)))


def _answer(
    score: str, context: SelectionContext, number: int, trained: TrainedNetwork, masks: Masks
) -> Scores:
    trainer = context.trainer
    trainer.load(trained.weights, masks)
    values = trainer.predictor.scores(context.train, SCORES[score], trainer.from_logits)
    return Scores(values, forward_samples=len(values))


def _grand(context: SelectionContext, number: int, trained: TrainedNetwork, masks: Masks) -> Scores:
    context.trainer.load(trained.weights, masks)
    values = context.gradient_norms(context.train, masks)
    return Scores(values, gradient_samples=len(values))


def _forgetting(
    context: SelectionContext, number: int, trained: TrainedNetwork, masks: Masks
) -> Scores:
    own = number == 0 and "proxy_from" not in context.others
    stats = trained.forgetting if own else context.proxy
    scores = forgetting_scores(stats, context.config.never_learned)
    return Scores(scores[context.train.ids])


SELECTORS: dict[str, Scorer] = {
    "random": _random,
    **{name: functools.partial(_answer, name) for name in SCORES},
    "grand": _grand,
    "forgetting": _forgetting,
}


class HighestScores:
    """Chooses the samples with the highest scores of the full training set, as many as asked for.

    Ties are broken at random, the same way in each round: random subsets are nested.

    Args:
        context: what it works with.
        rounds: how many rounds the search has.

    Raises:
        ArgumentError: `sizes_from` has too few rounds, or sets larger than the training set.
    """

    def __init__(self, context: SelectionContext, rounds: int):
        self._context, self._scorer = context, SELECTORS[context.config.selector]
        available, fraction = len(context.train.ids), context.config.subset_size
        if fraction is not None:
            self._sizes = [max(1, round(fraction * available))] * rounds
            return
        other = context.others["sizes_from"]
        self._sizes = [figures["prac_size"] for figures in other.rounds]
        if max(self._sizes[:rounds]) > available:
            raise ArgumentError(
                "sizes_from",
                context.config.sizes_from,
                f"sets no larger than the training set, {available} samples",
                f"Its largest has {max(self._sizes)}.",
            )

    def next_set(
        self,
        number: int,
        trained: TrainedNetwork,
        masks: Masks,
        next_masks: Masks,
        ids: np.ndarray,
    ) -> Selection:
        """Returns the set for the next round; see `CriticalSamples.next_set`."""
        train = self._context.train
        scores = self._scorer(self._context, number, trained, masks)
        labels = train.labels if self._context.config.class_balanced else None
        chosen = choose(
            scores.values, self._sizes[number], seed=(self._context.seed, 0), labels=labels
        )
        found = PracSet((), (), len(train.samples), filled=train.ids[chosen])
        return Selection(found, scores.forward_samples, scores.gradient_samples)


class TransferredSets:
    """Uses the sets of another run.

    Args:
        context: what it works with.
        rounds: how many rounds the search has.

    Raises:
        ArgumentError: the run does not have the rounds asked for.
        MismatchError: it is on other samples, or its sets have samples for validation here.
    """

    def __init__(self, context: SelectionContext, rounds: int):
        other, which = context.others["prac_from"], context.config.prac_from_round
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

    def next_set(
        self,
        number: int,
        trained: TrainedNetwork,
        masks: Masks,
        next_masks: Masks,
        ids: np.ndarray,
    ) -> Selection:
        """Returns the set for the next round; see `CriticalSamples.next_set`."""
        return Selection(self._sets[number])


def check_selector(config: PracConfig) -> None:
    """Raises `ArgumentError` unless the selector is known."""
    check_choice("selector", config.selector, ("prac", *SELECTORS))


def open_others(config: PracConfig, train: Subset, rounds: int) -> dict[str, FinishedRun]:
    """Opens the runs that `config` names, by option.

    Raises:
        ArgumentError: not a finished run, or one with too few rounds.
        MismatchError: sample ids of a run on other data.
    """
    others = {}
    for name, path in config.other_runs.items():
        others[name] = FinishedRun(name, path)
        if name == "sizes_from":
            others[name].check_rounds(rounds)
        else:
            others[name].check_same_samples(train)
    return others


def make_selector(context: SelectionContext, rounds: int) -> Selector:
    """Returns the selector that `context.config` names, for a search of so many rounds."""
    if "proxy_from" in context.others:
        _ = context.proxy  # read now, so that what is wrong with it is said before training
    if context.config.prac_from is not None:
        return TransferredSets(context, rounds)
    if context.config.selector != "prac":
        return HighestScores(context, rounds)
    return CriticalSamples(
        context.config, context.trainer, context.run, context.train, context.seed
    )
