"""Scores that say how hard a sample is, and choosing the highest. Numpy only.

These are what the PrAC paper compares itself with (Figures A10 and A14), and others of their kind.
A score of a model's answer is a function of probabilities and labels; to add one, write it and
name it in `SCORES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tf_prac.checks import check_int
from tf_prac.data.forgetting import ForgettingStats

TINY = np.finfo(np.float32).tiny


def entropy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Entropy of the prediction, in nats: the model is unsure.

    Source: uncertainty sampling; "Entropy" in the PrAC paper, Figure A10.

    Args:
        probabilities: float [n, classes], rows that sum to 1.
        labels: not used; every score takes the same.

    Returns:
        float [n], in [0, log(classes)].
    """
    return -np.sum(probabilities * np.log(np.maximum(probabilities, TINY)), axis=-1)


def margin(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One minus the lead of the most likely class over the second: high where it is small.

    Source: Scheffer et al. 2001, "Active Hidden Markov Models" (least margin).

    Args:
        probabilities: float [n, classes].
        labels: not used.

    Returns:
        float [n], in [0, 1].
    """
    two = np.partition(probabilities, -2, axis=-1)[..., -2:]
    return 1 - (two[..., 1] - two[..., 0])


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


_TOGETHER: dict[str, Callable[..., np.ndarray]] = {
    "entropy": np.sum,
    "margin": np.max,
    "el2n": np.linalg.norm,
    "loss": np.sum,
}


def of_questions(score: str, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns a score of samples that ask several questions, such as whether each label holds.

    Args:
        score: a key of `SCORES`.
        probabilities: float [n, questions, classes].
        labels: classes, int [n, questions].

    Returns:
        float [n]: the norm of all errors, the sum of entropies or losses, or the highest margin.
    """
    count, questions, classes = probabilities.shape
    scores = SCORES[score](probabilities.reshape(-1, classes), labels.reshape(-1))
    return _TOGETHER[score](scores.reshape(count, questions), axis=1)


def forgetting_scores(stats: ForgettingStats, never_learned: str = "critical") -> np.ndarray:
    """Forgetting events of each sample, as something to rank by.

    Source: Toneva et al. 2019, Section 3: a sample that was never learned counts as forgotten
    infinitely often.

    Args:
        stats: of one training.
        never_learned: "critical" puts samples that were never learned first; "ignore" ranks them
            by their events, of which they have none.

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
    """Returns the positions of the highest scores; equal ones are drawn at random.

    The same seed breaks ties in the same order whatever `count` is, so that of equal scores the
    smaller choice is a part of the larger: with constant scores, nested random subsets.

    Example:

        >>> choose(np.array([0.1, 0.9, 0.5]), 2, seed=0).tolist()
        [1, 2]

    Args:
        scores: numbers [n].
        count: how many to choose, 0 to n.
        seed: anything `numpy.random.default_rng` takes.
        labels: classes, int [n]: choose from each class in proportion to its size. Default None.

    Returns:
        int64 [count], sorted.

    Raises:
        ArgumentError: a count that is negative or no integer.
    """
    check_int("count", count, 0)
    tie = np.random.default_rng(seed).permutation(len(scores))
    order = np.lexsort((tie, -np.asarray(scores)))
    if labels is None:
        return np.sort(order[:count])
    classes, sizes = np.unique(labels, return_counts=True)
    chosen = [
        order[labels[order] == each][:share]
        for each, share in zip(classes, shares(sizes, count), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def shares(sizes: np.ndarray, count: int) -> list[int]:
    """Divides `count` in proportion to `sizes`, by largest remainder; the sum is exact.

    Example:

        >>> shares(np.array([50, 30, 20]), 9)
        [4, 3, 2]

    Args:
        sizes: int [groups].
        count: 0 to the sum of the sizes.
    """
    total = int(sizes.sum())
    whole = [int(size) * count // total for size in sizes]
    rest = [int(size) * count % total for size in sizes]
    for group in sorted(range(len(sizes)), key=lambda g: -rest[g])[: count - sum(whole)]:
        whole[group] += 1
    return whole
