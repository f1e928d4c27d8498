"""From weights to scores, and from scores to masks. Numpy only.

A criterion gives every prunable weight a score; the lowest scores are pruned. To add one, write
a function `weights -> scores` and name it in `CRITERIA`.
"""

from __future__ import annotations

import dataclasses
import decimal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tf_prac.config import SCOPES, check_choice, check_int, check_number
from tf_prac.errors import ArgumentError
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.patterns import Pattern

Weights = Mapping[str, np.ndarray]
Rate = float | Mapping[str, float]


def magnitude(weights: Weights) -> dict[str, np.ndarray]:
    """Scores each weight by its absolute value (Han et al. 2015), as float32."""
    return {name: np.abs(np.asarray(w, np.float32)) for name, w in weights.items()}


UNTRAINED = ("magnitude_init", "snip", "grasp", "synflow")
"""Criteria that score W_k, whose rounds do not train: `tf_prac.training.saliency.SALIENCIES`."""

CRITERIA: dict[str, Callable[[Weights], dict[str, np.ndarray]]] = {
    "magnitude": magnitude,
}


def scores_of(weights: Weights, criterion: str) -> dict[str, np.ndarray]:
    """Returns the scores of weights by a criterion's name; raises `ArgumentError` if unknown."""
    check_choice("criterion", criterion, tuple(CRITERIA))
    return CRITERIA[criterion](weights)


def prune(
    scores: Weights,
    masks: Masks,
    rate: Rate,
    scope: str = "global",
    pattern: Pattern | None = None,
) -> Masks:
    """Returns `masks` without the lowest-scored `rate` of the weights they keep.

    The number pruned is exact: `prune_count(remaining, rate)` of all remaining weights
    ("global") or of those of each tensor ("layerwise"). Equal scores are pruned in order of
    position: earlier tensors first, then row-major; so the result never depends on chance.

    Args:
        scores: name to float array, with the names and shapes of `masks`; no NaN.
        masks: the masks in force; a pruned weight stays pruned.
        rate: fraction of the remaining weights to prune, in (0, 1); or a rate in [0, 1) for
            each name, and then "global" ranks the tensors of one rate together.
        scope: "global" or "layerwise".
        pattern: shape of what is pruned; counts are then of blocks. Default: single weights.

    Raises:
        ArgumentError: a rate, scope or pattern that is not allowed, or a score that is NaN.
        MismatchError: scores and masks are not of the same network.
    """
    rates = check_rate(rate, masks)
    check_choice("scope", scope, SCOPES)
    masks.check_shapes({name: np.shape(score) for name, score in scores.items()})
    groups: dict[Any, list[str]] = {}
    for name in masks:
        groups.setdefault(name if scope == "layerwise" else rates[name], []).append(name)

    def count(names: list[str], size: int, remaining: int) -> int:
        return prune_count(remaining, rates[names[0]])

    return _prune(scores, masks, groups.values(), count, pattern)


def prune_to(
    scores: Weights,
    masks: Masks,
    sparsity: float,
    scope: str = "global",
    pattern: Pattern | None = None,
) -> Masks:
    """Like `prune`, until a fraction `sparsity` of all weights in `masks` is pruned.

    Args:
        scores: name to float array, with the names and shapes of `masks`; no NaN.
        masks: the masks in force; a pruned weight stays pruned.
        sparsity: target, in [0, 1): of the whole network ("global") or of each tensor
            ("layerwise").
        scope: "global" or "layerwise".
        pattern: shape of what is pruned; counts are then of blocks. Default: single weights.

    Raises:
        ArgumentError: also for a sparsity below that of `masks`.
    """
    check_number("sparsity", sparsity, minimum=0, below=1)
    check_choice("scope", scope, SCOPES)
    masks.check_shapes({name: np.shape(score) for name, score in scores.items()})
    groups = [[name] for name in masks] if scope == "layerwise" else [list(masks)]

    def count(names: list[str], size: int, remaining: int) -> int:
        missing = prune_count(size, sparsity) - (size - remaining)
        if missing < 0:
            raise ArgumentError(
                "sparsity",
                sparsity,
                f"at least that of the masks in force, {1 - remaining / size:.6g}",
                "Pruned weights stay pruned; put denser masks in force first.",
            )
        return missing

    return _prune(scores, masks, groups, count, pattern)


@dataclasses.dataclass(frozen=True)
class PruneRule:
    """From weights to the next masks: score, scope, amount and pattern together.

    Args:
        rate: fraction of the remaining weights to prune, or one for each name. Default 0.2.
        criterion: a key of `CRITERIA`. Default "magnitude".
        scope: "global" or "layerwise". Default "global".
        sparsity: prune until this fraction is gone, instead of `rate`. Default None.
        pattern: shape of what is pruned. Default: single weights.
    """

    rate: Rate = 0.2
    criterion: str = "magnitude"
    scope: str = "global"
    sparsity: float | None = None
    pattern: Pattern = Pattern()

    def __call__(self, weights: Weights, masks: Masks) -> Masks:
        """Returns the next masks."""
        return self.by_scores(
            scores_of({name: weights[name] for name in masks}, self.criterion), masks
        )

    def by_scores(self, scores: Weights, masks: Masks) -> Masks:
        """Returns the next masks by other scores than those of `criterion`."""
        if self.sparsity is not None:
            return prune_to(scores, masks, self.sparsity, self.scope, self.pattern)
        return prune(scores, masks, self.rate, self.scope, self.pattern)

    def in_steps(self, scores: Callable[[Masks], Weights], masks: Masks, steps: int) -> Masks:
        """Like `by_scores`, in several steps of an equal rate, with new scores before each.

        As many weights are pruned in the end.

        Source: Tanaka et al. 2020 ("SynFlow"), Algorithm 1: the density after step i of n is the
        final one to the power of i / n.

        Args:
            scores: function of the masks so far to scores.
            masks: the masks in force.
            steps: how many, >= 1.
        """
        check_int("score_steps", steps, 1)
        found = masks
        for step in range(1, steps + 1):
            now = scores(found)
            gone_first = {n: np.where(found[n], now[n], -np.inf) for n in masks}
            found = self._part(step / steps, masks.density).by_scores(gone_first, masks)
        return found

    def _part(self, progress: float, density: float) -> PruneRule:
        """The rule for a part of the way, from masks of a density."""
        if progress == 1:
            return self
        if self.sparsity is not None:
            left = density * ((1 - self.sparsity) / density) ** progress
            return dataclasses.replace(self, sparsity=1 - left)
        if isinstance(self.rate, Mapping):
            rates = {name: 1 - (1 - rate) ** progress for name, rate in self.rate.items()}
            return dataclasses.replace(self, rate=rates)
        return dataclasses.replace(self, rate=1 - (1 - self.rate) ** progress)


def _prune(
    scores: Weights,
    masks: Masks,
    groups: Iterable[list[str]],
    count: Callable[[list[str], int, int], int],
    pattern: Pattern | None,
) -> Masks:
    """Prunes `count(names, size, remaining)` units of each group of names, ranked together."""

    def prune_units(scores: Weights, masks: Masks) -> Masks:
        kept: dict[str, np.ndarray] = {}
        for names in groups:
            flat = [_kept(scores[name], masks[name]) for name in names]
            every = np.concatenate(flat)
            keep = _keep(every, count(names, sum(masks[n].size for n in names), every.size))
            parts = np.split(keep, np.cumsum([part.size for part in flat])[:-1])
            kept.update(zip(names, parts, strict=True))
        return Masks({name: _scatter(masks[name], kept[name]) for name in masks})

    return (pattern or Pattern()).prune(scores, masks, prune_units)


def check_rate(rate: Rate, names: Iterable[str] | None = None) -> dict[str, float]:
    """Returns the rate of each name; raises `ArgumentError` if one is missing or not allowed."""
    if not isinstance(rate, Mapping):
        check_number("prune_rate", rate, above=0, below=1)
        return dict.fromkeys(names or (), rate)
    for value in rate.values():
        check_number("prune_rate", value, minimum=0, below=1)
    if names is not None and set(rate) != set(names):
        raise ArgumentError("prune_rate", sorted(rate), f"a rate for each of {sorted(names)}")
    return dict(rate)


def global_magnitude(weights: Weights, masks: Masks | None = None, rate: float = 0.2) -> Masks:
    """Prunes the `rate` of remaining weights that are smallest over the whole network.

    Example:

        >>> masks = global_magnitude({"a": np.array([3., -1.]), "b": np.array([2., 4.])}, rate=0.5)
        >>> masks["a"].tolist(), masks["b"].tolist()
        ([True, False], [False, True])

    Source: PrAC paper, Section 3.1; "Stabilizing the Lottery Ticket Hypothesis", Algorithm 1.

    Args:
        weights: name to array, all prunable weights.
        masks: the masks in force. Default: dense.
        rate: fraction of the remaining weights to prune, in (0, 1). Default 0.2.

    Returns:
        The next masks, with exactly `prune_count(remaining, rate)` weights fewer.
    """
    return prune(magnitude(weights), _or_dense(masks, weights), rate, "global")


def layerwise_magnitude(weights: Weights, masks: Masks | None = None, rate: float = 0.2) -> Masks:
    """Like `global_magnitude`, but each weight tensor loses the same fraction of its own."""
    return prune(magnitude(weights), _or_dense(masks, weights), rate, "layerwise")


def random_mask(masks: Masks, rate: float, *, seed: int, scope: str = "layerwise") -> Masks:
    """Prunes `rate` of the remaining weights at random: the control of every pruning claim.

    Args:
        masks: the masks in force.
        rate: fraction of the remaining weights to prune, in (0, 1).
        seed: the same seed gives the same masks.
        scope: "layerwise" (every tensor loses the same fraction) or "global".
    """
    check_int("seed", seed, 0)
    generator = np.random.default_rng(seed)
    scores = {name: generator.random(mask.shape, np.float32) for name, mask in masks.items()}
    return prune(scores, masks, rate, scope)


def shuffled_mask(masks: Masks, *, seed: int) -> Masks:
    """Returns masks that keep as many weights of each tensor as `masks`, at random places.

    The random ticket: the same layer-wise proportions, another choice.

    Source: "Stabilizing the Lottery Ticket Hypothesis", Section 3 (random pruning).

    Args:
        masks: the masks whose proportions count.
        seed: the same seed gives the same masks.
    """
    check_int("seed", seed, 0)
    generator = np.random.default_rng(seed)
    places = {name: generator.permutation(mask.size) for name, mask in masks.items()}
    return Masks({n: m.ravel()[places[n]].reshape(m.shape) for n, m in masks.items()})


def prune_count(remaining: int, rate: float) -> int:
    """Returns how many of `remaining` weights are pruned: rounded, halves up, never the last."""
    exact = remaining * decimal.Decimal(str(rate))  # 50 * 0.29 is 14.5; in floats it is less
    return max(0, min(int(exact + decimal.Decimal("0.5")), remaining - 1))


def _keep(scores: np.ndarray, count: int) -> np.ndarray:
    """Returns which of the 1-D `scores` stay: all but the lowest, earlier ones first of equals."""
    if scores.size and np.isnan(scores.max()):
        raise ArgumentError("scores", "NaN", "numbers", "A weight or score is not a number.")
    if count == 0:
        return np.ones(scores.shape, bool)
    scores = _ranks(scores)
    threshold = np.partition(scores, count - 1)[count - 1]
    keep = scores > threshold
    ties = np.flatnonzero(scores == threshold)
    pruned_ties = count - (scores.size - np.count_nonzero(keep) - ties.size)
    keep[ties[pruned_ties:]] = True
    return keep


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Scores as integers of the same order, if none is negative: numpy partitions them faster.

    The bits of non-negative IEEE floats are ordered as the floats are.
    """
    bits = scores.view(np.int32) if scores.dtype == np.float32 else scores
    return bits if bits is not scores and bits.min() >= 0 else scores


def _or_dense(masks: Masks | None, weights: Weights) -> Masks:
    return Masks.ones_like(weights) if masks is None else masks


def _kept(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return scores.ravel() if mask.all() else scores[mask]


def _scatter(mask: np.ndarray, kept: np.ndarray) -> np.ndarray:
    if kept.size == mask.size:
        return kept.reshape(mask.shape)
    result = np.zeros(mask.shape, bool)
    result[mask] = kept
    return result
