"""`Pretraining`: the steps from W_0 to W_k on other samples than the rest of the search.

A winning ticket is found on hard samples, but its rewind point may come from few or easy ones.

Source: Paul et al. 2022, "Lottery Tickets on a Data Diet: Finding Initializations with Sparse
Trainable Networks", Section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.config import PracConfig
from tf_prac.data.search_data import Subset
from tf_prac.data.selection import choose, forgetting_scores
from tf_prac.errors import DamagedFileError
from tf_prac.pruning.masks import Masks
from tf_prac.search.finished_run import FinishedRun
from tf_prac.search.plan import RoundPlan
from tf_prac.search.progress import Progress
from tf_prac.search.selectors import SelectionContext
from tf_prac.search.ticket import PRETRAIN_ORDER
from tf_prac.training.checkpoint import Checkpoints


class Pretraining:
    """Trains from W_0 to W_k, once for a run.

    Args:
        context: what a search works with.
        plan: knows k.

    Raises:
        MismatchError: the run that says which samples are easy has another split.

    Attributes:
        ids: the samples, int64, sorted.
    """

    def __init__(self, context: SelectionContext, plan: RoundPlan):
        self._context, self._plan = context, plan
        place = context.config, context.train, context.seed
        self.ids = pretraining_ids(*place, context.others.get("pretrain_from"))

    def weights(
        self,
        initial: Mapping[str, np.ndarray],
        masks: Masks,
        checkpoints: Checkpoints,
        progress: Progress,
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns W_k and the figures of the steps to it, from the run or by training now.

        Args:
            initial: W_0.
            masks: those of round 0.
            checkpoints: of this training.
            progress: shows the work.
        """
        run, k = self._context.run, self._plan.k
        try:
            found = run.finished_pretraining()
        except DamagedFileError as error:
            progress.line(f"{error} It is trained again.")
            found = None
        if found is not None:
            return found
        budget = self._plan.pretraining(len(self.ids))
        with progress.training("steps to W_k", budget.steps) as advance:
            trained = self._context.trainer.train(
                initial,
                masks,
                self.ids,
                budget,
                order=(self._context.seed, PRETRAIN_ORDER, 0),
                snapshot_at=(k,),
                advance=advance,
                checkpoints=checkpoints,
            )
        figures = {
            "pretrain_samples": len(self.ids),
            "pretrain_steps": trained.steps,
            "pretrain_forward_samples": trained.validation_samples,
        }
        run.finish_pretraining(trained.snapshots[k], figures)
        checkpoints.remove()
        return trained.snapshots[k], figures


def pretraining_ids(
    config: PracConfig, train: Subset, seed: int, other: FinishedRun | None = None
) -> np.ndarray:
    """Chooses the samples of the first k steps, as many as `pretrain_size` says, at least one.

    "easy" are those that round 0 of the other run forgot least often, samples that it never
    learned last of all; ties are drawn at random. (Paul et al. rank by EL2N.)

    Args:
        config: which samples, how many, and whether classes keep their shares.
        train: the full training set.
        seed: of what is drawn at random.
        other: the run that says which samples are easy; needed for "easy" and "hard".

    Returns:
        int64 [count], sorted positions in `train.samples`.

    Raises:
        MismatchError: the other run did not train on every sample of `train`.
    """
    scores = np.zeros(len(train.ids))
    if other is not None:
        scores = forgetting_scores(other.forgetting(train))[train.ids].astype(float)
    if config.pretrain_on == "easy":
        scores = -scores
    count = max(1, round((config.pretrain_size or 1) * len(train.ids)))
    labels = train.labels if config.class_balanced else None
    return train.ids[choose(scores, count, seed=(seed, PRETRAIN_ORDER), labels=labels)]
