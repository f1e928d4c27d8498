"""`Channels`: the channels of the tensors of a model, and what is known of each.

A channel is an index of the last axis of a tensor. Channels that can only be removed together,
such as the inputs and the sum of an addition, are tied to one group (union-find).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_prac.keras_api import Value

Array = np.ndarray


class Channels:
    """Groups of channels, the constant ones, and those that are kept.

    Attributes:
        channels: for each tensor, the group of each of its channels; tensors whose last axis has
            no known size are missing.
        known: for each tensor, the value of each constant channel, NaN for any other.
        padded: tensors whose constant channels have zeros at the borders.
        keep: for each group, whether it is kept.
        pinned: why groups are kept regardless of the weights.
        merged: for each group that is merged into another, that group and the factor.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._pins: list[tuple[Array, str]] = []
        self.channels: dict[Value, Array] = {}
        self.known: dict[Value, Array] = {}
        self.padded: set[Value] = set()
        self.keep = np.zeros(0, bool)
        self.pinned: dict[int, str] = {}
        self.merged: dict[int, tuple[int, float]] = {}

    def fresh(self, value: Value | int) -> Array | None:
        """Returns new groups for the channels of a tensor, or a number of new groups."""
        count = value if isinstance(value, int) else (value.shape or (None,))[-1]
        if count is None:
            return None
        ids = np.arange(len(self._parents), len(self._parents) + count)
        self._parents.extend(ids.tolist())
        return ids

    def tie(self, first: Array, second: Array) -> None:
        """Makes pairs of groups one group each."""
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            a, b = self._find(a), self._find(b)
            self._parents[max(a, b)] = min(a, b)

    def pin(self, value_or_ids: Any, reason: str) -> None:
        """Keeps the channels of a tensor, or groups."""
        is_value = isinstance(value_or_ids, Value)
        ids = self.channels.get(value_or_ids) if is_value else value_or_ids
        if ids is not None:
            self._pins.append((ids, reason))

    def _find(self, group: int) -> int:
        while self._parents[group] != group:
            self._parents[group] = self._parents[self._parents[group]]
            group = self._parents[group]
        return group

    def _find_all(self) -> Array:
        return np.array([self._find(group) for group in range(len(self._parents))], int)

    def finish(self) -> None:
        """Ends the building of groups: `channels` and `pinned` name the group of each channel."""
        roots = self._find_all()
        self.channels = {value: roots[ids] for value, ids in self.channels.items()}
        for ids, reason in self._pins:
            self.pinned.update(dict.fromkeys(roots[ids].tolist(), reason))
        self.keep = np.zeros(len(roots), bool)

    def constant(self, value: Value) -> Array:
        """Returns the constants of a tensor; those with other values at the borders are NaN."""
        known = self.known[value]
        return np.where(known == 0, known, np.nan) if value in self.padded else known

    def kept(self, value: Value) -> Array:
        """Returns which channels of a tensor are kept."""
        return self.keep[self.channels[value]]
