"""`TrainingVariables`: the variables that a training run changes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_prac.keras_api import NamedWeight, named_weights, numeric, random_states, tf_variable
from tf_prac.pruning.weights import snapshot
from tf_prac.training.distribution import Distribution, ReplicaVariable
from tf_prac.training.prac_model import PracModel


class TrainingVariables:
    """The variables that the training step of a model changes, on all replicas.

    Replicas update the moving averages of BatchNorm, and the sums of metrics, independently of each
    other; all other variables have the same value on each replica.

    Args:
        model: a compiled `PracModel`.
        optimizer: its optimizer.
        distribution: the `Distribution` of the strategy in whose scope the model was created.
    """

    def __init__(self, model: PracModel, optimizer: Any, distribution: Distribution):
        self._model, self._optimizer, self._distribution = model, optimizer, distribution
        self._averages = _moving_averages(model.network) if distribution.replicas > 1 else []

    def all(self) -> list[Any]:
        """Returns every variable once, in a fixed order, for a checkpoint.

        Metrics create their variables when the training step is first traced. Variables that each
        replica updates independently are returned as `ReplicaVariable`.
        """
        model = self._model
        owners = [model.network, self._optimizer, *model.metrics]
        variables = [variable for owner in owners for variable in numeric(owner.variables)]
        variables += [*random_states(model.network), *model.records]
        by_id = {id(variable): variable for variable in variables}
        if self._distribution.replicas > 1:
            local = [weight.variable for weight in self._averages]
            local += [v for metric in model.metrics for v in numeric(metric.variables)]
            by_id |= {id(each): ReplicaVariable(each, self._distribution) for each in local}
        return list(by_id.values())

    def weights(self) -> dict[str, np.ndarray]:
        """Returns a copy of the weights of the network, with the means over replicas."""
        return {**snapshot(self._model.network), **self._means()}

    def average_replicas(self) -> None:
        """Sets BatchNorm's moving averages on each replica to their means over all replicas."""
        for weight, mean in zip(self._averages, self._means().values(), strict=True):
            weight.variable.assign(mean)

    def _means(self) -> dict[str, np.ndarray]:
        named = {weight.name: weight.variable for weight in self._averages}
        means = self._distribution.means(list(named.values()))
        return dict(zip(named, means, strict=True))


def _moving_averages(network: Any) -> list[NamedWeight]:
    """Returns the weights that each replica updates independently: BatchNorm's moving averages."""
    candidates = {id(weight) for weight in numeric(network.non_trainable_weights)}
    weights = [each for each in named_weights(network) if id(each.variable) in candidates]
    return [each for each in weights if tf_variable(each.variable).dtype.is_floating]
