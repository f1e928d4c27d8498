"""`Budget` and `RoundSchedule`: the number of steps of a round and their learning rates."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import TrainingRecipe
from tf_prac.data.order import steps_per_epoch
from tf_prac.keras_api import Flavor


@dataclasses.dataclass(frozen=True)
class Budget:
    """The training steps of one round.

    Attributes:
        steps_per_epoch: batches in one pass over the round's samples.
        total_steps: length of the learning-rate schedule, in steps of this round.
        first_step: step of the schedule at which the round starts; above 0 with learning-rate
            rewinding. Default 0.
        limit: maximum number of steps, even if the schedule is longer. Default None.
        at_end: whether to train at the final learning rate of the schedule throughout, as in
            fine-tuning. Default False.
        full_steps: length of the schedule on the full data, of which this one is a scaled copy.
            Default None: `total_steps`.
        milestones: steps at which the schedule "step" decays. Default None: those of the recipe, as
            fractions of the schedule.
        warmup_steps: length of the warmup. Default None: that of the recipe, as a fraction.
        annealed: peak of the rounds' annealed schedule as a fraction of the recipe's learning rate.
            Default None: the schedule of the recipe.
        held_from: step of the schedule from which the learning rate stays as it is. Default None:
            the schedule continues.
        averages: whether the weights are averaged over the last half of the round. Default False.
    """

    steps_per_epoch: int
    total_steps: int
    first_step: int = 0
    limit: int | None = None
    at_end: bool = False
    full_steps: int | None = dataclasses.field(default=None, repr=False, compare=False)
    # Not in the repr, which is part of the identity of checkpoints that 0.1.0 wrote.
    milestones: tuple[int, ...] | None = dataclasses.field(default=None, repr=False)
    warmup_steps: int | None = dataclasses.field(default=None, repr=False)
    annealed: float | None = dataclasses.field(default=None, repr=False)
    held_from: int | None = dataclasses.field(default=None, repr=False)
    averages: bool = dataclasses.field(default=False, repr=False)

    @property
    def steps(self) -> int:
        """The number of steps of the round, unless it stops early."""
        remaining = self.total_steps - self.first_step
        return remaining if self.limit is None else min(remaining, self.limit)

    @property
    def end(self) -> str:
        """The reason why the round ends, unless it stops early: "budget" or "limit"."""
        is_whole = self.steps == self.total_steps - self.first_step
        return "budget" if is_whole or self.held_from is not None else "limit"

    @property
    def later_options(self) -> tuple[Any, ...]:
        """The options that version 0.1.0 did not have, if any is set, for identities."""
        options = (self.milestones, self.warmup_steps, self.annealed)
        later = () if options == (None, None, None) else (options,)
        held = ("held_from", self.held_from, self.averages)
        return later if self.held_from is None else (*later, held)

    @property
    def averaged_at(self) -> range:
        """The steps of the round whose weights are averaged: about 50 in its last half."""
        if not self.averages:
            return range(0)
        return range(self.steps, self.steps // 2, -max(1, self.steps // (2 * AVERAGES)))

    def warmup_length(self, recipe: TrainingRecipe) -> float:
        """Returns the length of the warmup in steps of the schedule."""
        if self.annealed is not None:
            return ANNEALED_WARMUP * self.total_steps
        if self.warmup_steps is not None:
            return self.warmup_steps
        return round(recipe.warmup_fraction * self.total_steps, 6)  # 3 / 59 * 590 is above 30

    @property
    def epochs(self) -> int:
        """The number of epochs, the last of which may be partial."""
        return math.ceil(self.steps / self.steps_per_epoch)

    @classmethod
    def full(cls, recipe: TrainingRecipe, num_samples: int, first_step: int = 0) -> Budget:
        """Returns the full budget of the recipe, for all `num_samples` of the training set."""
        per_epoch = steps_per_epoch(num_samples, recipe.batch_size)
        return cls(per_epoch, recipe.steps or recipe.epochs * per_epoch, first_step)

    def scaled(self, recipe: TrainingRecipe, size: int, num_samples: int, rule: str) -> Budget:
        """Returns the budget of a round on `size` of `num_samples`, by a `PracConfig.budget` rule.

        - "steps": N' = N |P| / |D| steps (PrAC paper, Section 3.1), the same number of epochs.
        - "epochs": int(epochs * |P| / |D|) epochs, at least one (the authors' code).
        - "epochs_truncated": the same, and int(epoch * |P| / |D|) for each milestone and the end of
          the warmup (the authors' code in full).
        - "full": the same number of steps.

        The schedule, and the step it is rewound to, are scaled in proportion.
        """
        per_epoch = steps_per_epoch(size, recipe.batch_size)
        epochs = self.total_steps / self.steps_per_epoch
        full_epochs = epochs
        if rule in ("epochs", "epochs_truncated"):
            epochs = max(1, int(epochs * size / num_samples))
        total = self.total_steps if rule == "full" else max(1, round(epochs * per_epoch))
        first = round(self.first_step * total / self.total_steps)
        scaled = dataclasses.replace(
            self,
            steps_per_epoch=per_epoch,
            total_steps=total,
            first_step=min(first, total - 1),
            limit=self._part(self.limit, total),
            held_from=self._part(self.held_from, total),
            full_steps=self.full_steps or self.total_steps,
        )
        if rule != "epochs_truncated":
            return scaled

        def truncated(fraction: float) -> int:
            epoch = round(fraction * full_epochs, 6)  # 136 / 182 * 182 may be below 136
            return per_epoch * int(epoch * size / num_samples)

        milestones = tuple(truncated(fraction) for fraction in recipe.milestone_fractions)
        warmup_steps = truncated(recipe.warmup_fraction)
        return dataclasses.replace(scaled, milestones=milestones, warmup_steps=warmup_steps)

    def _part(self, steps: int | None, total: int) -> int | None:
        """Returns the same part of a schedule of `total` steps as `steps` are of this one."""
        return None if steps is None else max(1, round(steps * total / self.total_steps))


AVERAGES = 50
"""About how many times the weights of a round are added to their average."""

ANNEALED_WARMUP = 0.1
"""Fraction of an annealed round in which the learning rate rises (Zimmer et al. 2023)."""


class RoundSchedule:
    """The learning rate of a recipe, as a Keras schedule whose length is a variable.

    Each round sets its own `Budget`, without retracing the training function.

    Args:
        recipe: the shape of the schedule, as a function of progress in [0, 1].
        rate: the learning rate of the optimizer of a compiled model, in place of the recipe's: a
            number, or a Keras schedule of steps on the full data. A round on fewer samples passes
            through all of it in its fewer steps. Default None.
    """

    def __init__(self, recipe: TrainingRecipe, rate: Any = None):
        super().__init__()
        self._recipe, self._rate = recipe, rate
        self._scale = tf.Variable(1.0, trainable=False, name="schedule_scale")
        self._first_step = tf.Variable(0.0, trainable=False, name="first_step")
        self._total_steps = tf.Variable(1.0, trainable=False, name="total_steps")
        fractions = np.asarray(recipe.milestone_fractions, np.float32)
        self._milestones = tf.Variable(fractions, trainable=False, name="milestones")
        self._warmup = tf.Variable(1.0, trainable=False, name="warmup_steps")
        self._annealed = tf.Variable(-1.0, trainable=False, name="annealed_peak")
        self._held_from = tf.Variable(np.inf, trainable=False, name="held_from")

    def set_budget(self, budget: Budget, optimizer_steps: int = 0) -> None:
        """Starts the schedule of `budget` at step `optimizer_steps` of the optimizer."""
        total, recipe = np.float32(budget.total_steps), self._recipe
        if budget.milestones is None:
            self._milestones.assign(np.asarray(recipe.milestone_fractions, np.float32))
        else:
            self._milestones.assign(np.asarray(budget.milestones, np.float32) / total)
        warmup = np.float32(recipe.warmup_fraction) * total
        self._warmup.assign(warmup if budget.warmup_steps is None else budget.warmup_steps)
        self._annealed.assign(-1.0 if budget.annealed is None else budget.annealed)
        self._held_from.assign(np.inf if budget.held_from is None else budget.held_from)
        first = budget.total_steps - 1 if budget.at_end else budget.first_step
        self._first_step.assign(first - optimizer_steps)
        self._total_steps.assign(budget.total_steps)
        self._scale.assign((budget.full_steps or budget.total_steps) / budget.total_steps)

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the learning rate at a step of the optimizer."""
        step = tf.minimum(tf.cast(step, tf.float32) + self._first_step, self._total_steps - 1)
        return tf.where(self._annealed < 0, self._recipe_rate(step), self._annealed_rate(step))

    def _recipe_rate(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.minimum(step, self._held_from)
        if self._rate is not None:
            rate = self._rate(step * self._scale) if callable(self._rate) else self._rate
            return tf.cast(rate, tf.float32)
        rate = learning_rate_at(self._recipe, step / self._total_steps, self._milestones)
        if self._recipe.warmup_fraction:
            rate *= tf.minimum(1.0, (step + 1) / self._warmup)
        return rate

    def _annealed_rate(self, step: tf.Tensor) -> tf.Tensor:
        """Rises linearly for `ANNEALED_WARMUP` of the round, and falls linearly to 0."""
        peak = self._recipe.learning_rate
        if self._rate is not None:
            rate = self._rate(tf.zeros_like(step)) if callable(self._rate) else self._rate
            peak = tf.cast(rate, tf.float32)
        warmup = ANNEALED_WARMUP * self._total_steps
        rising = (step + 1) / warmup
        falling = (self._total_steps - step) / (self._total_steps - warmup)
        return self._annealed * peak * tf.minimum(rising, tf.minimum(falling, 1.0))

    def get_config(self) -> dict[str, Any]:
        """Returns the recipe, as Keras requires of every schedule."""
        return {"recipe": dataclasses.asdict(self._recipe)}


def make_schedule(flavor: Flavor, recipe: TrainingRecipe, rate: Any = None) -> RoundSchedule:
    """Returns a `RoundSchedule` for the optimizers of a flavor."""
    base = flavor.module.optimizers.schedules.LearningRateSchedule
    return flavor.subclass(RoundSchedule, base)(recipe, rate)


def learning_rate_at(
    recipe: TrainingRecipe, progress: tf.Tensor, milestones: Any = None
) -> tf.Tensor:
    """Returns the learning rate, without warmup, at a fraction of the budget in [0, 1].

    Args:
        recipe: the schedule.
        progress: the fraction, float32.
        milestones: fractions at which "step" decays. Default None: those of the recipe.
    """
    peak = tf.constant(recipe.learning_rate, tf.float32)
    decrease = recipe.learning_rate - recipe.final_rate
    if recipe.schedule == "constant":
        return peak
    if recipe.schedule == "linear":
        return recipe.final_rate + decrease * (1 - progress)
    if recipe.schedule == "cosine":
        return recipe.final_rate + decrease * 0.5 * (1 + tf.cos(math.pi * progress))
    if recipe.schedule == "exponential":
        return peak * recipe.decay**progress
    if milestones is None:
        milestones = tf.constant(recipe.milestone_fractions, tf.float32)
    passed = tf.reduce_sum(tf.cast(progress >= milestones, tf.float32))
    return peak * recipe.decay**passed
