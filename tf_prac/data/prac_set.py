"""`PracSet`: the samples a round trains on. Numpy only, but for `filter`.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Section 3.1.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_prac.errors import ArgumentError, DataError, FileError
from tf_prac.storage.files import read_npz, write_npz

if TYPE_CHECKING:
    import tensorflow as tf


class PracSet:
    """The Pruning-Aware Critical set: CET (hard to memorize) united with CEP (pruning forgets).

    Ids are positions in the data set's own order, so that a set can be used with any network on
    the same data. Immutable.

    Example:

        >>> prac_set = PracSet(cet=[5, 1], cep=[7, 5], num_samples=10)
        >>> prac_set.ids.tolist(), prac_set.overlap
        ([1, 5, 7], 0.5)

    Args:
        cet: ids of the critical examples for training, int [any].
        cep: ids of the critical examples for pruning, int [any].
        num_samples: size of the data set; ids are in [0, num_samples).
        filled: ids added so that the set is not smaller than its minimum. Default none.

    Raises:
        DataError: an id is outside the data set.
        ArgumentError: ids are not integers.
    """

    def __init__(self, cet: Any, cep: Any, num_samples: int, filled: Any = ()):
        self.num_samples = int(num_samples)
        self.cet = _as_ids("cet", cet, self.num_samples)
        self.cep = _as_ids("cep", cep, self.num_samples)
        self.filled = _as_ids("filled", filled, self.num_samples)
        self.ids = np.unique(np.concatenate([self.cet, self.cep, self.filled]))
        self.ids.flags.writeable = False

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, sample_id: int) -> bool:
        position = np.searchsorted(self.ids, sample_id)
        return bool(position < len(self.ids) and self.ids[position] == sample_id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PracSet):
            return NotImplemented
        return self.num_samples == other.num_samples and all(
            np.array_equal(getattr(self, part), getattr(other, part))
            for part in ("cet", "cep", "filled")
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"PracSet({len(self)} of {self.num_samples}: CET {len(self.cet)}, CEP {len(self.cep)})"
        )

    @property
    def overlap(self) -> float:
        """The part of CEP that is in CET too (PrAC paper, Table A3); 0 when there is no CEP."""
        return len(np.intersect1d(self.cet, self.cep)) / len(self.cep) if len(self.cep) else 0.0

    def fill(self, minimum: int, candidates: np.ndarray, seed: Any) -> PracSet:
        """Returns a set of at least `minimum` samples, filled up from `candidates` at random.

        Args:
            minimum: smallest allowed size.
            candidates: ids to choose from, those of the set included.
            seed: anything `numpy.random.default_rng` takes.
        """
        missing = minimum - len(self)
        if missing <= 0:
            return self
        rest = np.setdiff1d(candidates, self.ids)
        chosen = np.random.default_rng(seed).choice(rest, min(missing, len(rest)), replace=False)
        filled = np.concatenate([self.filled, chosen])
        return PracSet(self.cet, self.cep, self.num_samples, filled=filled)

    def filter(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Keeps the samples of this set, with known cardinality.

        Args:
            dataset: unbatched, of `({"inputs": x, "sample_id": id}, ...)`, as
                `tf_prac.with_sample_ids` makes it. Put costly decoding and augmentation after
                this call, so that other samples do not pay for it.

        Raises:
            ArgumentError: the data set is batched or carries no ids.
        """
        from tf_prac.data.samples import filter_ids

        return filter_ids(dataset, self.ids)

    def save(self, path: str | os.PathLike) -> None:
        """Writes an `.npz` file with the ids, as int64."""
        arrays = {"cet": self.cet, "cep": self.cep, "filled": self.filled}
        write_npz(path, "prac_set", {**arrays, "num_samples": np.array(self.num_samples)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> PracSet:
        """Reads what `save` wrote; raises `FileError` for anything else."""
        arrays = read_npz(path, "prac_set")
        try:
            size = arrays["num_samples"]
            if size.shape != () or size.dtype.kind != "i" or size < 1:
                raise ValueError("num_samples is not a positive integer")
            found = cls(arrays["cet"], arrays["cep"], int(size), arrays["filled"])
            for part in ("cet", "cep", "filled"):
                if not np.array_equal(getattr(found, part), arrays[part]):
                    raise ValueError(f"{part} does not rise: an id is there twice or misplaced")
            return found
        except (KeyError, ValueError, ArgumentError) as error:
            raise FileError(f"{path}: damaged, {error}.") from error


def _as_ids(name: str, ids: Any, num_samples: int) -> np.ndarray:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ArgumentError(name, ids, "a vector of integer sample ids")
    array = np.unique(array.astype(np.int64))
    if array.size and not 0 <= array[0] <= array[-1] < num_samples:
        raise DataError(
            f"{name}: sample ids from {array[0]} to {array[-1]} received; "
            f"allowed: 0 to {num_samples - 1}."
        )
    array.flags.writeable = False
    return array
