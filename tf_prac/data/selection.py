"""Scores of how difficult a sample is, and the choice of the highest. NumPy only.

They include the scores that the PrAC paper compares with (Figures A10 and A14). The score of a
prediction is a function of probabilities and labels; to add one, write it and register it in
`SCORES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tf_prac.checks import check_int
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.errors import ArgumentError

TINY = np.finfo(np.float32).tiny


def entropy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Entropy of the prediction, in nats: high if the model is uncertain.

    Source: uncertainty sampling; "Entropy" in the PrAC paper, Figure A10.

    Args:
        probabilities: float [n, classes], rows that sum to 1.
        labels: not used.

    Returns:
        float [n], in [0, log(classes)].
    """
    return -np.sum(probabilities * np.log(np.maximum(probabilities, TINY)), axis=-1)


def margin(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One minus the difference between the two highest probabilities: high if they are close.

    Source: Scheffer et al. 2001, "Active Hidden Markov Models" (least margin).

    Args:
        probabilities: float [n, classes].
        labels: not used.

    Returns:
        float [n], in [0, 1].
    """
    top_two = np.partition(probabilities, -2, axis=-1)[..., -2:]
    return 1 - (top_two[..., 1] - top_two[..., 0])


def el2n(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """L2 norm of the error, probabilities minus the one-hot label.

    Source: Paul et al. 2021, "Deep Learning on a Data Diet", Definition 2.2.

    Args:
        probabilities: float [n, classes].
        labels: classes, int [n].

    Returns:
        float [n], in [0, sqrt(2)].
    """
    error = np.array(probabilities)
    error[np.arange(len(labels)), labels] -= 1
    return np.linalg.norm(error, axis=-1)


def loss(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each sample, in nats.

    Args:
        probabilities: float [n, classes].
        labels: classes, int [n].

    Returns:
        float [n], >= 0.
    """
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], TINY))


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "entropy": entropy,
    "margin": margin,
    "el2n": el2n,
    "loss": loss,
}


REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "entropy": np.sum,
    "margin": np.max,
    "el2n": np.linalg.norm,
    "loss": np.sum,
}


def joint_scores(
    score: str, probabilities: np.ndarray, labels: np.ndarray, judged: np.ndarray | None = None
) -> np.ndarray:
    """Returns a score of samples with several predictions each, such as in segmentation.

    Args:
        score: a key of `SCORES`.
        probabilities: of each prediction, float [n, predictions, classes].
        labels: classes, int [n, predictions].
        judged: which predictions count, bool [n, predictions]. Default None: all.

    Returns:
        float [n]: the norm of all errors, the sum of entropies or losses, or the highest margin;
        0 if no prediction of a sample counts.
    """
    n, count, classes = probabilities.shape
    if judged is not None:
        labels = np.where(judged, labels, 0)
    scores = SCORES[score](probabilities.reshape(-1, classes), labels.reshape(-1))
    scores = scores.reshape(n, count)
    if judged is not None:
        scores = np.where(judged, scores, 0)
    return scores[:, 0] if count == 1 else REDUCTIONS[score](scores, axis=1)


def forgetting_scores(stats: ForgettingStats, never_learned: str = "critical") -> np.ndarray:
    """Returns the number of forgetting events of each sample, as a score.

    Source: Toneva et al. 2019, Section 3: a sample that was never learned has infinitely many
    forgetting events.

    Args:
        stats: the forgetting statistics of one training.
        never_learned: "critical" gives samples that were never learned the highest score; "ignore"
            gives them their number of events, 0.

    Returns:
        int64 [num_samples]; -1 for samples that were not presented.
    """
    scores = stats.events.astype(np.int64)
    if never_learned == "critical":
        scores[stats.never_learned] = stats.events.max() + 1
    scores[~stats.seen] = -1
    return scores


def choose(
    scores: np.ndarray, count: int, *, seed: Any, labels: np.ndarray | None = None
) -> np.ndarray:
    """Returns the positions of the highest scores; ties are broken at random.

    Ties are broken in the same order for every `count`, so that choices of different sizes are
    nested: with constant scores, nested random subsets.

    Example:

        >>> choose(np.array([0.1, 0.9, 0.5]), 2, seed=0).tolist()
        [1, 2]

    Args:
        scores: numbers or booleans [n]; NaN ranks below all numbers.
        count: number of positions, 0 to n.
        seed: anything `numpy.random.default_rng` takes.
        labels: classes, int [n], to choose from each class in proportion to its size; samples of
            class -1 have none, and are not chosen. Default None: classes are ignored.

    Returns:
        int64 [count], sorted.

    Raises:
        ArgumentError: If `count` is not an integer from 0 to n.
    """
    check_int("count", count, 0)
    scores = np.asarray(scores)
    if count > len(scores):
        raise ArgumentError("count", count, f"an integer from 0 to {len(scores)}")
    if labels is not None and np.min(labels, initial=0) < 0:
        kept = np.flatnonzero(labels >= 0)
        return kept[choose(scores[kept], min(count, len(kept)), seed=seed, labels=labels[kept])]
    tie = np.random.default_rng(seed).permutation(len(scores))
    # Sorted up and reversed, as unsigned integers and booleans have no negative.
    order = np.lexsort((-tie, scores, ~np.isnan(scores)))[::-1]
    if labels is None:
        return np.sort(order[:count])
    classes, sizes = np.unique(labels, return_counts=True)
    chosen = [
        order[labels[order] == each][:quota]
        for each, quota in zip(classes, apportion(sizes, count), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def apportion(sizes: np.ndarray, count: int) -> list[int]:
    """Divides `count` in proportion to `sizes`, by the largest remainder method.

    Example:

        >>> apportion(np.array([50, 30, 20]), 9)
        [4, 3, 2]

    Args:
        sizes: int [groups].
        count: 0 to the sum of the sizes.

    Returns:
        A number for each group; they add up to `count`.
    """
    total = int(sizes.sum())
    quotas = [int(size) * count // total for size in sizes]
    remainders = [int(size) * count % total for size in sizes]
    largest = sorted(range(len(sizes)), key=lambda group: -remainders[group])
    for group in largest[: count - sum(quotas)]:
        quotas[group] += 1
    return quotas
