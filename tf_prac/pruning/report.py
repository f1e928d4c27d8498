"""`PruningReport`: how sparse a model and each of its layers are, and which layers have died."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping

import numpy as np

DEAD = 0.01
"""A layer that keeps less than this fraction, and a tenth of the model's density, has died."""
SHOWN = 6
"""The number of layers in `repr`; of more layers, the sparsest and the densest."""


@dataclasses.dataclass(frozen=True)
class PruningReport:
    """The overall and the per-layer sparsity of masks.

    Example:

        >>> PruningReport.of({"dense/kernel": np.array([1, 0, 0, 1])})
        50.0% of 4 weights pruned: dense/kernel 50.0%

    Attributes:
        size: the number of prunable weights.
        remaining: how many of them are kept.
        layers: the sparsity of each prunable weight tensor, by name.
        empty: the names of those that have died: they keep nothing, or less than 1% and less than
            a tenth of the density of the model.
    """

    size: int
    remaining: int
    layers: dict[str, float]
    empty: tuple[str, ...]

    @classmethod
    def of(cls, masks: Mapping[str, np.ndarray]) -> PruningReport:
        """Returns the report of masks, by name."""
        kept = {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}
        sizes = {name: int(np.size(mask)) for name, mask in masks.items()}
        size, remaining = sum(sizes.values()), sum(kept.values())
        limit = min(DEAD, remaining / size / 10) if size else 0.0
        return cls(
            size=size,
            remaining=remaining,
            layers={name: 1 - kept[name] / max(1, sizes[name]) for name in masks},
            empty=tuple(n for n in masks if kept[n] == 0 or kept[n] / sizes[n] < limit),
        )

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights that is pruned."""
        return 1 - self.remaining / self.size if self.size else 0.0

    def __repr__(self) -> str:
        layers = [f"{name} {_percent(sparsity)}" for name, sparsity in self.layers.items()]
        if len(layers) > SHOWN:
            order = sorted(range(len(layers)), key=lambda n: list(self.layers.values())[n])
            densest, sparsest = order[: SHOWN // 2], order[-SHOWN // 2 :]
            layers = [layers[n] for n in densest] + ["..."] + [layers[n] for n in sparsest]
        listed = f": {', '.join(layers)}" if layers else ""
        return f"{_percent(self.sparsity)} of {self.size:,} weights pruned{listed}"

    @property
    def dead_layers(self) -> str:
        """A sentence that names the layers that have died and what to do; "" if there are none."""
        if not self.empty:
            return ""
        names = ", ".join(f"{n} (keeps {_percent(1 - self.layers[n])})" for n in self.empty[:SHOWN])
        more = f" and {len(self.empty) - SHOWN} more" if len(self.empty) > SHOWN else ""
        return (
            f"pruning to {_percent(self.sparsity)} leaves (almost) no weights in {names}{more}. "
            "Nothing passes such a layer, and the network may not train. Use "
            f'PruningConfig(min_layer_density={DEAD}), PruningConfig(scope="layerwise"), a lower '
            "sparsity, or PruningConfig(ignore=...) with the names of these layers."
        )

    def warn_of_dead_layers(self) -> None:
        """Warns the caller of the function that calls it if layers have died."""
        if self.empty:
            warnings.warn(self.dead_layers, stacklevel=3)


def _percent(fraction: float) -> str:
    digits = 1 if fraction == 0 or 0.001 <= fraction <= 0.999 else 3
    return f"{100 * fraction:.{digits}f}%"
