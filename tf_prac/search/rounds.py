"""`RoundRunner`: one round of a search; trains, prunes, and selects the samples of the next round.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Algorithm 1; "Stabilizing the Lottery
Ticket Hypothesis", Algorithm 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.coverage import Coverage
from tf_prac.data.sample_set import SampleSet
from tf_prac.pruning.criteria import PruneRule
from tf_prac.pruning.mask_distance import mask_agreement
from tf_prac.pruning.masks import Masks, Weights
from tf_prac.pruning.patterns import Block, Unstructured
from tf_prac.pruning.report import PruningReport
from tf_prac.pruning.weights import prune_rates, transposed_kernels
from tf_prac.search.context import SearchContext
from tf_prac.search.dense_round import save_rewind_points
from tf_prac.search.larger_cuts import AGREEMENT, LARGER_CUT, next_round_trains
from tf_prac.search.plan import RoundPlan
from tf_prac.search.pretraining import Pretraining
from tf_prac.search.retraining import Retraining, save_ticket
from tf_prac.search.round_start import RoundStart
from tf_prac.search.scoring import NetworkPruner
from tf_prac.search.selection import RoundOutcome, Selection
from tf_prac.search.selectors import make_selector
from tf_prac.search.summary import chance_warning, round_metrics
from tf_prac.search.ticket import SEARCH_ORDER
from tf_prac.storage.files import write_csv
from tf_prac.storage.layout import FORGETTING, HISTORY, MASKS, PRAC_SET, PREDICTIONS
from tf_prac.tables import wrapped
from tf_prac.training.trained_network import TrainedNetwork, untrained


class RoundRunner:
    """Runs the rounds of a search that are not finished.

    Args:
        context: of the search.
        plan: budgets and pruning rules.
        start: the weights that rounds start from.
        initial: W_0.
        retrain: numbers of tickets to retrain; if the round of a ticket trains in the same way as
            retraining, its training is used. Default ().
    """

    def __init__(
        self,
        context: SearchContext,
        plan: RoundPlan,
        start: RoundStart,
        initial: Weights,
        retrain: Collection[int] = (),
    ):
        self._retrain = frozenset(retrain)
        self._context, self._plan, self._start, self._initial = context, plan, start, initial
        self._pruning = context.config.pruning
        self._rates = prune_rates(context.trainer.network, self._pruning)
        self._transposed = transposed_kernels(context.trainer.network)
        self._pruner = NetworkPruner(context)
        self._selector = make_selector(context)
        pretrains = context.config.prac.pretrains
        self._pretraining = Pretraining(context, plan) if pretrains else None

    def check_masks(self, masks: Masks) -> None:
        """Checks, before anything is written, that the rounds can prune a network of these masks.

        How much is pruned does not depend on the scores, except with `refill` and "channels" after
        the first round.

        Raises:
            ArgumentError: If the pattern does not fit a weight, a target sparsity is below that of
                the masks, or the rounds leave less than `min_layer_density`.
        """
        pattern = self._rule(0).pattern
        for name, mask in masks.items():
            pattern.check_fits(name, mask.shape)
        if self._pruning.sparsities or self._pruning.min_layer_density:
            is_exact = isinstance(pattern, (Unstructured, Block))
            scores = {name: np.zeros(mask.shape, np.float32) for name, mask in masks.items()}
            for number in range(self._pruning.rounds if is_exact else 1):
                masks = self._rule(number).by_scores(scores, masks)

    def run(
        self,
        number: int,
        masks: Masks,
        ids: np.ndarray,
        w_k: Callable[[], Weights],
        rounds: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        """Trains, prunes and selects; writes the files of the round, and returns its metrics.

        With `larger_cuts`, a round may prune by the trained weights of the round before instead.

        Args:
            number: of the round, from 0.
            masks: the masks to train with.
            ids: the samples to train on.
            w_k: reads the weights of the rewind point, which exist after round 0.
            rounds: the metrics of the rounds before. Default ().
        """
        sizes_from = self._context.finished_runs.get("sizes_from")
        if not next_round_trains(self._pruning, rounds, sizes_from):
            return self._prune_again(number, masks, ids)
        weights, pretraining_metrics = self._weights(number, masks, w_k)
        train_ids = self._context.train.ids
        presented = self._plan.presented(number, ids, train_ids)
        trained = self._train(number, weights, masks, presented)
        self._keep_ticket(number, masks, len(presented), trained, w_k)
        rule = self._rule(number)
        next_masks = self._pruner.prune(rule, trained.scored, masks)
        if dead_layers := PruningReport.of(next_masks).dead_layers:
            self._context.callbacks.on_message(f"  warning: {dead_layers}")
        ids = train_ids if isinstance(presented, Coverage) else ids
        outcome = RoundOutcome(number, trained, masks, next_masks, ids, len(presented))
        selection = self._selector.select(outcome)
        gradient_samples = self._pruner.gradient_samples(trained)
        metrics = (
            round_metrics(outcome, selection, gradient_samples, self._context.metric)
            | pretraining_metrics
        )
        if self._pruning.larger_cuts is not None:
            before = weights
            if number:
                before = {**self._start.trained(number - 1), **self._start.averaged(number - 1)}
            metrics[AGREEMENT] = mask_agreement(rule(before, masks), next_masks, masks)
        if number == 0:
            self._save_rewind(trained, metrics)
            self._test_dense(trained, metrics)
            self._warn_of_chance(metrics)
        self._save(outcome, selection, metrics)
        return metrics

    def _rule(self, number: int) -> PruneRule:
        return self._plan.rule(number, self._rates, self._transposed)

    def _prune_again(self, number: int, masks: Masks, ids: np.ndarray) -> dict[str, Any]:
        """Prunes by the trained weights of the round before, and keeps its samples."""
        run, before = self._context.run, self._context.run.round_path(number - 1)
        weights, averaged = self._start.trained(number - 1), self._start.averaged(number - 1)
        trained = untrained(weights, len(self._context.train.samples), 0)
        trained = dataclasses.replace(trained, stop=LARGER_CUT, averaged=averaged)
        next_masks = self._rule(number)(trained.scored, masks)
        outcome = RoundOutcome(number, trained, masks, next_masks, ids)
        selection = Selection(SampleSet.load(before / PRAC_SET))
        reference = self._context.config.prac.cep_reference
        if reference == "round_before" and (before / PREDICTIONS).exists():
            run.save_predictions(number, run.load_predictions(number - 1))
        metrics = round_metrics(outcome, selection, 0, self._context.metric)
        self._save(outcome, selection, metrics)
        return metrics

    def _weights(
        self, number: int, masks: Masks, w_k: Callable[[], Weights]
    ) -> tuple[Weights, dict[str, Any]]:
        """Returns the weights that a round starts from, and the metrics of a pretraining."""
        if number:
            return self._start.weights(number, w_k()), {}
        if self._pretraining is None:
            return self._initial, {}
        return self._pretraining.weights(self._initial, masks)

    def _train(
        self, number: int, weights: Weights, masks: Masks, ids: np.ndarray | Coverage
    ) -> TrainedNetwork:
        context, plan = self._context, self._plan
        budget, mask_distance = plan.budget(number, len(ids)), None
        if plan.annealed and number and self._pruning.retraining != "weight_rewinding":
            budget_fraction = budget.total_steps / plan.full.total_steps
            peak = annealed_peak(weights, masks, budget_fraction)
            budget = dataclasses.replace(budget, annealed=peak)
        if budget.steps == 0:
            return untrained(weights, len(context.train.samples), plan.rewind_at)
        if plan.trains:
            rule = self._pruner.tentative(self._rule(number))
            keep = self._keep_tentative(number, masks)
            mask_distance = plan.mask_distance(number, len(ids), rule, keep)
        with context.callbacks.training(f"round {number}", budget.steps) as advance:
            return context.trainer.train(
                weights,
                masks,
                ids,
                budget,
                order=(context.seed, SEARCH_ORDER, number),
                snapshot_at=() if number else (plan.rewind_at, *plan.kept),
                mask_distance=mask_distance,
                advance=advance,
                checkpoints=context.checkpoints(context.run.round_path(number)),
            )

    def _keep_ticket(
        self,
        number: int,
        masks: Masks,
        size: int,
        trained: TrainedNetwork,
        w_k: Callable[[], Weights],
    ) -> None:
        """Takes the round as the retraining of its ticket, if that is requested and the same."""
        if number not in self._retrain or number == 0 or trained.stop != "budget":
            return
        ticket, context = self._start.ticket(number, masks, w_k()), self._context
        if self._plan.retrains(ticket, size):
            is_rewound = self._start.ticket_is_rewound(number)
            save_ticket(context.run, ticket, is_rewound, context.callbacks)
            Retraining(context).take_round(ticket, trained)

    def _keep_tentative(self, number: int, masks: Masks) -> Callable[[int, Masks], None] | None:
        if not self._pruning.keep_epoch_masks:
            return None
        run = self._context.run
        return lambda epoch, tentative: run.save_tentative(number, epoch, masks, tentative)

    def _save_rewind(self, trained: TrainedNetwork, metrics: dict[str, Any]) -> None:
        """Writes W_k and the weights of further rewind points."""
        run, plan = self._context.run, self._plan
        metrics["rewind_sha256"] = run.save_rewind(trained.snapshots[plan.rewind_at])
        save_rewind_points(run, {step: trained.snapshots[step] for step in plan.kept})

    def _test_dense(self, trained: TrainedNetwork, metrics: dict[str, Any]) -> None:
        """Adds the test accuracy of round 0, at its best validation epoch and at its last."""
        trainer, test = self._context.trainer, self._context.data.test
        for name, weights in (
            ("test_accuracy", trained.best_weights),
            ("test_accuracy_last", trained.weights),
        ):
            metrics[name] = None
            if test is not None:
                trainer.load(weights)
                metrics[name] = trainer.predictor.measure(test)
                metrics["forward_samples"] += len(test.ids)

    def _warn_of_chance(self, metrics: Mapping[str, Any]) -> None:
        """Tells if the dense network classifies no better than without its inputs."""
        context, validation = self._context, self._context.data.validation
        if validation is None or not metrics["steps"]:
            return
        classes = context.trainer.task.classes(validation.labels)
        classes = classes if classes is None else classes[classes >= 0]
        inputs = tf.nest.flatten(validation.samples.inputs(validation.ids[:32]))
        numbers = [part for part in inputs if part.dtype.kind in "iuf"]
        largest = max((float(np.abs(part).max()) for part in numbers), default=0.0)
        if warning := chance_warning(metrics, classes, largest):
            context.callbacks.on_message(wrapped(warning))

    def _save(self, outcome: RoundOutcome, selection: Selection, metrics: dict[str, Any]) -> None:
        """Writes the files of a round; it is finished when round.json is written."""
        run, number = self._context.run, outcome.number
        path = run.round_path(number)
        outcome.next_masks.save(path / MASKS)
        selection.sample_set.save(path / PRAC_SET)
        outcome.trained.forgetting.save(path / FORGETTING)
        write_csv(path / HISTORY, outcome.trained.history)
        self._start.save_trained(number, outcome.trained)
        run.finish_round(number, metrics)


def annealed_peak(weights: Weights, masks: Masks, budget_fraction: float) -> float:
    """Returns the peak of an annealed round that continues from trained weights, as a fraction.

    It follows how much the pruning changed the weights: d / sqrt(s), where d is the norm of the
    pruned weights divided by that of all remaining ones, and s the fraction of these that was
    pruned; at least `budget_fraction` and at most 1.

    Source: Zimmer, Spiegel and Pokutta 2023, "How I Learned to Stop Worrying and Love Retraining",
    Section 3.2 (ALLR).

    Args:
        weights: the weights that the round before trained, with zeros where it had pruned.
        masks: the masks after its pruning.
        budget_fraction: the steps of the round divided by those of the recipe.
    """
    remaining = sum(np.count_nonzero(weights[name]) for name in masks)
    before = sum(float(np.sum(np.square(weights[name], dtype=np.float64))) for name in masks)
    dropped = sum(
        float(np.sum(np.square(weights[name][~mask], dtype=np.float64)))
        for name, mask in masks.items()
    )
    pruned = sum(np.count_nonzero(weights[name][~mask]) for name, mask in masks.items())
    if not before or not pruned:
        return min(1.0, budget_fraction)
    peak = math.sqrt(dropped / before) / math.sqrt(pruned / remaining)
    return min(1.0, max(peak, budget_fraction))
