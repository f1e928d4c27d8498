"""`RoundPlan`: the training budget, early stop and pruning rule of each round."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable

import numpy as np

from tf_prac.config import RewindPoint, SearchConfig, budget_of
from tf_prac.data.coverage import Coverage
from tf_prac.data.order import steps_per_epoch
from tf_prac.errors import ArgumentError
from tf_prac.pruning.criteria import (
    PruneRule,
    Rate,
    get_criterion,
)
from tf_prac.pruning.masks import Masks, Weights
from tf_prac.search.finished_run import FinishedRun
from tf_prac.search.larger_cuts import is_larger_cut
from tf_prac.search.option_checks import check_options
from tf_prac.search.ticket import Ticket
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
        dense_steps: the steps of round 0.
        round_steps: the steps of the schedule of a later round on the full data.
        annealed: whether each round has the annealed schedule.
        one_cycle: whether all rounds together have the annealed schedule.
        averages: whether masks are found from the average of the weights of a round.
        holds_rate: whether the learning rate of rounds stays at that of step k.
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
        self.dense_steps = self._steps_of("dense_budget")
        self.round_steps = self._steps_of("round_budget")
        self.annealed = prac.round_schedule == "annealed"
        self.one_cycle = prac.round_schedule == "one_cycle"
        self.averages = prac.round_schedule == "swa"
        self.holds_rate = prac.round_schedule in ("constant", "swa")
        whole_schedule = self.annealed or prac.round_budget is not None and not self.holds_rate
        self.first_step = self.k if pruning.lr_rewind and not whole_schedule else 0
        self.rewind_at = 0 if prac.pretrains else self.k
        self.trains = get_criterion(pruning.criterion).rounds_train
        check_options(config, sizes_from, self.k, self.kept, self.dense_steps)
        if sizes_from is not None:
            self._check_steps(sizes_from)

    def _steps_of(self, option: str) -> int:
        """Returns the steps of `dense_budget` or `round_budget`, or those of the recipe."""
        text = getattr(self._prac, option)
        if text is None:
            return self.full.total_steps
        budget = budget_of(option, text)
        return max(1, budget.nearest_step(self.full.steps_per_epoch, self.full.total_steps))

    @property
    def imp_steps(self) -> int:
        """SGD steps of iterative magnitude pruning on the full data, with as many rounds."""
        later = self.full.total_steps - (self.k if self._pruning.lr_rewind else 0)
        return self.full.total_steps + (self._pruning.rounds - 1) * later

    @property
    def paper_imp_steps(self) -> int:
        """The same, with all T steps in every round, as the PrAC paper counts."""
        return self._pruning.rounds * self.full.total_steps

    def budget(self, number: int, size: int) -> Budget:
        """Returns the budget of a round on `size` samples."""
        if not self.trains:
            return dataclasses.replace(self.full, limit=0 if number else self.rewind_at)
        if self.one_cycle:
            return self._part_of_cycle(number)
        if self._sizes_from is None:
            return self._scaled(number, size)
        other = self._sizes_from.rounds[number]
        budget = self._scaled(number, other["train_samples"])
        per_epoch = steps_per_epoch(size, self._recipe.batch_size)
        budget = dataclasses.replace(budget, steps_per_epoch=per_epoch)
        if self.annealed:  # to the end
            return dataclasses.replace(budget, total_steps=other["steps"] + budget.first_step)
        return dataclasses.replace(budget, limit=other["steps"])

    def pretraining(self, size: int) -> Budget:
        """Returns the budget of the first k steps, on `size` samples."""
        per_epoch = steps_per_epoch(size, self._recipe.batch_size)
        return dataclasses.replace(self.full, steps_per_epoch=per_epoch, limit=self.k)

    def _part_of_cycle(self, number: int) -> Budget:
        """Returns the budget of a round as a part of one schedule."""
        rounds = self._pruning.rounds
        steps = [self.dense_steps, *(rounds - 1) * [self.round_steps]]
        if self._sizes_from is not None:
            steps = [metrics["steps"] for metrics in self._sizes_from.rounds[:rounds]]
        first = self.k if number == 0 and self._continues else sum(steps[:number])
        return dataclasses.replace(
            self.full,
            total_steps=sum(steps),
            first_step=first,
            limit=sum(steps[: number + 1]) - first,
            annealed=1.0,
        )

    def _scaled(self, number: int, size: int) -> Budget:
        """Returns the budget of a round on `size` samples with a schedule of its own."""
        steps = self.round_steps if number else self.dense_steps
        if self.holds_rate:
            full = self._held(steps)
        else:
            full = dataclasses.replace(
                self.full,
                total_steps=steps,
                annealed=1.0 if self.annealed else None,
                full_steps=self.full.total_steps,
            )
        if number == 0:
            # Round 0 is the rest of the schedule whose first k steps were the pretraining.
            first = self.k if self._continues else 0
            limit = None if full.limit is None else full.limit - first
            return dataclasses.replace(full, first_step=first, limit=limit)
        whole_recipe = self._prac.round_schedule == "recipe"
        at_end = self._pruning.retraining == "fine_tuning" and whole_recipe
        rewound = dataclasses.replace(full, first_step=self.first_step, at_end=at_end)
        return rewound.scaled(self._recipe, size, self._num_samples, self._prac.budget)

    def _held(self, steps: int) -> Budget:
        """Returns the budget of `steps` steps whose learning rate stays at that of step k.

        It follows the recipe up to step k, or to the end of the warmup, and does not fall.
        """
        held_from = max(self.k, math.ceil(self.full.warmup_length(self._recipe)))
        return dataclasses.replace(
            self.full, limit=steps, held_from=held_from, averages=self.averages
        )

    @property
    def trains_dense_fully(self) -> bool:
        """Whether round 0, unless it stops early, trains the dense network as the recipe does."""
        return self._prac.round_schedule == "recipe" and self.dense_steps == self.full.total_steps

    @property
    def anneals_dense_early(self) -> bool:
        """Whether round 0 ends at a low learning rate, after fewer steps than the recipe has."""
        ends_low = not self.holds_rate and not self.one_cycle
        return ends_low and self.dense_steps < self.full.total_steps

    def retrains(self, ticket: Ticket, size: int) -> bool:
        """Whether a round on `size` samples that starts from a ticket trains as retraining does.

        Then its training is the retraining of the ticket, unless it stops early.
        """
        same_start = self._pruning.ticket_start == "as_rounds"
        budget = ticket.retrain_budget(self._recipe, self._num_samples)
        full = ticket.round > 0 and size == self._num_samples and same_start
        return full and self.budget(ticket.round, size) == budget

    @property
    def _continues(self) -> bool:
        """Whether round 0 continues the schedule of a pretraining."""
        return self._prac.pretrains and self._pruning.lr_rewind

    def presented(
        self, number: int, ids: np.ndarray, train_ids: np.ndarray
    ) -> np.ndarray | Coverage:
        """Returns the samples that a round presents: `ids`, or a `Coverage` of all samples.

        Args:
            number: the round.
            ids: its set.
            train_ids: the full training set.
        """
        others = np.setdiff1d(train_ids, ids)
        if number == 0 or self._prac.coverage is None or not len(others):
            return ids
        coverage = Coverage(ids, others, self._prac.coverage, 0)
        budget = self.budget(number, len(coverage))
        epochs = budget.steps / budget.steps_per_epoch
        uniform_from = round(self._prac.coverage_until * epochs)
        return dataclasses.replace(coverage, uniform_from=uniform_from)

    def rule(self, number: int, rates: Rate, transposed: Collection[str] = ()) -> PruneRule:
        """Returns the pruning rule of a round.

        Args:
            number: the round.
            rates: prune rates of the weights.
            transposed: as for `Pattern.of_network`. Default ().
        """
        options = self._pruning
        sparsity = options.sparsities[number] if options.sparsities else None
        pattern = options.make_pattern().of_network(transposed)
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
        warmup = budget.warmup_length(self._recipe) - budget.first_step
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
            average=prac.early_stop_average,
            distance=prac.early_stop_distance,
        )

    def _check_steps(self, other: FinishedRun) -> None:
        for number in range(self._pruning.rounds):
            metrics = other.rounds[number]
            max_steps = 2**31
            if not (self.annealed or self.one_cycle):
                max_steps = self._scaled(number, metrics["train_samples"]).steps
            min_steps = 1 if number else self.rewind_at + 1
            if number and is_larger_cut(metrics):
                continue
            if not min_steps <= metrics["steps"] <= max_steps:
                raise ArgumentError(
                    "sizes_from",
                    self._prac.sizes_from,
                    "a run with the same recipe, rewind point and budget",
                    f"Its round {number} took {metrics['steps']} steps; here {min_steps} "
                    f"to {max_steps} are possible.",
                )
