"""Distances and interpolation between networks of the same architecture. NumPy only.

Sources: "Stabilizing the Lottery Ticket Hypothesis", Section 3 and Appendix B (distance, angle);
"Linear Mode Connectivity and the Lottery Ticket Hypothesis", Section 2 (error barrier).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tf_prac.checks import check_number
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.pruning.masks import Masks, Weights


def distance(first: Weights, second: Weights, masks: Masks) -> float:
    """Returns the L2 distance between the kept weights of two networks, ||m * W - m * W'||.

    Example:

        >>> masks = Masks({"w": np.array([1, 1, 0])})
        >>> distance({"w": np.array([3.0, 0, 9])}, {"w": np.array([0.0, 4, 1])}, masks)
        5.0

    Args:
        first, second: weights by name, any float dtype; weights without a mask are ignored.
        masks: define which weights are compared.

    Raises:
        MismatchError: names or shapes differ.
    """
    a, b = _kept(first, second, masks)
    return float(np.linalg.norm(a - b))


def angle(first: Weights, second: Weights, masks: Masks) -> float:
    """Returns the angle between the kept weights of two networks as vectors, in degrees.

    Example:

        >>> masks = Masks({"w": np.array([1, 1])})
        >>> round(angle({"w": np.array([1.0, 0])}, {"w": np.array([1.0, 1])}, masks), 6)
        45.0

    Args:
        first, second: as for `distance`.
        masks: as for `distance`.

    Returns:
        A value from 0 (same direction) to 180. The angular distance, 2 / pi times the angle in
        radians, is this value divided by 90.

    Raises:
        MismatchError: names or shapes differ.
        ArgumentError: all kept weights of a network are zero, so it has no direction.
    """
    a, b = (_direction(vector) for vector in _kept(first, second, masks))
    # Accurate for small angles too, unlike the arc cosine of a dot product near 1.
    half = np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))
    return float(np.degrees(2 * half))


def interpolate(first: Weights, second: Weights, alpha: float) -> dict[str, np.ndarray]:
    """Returns alpha * W + (1 - alpha) * W' for every weight, BatchNorm statistics included.

    Args:
        first: W, the exact result for `alpha` = 1.
        second: W', the exact result for `alpha` = 0.
        alpha: in [0, 1].

    Returns:
        Arrays with the dtypes of `first`.

    Raises:
        MismatchError: names or shapes differ.
        ArgumentError: `alpha` is outside [0, 1].
    """
    check_number("alpha", alpha, minimum=0, maximum=1)
    _check_same(first, second)
    return {
        name: (alpha * np.float64(w) + (1 - alpha) * np.float64(second[name])).astype(w.dtype)
        for name, w in first.items()
    }


def barrier(along: Sequence[float]) -> float:
    """Returns the error barrier of a line: its highest point minus the mean of its ends.

    Example:

        >>> round(barrier([0.1, 0.7, 0.3]), 6)
        0.5

    Args:
        along: error or loss at evenly spaced points on the line, both ends included.

    Raises:
        ArgumentError: fewer than two points.
    """
    if len(along) < 2:
        raise ArgumentError("points", len(along), "at least 2: the ends of the line")
    return float(max(along) - (along[0] + along[-1]) / 2)


def _kept(first: Weights, second: Weights, masks: Masks) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kept weights of both networks as vectors, float64."""
    for weights in (first, second):
        masks.check_shapes({name: np.shape(weights[name]) for name in masks if name in weights})
    a, b = (
        np.concatenate([np.asarray(weights[name], np.float64)[masks[name]] for name in masks])
        for weights in (first, second)
    )
    return a, b


def _direction(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    if not 0 < length < np.inf:
        raise ArgumentError(
            "weights",
            "all zero" if length == 0 else "not finite",
            "kept weights that are not all zero, as an angle needs a direction",
        )
    return vector / length


def _check_same(first: Weights, second: Weights) -> None:
    shapes, others = ({n: np.shape(w) for n, w in each.items()} for each in (first, second))
    if shapes != others:
        name = next(n for n in [*shapes, *others] if shapes.get(n) != others.get(n))
        raise MismatchError(
            f"weights: {name} has shape {shapes.get(name)} in one network and {others.get(name)} "
            "in the other. Compare networks of the same architecture."
        )
