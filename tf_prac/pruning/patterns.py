"""Shapes that pruned weights have to form: blocks, or m zeros in every n. Numpy only.

Names and meaning are those of TensorFlow Model Optimization, so that its users find them, and
Keras 3 models get them too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from tf_prac.checks import check_pattern
from tf_prac.config import PruningConfig
from tf_prac.errors import ArgumentError
from tf_prac.pruning.masks import Masks

Scores = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Which weights are pruned only together.

    Example:

        >>> Pattern(sparsity_m_by_n=(1, 2)).m_by_n(np.array([[1.0], [2.0]])).tolist()
        [[False], [True]]

    Args:
        block_size: (height, width) of the blocks of a matrix that are pruned as one; those at
            the far edges may be smaller. Default (1, 1): single weights.
        block_pooling_type: a block's score is the "AVG" or "MAX" of those of its weights.
            Default "AVG".
        sparsity_m_by_n: (m, n): of every n weights in a row, along the input channels, the m
            lowest are pruned, all in one go. Default ().

    Raises:
        ArgumentError: a size or a combination that is not allowed.
    """

    block_size: tuple[int, ...] = (1, 1)
    block_pooling_type: str = "AVG"
    sparsity_m_by_n: tuple[int, ...] = ()

    def __post_init__(self):
        check_pattern(self.block_size, self.block_pooling_type, self.sparsity_m_by_n)

    @classmethod
    def of(cls, config: PruningConfig) -> Pattern:
        """Returns the pattern that the options of a search name."""
        return cls(config.block_size, config.block_pooling_type, config.sparsity_m_by_n)

    def prune(self, scores: Scores, masks: Masks, prune: Callable[[Scores, Masks], Masks]) -> Masks:
        """Returns `masks` without what `prune` takes away, in this pattern.

        Args:
            scores: the score of each weight.
            masks: the masks in force; a pruned weight stays pruned.
            prune: prunes units, by a score for each: weights or blocks.

        Raises:
            ArgumentError: the pattern does not fit a weight.
        """
        for name, mask in masks.items():
            self._check_fits(name, mask.shape)
        if self.sparsity_m_by_n:
            held = {n: np.where(mask, scores[n], -np.inf) for n, mask in masks.items()}
            return Masks({n: self.m_by_n(held[n]) & mask for n, mask in masks.items()})
        if self.block_size == (1, 1):
            return prune(scores, masks)
        kept = prune(
            {name: self._pooled(scores[name]) for name in masks},
            Masks({name: _any(self._blocks(mask, 0)) for name, mask in masks.items()}),
        )
        return Masks({n: self._spread(kept[n], mask.shape) & mask for n, mask in masks.items()})

    def m_by_n(self, scores: np.ndarray) -> np.ndarray:
        """Returns the mask of one weight that keeps the n - m highest of every n."""
        m, n = self.sparsity_m_by_n
        channels_last = np.moveaxis(scores, -1, 0)  # (out, ..., in), as TFLite stores it
        flat = channels_last.reshape(-1, channels_last.shape[-1]).astype(np.float64)
        short = -flat.shape[1] % n
        groups = np.pad(flat, ((0, 0), (0, short)), constant_values=-np.inf)
        # What fills up a last short group takes the places of zeros, as in TFMOT.
        order = np.argsort(groups.reshape(-1, n), axis=1, kind="stable")
        keep = np.ones(order.shape, bool)
        np.put_along_axis(keep, order[:, :m], False, axis=1)
        keep = keep.reshape(groups.shape)[:, : flat.shape[1]].reshape(channels_last.shape)
        return np.moveaxis(keep, 0, -1)

    def _check_fits(self, name: str, shape: tuple[int, ...]) -> None:
        if self.sparsity_m_by_n and len(shape) not in (2, 4):
            raise ArgumentError(
                "sparsity_m_by_n",
                self.sparsity_m_by_n,
                "() for a weight that has not 2 or 4 dimensions",
                f"{name} has shape {shape}; name it in ignore.",
            )
        if self.block_size == (1, 1):
            return
        fits = len(shape) == 2 and all(b <= s for b, s in zip(self.block_size, shape, strict=True))
        if not fits:
            raise ArgumentError(
                "block_size",
                self.block_size,
                "blocks for matrices at least as large",
                f"{name} has shape {shape}; name it in ignore, or its kind not in layers.",
            )

    def _blocks(self, array: np.ndarray, fill: float) -> np.ndarray:
        """A matrix as (rows of blocks, height, columns of blocks, width)."""
        height, width = self.block_size
        pad = ((0, -array.shape[0] % height), (0, -array.shape[1] % width))
        padded = np.pad(array, pad, constant_values=fill)
        rows, columns = padded.shape
        return padded.reshape(rows // height, height, columns // width, width)

    def _pooled(self, scores: np.ndarray) -> np.ndarray:
        if np.isnan(scores).any():
            return np.full(self._blocks(scores, 0).shape[::2], np.nan)  # refused by `prune`
        pool = np.nanmean if self.block_pooling_type == "AVG" else np.nanmax
        return pool(self._blocks(scores, np.nan), axis=(1, 3))

    def _spread(self, kept: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        height, width = self.block_size
        return kept.repeat(height, 0).repeat(width, 1)[: shape[0], : shape[1]]


def _any(blocks: np.ndarray) -> np.ndarray:
    return np.asarray(blocks.any(axis=(1, 3)))
