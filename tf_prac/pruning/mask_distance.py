"""Mask distance, and the early stop that watches it. Numpy only.

Source: PrAC paper, Section 3.1 ("early stopping"), after the early-bird tickets of You et al. 2020.
"""

from __future__ import annotations

import collections

from tf_prac.config import check_int, check_number
from tf_prac.pruning.masks import Masks


def mask_distance(tentative: Masks, previous: Masks, remaining: int) -> float:
    """Returns the Hamming distance of two tentative masks, divided by the remaining weights.

    A weight that changes places with another counts twice, so the distance is at most twice the
    pruning rate.

    Args:
        tentative: the mask that pruning now would give.
        previous: the mask that pruning one epoch ago would have given.
        remaining: number of weights that the mask in force keeps.
    """
    return tentative.hamming(previous) / remaining


class MaskDistanceStop:
    """Says when the tentative mask has stopped moving.

    The rule is the authors': distances count only after one has exceeded `eps` (so that a slow
    start is not taken for the end), and training stops when the last `window` are all below it.

    Example:

        >>> stop = MaskDistanceStop(eps=0.1, window=2)
        >>> [stop.update(distance) for distance in (0.05, 0.3, 0.08, 0.06)]
        [False, False, False, True]

    Args:
        eps: the distance that must not be reached, > 0; the paper uses 0.07, its code 0.08.
        window: number of successive distances. Default 5.
        armed: whether distances count from the first one on, before any has exceeded `eps`.
            Default False.
    """

    def __init__(self, eps: float, window: int = 5, *, armed: bool = False):
        check_number("early_stop_eps", eps, above=0)
        check_int("early_stop_window", window, 1)
        self.eps = eps
        self.armed = armed
        self.distances: collections.deque[float] = collections.deque(maxlen=window)

    def update(self, distance: float) -> bool:
        """Takes one epoch's distance; returns whether to stop now."""
        self.armed = self.armed or distance > self.eps
        if self.armed:
            self.distances.append(distance)
        return len(self.distances) == self.distances.maxlen and max(self.distances) < self.eps
