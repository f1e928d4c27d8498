"""`PracSet`: the critical samples that a round of a search trains on. NumPy only.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_prac.data.sample_set import SampleSet, unique_ids

if TYPE_CHECKING:
    from typing_extensions import Self


class PracSet(SampleSet):
    """The Pruning-Aware Critical set: CET (hard to memorize) and CEP (forgotten by pruning).

    Example:

        >>> prac_set = PracSet(cet=[5, 1], cep=[7, 5], num_samples=10)
        >>> prac_set.ids.tolist(), prac_set.overlap
        ([1, 5, 7], 0.5)

    Args:
        cet: ids of the critical examples for training, int [any].
        cep: ids of the critical examples for pruning, int [any].
        num_samples: size of the data set; ids are in [0, num_samples).
        filled: ids added to reach a minimum size. Default: none.

    Raises:
        DataError: If an id is out of range.
        ArgumentError: If ids are not a vector of integers.

    Attributes:
        ids: all ids of the set, int64, sorted, read-only.
        cet: the ids of CET, int64, sorted, read-only.
        cep: the ids of CEP, int64, sorted, read-only.
        filled: the ids added to reach a minimum size, int64, sorted, read-only.
        num_samples: size of the data set.
    """

    def __init__(self, cet: Any, cep: Any, num_samples: int, filled: Any = ()):
        size = int(num_samples)
        self.cet = unique_ids("cet", cet, size)
        self.cep = unique_ids("cep", cep, size)
        self.filled = unique_ids("filled", filled, size)
        super().__init__(np.concatenate([self.cet, self.cep, self.filled]), size)

    def __repr__(self) -> str:
        return (
            f"PracSet({len(self)} of {self.num_samples}: CET {len(self.cet)}, CEP {len(self.cep)})"
        )

    @property
    def overlap(self) -> float:
        """The fraction of CEP that is also in CET (PrAC paper, Table A3); 0 if CEP is empty."""
        return len(np.intersect1d(self.cet, self.cep)) / len(self.cep) if len(self.cep) else 0.0

    def fill(self, minimum: int, candidates: np.ndarray, seed: Any) -> PracSet:
        """Returns a set extended to at least `minimum` samples by a random draw of candidates.

        Args:
            minimum: minimum size; the set is smaller if there are too few candidates.
            candidates: ids to draw from; those already in the set are left out.
            seed: anything `numpy.random.default_rng` takes.
        """
        missing = minimum - len(self)
        if missing <= 0:
            return self
        rest = np.setdiff1d(candidates, self.ids)
        chosen = np.random.default_rng(seed).choice(rest, min(missing, len(rest)), replace=False)
        filled = np.concatenate([self.filled, chosen])
        return PracSet(self.cet, self.cep, self.num_samples, filled=filled)

    def _parts(self) -> dict[str, np.ndarray]:
        return {"cet": self.cet, "cep": self.cep, "filled": self.filled}

    @classmethod
    def _from_parts(cls, parts: Mapping[str, np.ndarray], num_samples: int) -> Self:
        return cls(**parts, num_samples=num_samples)
