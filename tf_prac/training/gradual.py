"""`Gradual`: masks that a sparsity schedule updates during `fit`."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_prac.config import PATTERN_OPTIONS, PruningConfig
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import to_numpy
from tf_prac.pruning.criteria import PruneRule, criterion_name
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.patterns import get_pattern, pattern_name
from tf_prac.pruning.sparsity_schedules import Schedule, as_schedule, schedule_config
from tf_prac.training.callbacks.callback import Callback


class Gradual(Callback):
    """Updates the masks of a model of `prune` before the steps that a schedule names.

    Gradual magnitude pruning is the baseline that a ticket has to beat. `prune` adds this
    callback by itself, so there is none to forget.

    Source: "To prune, or not to prune", Zhu and Gupta 2017, Section 3.

    Args:
        schedule: when, and to which sparsity.
        rule: how weights are ranked; its amount does not count.
    """

    _implements_train_batch_hooks = Callback._has_batch_hooks

    def __init__(self, schedule: Schedule, rule: PruneRule):
        self.schedule, self.rule = schedule, rule
        self._seen = 0

    def check(self, masks: Masks) -> None:
        """Raises `ArgumentError` if the schedule begins below the sparsity of `masks`."""
        first = self.schedule.sparsity(self.schedule.begin_step)
        if first < masks.sparsity:
            raise ArgumentError(
                "schedule",
                round(first, 6),
                f"one that begins at {masks.sparsity:.6g} or more, the sparsity in force",
                "Pruned weights stay pruned; begin with a denser model.",
            )

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Takes up the count of steps where the optimizer has it."""
        self._seen = self._steps_done()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Updates masks if a step since the last call, or the next one, is due."""
        step = self._steps_done() + 1
        due = [s for s in range(self._seen + 1, step + 1) if self.schedule.is_due(s)]
        self._seen = step
        if due:
            rule = dataclasses.replace(self.rule, sparsity=self.schedule.sparsity(due[-1]))
            weights = {name: to_numpy(v) for name, v in self.model.prunable.items()}
            self.model.set_masks(rule(weights, self.model.masks))

    def _steps_done(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def to_json(self) -> dict[str, Any]:
        """Returns a description for `from_json`, which is saved with the model."""
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
                    **({"pattern": pattern_name(pattern)} if options is None else options),
                },
            },
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Gradual:
        """Builds the callback from the description of `to_json`."""
        rule = content["rule"]
        return cls(
            as_schedule(content["schedule"]),
            PruneRule(
                criterion=rule["criterion"],
                scope=rule["scope"],
                sparsity=rule["sparsity"],
                pattern=get_pattern(PruningConfig(**rule["pattern"])),
            ),
        )
