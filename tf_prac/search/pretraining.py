"""`Pretraining`: the steps from W_0 to W_k on other samples than the rest of the search.

W_k may be reached by training on few or easy samples, while the rounds use hard ones.

Source: Paul et al. 2022, "Lottery Tickets on a Data Diet: Finding Initializations with Sparse
Trainable Networks", Section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.config import PracConfig
from tf_prac.data.selection import choose, forgetting_scores
from tf_prac.data.splits import Split
from tf_prac.errors import DamagedFileError
from tf_prac.pruning.masks import Masks
from tf_prac.search.context import SearchContext
from tf_prac.search.finished_run import FinishedRun
from tf_prac.search.plan import RoundPlan
from tf_prac.search.ticket import PRETRAIN_ORDER


class Pretraining:
    """Trains from W_0 to W_k, once for a run.

    Args:
        context: of the search.
        plan: its budgets, and k.

    Raises:
        MismatchError: If the run `pretrain_from` holds out training samples of this search.

    Attributes:
        ids: the samples to train on, int64, sorted.
    """

    def __init__(self, context: SearchContext, plan: RoundPlan):
        self._context, self._plan = context, plan
        other = context.finished_runs.get("pretrain_from")
        classes = context.classes if context.config.prac.class_balanced else None
        self.ids = pretraining_ids(context.config.prac, context.train, context.seed, other, classes)

    def weights(
        self, initial: Mapping[str, np.ndarray], masks: Masks
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns W_k and the metrics of the steps to it, read from the run or trained now.

        Args:
            initial: W_0.
            masks: the masks of round 0.
        """
        finished = self._finished()
        if finished is not None:
            return finished
        context, k = self._context, self._plan.k
        budget = self._plan.pretraining(len(self.ids))
        checkpoints = context.checkpoints(context.run.pretraining_path)
        with context.callbacks.training("steps to W_k", budget.steps) as advance:
            trained = context.trainer.train(
                initial,
                masks,
                self.ids,
                budget,
                order=(context.seed, PRETRAIN_ORDER, 0),
                snapshot_at=(k,),
                advance=advance,
                checkpoints=checkpoints,
            )
        metrics = {
            "pretrain_samples": len(self.ids),
            "pretrain_steps": trained.steps,
            "pretrain_forward_samples": trained.validation_samples,
        }
        context.run.finish_pretraining(trained.snapshots[k], metrics)
        checkpoints.remove()
        return trained.snapshots[k], metrics

    def _finished(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        context = self._context
        try:
            finished = context.run.finished_pretraining()
            if finished is not None:  # a kill may have come before their removal
                context.checkpoints(context.run.pretraining_path).remove()
            return finished
        except DamagedFileError as error:
            context.callbacks.on_message(f"{error} It is trained again.")
            return None


def pretraining_ids(
    config: PracConfig,
    train: Split,
    seed: int,
    other: FinishedRun | None = None,
    classes: np.ndarray | None = None,
) -> np.ndarray:
    """Chooses the samples of the first k steps: the fraction `pretrain_size`, at least one sample.

    Easy samples are those that round 0 of another run forgot least often; never-learned samples
    count as the hardest, and ties are broken at random. (Paul et al. rank by EL2N.)

    Args:
        config: which samples, and how many.
        train: the full training set.
        seed: of the random choices.
        other: the run whose forgetting statistics rank the samples; "easy" and "hard" need it.
            Default None.
        classes: of the samples of `train`, to choose from each in proportion to its size.
            Default None: classes are ignored.

    Returns:
        int64 [count], sorted positions in `train.samples`.

    Raises:
        MismatchError: If the other run did not train on every sample of `train`.
    """
    scores = np.zeros(len(train.ids))
    if other is not None:
        scores = forgetting_scores(other.forgetting(train))[train.ids].astype(float)
    if config.pretrain_on == "easy":
        scores = -scores
    count = max(1, round((config.pretrain_size or 1) * len(train.ids)))
    return train.ids[choose(scores, count, seed=(seed, PRETRAIN_ORDER), labels=classes)]
