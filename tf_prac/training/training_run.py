"""`TrainingRun`: what one training run starts from, trains on and returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tf_prac.config import TrainingRecipe
from tf_prac.data.coverage import Coverage
from tf_prac.pruning.masks import Masks
from tf_prac.training.callbacks.mask_distance import MaskDistance
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.schedules import Budget
from tf_prac.training.state import identity_of


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingRun:
    """The arguments of one call of `Trainer.train`, which documents them."""

    weights: Mapping[str, np.ndarray]
    masks: Masks
    ids: np.ndarray | Coverage
    budget: Budget
    order: tuple[int, ...]
    snapshot_at: Sequence[int]
    mask_distance: MaskDistance | None
    advance: Callable[[int], Any] | None
    checkpoints: Checkpoints

    def identity(
        self, recipe: TrainingRecipe, replicas: int, early_stopping: Mapping[str, Any]
    ) -> str:
        """Returns a digest of everything that determines the result, for checkpoints.

        Args:
            recipe: of the trainer.
            replicas: their number; each has its own values of some variables.
            early_stopping: options of the early stop, see `TrainingState`.
        """
        options = [recipe, self.budget, self.order, list(self.snapshot_at), early_stopping]
        options += [f"values of {replicas} replicas"] if replicas > 1 else []
        options += ["tf32"] if recipe.tf32 else []
        options += ["pytorch"] if recipe.momentum_form == "pytorch" else []
        options += [recipe.label_smoothing] if recipe.label_smoothing else []
        options += self.budget.later_options
        samples: list[Any] = [self.ids]
        if (coverage := self.coverage) is not None:
            samples = [coverage.always, coverage.others]
            samples += [coverage.probability, coverage.uniform_from]
        return identity_of(*options, *samples, self.masks, self.weights)

    @property
    def coverage(self) -> Coverage | None:
        """The `Coverage`; None if all epochs have the same samples."""
        return self.ids if isinstance(self.ids, Coverage) else None

    def ids_of(self, epoch: int) -> np.ndarray:
        """Returns the ids of the samples of an epoch, counted from 0."""
        return self.ids.epoch_ids(self.order, epoch) if isinstance(self.ids, Coverage) else self.ids

    def pauses(self) -> list[tuple[int, bool]]:
        """Returns the steps at which to pause training, and whether an epoch ends there.

        Pauses are the ends of epochs, and the steps of snapshots, averages and checkpoints.
        """
        per_epoch, end = self.budget.steps_per_epoch, self.budget.steps
        epoch_ends = {*range(per_epoch, end, per_epoch), end}
        averaged = self.budget.averaged_at
        steps = {*self.snapshot_at, *averaged, *self.checkpoints.due_steps(end)}
        others = {step for step in steps if 0 < step < end}
        return [(step, step in epoch_ends) for step in sorted(epoch_ends | others)]

    def samples_seen(self, steps: int, batch_size: int) -> int:
        """Returns the number of samples in the first `steps` batches."""
        epochs, remainder = divmod(steps, self.budget.steps_per_epoch)
        return epochs * len(self.ids) + min(remainder * batch_size, len(self.ids))
