"""Criteria, which score weights, and how masks follow from scores. NumPy only.

The lowest scores are pruned. To add a criterion, write a function that returns a score for each
weight, here or, if it takes gradients, in `gradient_criteria.py`, make a `Criterion` of it, and add
it to `CRITERIA` in `tf_prac/registry.py`.
"""

from __future__ import annotations

import dataclasses
import decimal
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tf_prac.checks import check_bool, check_choice, check_int, check_number, function_name
from tf_prac.config import SCOPES
from tf_prac.errors import ArgumentError
from tf_prac.pruning.masks import Masks, Weights
from tf_prac.pruning.patterns import Pattern, Scores, Unstructured
from tf_prac.registry import CRITERIA as CRITERIA

Rate = float | Mapping[str, float]

TRAINED, REWIND_POINT = "trained", "rewind_point"


@dataclasses.dataclass(frozen=True, repr=False)
class Criterion:
    """How weights are scored for pruning; the lowest scores are pruned.

    Example:

        >>> def by_fan_in(weights):
        ...     return {n: np.abs(w) * np.sqrt(np.prod(w.shape[:-1])) for n, w in weights.items()}
        >>> CRITERIA["by_fan_in"] = Criterion(by_fan_in)  # doctest: +SKIP

    Args:
        score: function that returns the scores of the prunable weights, name to float array of
            the weight's shape. Its argument is the weights, name to array, with pruned weights
            zero; or, with `needs_network`, a `ScoringInputs` of `gradient_criteria.py`.
        at: the weights that are scored: "trained", those after a round's training, or
            "rewind_point", W_k; rounds do not train then. Default "trained".
        needs_network: whether `score` takes the network and samples, such as for gradients.
            Default False.
        passes: how many times `score` takes the gradients of all its samples, for the counted
            cost. Default 0.

    Raises:
        ArgumentError: If a value is not allowed.
    """

    score: Callable[[Any], Scores]
    at: str = TRAINED
    needs_network: bool = False
    passes: int = 0

    def __post_init__(self):
        if not callable(self.score):
            raise ArgumentError("score", self.score, "a function that returns scores of weights")
        check_choice("at", self.at, (TRAINED, REWIND_POINT))
        check_bool("needs_network", self.needs_network)
        check_int("passes", self.passes, 0)

    @property
    def scores_trained_weights(self) -> bool:
        """Whether `score` takes the trained weights, and nothing else."""
        return self.rounds_train and not self.needs_network

    @property
    def rounds_train(self) -> bool:
        """Whether rounds train; not if the scores are those of W_k."""
        return self.at == TRAINED

    def __call__(self, inputs: Any) -> Scores:
        """Returns `score(inputs)`."""
        return self.score(inputs)

    def __repr__(self) -> str:
        return f"Criterion({criterion_name(self)})"


def magnitude(weights: Weights) -> dict[str, np.ndarray]:
    """Scores each weight by its absolute value (Han et al. 2015), as float32."""
    return {name: np.abs(np.asarray(w, np.float32)) for name, w in weights.items()}


def random(weights: Weights) -> dict[str, np.ndarray]:
    """Scores weights at random, as a baseline (PrAC paper, Figures 1 and 3).

    The scores depend only on the values of the weights, so that a search with the same seed repeats
    them, another seed has others, and each tensor has its own.
    """
    return {name: _random_scores(name, np.asarray(w)) for name, w in weights.items()}


def _random_scores(name: str, weight: np.ndarray) -> np.ndarray:
    digest = hashlib.sha256(name.encode() + np.ascontiguousarray(weight, np.float32).tobytes())
    words = np.frombuffer(digest.digest(), np.uint32)
    return np.random.default_rng(words).random(weight.shape, np.float32)


MAGNITUDE = Criterion(magnitude)
MAGNITUDE_INIT = Criterion(magnitude, REWIND_POINT)
RANDOM = Criterion(random, REWIND_POINT)


def get_criterion(criterion: str | Criterion | Callable[[Weights], Scores]) -> Criterion:
    """Returns a criterion by its name; a function of weights scores the trained weights.

    Raises:
        ArgumentError: If the name is not registered.
    """
    if isinstance(criterion, Criterion):
        return criterion
    if callable(criterion):
        return Criterion(criterion)
    if not isinstance(criterion, str):
        allowed = f"one of {', '.join(CRITERIA)}, a Criterion or a function of weights"
        raise ArgumentError("criterion", criterion, allowed)
    CRITERIA.check(criterion)
    return get_criterion(CRITERIA[criterion])


def criterion_name(criterion: str | Criterion | Callable[[Weights], Scores]) -> str:
    """Returns the name of a criterion for files: as registered, or MODULE.FUNCTION.

    Options of a `Criterion` that are not the defaults follow in parentheses.

    Raises:
        ArgumentError: If it is a function without a name, such as a lambda.
    """
    if isinstance(criterion, str):
        return criterion
    resolved = get_criterion(criterion)
    for name, registered in CRITERIA.imported():
        if get_criterion(registered) == resolved:
            return name
    name = function_name("criterion", resolved.score)
    options = [
        f"{field.name}={getattr(resolved, field.name)!r}"
        for field in dataclasses.fields(resolved)[1:]
        if getattr(resolved, field.name) != field.default
    ]
    return f"{name}({', '.join(options)})" if options else name


def scores_of(weights: Weights, criterion: str | Criterion | Callable[[Weights], Scores]) -> Scores:
    """Returns the scores of trained weights.

    Raises:
        ArgumentError: If the criterion is unknown, or needs more than the trained weights.
    """
    check_scores_weights(criterion)
    return get_criterion(criterion).score(weights)


def check_scores_weights(criterion: str | Criterion | Callable[[Weights], Scores]) -> None:
    """Raises `ArgumentError` unless a criterion scores trained weights, without the network."""
    if not get_criterion(criterion).scores_trained_weights:
        criteria = {name: get_criterion(each) for name, each in CRITERIA.items()}
        names = [name for name, each in criteria.items() if each.scores_trained_weights]
        allowed = f"one of {', '.join(names)}, or a function of weights"
        remedy = "Other criteria are for a TicketSearch."
        raise ArgumentError("criterion", criterion_name(criterion), allowed, remedy)


def prune(
    scores: Weights,
    masks: Masks,
    rate: Rate,
    scope: str = "global",
    pattern: Pattern | None = None,
    min_layer_density: float = 0.0,
) -> Masks:
    """Prunes the fraction `rate` of the remaining weights that has the lowest scores.

    The number of pruned weights is exact: `prune_count(remaining, rate)` of all remaining weights
    ("global") or of each tensor's ("layerwise"). Of equal scores, the first is pruned first, in
    the order of the tensors and then row-major, so the result is deterministic.

    Args:
        scores: name to float array, with the names and shapes of `masks`, without NaN.
        masks: the current masks; a pruned weight stays pruned.
        rate: fraction of the remaining weights to prune, in (0, 1); or a rate in [0, 1) for
            each name, where "global" ranks the tensors of equal rates together.
        scope: "global" or "layerwise". Default "global".
        pattern: sparsity pattern; with blocks, counts are of blocks. Default `Unstructured()`.
        min_layer_density: fraction of each tensor that is kept: its units with the highest scores.
            Default 0.

    Returns:
        The next masks.

    Raises:
        ArgumentError: If a rate, scope or pattern is not allowed, a score is NaN, or the rate
            leaves less than `min_layer_density`.
        MismatchError: If scores and masks are not of the same network.
    """
    rates = check_rate(rate, masks)
    check_choice("scope", scope, SCOPES)
    masks.check_shapes({name: np.shape(score) for name, score in scores.items()})
    groups: dict[Any, list[str]] = {}
    for name in masks:
        groups.setdefault(name if scope == "layerwise" else rates[name], []).append(name)

    def count(names: list[str], size: int, remaining: int) -> int:
        return prune_count(remaining, rates[names[0]])

    return _prune(scores, masks, groups.values(), count, pattern, min_layer_density)


def prune_to(
    scores: Weights,
    masks: Masks,
    sparsity: float,
    scope: str = "global",
    pattern: Pattern | None = None,
    min_layer_density: float = 0.0,
) -> Masks:
    """Prunes the weights with the lowest scores until a target sparsity is reached.

    Args:
        scores: as for `prune`.
        masks: as for `prune`.
        sparsity: target sparsity, in [0, 1), of the whole network ("global") or of each tensor
            ("layerwise").
        scope: "global" or "layerwise". Default "global".
        pattern: as for `prune`.
        min_layer_density: as for `prune`.

    Returns:
        The next masks.

    Raises:
        ArgumentError: As for `prune`, and if the sparsity is below that of `masks`.
        MismatchError: As for `prune`.
    """
    check_number("sparsity", sparsity, minimum=0, below=1)
    check_choice("scope", scope, SCOPES)
    masks.check_shapes({name: np.shape(score) for name, score in scores.items()})
    groups = [[name] for name in masks] if scope == "layerwise" else [list(masks)]

    def count(names: list[str], size: int, remaining: int) -> int:
        to_prune = prune_count(size, sparsity) - (size - remaining)
        if to_prune < 0:
            raise ArgumentError(
                "sparsity",
                sparsity,
                f"at least the current sparsity, {1 - remaining / size:.6g}",
                "Pruned weights stay pruned; set denser masks first.",
            )
        return to_prune

    return _prune(scores, masks, groups, count, pattern, min_layer_density)


@dataclasses.dataclass(frozen=True)
class PruneRule:
    """How the next masks follow from weights: criterion, scope, amount and pattern.

    Example:

        >>> weights = {"a": np.array([3.0, -1.0]), "b": np.array([2.0, 4.0])}
        >>> masks = PruneRule(rate=0.25)(weights, Masks.ones_like(weights))
        >>> masks["a"].tolist(), masks["b"].tolist()
        ([True, False], [True, True])

    Args:
        rate: fraction of the remaining weights to prune, or a fraction for each name.
            Default 0.2.
        criterion: a name in `CRITERIA`, a `Criterion` or a function of weights.
            Default "magnitude".
        scope: "global" or "layerwise". Default "global".
        sparsity: target sparsity, in place of `rate`. Default None.
        pattern: sparsity pattern. Default `Unstructured()`.
        min_layer_density: fraction of each tensor that is kept. Default 0.
    """

    rate: Rate = 0.2
    criterion: str | Criterion | Callable[[Weights], Scores] = "magnitude"
    scope: str = "global"
    sparsity: float | None = None
    pattern: Pattern = Unstructured()
    min_layer_density: float = 0.0

    def __post_init__(self):
        if not isinstance(self.criterion, str):  # a Criterion has the same repr in each process
            object.__setattr__(self, "criterion", get_criterion(self.criterion))

    def __repr__(self) -> str:
        """Identifies the rule in checkpoints; the options of a pattern are named as in 0.1.0."""
        pattern, options = repr(self.pattern), self.pattern.options()
        if options is not None:
            defaults = {"block_size": (1, 1), "block_pooling_type": "AVG", "sparsity_m_by_n": ()}
            named = (f"{name}={value!r}" for name, value in {**defaults, **options}.items())
            pattern = f"Pattern({', '.join(named)})"
        floor = self.min_layer_density
        return (
            f"PruneRule(rate={self.rate!r}, criterion={self.criterion!r}, scope={self.scope!r}, "
            f"sparsity={self.sparsity!r}, pattern={pattern}"
            f"{f', min_layer_density={floor!r}' if floor else ''})"
        )

    def __call__(self, weights: Weights, masks: Masks) -> Masks:
        """Returns the next masks.

        Raises:
            ArgumentError: If the criterion needs more than trained weights.
        """
        return self.by_scores(
            scores_of({name: weights[name] for name in masks}, self.criterion), masks
        )

    def by_scores(self, scores: Scores, masks: Masks) -> Masks:
        """Returns the next masks from given scores, in place of the scores of `criterion`."""
        options = self.scope, self.pattern, self.min_layer_density
        if self.sparsity is not None:
            return prune_to(scores, masks, self.sparsity, *options)
        return prune(scores, masks, self.rate, *options)

    def in_steps(self, scores: Callable[[Masks], Scores], masks: Masks, steps: int) -> Masks:
        """Like `by_scores`, in several steps at an equal rate, with new scores before each.

        The total number of pruned weights is the same.

        Source: Tanaka et al. 2020 ("SynFlow"), Algorithm 1: the density after step i of n is the
        final density to the power of i / n.

        Args:
            scores: function that returns the scores under given masks.
            masks: the current masks.
            steps: number of steps, >= 1.
        """
        check_int("score_steps", steps, 1)
        result = masks
        for step in range(1, steps + 1):
            current = scores(result)
            pruned_first = {n: np.where(result[n], current[n], -np.inf) for n in masks}
            result = self.partial(step / steps, masks.density).by_scores(pruned_first, masks)
        return result

    def near_threshold(self, scores: Scores, masks: Masks) -> Masks:
        """Returns the weights near the pruning threshold, as masks.

        They are the weights that 1.5 times this pruning would prune, and half of it would not.

        Args:
            scores: scores of the weights.
            masks: the current masks.
        """
        rule = dataclasses.replace(self, min_layer_density=0.0)
        half, more = (
            rule.partial(part, masks.density).by_scores(scores, masks) for part in (0.5, 1.5)
        )
        return Masks({name: half[name] & ~more[name] for name in masks})

    def partial(self, progress: float, density: float) -> PruneRule:
        """Returns the rule that prunes a part of the total, from masks of the given density.

        Args:
            progress: the part; 2 is the pruning of two rounds.
            density: the fraction of weights that the masks keep.
        """
        if progress == 1:
            return self
        if self.sparsity is not None:
            remaining = density * ((1 - self.sparsity) / density) ** progress
            return dataclasses.replace(self, sparsity=1 - remaining)
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
    min_layer_density: float,
) -> Masks:
    """Prunes `count(names, size, remaining)` units of each group of names, ranked together."""
    check_number("min_layer_density", min_layer_density, minimum=0, below=1)

    def prune_units(scores: Weights, masks: Masks) -> Masks:
        kept: dict[str, np.ndarray] = {}
        for names in groups:
            unpruned = [_unpruned(scores[name], masks[name]) for name in names]
            size, remaining = sum(masks[n].size for n in names), sum(map(len, unpruned))
            pruned = count(names, size, remaining)
            if min_layer_density:
                floors = [math.ceil(min_layer_density * masks[name].size) for name in names]
                unpruned = [_protect(s, n) for s, n in zip(unpruned, floors, strict=True)]
                if remaining - pruned < sum(floors):
                    raise ArgumentError(
                        "min_layer_density",
                        min_layer_density,
                        f"at most the density after pruning, {(remaining - pruned) / size:.6g}",
                        "Prune less, or lower it.",
                    )
            keep = _keep(np.concatenate(unpruned), pruned)
            parts = np.split(keep, np.cumsum([part.size for part in unpruned])[:-1])
            kept.update(zip(names, parts, strict=True))
        return Masks({name: _scatter(masks[name], kept[name]) for name in masks})

    pattern = pattern or Unstructured()
    for name, mask in masks.items():
        pattern.check_fits(name, mask.shape)
    return pattern.prune(scores, masks, prune_units)


def _protect(scores: np.ndarray, count: int) -> np.ndarray:
    """Returns scores with the `count` highest replaced by infinity, so that they are kept."""
    first = np.argsort(scores, kind="stable")[max(0, scores.size - count) :]
    protected = scores.astype(float)
    protected[first] = np.inf
    return protected


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
    """Prunes the fraction `rate` of the remaining weights with the smallest magnitudes.

    All tensors are ranked together.

    Example:

        >>> masks = global_magnitude({"a": np.array([3., -1.]), "b": np.array([2., 4.])}, rate=0.5)
        >>> masks["a"].tolist(), masks["b"].tolist()
        ([True, False], [False, True])

    Source: PrAC paper, Section 3.1; "Stabilizing the Lottery Ticket Hypothesis", Algorithm 1.

    Args:
        weights: name to float array, all prunable weights.
        masks: the current masks. Default None: dense.
        rate: fraction of the remaining weights to prune, in (0, 1). Default 0.2.

    Returns:
        The next masks, which keep exactly `prune_count(remaining, rate)` weights fewer.
    """
    return prune(magnitude(weights), _or_dense(masks, weights), rate, "global")


def layerwise_magnitude(weights: Weights, masks: Masks | None = None, rate: float = 0.2) -> Masks:
    """Like `global_magnitude`, but prunes the same fraction of every tensor.

    Example:

        >>> weights = {"a": np.array([3.0, 4.0]), "b": np.array([2.0, 1.0])}
        >>> masks = layerwise_magnitude(weights, rate=0.5)
        >>> masks["a"].tolist(), masks["b"].tolist()
        ([False, True], [True, False])

    Args:
        weights, masks, rate: as for `global_magnitude`.
    """
    return prune(magnitude(weights), _or_dense(masks, weights), rate, "layerwise")


def random_mask(masks: Masks, rate: float, *, seed: int, scope: str = "layerwise") -> Masks:
    """Prunes a fraction of the remaining weights at random, as a control.

    Example:

        >>> random_mask(Masks({"kernel": np.ones([8, 5])}), 0.2, seed=0).remaining
        32

    Args:
        masks: the current masks.
        rate: fraction of the remaining weights to prune, in (0, 1).
        seed: the same seed returns the same masks.
        scope: "layerwise" (the same fraction of every tensor) or "global". Default "layerwise".
    """
    check_int("seed", seed, 0)
    generator = np.random.default_rng(seed)
    scores = {name: generator.random(mask.shape, np.float32) for name, mask in masks.items()}
    return prune(scores, masks, rate, scope)


def shuffled_mask(masks: Masks, *, seed: int) -> Masks:
    """Shuffles each mask: a random ticket with the same layer-wise sparsities.

    Example:

        >>> masks = Masks({"a": np.array([1, 0, 0]), "b": np.array([1, 1])})
        >>> shuffled = shuffled_mask(masks, seed=0)
        >>> {name: int(mask.sum()) for name, mask in shuffled.items()}
        {'a': 1, 'b': 2}

    Source: "Stabilizing the Lottery Ticket Hypothesis", Section 3 (random pruning).

    Args:
        masks: the masks to shuffle.
        seed: the same seed returns the same masks.
    """
    check_int("seed", seed, 0)
    generator = np.random.default_rng(seed)
    order = {name: generator.permutation(mask.size) for name, mask in masks.items()}
    return Masks({n: m.ravel()[order[n]].reshape(m.shape) for n, m in masks.items()})


def prune_count(remaining: int, rate: float) -> int:
    """Returns how many of `remaining` weights to prune: rounded half up, and never all."""
    exact = remaining * decimal.Decimal(str(rate))  # 50 * 0.29 is 14.5; in floats it is less
    return max(0, min(int(exact + decimal.Decimal("0.5")), remaining - 1))


def _keep(scores: np.ndarray, count: int) -> np.ndarray:
    """Returns which of 1-D `scores` are kept; of equal ones, the first are pruned first."""
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
    """Returns integers in the same order if no score is negative; NumPy partitions them faster.

    Non-negative IEEE floats have the same order as their bits.
    """
    bits = scores.view(np.int32) if scores.dtype == np.float32 else scores
    return bits if bits is not scores and bits.min() >= 0 else scores


def _or_dense(masks: Masks | None, weights: Weights) -> Masks:
    return Masks.ones_like(weights) if masks is None else masks


def _unpruned(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the scores of the unpruned weights, 1-D."""
    return scores.ravel() if mask.all() else scores[mask]


def _scatter(mask: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Returns `mask`, of whose unpruned weights only `kept` remain."""
    if kept.size == mask.size:
        return kept.reshape(mask.shape)
    result = np.zeros(mask.shape, bool)
    result[mask] = kept
    return result
