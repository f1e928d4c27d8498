"""`RoundPlan`: the training budget, early stop and pruning rule of each round."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

from tf_prac.config import PracConfig, RewindPoint, SearchConfig
from tf_prac.data.order import steps_per_epoch
from tf_prac.errors import ArgumentError
from tf_prac.pruning.criteria import (
    TRAINED,
    PruneRule,
    Rate,
    Weights,
    criterion_name,
    get_criterion,
)
from tf_prac.pruning.masks import Masks
from tf_prac.search.finished_run import FinishedRun
from tf_prac.training.callbacks.mask_distance import MaskDistance
from tf_prac.training.schedules import Budget


class RoundPlan:
    """The budgets and pruning rules of the rounds of a search.

    Args:
        config: the options of the search.
        num_samples: size of the full training set.
        sizes_from: a finished run whose numbers of steps are used. Default None.
        also_keep: further rewind points at which round 0 stores its weights. Default ().

    Raises:
        ArgumentError: If the rewind point is not within training, or two options exclude each
            other, or the budgets of `sizes_from` are not possible here.

    Attributes:
        full: the budget of the dense network on the full data.
        k: the rewind point, in steps.
        kept: further steps after which round 0 stores its weights.
        rewind_at: the step of round 0 at which its weights are W_k; 0 if it starts from W_k.
        first_step: the step of the schedule at which later rounds start.
        trains: whether rounds train; not with a criterion that scores W_k.
    """

    def __init__(
        self,
        config: SearchConfig,
        num_samples: int,
        sizes_from: FinishedRun | None = None,
        also_keep: Iterable[str] = (),
    ):
        recipe, pruning, prac = config.recipe, config.pruning, config.prac
        self._recipe, self._pruning, self._prac = recipe, pruning, prac
        self._num_samples, self._sizes_from = num_samples, sizes_from
        self.full = Budget.full(recipe, num_samples)
        steps = self.full.steps_per_epoch, self.full.total_steps
        self.k = pruning.rewind_point.steps(*steps)
        self.kept = {RewindPoint.parse(point).steps(*steps) for point in also_keep}
        self.first_step = self.k if pruning.lr_rewind else 0
        self.rewind_at = 0 if prac.pretrains else self.k
        self.trains = get_criterion(pruning.criterion).at == TRAINED
        self._check_options()
        if sizes_from is not None:
            self._check_steps(sizes_from)

    def _check_options(self) -> None:
        """Raises `ArgumentError` for options that exclude each other."""
        pruning, prac, kept = self._pruning, self._prac, sorted(self.kept)
        if not self.trains and kept:
            allowed = "none with a criterion whose rounds do not train"
            raise ArgumentError("also_keep", kept, allowed)
        if prac.pretrains and not self.k:
            remedy = "There are no steps to take on other samples."
            raise ArgumentError("rewind", pruning.rewind, f"above 0 with {_pretrain(prac)}", remedy)
        if prac.pretrains and kept:
            remedy = "Each rewind point has its own round 0: search once for each."
            raise ArgumentError("also_keep", kept, f"none with {_pretrain(prac)}", remedy)
        if not self.trains and prac.selects_data:
            raise ArgumentError(
                "criterion",
                criterion_name(pruning.criterion),
                "one that scores trained weights while rounds select data",
                "Rounds that do not train find no critical samples: use prac=none.",
            )
        pruning.make_pattern().check_rounds(pruning.rounds)

    @property
    def imp_steps(self) -> int:
        """SGD steps of iterative magnitude pruning on the full data, with as many rounds."""
        later = self.full.total_steps - self.first_step
        return self.full.total_steps + (self._pruning.rounds - 1) * later

    def budget(self, number: int, size: int) -> Budget:
        """Returns the budget of a round on `size` samples."""
        if not self.trains:
            return dataclasses.replace(self.full, limit=0 if number else self.rewind_at)
        if self._sizes_from is None:
            return self._scaled(number, size)
        other = self._sizes_from.rounds[number]
        budget = self._scaled(number, other["train_samples"])
        per_epoch = steps_per_epoch(size, self._recipe.batch_size)
        return dataclasses.replace(budget, steps_per_epoch=per_epoch, limit=other["steps"])

    def pretraining(self, size: int) -> Budget:
        """Returns the budget of the first k steps, on `size` samples."""
        per_epoch = steps_per_epoch(size, self._recipe.batch_size)
        return dataclasses.replace(self.full, steps_per_epoch=per_epoch, limit=self.k)

    def _scaled(self, number: int, size: int) -> Budget:
        if number == 0:
            first_step = self.first_step if self._prac.pretrains else 0
            return dataclasses.replace(self.full, first_step=first_step)
        at_end = self._pruning.retraining == "fine_tuning"
        rewound = dataclasses.replace(self.full, first_step=self.first_step, at_end=at_end)
        return rewound.scaled(self._recipe, size, self._num_samples, self._prac.budget)

    def rule(self, number: int, rates: Rate) -> PruneRule:
        """Returns the pruning rule of a round.

        Args:
            number: the round.
            rates: prune rates of the weights.
        """
        options = self._pruning
        sparsity = options.sparsities[number] if options.sparsities else None
        pattern = options.make_pattern()
        floor = options.min_layer_density
        return PruneRule(rates, options.criterion, options.scope, sparsity, pattern, floor)

    def mask_distance(
        self,
        number: int,
        size: int,
        rule: Callable[[Weights, Masks], Masks],
        keep: Callable[[int, Masks], None] | None = None,
    ) -> MaskDistance:
        """Returns the mask-distance callback of a round, which may stop it early.

        It never stops round 0 before the last rewind point to store and, with `early_stop_arming`
        "after_above", no round during the warmup of the learning rate.

        Args:
            number: the round.
            size: number of samples it trains on.
            rule: how the round will be pruned, see `MaskDistance`.
            keep: see `MaskDistance`. Default None.
        """
        prac, budget = self._prac, self.budget(number, size)
        last_stored = 0 if number else max(self.rewind_at, *self.kept, 0)
        min_epochs = math.ceil(last_stored / self.full.steps_per_epoch)
        warmup = self._recipe.warmup_fraction * budget.total_steps - budget.first_step
        if warmup > 0 and prac.early_stop_arming == "after_above":
            warmup_epochs = math.ceil(warmup / budget.steps_per_epoch)
            min_epochs = max(min_epochs, warmup_epochs + 1 + prac.early_stop_window)
        return MaskDistance(
            rule=rule,
            eps=None if self._sizes_from else prac.early_stop_eps,
            window=prac.early_stop_window,
            min_epochs=min_epochs,
            armed=prac.early_stop_arming == "at_once",
            keep=keep,
            first=None,
        )

    def _check_steps(self, other: FinishedRun) -> None:
        for number in range(self._pruning.rounds):
            metrics = other.rounds[number]
            max_steps = self._scaled(number, metrics["train_samples"]).steps
            min_steps = 1 if number else self.rewind_at + 1
            if not min_steps <= metrics["steps"] <= max_steps:
                raise ArgumentError(
                    "sizes_from",
                    self._prac.sizes_from,
                    "a run with the same recipe, rewind point and budget",
                    f"Its round {number} took {metrics['steps']} steps; here {min_steps} "
                    f"to {max_steps} are possible.",
                )


def _pretrain(prac: PracConfig) -> str:
    return f"pretrain_on={prac.pretrain_on}"
