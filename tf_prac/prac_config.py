"""On which samples a round trains, for how long, and when it stops: `PracConfig`."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

from tf_prac.checks import check_bool, check_choice, check_int, check_number
from tf_prac.errors import ArgumentError

OTHER_RUNS = ("sizes_from", "prac_from", "proxy_from", "pretrain_from")
PRETRAIN = ("all", "random", "easy", "hard")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PracConfig:
    """Which samples a round trains on, for how long, and when it stops early.

    The defaults are the paper's; `PRAC_VARIANTS` has "paper", "official" (what the authors' code
    does) and "none" (plain iterative magnitude pruning on the full data). docs/prac.md gives the
    reason for each.

    Source: "Efficient Lottery Ticket Finding: Less Data is More", Section 3 and Algorithm 1.

    Args:
        selector: what chooses the samples of the next round: "prac" (critical samples) or, at a
            size of `subset_size` or `sizes_from`, another key of `tf_prac.search.selectors.SELECTORS`:
            "random", "entropy", "margin", "el2n", "grand", "loss", "forgetting". Default "prac".
        subset_size: fraction of the training set that a selector other than "prac" chooses.
            Default None.
        sizes_from: directory of a finished run; a selector other than "prac" chooses sets as
            large as those of its rounds, and every selector trains as many steps as they did,
            with its own early stop off: the control of equal size and budget. Default None.
        class_balanced: choose from each class its share of the training set; "prac" only fills
            up, so that each class keeps its share of `min_size`. Default False.
        prac_from: directory of a finished run on the same samples, with whatever network, whose
            sets are used in place of a selector's. Default None.
        prac_from_round: which of them: "each" round's own, the "last", or the one after the round
            of this number. Default "each".
        proxy_from: directory of a finished run on the same samples, with whatever network, in
            whose round 0 the selector "forgetting" counts (selection via proxy); None: in this
            run's own. Default None.
        use_cet: train on the critical examples for training (forgotten, or never learned).
            Default True.
        use_cep: train on the critical examples for pruning (dense and sparse network disagree).
            With neither, every round trains on the full data. Default True.
        forget_threshold: E_F; a sample is critical with more forgetting events than this.
            Default 0.
        cet_rate: in place of a threshold, CET is the most forgotten samples, fewer by this
            fraction each round: int(N * (1 - cet_rate) ** (round + 1)), as the authors' mode
            `constent` with 0.2. None ("off" on the command line): the threshold. Default None.
        never_learned: "critical" keeps samples that were never classified correctly, "ignore"
            judges them by their events (none) alone. Default "critical".
        cep_network: which sparse network CEP compares with the dense one: "pruned" (just after
            this round's pruning, Algorithm 1) or "trained" (the round's trained network, before
            its pruning; the authors' code). Default "pruned".
        cep_weights: "last" epoch's weights or those of the "best" validation accuracy.
            Default "last".
        cep_from_round: first round that computes CEP. Default 0.
        min_size: a PrAC set smaller than this fraction of the training set is filled up to it
            with other samples of the set it was drawn from. Default 0.01.
        budget: how a round on P of N samples is shortened: "steps" (the paper's formula,
            steps in proportion to P, so the number of epochs stays), "epochs" (the authors'
            code: epochs in proportion too, so steps fall with the square) or "full" (as many
            steps as the full data takes). Default "steps".
        early_stop_eps: stop a round when the mask distance stays below this; None ("off" on the
            command line): never. Default 0.07.
        early_stop_window: number of successive distances that must be below. Default 5.
        early_stop_arming: which distances count: those "after_above" one that exceeded
            `early_stop_eps`, and after warmup (the authors' code, so that a slow start does not
            stop a round), or all "at_once". Default "after_above".
        pretrain_on: on which samples the k steps from W_0 to the rewind point W_k are taken:
            "all", a "random" subset of them, or the "easy" or "hard" ones, which round 0 of
            `pretrain_from` forgot least or most often. Round 0 then goes on from W_k on the full
            data (Paul et al. 2022). Default "all".
        pretrain_size: fraction of the training set in that subset. Default None.
        pretrain_from: directory of a finished run on the same samples, with whatever network, that
            says which are easy. Default None.

    Raises:
        ArgumentError: a value is outside its range, or two do not go together.
    """

    selector: str = "prac"
    subset_size: float | None = None
    sizes_from: str | None = None
    class_balanced: bool = False
    prac_from: str | None = None
    prac_from_round: str = "each"
    proxy_from: str | None = None
    use_cet: bool = True
    use_cep: bool = True
    forget_threshold: int = 0
    cet_rate: float | None = None
    never_learned: str = "critical"
    cep_network: str = "pruned"
    cep_weights: str = "last"
    cep_from_round: int = 0
    min_size: float = 0.01
    budget: str = "steps"
    early_stop_eps: float | None = 0.07
    early_stop_window: int = 5
    early_stop_arming: str = "after_above"
    pretrain_on: str = "all"
    pretrain_size: float | None = None
    pretrain_from: str | None = None

    def __post_init__(self):
        check_bool("class_balanced", self.class_balanced)
        check_bool("use_cet", self.use_cet)
        check_bool("use_cep", self.use_cep)
        check_int("forget_threshold", self.forget_threshold, 0)
        if self.cet_rate is not None:
            check_number("cet_rate", self.cet_rate, above=0, below=1)
        check_choice("never_learned", self.never_learned, ("critical", "ignore"))
        check_choice("cep_network", self.cep_network, ("pruned", "trained"))
        check_choice("cep_weights", self.cep_weights, ("last", "best"))
        check_int("cep_from_round", self.cep_from_round, 0)
        check_number("min_size", self.min_size, minimum=0, maximum=1)
        check_choice("budget", self.budget, ("steps", "epochs", "full"))
        if self.early_stop_eps is not None:
            check_number("early_stop_eps", self.early_stop_eps, above=0)
        check_int("early_stop_window", self.early_stop_window, 1)
        check_choice("early_stop_arming", self.early_stop_arming, ("after_above", "at_once"))
        check_choice("pretrain_on", self.pretrain_on, PRETRAIN)
        self._check_selection()
        self._check_pretraining()

    def _check_selection(self) -> None:
        for name in OTHER_RUNS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, (str, os.PathLike)) or not str(value)):
                raise ArgumentError(name, value, "the directory of a finished run")
            object.__setattr__(self, name, None if value is None else str(value))
        round_text = str(self.prac_from_round)
        if round_text not in ("each", "last") and not re.fullmatch(r"\d+", round_text):
            raise ArgumentError("prac_from_round", self.prac_from_round, "each, last or a round")
        object.__setattr__(self, "prac_from_round", round_text)
        if self.subset_size is not None:
            check_number("subset_size", self.subset_size, above=0, maximum=1)
        other = self.selector != "prac"
        if other and self.prac_from is not None:
            raise ArgumentError("prac_from", self.prac_from, "none with another selector")
        if other and (self.subset_size is None) == (self.sizes_from is None):
            raise ArgumentError(
                "subset_size",
                self.subset_size,
                f"a fraction in (0, 1] with selector={self.selector}, or sizes_from in its place",
            )
        if not other and self.subset_size is not None:
            raise ArgumentError(
                "subset_size",
                self.subset_size,
                "none with selector=prac, whose sizes are the numbers of critical samples",
            )
        if self.proxy_from is not None and self.selector != "forgetting":
            raise ArgumentError("proxy_from", self.proxy_from, "none but with selector=forgetting")

    def _check_pretraining(self) -> None:
        on, size = self.pretrain_on, self.pretrain_size
        if size is not None:
            check_number("pretrain_size", size, above=0, maximum=1)
        if (size is None) != (on == "all"):
            allowed = "none with pretrain_on=all" if on == "all" else "a fraction in (0, 1]"
            raise ArgumentError("pretrain_size", size, allowed)
        if (self.pretrain_from is None) != (on not in ("easy", "hard")):
            allowed = "a finished run with pretrain_on=easy or hard, none otherwise"
            raise ArgumentError("pretrain_from", self.pretrain_from, allowed)

    @property
    def other_runs(self) -> dict[str, str]:
        """The directories of other runs that are used, by option."""
        paths = {name: getattr(self, name) for name in OTHER_RUNS}
        return {name: path for name, path in paths.items() if path is not None}

    def here(self) -> dict[str, Any]:
        """The options but the directories of other runs, which may be moved."""
        options = dataclasses.asdict(self)
        return {name: value for name, value in options.items() if name not in OTHER_RUNS}

    @property
    def pretrains(self) -> bool:
        """Whether the steps to W_k are taken on other samples than those after it."""
        return self.pretrain_on != "all"

    @property
    def selects_data(self) -> bool:
        """Whether rounds after the first train on less than the full data."""
        other = self.selector != "prac" or self.prac_from is not None
        return other or self.use_cet or self.use_cep


@dataclasses.dataclass(frozen=True)
class PracVariant:
    """A named choice of `PracConfig`, with the other options that belong to it.

    Attributes:
        prac: the options of this module.
        pruning: fields of `PruningConfig` that it sets.
        recipe: fields of `TrainingRecipe` that it sets.
    """

    prac: PracConfig
    pruning: dict[str, Any] = dataclasses.field(default_factory=dict)
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)


PRAC_VARIANTS = {
    "paper": PracVariant(PracConfig()),
    "official": PracVariant(
        PracConfig(
            cep_network="trained",
            cep_weights="best",
            cep_from_round=1,
            budget="epochs",
            early_stop_eps=0.08,
        ),
        pruning={"layers": ("conv",), "lr_rewind": False},
        recipe={"split": "last"},
    ),
    "none": PracVariant(PracConfig(use_cet=False, use_cep=False, early_stop_eps=None)),
}
