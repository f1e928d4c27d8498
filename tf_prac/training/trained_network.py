"""`TrainedNetwork`: the result of one training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tf_prac.data.forgetting import ForgettingStats
from tf_prac.training.callbacks.best_weights import BestWeights


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """The result of one training run.

    Attributes:
        weights: every weight after the last step, by name.
        best: the weights, value and epoch of the best value of the metric on validation samples.
        history: the metrics of each epoch, in order: epoch, step, loss, accuracy, ...
        snapshots: copies of the weights after the requested steps, by step.
        forgetting: forgetting statistics of this training run.
        steps: the number of optimizer steps.
        samples_seen: the number of training samples (forward and backward passes).
        validation_samples: the number of validation samples (forward passes).
        stop: what ended training: "budget", "early_stop" or "limit" (the budget's `limit`).
        seconds: wall-clock time.
        averaged: the average of the prunable weights over the last half of the training, if its
            budget asks for it. Default: empty.
    """

    weights: dict[str, np.ndarray]
    best: BestWeights
    history: list[dict[str, float]]
    snapshots: dict[int, dict[str, np.ndarray]]
    forgetting: ForgettingStats
    steps: int
    samples_seen: int
    validation_samples: int
    stop: str
    seconds: float
    averaged: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def scored(self) -> dict[str, np.ndarray]:
        """The weights that masks are found from: the averaged ones, in place of the last ones."""
        return self.weights | self.averaged

    @property
    def best_weights(self) -> dict[str, np.ndarray]:
        """The weights of the best validation metric; the last ones without validation."""
        return self.best.weights or self.weights

    @property
    def mask_distances(self) -> list[float]:
        """The mask distances in the history, in order."""
        return self.values_of("mask_distance")

    def values_of(self, name: str) -> list[float]:
        """The values of a metric in the epochs of the history that have it, in order."""
        return [row[name] for row in self.history if name in row]


def untrained(weights: Mapping[str, np.ndarray], num_samples: int, step: int) -> TrainedNetwork:
    """Returns the result of training for no steps, with `weights` as the snapshot of `step`."""
    weights = dict(weights)
    stats = ForgettingStats(num_samples)
    return TrainedNetwork(weights, BestWeights(), [], {step: weights}, stats, 0, 0, 0, "limit", 0.0)
