"""`GradualPruning`: pruning during `fit`, by a sparsity schedule."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from typing import Any

from tf_prac.config import PATTERN_OPTIONS, PruningConfig
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import flavor_of, to_numpy
from tf_prac.pruning.criteria import PruneRule, criterion_name
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.report import PruningReport
from tf_prac.pruning.sparsity_schedules import Schedule, as_schedule, schedule_config
from tf_prac.registry import PATTERNS
from tf_prac.training.callbacks.callback import Callback

LOOK_AHEAD = 100_000
"""In how many further steps to look for the first step of a schedule."""


class GradualPruning(Callback):
    """Updates the masks of a model that `prune` returned, before the steps of a schedule.

    Gradual magnitude pruning is the baseline that a ticket has to beat. The model adds this
    callback to each `fit` itself.

    Source: "To prune, or not to prune", Zhu and Gupta 2017, Section 3.

    Args:
        schedule: at which steps to prune, and to which sparsity.
        rule: how weights are ranked; its rate and sparsity are ignored.
    """

    _implements_train_batch_hooks = Callback._has_batch_hooks

    def __init__(self, schedule: Schedule, rule: PruneRule):
        self.schedule, self.rule = schedule, rule
        self._last_step = 0

    def check(self, masks: Masks) -> None:
        """Raises `ArgumentError` if the schedule starts below the sparsity of `masks`."""
        first = self.schedule.sparsity(self.schedule.begin_step)
        if first < masks.sparsity:
            raise ArgumentError(
                "schedule",
                round(first, 6),
                f"one that starts at {masks.sparsity:.6g} or more, the current sparsity",
                "Pruned weights stay pruned; start with a denser model.",
            )

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts at the step count of the optimizer."""
        self._last_step = self._optimizer_steps()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Updates the masks if the next step, or one since the last call, is due."""
        self._prune(self._optimizer_steps() + 1)

    def _prune(self, step: int) -> None:
        """Updates the masks if one of the steps since the last call, up to `step`, is due.

        Not to a lower sparsity than the model has, such as that of an optimizer that starts anew.
        """
        due = [s for s in range(self._last_step + 1, step + 1) if self.schedule.is_due(s)]
        self._last_step = step
        if not due:
            return
        masks, sparsity = self.model.masks, self.schedule.sparsity(due[-1])
        if sparsity > masks.sparsity:
            weights = {name: to_numpy(v) for name, v in self.model.prunable.items()}
            masks = dataclasses.replace(self.rule, sparsity=sparsity)(weights, masks)
            self.model.set_masks(masks)
            PruningReport.of(masks).warn_of_dead_layers()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Prunes for the last steps of an execution that are due.

        Warns if the schedule has not pruned anything so far, because training is too short.
        """
        self._prune(self._optimizer_steps())
        end, due = self._optimizer_steps(), self.schedule.is_due
        if not any(due(step) for step in range(1, end + 1)):
            first = next((s for s in range(end + 1, end + LOOK_AHEAD) if due(s)), None)
            when = f"first at step {first:,}" if first else "later"
            warnings.warn(
                f"schedule: training ended after step {end:,}, and the schedule prunes {when}: the "
                "model is not pruned. Train longer, or use a lower begin_step or frequency.",
                stacklevel=2,
            )

    def _optimizer_steps(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def to_json(self) -> dict[str, Any]:
        """Returns the config for `from_json`; it is saved with the model."""
        rule, pattern = self.rule, self.rule.pattern
        options = pattern.options()
        return {
            "schedule": schedule_config(self.schedule),
            "rule": {
                "rate": None,
                "criterion": criterion_name(rule.criterion),
                "scope": rule.scope,
                "sparsity": rule.sparsity,
                "pattern": {
                    **{name: getattr(PruningConfig, name) for name in PATTERN_OPTIONS},
                    **({"pattern": PATTERNS.name(pattern)} if options is None else options),
                },
                "min_layer_density": rule.min_layer_density,
            },
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> GradualPruning:
        """Creates a callback from the config that `to_json` returned."""
        rule = content["rule"]
        return cls(
            as_schedule(content["schedule"]),
            PruneRule(
                criterion=rule["criterion"],
                scope=rule["scope"],
                sparsity=rule["sparsity"],
                pattern=PruningConfig(**rule["pattern"]).make_pattern(),
                min_layer_density=rule.get("min_layer_density", 0.0),
            ),
        )


def fit_arguments(model: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Returns the arguments of a call of `fit` by name."""
    fit = flavor_of(model).module.Model.fit
    arguments = dict(inspect.signature(fit).bind(model, *args, **kwargs).arguments)
    del arguments["self"]
    return arguments


def with_schedule(
    arguments: dict[str, Any], model: Any, gradual: GradualPruning | None
) -> dict[str, Any]:
    """Returns arguments of `fit` with the callback of a schedule, if there is one, as the last."""
    if gradual is None:
        return arguments
    callbacks = arguments.get("callbacks")
    if isinstance(callbacks, flavor_of(model).module.callbacks.CallbackList):
        gradual.set_model(model)
        callbacks.append(gradual)
        return arguments
    return {**arguments, "callbacks": [*([] if callbacks is None else [callbacks]), gradual]}
