"""`SampleSet`: the ids of some samples of a data set. NumPy only, except for `filter`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_prac.checks import check_bool
from tf_prac.data.checks import check_id_vector
from tf_prac.errors import DataError
from tf_prac.storage.files import read_npz, write_npz

if TYPE_CHECKING:
    import tensorflow as tf
    from typing_extensions import Self

KIND = "prac_set"
PARTS = ("cet", "cep", "filled")


class SampleSet:
    """Any subset of the samples of a data set.

    Ids are positions in the order of the data set, so that a set can be used with any network on
    the same data. Immutable.

    Example:

        >>> sample_set = SampleSet([7, 1, 5], num_samples=10)
        >>> sample_set.ids.tolist(), len(sample_set), 7 in sample_set
        ([1, 5, 7], 3, True)

    Args:
        ids: ids of the samples, int [any]; duplicates are removed.
        num_samples: size of the data set; ids are in [0, num_samples).

    Raises:
        DataError: If an id is out of range.
        ArgumentError: If the ids are not a vector of integers.

    Attributes:
        ids: int64, sorted, read-only.
        num_samples: size of the data set.
    """

    ids: np.ndarray
    num_samples: int

    def __init__(self, ids: Any, num_samples: int):
        self.num_samples = int(num_samples)
        self.ids = unique_ids("ids", ids, self.num_samples)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, sample_id: int) -> bool:
        position = np.searchsorted(self.ids, sample_id)
        return bool(position < len(self.ids) and self.ids[position] == sample_id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SampleSet) or type(other) is not type(self):
            return NotImplemented
        ours, theirs = self._parts(), other._parts()
        return self.num_samples == other.num_samples and all(
            np.array_equal(ours[name], theirs[name]) for name in PARTS
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SampleSet({len(self)} of {self.num_samples})"

    def filter(self, dataset: tf.data.Dataset, keep_ids: bool = True) -> tf.data.Dataset:
        """Keeps the samples of this set, with known cardinality.

        Args:
            dataset: elements `({"inputs": x, "sample_id": id}, y, ...)`, as from
                `tf_prac.with_sample_ids`; batches are formed again. Decode and augment after this
                call, so that other samples do not cost that time.
            keep_ids: whether elements keep the form that a `PracModel` and the callbacks take.
                Otherwise they are (x, y, ...), which any model takes. Default True.

        Raises:
            ArgumentError: If the dataset has no ids.
        """
        from tf_prac.data.ids import filter_ids, without_ids

        check_bool("keep_ids", keep_ids)
        filtered = filter_ids(dataset, self.ids)
        return filtered if keep_ids else without_ids(filtered)

    def save(self, path: str | os.PathLike) -> None:
        """Writes an `.npz` file with the ids as int64.

        The format is the same as for a `PracSet`: cet and cep are empty, and filled has all ids.
        """
        write_npz(path, KIND, {**self._parts(), "num_samples": np.array(self.num_samples)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads a file that `save` of any set wrote; raises `FileError` for any other file."""
        arrays = read_npz(path, KIND)
        parts = {name: arrays[name] for name in PARTS}
        return cls._from_parts(parts, int(arrays["num_samples"]))

    def _parts(self) -> dict[str, np.ndarray]:
        """Returns the arrays of ids in the file, by name."""
        return {"cet": self.ids[:0], "cep": self.ids[:0], "filled": self.ids}

    @classmethod
    def _from_parts(cls, parts: Mapping[str, np.ndarray], num_samples: int) -> Self:
        return cls(np.concatenate([parts[name] for name in PARTS]), num_samples)


def unique_ids(name: str, ids: Any, num_samples: int) -> np.ndarray:
    """Returns ids as a sorted, read-only int64 vector without duplicates.

    Args:
        name: of the argument, for errors.
        ids: sample ids, int [any].
        num_samples: size of the data set.

    Raises:
        DataError: If an id is out of range.
        ArgumentError: If the ids are not a vector of integers.
    """
    array = np.unique(check_id_vector(name, ids))
    if array.size and not 0 <= array[0] <= array[-1] < num_samples:
        raise DataError(
            f"{name}: sample ids from {array[0]} to {array[-1]} received; "
            f"allowed: 0 to {num_samples - 1}."
        )
    array.flags.writeable = False
    return array
