"""`Masks`: which weights of a network are kept. An immutable value; NumPy only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping

import numpy as np

from tf_prac.errors import MismatchError
from tf_prac.storage.files import read_npz, write_npz

Weights = Mapping[str, np.ndarray]  # arrays by the names of weights


class Masks(Mapping[str, np.ndarray]):
    """One boolean array for each prunable weight: True keeps, False prunes.

    Masks are immutable, in the order of the model's weights, and independent of the Keras flavor:
    the names are the names of `tf_prac.prunable_weights`.

    Example:

        >>> masks = Masks({"dense/kernel": np.array([[1, 0], [1, 1]])})
        >>> masks.sparsity, masks.remaining
        (0.25, 3)

    Args:
        arrays: name to array of any shape, of booleans or of zeros and ones.

    Raises:
        MismatchError: If an array contains anything else.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._arrays = {name: _as_mask(name, array) for name, array in arrays.items()}

    @classmethod
    def ones_like(cls, weights: Mapping[str, np.ndarray]) -> Masks:
        """Returns dense masks, which keep all weights."""
        return cls({name: np.ones(w.shape, bool) for name, w in weights.items()})

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masks):
            return NotImplemented
        return self.shapes == other.shapes and all(
            np.array_equal(mask, other[name]) for name, mask in self.items()
        )

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return f"Masks({len(self)} weights, {self.remaining} of {self.size} kept)"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each mask, by name."""
        return {name: mask.shape for name, mask in self.items()}

    @property
    def size(self) -> int:
        """Number of prunable weights."""
        return sum(mask.size for mask in self.values())

    @property
    def remaining(self) -> int:
        """Number of weights that are kept."""
        return sum(int(np.count_nonzero(mask)) for mask in self.values())

    @property
    def density(self) -> float:
        """Fraction of the prunable weights that is kept."""
        return self.remaining / self.size if self.size else 1.0

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights that is pruned."""
        return (self.size - self.remaining) / self.size if self.size else 0.0

    def apply(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns `weights` with pruned elements set to zero; weights without a mask are unchanged.

        Raises:
            MismatchError: If a masked weight is missing or has another shape.
        """
        self.check_shapes({name: np.shape(w) for name, w in weights.items() if name in self})
        return {
            name: np.where(self[name], w, np.zeros((), w.dtype)) if name in self else w
            for name, w in weights.items()
        }

    def hamming(self, other: Masks) -> int:
        """Returns the number of elements in which two masks of the same network differ.

        Raises:
            MismatchError: If names or shapes differ.
        """
        self.check_shapes(other.shapes)
        return sum(int(np.count_nonzero(mask != other[name])) for name, mask in self.items())

    def iou(self, other: Masks) -> float:
        """Returns the intersection over union of the kept weights; 1 if there are none.

        Source: PrAC paper, Figure A13.

        Raises:
            MismatchError: If names or shapes differ.
        """
        self.check_shapes(other.shapes)
        both = sum(int(np.count_nonzero(mask & other[name])) for name, mask in self.items())
        either = sum(int(np.count_nonzero(mask | other[name])) for name, mask in self.items())
        return both / either if either else 1.0

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises `MismatchError` and names the first difference unless masks have these shapes."""
        for name in self:
            if name not in shapes:
                raise MismatchError(
                    f"masks: there is a mask for {name!r}, which is not among the prunable weights "
                    f"({', '.join(shapes) or 'none'}). Use a model of the same architecture."
                )
            if tuple(shapes[name]) != self[name].shape:
                raise MismatchError(
                    f"masks: {name} has shape {tuple(shapes[name])}, its mask "
                    f"{self[name].shape}. Use a model of the same architecture."
                )
        for name in shapes:
            if name not in self:
                raise MismatchError(f"masks: the weight {name!r} has no mask.")

    def digest(self) -> str:
        """Returns the SHA-256 of names, shapes and elements, in hexadecimal."""
        sha = hashlib.sha256()
        for name, mask in sorted(self.items()):
            sha.update(f"{name!r}{mask.shape}".encode())
            sha.update(np.packbits(mask).tobytes())
        return sha.hexdigest()

    def save(self, path: str | os.PathLike) -> None:
        """Writes an `.npz` file with one boolean array for each weight."""
        write_npz(path, "masks", self)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Masks:
        """Reads a file that `save` wrote; raises `FileError` for anything else."""
        return cls(read_npz(path, "masks"))


def _as_mask(name: str, array: np.ndarray) -> np.ndarray:
    try:
        mask = np.array(array).astype(bool)
    except ValueError:  # of text, in NumPy 1
        mask = None
    if mask is None or not np.array_equal(mask, array):
        raise MismatchError(f"masks: {name} must contain only zeros and ones.")
    mask.flags.writeable = False
    return mask
