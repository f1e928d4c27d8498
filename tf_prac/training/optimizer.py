"""`RewindableOptimizer`: the optimizer of a trainer, with its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.config import TrainingRecipe
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.keras_api import (
    flavor_of,
    learning_rate_of,
    like_optimizer,
    make_optimizer,
    to_numpy,
)
from tf_prac.pruning.weights import OPTIMIZER
from tf_prac.training.schedules import Budget, RoundSchedule, make_schedule


class RewindableOptimizer:
    """A built optimizer whose variables and learning rate are reset before each training run.

    The variables are set to their initial values, or to those at a rewind point
    (`PruningConfig(rewind_optimizer=True)`).

    Args:
        network: a built model of either flavor, whose trainable variables are updated.
        recipe: the optimizer's name and options.
        own: the optimizer that the user compiled the network with, whose options a new one then
            has instead of those of `recipe`. Default None.

    Raises:
        ArgumentError: If there is no optimizer of that name, or one like `own` cannot be made.

    Attributes:
        keras: the Keras optimizer.
    """

    def __init__(self, network: Any, recipe: TrainingRecipe, own: Any = None):
        flavor = flavor_of(network)
        rate = None if own is None else learning_rate_of(own)
        self._schedule: RoundSchedule = make_schedule(flavor, recipe, rate)
        if getattr(own, "use_ema", False):
            raise ArgumentError(
                "model",
                "an optimizer with use_ema",
                "one without, in a search, which compares and rewinds the weights themselves",
                "Average in the rounds with round_schedule='swa', or fit the ticket with use_ema.",
            )
        if own is not None:
            self.keras = like_optimizer(own, self._schedule)
        else:
            self.keras = make_optimizer(
                flavor,
                recipe.optimizer,
                learning_rate=self._schedule,
                momentum=recipe.momentum,
                momentum_form=recipe.momentum_form,
                weight_decay=recipe.weight_decay,
                epsilon=recipe.epsilon,
            )
        self.keras.build(network.trainable_variables)
        self._initial = [to_numpy(variable) for variable in self.keras.variables]
        self._iterations = 0  # of the optimizer, at the start of the training run

    def reset(self, weights: Mapping[str, np.ndarray], budget: Budget) -> None:
        """Prepares a training run.

        Args:
            weights: weights at a rewind point, with the variables of the optimizer or without; in
                the second case these get their initial values.
            budget: of the training run; the learning rate depends on it.

        Raises:
            MismatchError: If `weights` has the variables of another optimizer.
        """
        saved = {name: value for name, value in weights.items() if name.startswith(OPTIMIZER)}
        values = [saved[name] for name in sorted(saved)] or self._initial
        if [value.shape for value in values] != [value.shape for value in self._initial]:
            raise MismatchError("weights: they contain the variables of another optimizer.")
        for variable, value in zip(self.keras.variables, values, strict=True):
            variable.assign(value)
        # Later versions of Keras 3 divide `iterations` by the steps of a gradient accumulation.
        steps = getattr(self.keras, "_iterations", self.keras.iterations)
        self._iterations = int(to_numpy(steps))
        self._schedule.set_budget(budget, self._iterations)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns a copy of the optimizer's variables, to be stored with a rewind point."""
        variables = enumerate(self.keras.variables)
        return {f"{OPTIMIZER}{index:04d}": to_numpy(variable) for index, variable in variables}

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of a step of the training run, counted from 0."""
        return float(self._schedule(self._iterations + step))
