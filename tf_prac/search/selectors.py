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
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet
from tf_prac.data.search_data import Subset
from tf_prac.data.selection import SCORES, choose, forgetting_scores
from tf_prac.errors import ArgumentError
from tf_prac.prac_config import PracConfig
from tf_prac.pruning.masks import Masks
from tf_prac.search.critical_samples import CriticalSamples, Selection
from tf_prac.search.finished_run import OtherRun
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
class Setting:
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
    others: dict[str, OtherRun]

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


Scorer = Callable[[Setting, int, TrainedNetwork, Masks], Scores]
"""(setting, round, what its training gave, masks it trained under) -> scores; high is chosen."""


def _random(setting: Setting, number: int, trained: TrainedNetwork, masks: Masks) -> Scores:
    return Scores(np.zeros(len(setting.train.ids)))


def _answer(
    score: str, setting: Setting, number: int, trained: TrainedNetwork, masks: Masks
) -> Scores:
    trainer = setting.trainer
    trainer.load(trained.weights, masks)
    values = trainer.predictor.scores(setting.train, SCORES[score], trainer.from_logits)
    return Scores(values, forward_samples=len(values))


def _grand(setting: Setting, number: int, trained: TrainedNetwork, masks: Masks) -> Scores:
    setting.trainer.load(trained.weights, masks)
    values = setting.gradient_norms(setting.train, masks)
    return Scores(values, gradient_samples=len(values))


def _forgetting(setting: Setting, number: int, trained: TrainedNetwork, masks: Masks) -> Scores:
    own = number == 0 and "proxy_from" not in setting.others
    stats = trained.forgetting if own else setting.proxy
    scores = forgetting_scores(stats, setting.config.never_learned)
    return Scores(scores[setting.train.ids])


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
        setting: what it works with.
        rounds: how many rounds the search has.

    Raises:
        ArgumentError: `sizes_from` has too few rounds, or sets larger than the training set.
    """

    def __init__(self, setting: Setting, rounds: int):
        self._setting, self._scorer = setting, SELECTORS[setting.config.selector]
        available, fraction = len(setting.train.ids), setting.config.subset_size
        if fraction is not None:
            self._sizes = [max(1, round(fraction * available))] * rounds
            return
        other = setting.others["sizes_from"]
        self._sizes = [figures["prac_size"] for figures in other.rounds]
        if max(self._sizes[:rounds]) > available:
            raise ArgumentError(
                "sizes_from",
                setting.config.sizes_from,
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
        train = self._setting.train
        scores = self._scorer(self._setting, number, trained, masks)
        labels = train.labels if self._setting.config.class_balanced else None
        chosen = choose(
            scores.values, self._sizes[number], seed=(self._setting.seed, 0), labels=labels
        )
        found = PracSet((), (), len(train.samples), filled=train.ids[chosen])
        return Selection(found, scores.forward_samples, scores.gradient_samples)


class TransferredSets:
    """Uses the sets of another run.

    Args:
        setting: what it works with.
        rounds: how many rounds the search has.

    Raises:
        ArgumentError: the run does not have the rounds asked for.
        MismatchError: it is on other samples, or its sets have samples for validation here.
    """

    def __init__(self, setting: Setting, rounds: int):
        other, which = setting.others["prac_from"], setting.config.prac_from_round
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
        self._sets = [other.prac_set(number, setting.train) for number in numbers]

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


def open_others(config: PracConfig, train: Subset, rounds: int) -> dict[str, OtherRun]:
    """Opens the runs that `config` names, by option.

    Raises:
        ArgumentError: not a finished run, or one with too few rounds.
        MismatchError: sample ids of a run on other data.
    """
    others = {}
    for name, path in config.other_runs.items():
        others[name] = OtherRun(name, path)
        if name == "sizes_from":
            others[name].check_rounds(rounds)
        else:
            others[name].check_same_samples(train)
    return others


def make_selector(setting: Setting, rounds: int) -> Selector:
    """Returns the selector that `setting.config` names, for a search of so many rounds."""
    if "proxy_from" in setting.others:
        _ = setting.proxy  # read now, so that what is wrong with it is said before training
    if setting.config.prac_from is not None:
        return TransferredSets(setting, rounds)
    if setting.config.selector != "prac":
        return HighestScores(setting, rounds)
    return CriticalSamples(
        setting.config, setting.trainer, setting.run, setting.train, setting.seed
    )
