"""`Selector`: chooses the samples of the next round from what a round produced."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np

from tf_prac.data.sample_set import SampleSet
from tf_prac.pruning.masks import Masks
from tf_prac.training.trained_network import TrainedNetwork


@dataclasses.dataclass(frozen=True)
class RoundOutcome:
    """A round that has been trained and pruned.

    Example:

        >>> def sparsity(outcome: RoundOutcome) -> float:
        ...     return outcome.next_masks.sparsity

    Attributes:
        number: of the round, from 0.
        trained: the trained network: weights, history and forgetting statistics.
        masks: the masks it was trained with.
        next_masks: the masks after pruning.
        ids: the samples it was trained on, int64.
        epoch_samples: number of samples of an epoch. Default None: all of `ids`.
    """

    number: int
    trained: TrainedNetwork
    masks: Masks
    next_masks: Masks
    ids: np.ndarray
    epoch_samples: int | None = None


class Selection(NamedTuple):
    """The samples of the next round, and the cost of choosing them.

    Attributes:
        sample_set: the samples; a `PracSet` if they were selected as CET and CEP.
        forward_samples: number of samples that went forward.
        gradient_samples: number of samples that went forward and backward, for a score.
    """

    sample_set: SampleSet
    forward_samples: int = 0
    gradient_samples: int = 0


class Selector(Protocol):
    """Chooses the samples of the next round."""

    def select(self, outcome: RoundOutcome) -> Selection:
        """Returns the samples of the round after `outcome`."""
