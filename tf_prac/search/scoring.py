"""`NetworkPruner`: prunes the network of a search by its criterion."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.pipeline import evaluation_batches
from tf_prac.data.selection import choose
from tf_prac.data.splits import Split
from tf_prac.keras_api import random_states, to_numpy
from tf_prac.pruning.criteria import PruneRule, Scores, get_criterion
from tf_prac.pruning.gradient_criteria import SYNFLOW, ScoringInputs, check_synflow
from tf_prac.pruning.masks import Masks, Weights
from tf_prac.pruning.weights import rewind, snapshot
from tf_prac.search.context import SearchContext
from tf_prac.training.precision import exact_float32
from tf_prac.training.trained_network import TrainedNetwork

BATCH = 256


class NetworkPruner:
    """Prunes the network of a search by the criterion of its configuration.

    A criterion that needs the network scores on `score_samples` training samples of each class. If
    rounds train, it also scores after each epoch, for the mask distance. Sample weights multiply
    losses, and samples of weight 0 are left out.

    Args:
        context: of the search.
    """

    def __init__(self, context: SearchContext):
        self._context, self._pruning = context, context.config.pruning
        self._criterion = get_criterion(self._pruning.criterion)
        if self._criterion == SYNFLOW:  # before anything is written
            from_logits = context.trainer.task.from_logits is not False
            check_synflow(from_logits, context.train.samples.input_dtype)

    def prune(self, rule: PruneRule, weights: Weights, masks: Masks) -> Masks:
        """Returns the next masks; may change the weights of the network.

        Args:
            rule: the pruning rule of the round.
            weights: the weights to score: all weights of the network.
            masks: the current masks.
        """
        if self._criterion.scores_trained_weights:
            return rule(weights, masks)
        return rule.in_steps(self._scores(weights), masks, self._pruning.score_steps)

    def tentative(self, rule: PruneRule) -> Callable[[Weights, Masks], Masks]:
        """Returns the rule of a `MaskDistance`: prunes by the network's current weights."""
        return _TentativeRule(rule, self) if self._criterion.needs_network else rule

    def gradient_samples(self, trained: TrainedNetwork) -> int:
        """Returns the number of samples whose gradients a round computes to prune.

        Args:
            trained: the result of the round's training.
        """
        if not self._criterion.passes:
            return 0
        epochs = len(trained.history) if self._criterion.rounds_train else 0
        scorings = self._pruning.score_steps * (epochs + 1)
        return len(self._ids) * self._criterion.passes * scorings

    def _scores(self, weights: Weights) -> Callable[[Masks], Scores]:
        """Returns a function of masks that returns the scores of `weights` under them."""
        score = self._criterion.score
        if not self._criterion.needs_network:
            return lambda masks: score(masks.apply({name: weights[name] for name in masks}))
        inputs = self._inputs()

        def scores(masks: Masks) -> Scores:
            rewind(inputs.network, weights, masks)
            with exact_float32():
                result = score(inputs)
            rewind(inputs.network, weights, masks)
            return result

        return scores

    def _inputs(self) -> ScoringInputs:
        trainer = self._context.trainer
        batches = list(evaluation_batches(trainer.samples, self._ids, batch_size=BATCH))

        def loss(labels: Any, outputs: Any, temperature: float, weight: Any = None) -> tf.Tensor:
            losses = trainer.task.weighted_losses(labels, outputs, weight, temperature)
            return tf.reduce_mean(losses)

        return ScoringInputs(
            network=trainer.network,
            prunable=trainer.model.prunable,
            batches=[(x["inputs"], y) for x, y, *_ in batches],
            from_logits=trainer.task.from_logits is not False,
            loss=loss,
            weights=[weight for _, _, *weights in batches for weight in weights],
        )

    @functools.cached_property
    def _ids(self) -> np.ndarray:
        trainer, train = self._context.trainer, self._context.train
        weights = trainer.samples.weights
        if weights is not None:
            weighted = np.any(weights.reshape(len(weights), -1)[train.ids], axis=1)
            train = Split(train.samples, train.ids[np.flatnonzero(weighted)])
        classes = trainer.task.classes(train.labels)
        return few_of_each_class(train, classes, self._pruning.score_samples, self._context.seed)

    def prune_now(self, rule: PruneRule, masks: Masks) -> Masks:
        """Prunes by the network's current weights, which it restores; returns the next masks."""
        network = self._context.trainer.network
        states = [(state, to_numpy(state)) for state in random_states(network)]
        result = self.prune(rule, snapshot(network), masks)
        for state, value in states:
            state.assign(value)
        return result


@dataclasses.dataclass(frozen=True)
class _TentativeRule:
    """Prunes like `rule`, with scores from the network in its current state."""

    rule: PruneRule
    pruner: NetworkPruner = dataclasses.field(repr=False)

    def __call__(self, weights: Weights, masks: Masks) -> Masks:
        return self.pruner.prune_now(self.rule, masks)


def few_of_each_class(
    train: Split, classes: np.ndarray | None, count: int, seed: int
) -> np.ndarray:
    """Returns the sorted ids of `count` random samples of each class, or of all it has.

    Args:
        train: the training set.
        classes: the class of each sample; None if samples have no single class, which then count
            as one class.
        count: number of samples of each class.
        seed: the same seed returns the same ids.
    """
    labels = np.zeros(len(train.ids), np.int64) if classes is None else classes
    chosen = [
        members[choose(np.zeros(len(members)), min(count, len(members)), seed=(seed, int(each)))]
        for each in np.unique(labels[labels >= 0])
        for members in [train.ids[labels == each]]
    ]
    return np.sort(np.concatenate(chosen))
