"""Sparsity patterns: the structure that pruned weights form. NumPy only.

To add a pattern, write a frozen dataclass derived from `Pattern` and add it to `PATTERNS` in
`tf_prac/registry.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tf_prac.checks import check_choice
from tf_prac.config import PruningConfig
from tf_prac.errors import ArgumentError
from tf_prac.pruning.masks import Masks
from tf_prac.registry import PATTERNS as PATTERNS

if TYPE_CHECKING:
    from typing_extensions import Self

Scores = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Base class of sparsity patterns: which weights are pruned together.

    A subclass is a frozen dataclass. It implements `prune`, and overrides what differs.

    Example:

        >>> @dataclasses.dataclass(frozen=True)
        ... class Rows(Pattern):
        ...     def prune(self, scores, masks, prune):
        ...         means = {name: score.mean(1, keepdims=True) for name, score in scores.items()}
        ...         kept = {name: mask.any(1, keepdims=True) for name, mask in masks.items()}
        ...         kept = prune(means, Masks(kept))
        ...         return Masks({name: mask & kept[name] for name, mask in masks.items()})
        >>> scores = {"dense/kernel": np.array([[1.0, 9.0], [6.0, 7.0]])}
        >>> masks = Masks({"dense/kernel": np.ones((2, 2), bool)})
        >>> upper_half = lambda scores, _: Masks({n: s > np.median(s) for n, s in scores.items()})
        >>> Rows().prune(scores, masks, upper_half)["dense/kernel"].tolist()
        [[False, False], [True, True]]

    Attributes:
        sets_sparsity: whether the pattern alone determines how many weights are pruned, so that
            one round prunes everything and rates and target sparsities do not apply.
    """

    sets_sparsity: ClassVar[bool] = False

    @classmethod
    def from_config(cls, config: PruningConfig) -> Self:
        """Returns the pattern that a configuration describes."""
        return cls()

    def options(self) -> dict[str, Any] | None:
        """Returns the fields of `PruningConfig`, other than `pattern`, that describe the pattern.

        TFMOT has arguments of the same names. Returns None if no fields describe it.
        """
        return None

    def of_network(self, transposed: Collection[str]) -> Self:
        """Returns the pattern for a network.

        Args:
            transposed: names of its kernels of transposed convolutions, whose output channels are
                the axis before the last.
        """
        return self

    def check_fits(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises `ArgumentError` unless a weight of this shape can be pruned in the pattern."""

    def check_rounds(self, rounds: int) -> None:
        """Raises `ArgumentError` unless a search with `rounds` rounds can use the pattern."""
        if self.sets_sparsity and rounds > 1:
            option = next(iter(self.options() or {"pattern": None}))
            remedy = "This pattern prunes all its weights at once."
            raise ArgumentError("rounds", rounds, f"1 with {option}", remedy)

    def prune(self, scores: Scores, masks: Masks, prune: Callable[[Scores, Masks], Masks]) -> Masks:
        """Returns the next masks.

        Args:
            scores: the score of each weight; the lowest are pruned.
            masks: the current masks; a pruned weight stays pruned.
            prune: prunes by the rate or target sparsity: a function of the scores and the current
                masks of units, either weights or groups of weights, that returns the next masks
                of the units.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Unstructured(Pattern):
    """Each weight is pruned independently of the others.

    Example:

        >>> scores = {"dense/kernel": np.array([[1.0, 9.0], [6.0, 7.0]])}
        >>> masks = Masks({"dense/kernel": np.ones((2, 2), bool)})
        >>> upper_half = lambda scores, _: Masks({n: s > np.median(s) for n, s in scores.items()})
        >>> Unstructured().prune(scores, masks, upper_half)["dense/kernel"].tolist()
        [[False, True], [False, True]]
    """

    def options(self) -> dict[str, Any]:
        """Returns no options: their defaults describe this pattern."""
        return {}

    def prune(self, scores: Scores, masks: Masks, prune: Callable[[Scores, Masks], Masks]) -> Masks:
        """Returns the next masks."""
        return prune(scores, masks)


@dataclasses.dataclass(frozen=True)
class Block(Pattern):
    """The blocks of a matrix are pruned as a whole, as with TFMOT's `block_size`.

    Example:

        >>> scores = {"dense/kernel": np.array([[1.0, 9.0], [6.0, 7.0]])}
        >>> masks = Masks({"dense/kernel": np.ones((2, 2), bool)})
        >>> upper_half = lambda scores, _: Masks({n: s > np.median(s) for n, s in scores.items()})
        >>> Block((1, 2)).prune(scores, masks, upper_half)["dense/kernel"].tolist()
        [[False, False], [True, True]]

    Args:
        block_size: (height, width) of a block; blocks at the bottom and right edges may be
            smaller.
        block_pooling_type: a block's score is the average ("AVG") or maximum ("MAX") of the scores
            of its weights. Default "AVG".

    Raises:
        ArgumentError: If a size or the pooling is not allowed.
    """

    block_size: tuple[int, ...]
    block_pooling_type: str = "AVG"

    def __post_init__(self):
        if len(self.block_size) != 2 or not all(_is_size(size) for size in self.block_size):
            raise ArgumentError("block_size", self.block_size, "two integers >= 1")
        check_choice("block_pooling_type", self.block_pooling_type, ("AVG", "MAX"))

    @classmethod
    def from_config(cls, config: PruningConfig) -> Self:
        """Returns the blocks of the options `block_size` and `block_pooling_type`."""
        return cls(config.block_size, config.block_pooling_type)

    def options(self) -> dict[str, Any]:
        """Returns the options of `PruningConfig` that describe the blocks."""
        return dataclasses.asdict(self)

    def check_fits(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises `ArgumentError` unless a weight is a matrix at least as large as a block."""
        fits = len(shape) == 2 and all(b <= s for b, s in zip(self.block_size, shape, strict=True))
        if not fits and self.block_size != (1, 1):
            raise ArgumentError(
                "block_size",
                self.block_size,
                "blocks for matrices at least as large",
                f"{name} has shape {shape}; add it to ignore, or remove its group from layers.",
            )

    def prune(self, scores: Scores, masks: Masks, prune: Callable[[Scores, Masks], Masks]) -> Masks:
        """Returns the next masks; a block that has no unpruned weight counts as pruned."""
        if self.block_size == (1, 1):
            return prune(scores, masks)
        kept = prune(
            {name: self.pool(scores[name]) for name in masks},
            Masks({name: _any(self.split(mask, 0)) for name, mask in masks.items()}),
        )
        return Masks({n: self._repeat(kept[n], mask.shape) & mask for n, mask in masks.items()})

    def split(self, array: np.ndarray, fill: float) -> np.ndarray:
        """Returns a matrix, padded with `fill`, as [rows, height, columns, width] of its blocks."""
        height, width = self.block_size
        pad = ((0, -array.shape[0] % height), (0, -array.shape[1] % width))
        padded = np.pad(array, pad, constant_values=fill)
        rows, columns = padded.shape
        return padded.reshape(rows // height, height, columns // width, width)

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """Returns the score of each block of a matrix, [rows, columns] of blocks."""
        if np.isnan(scores).any():
            return np.full(self.split(scores, 0).shape[::2], np.nan)  # refused by `prune`
        pool = np.nanmean if self.block_pooling_type == "AVG" else np.nanmax
        return pool(self.split(scores, np.nan), axis=(1, 3))

    def _repeat(self, kept: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the mask of a matrix from the mask of its blocks."""
        height, width = self.block_size
        return kept.repeat(height, 0).repeat(width, 1)[: shape[0], : shape[1]]


@dataclasses.dataclass(frozen=True)
class MByN(Pattern):
    """N:M sparsity as in TFMOT's `sparsity_m_by_n`: of every n consecutive weights, m are pruned.

    The weights are consecutive along the input channels; in kernels of transposed convolutions, as
    in TFMOT, along the output channels, which are before the last axis there. (2, 4) is 2:4
    sparsity.

    Example:

        >>> MByN(1, 2).mask(np.array([[1.0], [2.0]])).tolist()
        [[False], [True]]

    Source: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks", Section 3.

    Args:
        m: number of pruned weights in each group, >= 1.
        n: number of weights in a group, > m.

    Raises:
        ArgumentError: If a number is not allowed.
    """

    sets_sparsity: ClassVar[bool] = True

    m: int
    n: int

    def __post_init__(self):
        if not (_is_size(self.m) and _is_size(self.n) and self.m < self.n):
            raise ArgumentError("sparsity_m_by_n", (self.m, self.n), "two integers, 1 <= m < n")

    @classmethod
    def from_config(cls, config: PruningConfig) -> Self:
        """Returns the pattern of the option `sparsity_m_by_n`."""
        numbers = config.sparsity_m_by_n
        if len(numbers) != 2:
            raise ArgumentError("sparsity_m_by_n", numbers, "two integers, 1 <= m < n")
        pattern = cls(*numbers)
        if config.block_size != (1, 1):
            allowed, remedy = "() together with block_size", "Choose one of the two."
            raise ArgumentError("sparsity_m_by_n", numbers, allowed, remedy)
        return pattern

    def options(self) -> dict[str, Any]:
        """Returns the option of `PruningConfig` that describes the pattern."""
        return {"sparsity_m_by_n": (self.m, self.n)}

    def check_fits(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises `ArgumentError` unless a weight has 2 or 4 dimensions."""
        if len(shape) not in (2, 4):
            raise ArgumentError(
                "sparsity_m_by_n",
                (self.m, self.n),
                "() for a weight without 2 or 4 dimensions",
                f"{name} has shape {shape}; add it to ignore.",
            )

    def prune(self, scores: Scores, masks: Masks, prune: Callable[[Scores, Masks], Masks]) -> Masks:
        """Returns the next masks; rates and target sparsities do not apply."""
        unpruned = {n: np.where(mask, scores[n], -np.inf) for n, mask in masks.items()}
        return Masks({n: self.mask(unpruned[n]) & mask for n, mask in masks.items()})

    def mask(self, scores: np.ndarray) -> np.ndarray:
        """Returns the mask of one weight that keeps the n - m highest scores of every n."""
        channels_last = np.moveaxis(scores, -1, 0)  # (out, ..., in), as TFLite stores it
        flat = channels_last.reshape(-1, channels_last.shape[-1]).astype(np.float64)
        missing = -flat.shape[1] % self.n
        groups = np.pad(flat, ((0, 0), (0, missing)), constant_values=-np.inf)
        # The padding of the last group counts as pruned, as in TFMOT.
        order = np.argsort(groups.reshape(-1, self.n), axis=1, kind="stable")
        keep = np.ones(order.shape, bool)
        np.put_along_axis(keep, order[:, : self.m], False, axis=1)
        keep = keep.reshape(groups.shape)[:, : flat.shape[1]].reshape(channels_last.shape)
        return np.moveaxis(keep, 0, -1)


@dataclasses.dataclass(frozen=True)
class _ChannelPattern(Pattern):
    """Base class of patterns of whole output channels."""

    transposed: frozenset[str] = dataclasses.field(default=frozenset(), repr=False)

    def of_network(self, transposed: Collection[str]) -> Self:
        """Returns the pattern for a network with these kernels of transposed convolutions."""
        return dataclasses.replace(self, transposed=frozenset(transposed))


@dataclasses.dataclass(frozen=True)
class Channels(_ChannelPattern):
    """Whole output channels of a kernel are pruned, which `tf_prac.export.shrink` removes.

    The score of a channel is the mean score of its weights, and rates and target sparsities count
    channels. Each kernel keeps at least one channel. Channels are the last axis of a kernel, and
    the axis before it in transposed convolutions; those of a depthwise kernel are its inputs.

    Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets", Section 3.1.

    Example:

        >>> from tf_prac.pruning.criteria import prune
        >>> kernel = {"dense/kernel": np.array([[3.0, 1.0], [1.0, 2.0]])}
        >>> prune(kernel, Masks.ones_like(kernel), 0.5, pattern=Channels())["dense/kernel"].tolist()
        [[True, False], [True, False]]

    Args:
        transposed: as for `refill`; `tf_prac.prune` and searches set it. Default none.
    """

    def prune(self, scores: Scores, masks: Masks, prune: Callable[[Scores, Masks], Masks]) -> Masks:
        """Returns the next masks; a channel that has no unpruned weight counts as pruned."""
        axes = _channel_axes(masks, self.transposed)
        pooled = {name: _by_channel(axes[name], np.mean, scores[name]) for name in masks}
        alive = {name: _by_channel(axes[name], np.any, mask) for name, mask in masks.items()}
        kept = prune(pooled, Masks(alive))
        result = {}
        for name, mask in masks.items():
            best = np.argmax(np.where(alive[name], pooled[name], -np.inf))
            keep = kept[name] | ((np.arange(pooled[name].size) == best) & alive[name])
            result[name] = mask & _along_channels(axes[name], keep, mask.ndim)
        return Masks(result)


@dataclasses.dataclass(frozen=True)
class Refill(_ChannelPattern):
    """Unstructured pruning, then as many whole output channels as the remaining weights fill.

    See `refill`. The sparsity of each kernel is about that of unstructured pruning, but rounded to
    whole channels; each kernel keeps at least one.

    Example:

        >>> scores = {"dense/kernel": np.array([[1.0, 9.0, 2.0], [6.0, 7.0, 3.0]])}
        >>> masks = Masks({"dense/kernel": np.ones((2, 3), bool)})
        >>> upper_half = lambda scores, _: Masks({n: s > np.median(s) for n, s in scores.items()})
        >>> Refill().prune(scores, masks, upper_half)["dense/kernel"].tolist()
        [[True, True, False], [True, True, False]]

    Source: Chen et al. 2022, "Coarsening the Granularity: Towards Structurally Sparse Lottery
    Tickets", Section 3.2 (IMP-Refill, here in each round).

    Args:
        transposed: as for `refill`; `tf_prac.prune` and searches set it. Default none.
    """

    def prune(self, scores: Scores, masks: Masks, prune: Callable[[Scores, Masks], Masks]) -> Masks:
        """Returns the next masks."""
        return refill(prune(scores, masks), scores, masks, self.transposed)


def refill(
    masks: Masks,
    scores: Scores | None = None,
    within: Masks | None = None,
    transposed: Collection[str] = (),
) -> Masks:
    """Makes unstructured masks channel-wise: keeps the fullest output channels, entirely.

    Each kernel keeps as many channels as its remaining weights would fill, rounded, at least one:
    those with the most remaining weights. Their pruned weights are restored, all others pruned.
    The result has about the sparsity of `masks` in each kernel; `tf_prac.export.shrink` removes
    the other channels.

    Example:

        >>> masks = Masks({"dense/kernel": np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1], [1, 0, 0]])})
        >>> refill(masks)["dense/kernel"].astype(int).tolist()
        [[1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1]]

    Source: Chen et al. 2022, "Coarsening the Granularity: Towards Structurally Sparse Lottery
    Tickets", Section 3.2 (refill).

    Args:
        masks: unstructured masks, such as those of a ticket.
        scores: of channels with equally many weights, those with the highest sum of the scores of
            remaining weights are kept. Default None: the first.
        within: masks that the result keeps pruned. Default None: all weights may be restored.
        transposed: names of the kernels whose output channels are the axis before the last:
            `transposed_kernels(model)`, if the model has transposed convolutions. Default ().

    Raises:
        MismatchError: If scores or `within` are not of the same network.
    """
    for others in (scores, within):
        if others is not None:
            masks.check_shapes({name: np.shape(each) for name, each in others.items()})
    result, axes = {}, _channel_axes(masks, transposed)
    for name, mask in masks.items():
        axis = axes[name]
        available = np.ones_like(mask) if within is None else within[name]
        counts = _by_channel(axis, np.sum, mask)
        remaining = np.zeros(mask.shape) if scores is None else np.where(mask, scores[name], 0)
        order = np.lexsort((-_by_channel(axis, np.sum, remaining), -counts))
        sizes = _by_channel(axis, np.sum, available)[order]
        filled = np.cumsum(sizes) - sizes / 2 <= counts.sum()
        filled[0] = True
        keep = np.zeros(counts.size, bool)
        keep[order[filled]] = True
        result[name] = available & _along_channels(axis, keep, mask.ndim)
    return Masks(result)


def _channel_axes(names: Collection[str], transposed: Collection[str]) -> dict[str, int]:
    """Returns the axis of output channels of kernels; a depthwise kernel has one per input."""
    swapped = {name for name in names if name.rpartition("/")[2] == "depthwise_kernel"}
    return {name: -2 if name in swapped or name in transposed else -1 for name in names}


def _by_channel(axis: int, pool: Callable[..., Any], array: np.ndarray) -> np.ndarray:
    """Returns `pool` of the elements of each channel."""
    channels_first = np.moveaxis(array, axis, 0)
    return np.asarray(pool(channels_first.reshape(len(channels_first), -1), axis=1))


def _along_channels(axis: int, keep: np.ndarray, rank: int) -> np.ndarray:
    """Returns an array of one element per channel, shaped to broadcast to the kernel."""
    shape = [1] * rank
    shape[axis] = keep.size
    return keep.reshape(shape)


def pattern_name(pattern: Any) -> str:
    """Returns the name of a pattern object for files, MODULE.CLASS(ARGUMENTS).

    Raises:
        ArgumentError: If it is not a pattern.
    """
    if not isinstance(pattern, Pattern):
        raise ArgumentError("pattern", pattern, f"one of {', '.join(PATTERNS)}, or a Pattern")
    return f"{type(pattern).__module__}.{pattern!r}"


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _any(blocks: np.ndarray) -> np.ndarray:
    return np.asarray(blocks.any(axis=(1, 3)))
