"""Distances between the prunings of two networks, and early stopping by them. NumPy only.

Source: PrAC paper, Section 3.1 ("early stopping"), after the early-bird tickets of You et al. 2020.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping

import numpy as np

from tf_prac.checks import check_int, check_number
from tf_prac.pruning.masks import Masks


def mask_distance(tentative: Masks, previous: Masks, remaining: int) -> float:
    """Returns the Hamming distance of two tentative masks, divided by the remaining weights.

    Two weights that are swapped count twice, so the distance is at most twice the prune rate.

    Example:

        >>> masks = [Masks({"kernel": np.array(kept)}) for kept in ([1, 1, 0, 1], [1, 0, 1, 1])]
        >>> mask_distance(*masks, remaining=4)
        0.5

    Args:
        tentative: the masks that pruning after this epoch would result in.
        previous: the masks that pruning after the previous epoch would result in.
        remaining: number of weights that the current masks keep.
    """
    return tentative.hamming(previous) / remaining


def mask_agreement(one: Masks, other: Masks, current: Masks) -> float:
    """Returns the fraction of the pruned weights that two prunings of the same masks share.

    It is 2 |A & B| / (|A| + |B|), where A and B are the weights that they prune; 1 if they prune
    none.

    Args:
        one: the masks after one pruning.
        other: the masks after another one.
        current: the masks before both.
    """
    pruned = 2 * current.remaining - one.remaining - other.remaining
    return 1 - one.hamming(other) / pruned if pruned else 1.0


def order_distance(
    scores: Mapping[str, np.ndarray], previous: Mapping[str, np.ndarray], near: Masks
) -> float:
    """Returns 1 - rho, where rho is Spearman's rank correlation of two scores of some weights.

    It is 0 if both rank the weights in the same order, and about 1 if the orders are unrelated. Of
    equal scores, the first is ranked first. Fewer than two weights have distance 0.

    Args:
        scores: scores by name of the weight.
        previous: the scores to compare with.
        near: true where a weight is compared.
    """
    one, other = (_ranks(np.concatenate([s[n][near[n]] for n in near])) for s in (scores, previous))
    count = len(one)
    if count < 2:
        return 0.0
    return float(6 * np.sum(np.square(one - other)) / (count * (float(count) ** 2 - 1)))


def _ranks(values: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks


class MaskDistanceStop:
    """Determines when to stop: once the tentative masks change little.

    This is the rule of the PrAC authors' code: distances count only after one has exceeded `eps`,
    so that a slow start does not stop training. It stops once the last `window` are all below
    `eps`.

    Example:

        >>> stop = MaskDistanceStop(eps=0.1, window=2)
        >>> [stop.update(distance) for distance in (0.05, 0.3, 0.08, 0.06)]
        [False, False, False, True]

    Args:
        eps: threshold of the distance, > 0; 0.07 in the paper, 0.08 in its code.
        window: number of consecutive distances that must be below `eps`. Default 5.
        armed: whether all distances count, also before one has exceeded `eps`. Default False.

    Raises:
        ArgumentError: If a value is outside its range.
    """

    def __init__(self, eps: float, window: int = 5, *, armed: bool = False):
        check_number("early_stop_eps", eps, above=0)
        check_int("early_stop_window", window, 1)
        self.eps = eps
        self.armed = armed
        self.distances: collections.deque[float] = collections.deque(maxlen=window)

    def update(self, distance: float) -> bool:
        """Adds the distance of an epoch; returns whether to stop now."""
        self.armed = self.armed or distance > self.eps
        if self.armed:
            self.distances.append(distance)
        return len(self.distances) == self.distances.maxlen and max(self.distances) < self.eps
