"""`ForgettingStats`: forgetting statistics of each sample. NumPy only.

Source: Toneva et al. 2019, "An Empirical Study of Example Forgetting during Deep Neural Network
Learning", Section 3; used by the PrAC paper, Section 3.1, to find critical examples for training.
"""

from __future__ import annotations

import os

import numpy as np

from tf_prac.checks import check_choice, check_int
from tf_prac.data.checks import check_id_vector
from tf_prac.errors import ArgumentError, DataError
from tf_prac.storage.files import read_npz, write_npz

COLUMNS = ("presentations", "last_correct", "learned", "events")


class ForgettingStats:
    """For each sample: how often it was presented and forgotten, and whether it was learned.

    A *forgetting event* occurs when a sample that was classified correctly at one presentation
    is classified incorrectly at the next. A sample that was never classified correctly is *never
    learned*; one that was learned and never forgotten is *unforgettable*.

    Example:

        >>> stats = ForgettingStats(3)
        >>> for correct in ([1, 0], [0, 0], [1, 0], [0, 0]):
        ...     stats.update(ids=np.array([0, 2]), correct=np.array(correct))
        >>> stats.events.tolist(), stats.never_learned.tolist()
        ([2, 0, 0], [False, False, True])

    Args:
        num_samples: size of the data set; sample ids are in [0, num_samples).

    Attributes:
        table: int32 array [num_samples, 4]; the columns are `COLUMNS`.
    """

    def __init__(self, num_samples: int):
        check_int("num_samples", num_samples, 1)
        self.table = np.zeros((num_samples, len(COLUMNS)), np.int32)

    @classmethod
    def from_table(cls, table: np.ndarray) -> ForgettingStats:
        """Returns the statistics of a table, int32 [num_samples, 4], which is copied."""
        stats = cls(len(table))
        stats.table[...] = table
        return stats

    def update(self, ids: np.ndarray, correct: np.ndarray) -> None:
        """Records one presentation of each sample in `ids`.

        Args:
            ids: distinct sample ids, int [batch].
            correct: whether each sample is classified correctly, bool [batch].

        Raises:
            DataError: If an id is out of range or a duplicate.
            ArgumentError: If `ids` are not integers, or `correct` has another shape.
        """
        ids, correct = check_id_vector("ids", ids), np.asarray(correct, bool).astype(np.int32)
        if correct.shape != ids.shape:
            raise ArgumentError("correct", correct.shape, f"the shape of ids, {ids.shape}")
        if len(np.unique(ids)) != len(ids):
            raise DataError("sample ids: one batch presents the same sample twice.")
        if ids.size and not 0 <= ids.min() <= ids.max() < len(self.table):
            raise DataError(
                f"sample ids: {int(ids.min())} to {int(ids.max())} received; "
                f"allowed: 0 to {len(self.table) - 1}."
            )
        presentations, last, learned, events = self.table[ids].T
        self.table[ids] = np.stack(
            [presentations + 1, correct, learned | correct, events + last * (1 - correct)], axis=1
        )

    def __repr__(self) -> str:
        seen, forgotten, never = map(np.count_nonzero, (self.seen, self.events, self.never_learned))
        return (
            f"ForgettingStats({len(self.table)} samples: {seen} presented, "
            f"{forgotten} forgotten, {never} never learned)"
        )

    @property
    def presentations(self) -> np.ndarray:
        """How often each sample was presented, int32 [num_samples]."""
        return self.table[:, 0]

    @property
    def events(self) -> np.ndarray:
        """Forgetting events of each sample, int32 [num_samples]."""
        return self.table[:, 3]

    @property
    def seen(self) -> np.ndarray:
        """Which samples were presented at all, bool [num_samples]."""
        return self.presentations > 0

    @property
    def never_learned(self) -> np.ndarray:
        """Which samples were presented but never classified correctly, bool [num_samples]."""
        return self.seen & (self.table[:, 2] == 0)

    @property
    def unforgettable(self) -> np.ndarray:
        """Which samples were learned and never forgotten, bool [num_samples]."""
        return (self.table[:, 2] == 1) & (self.events == 0)

    def critical_for_training(
        self, threshold: int = 0, never_learned: str = "critical"
    ) -> np.ndarray:
        """Returns CET: the ids of the samples that are hard to memorize, sorted int64.

        Source: PrAC paper, Algorithm 1, line 4, with E_F = `threshold`. The paper does not define
        whether samples that were never learned, and so cannot be forgotten, are in CET; in the
        authors' code they are.

        Args:
            threshold: a sample is critical if it has more forgetting events. Default 0.
            never_learned: "critical" includes samples that were never learned; "ignore" does not.

        Raises:
            ArgumentError: If the threshold is negative, or `never_learned` is another word.
        """
        check_int("forget_threshold", threshold, 0)
        check_choice("never_learned", never_learned, ("critical", "ignore"))
        critical = self.events > threshold
        if never_learned == "critical":
            critical |= self.never_learned
        return np.flatnonzero(critical & self.seen)

    def save(self, path: str | os.PathLike) -> None:
        """Writes an `.npz` file with one int32 array for each column."""
        write_npz(path, "forgetting", dict(zip(COLUMNS, self.table.T, strict=True)))

    @classmethod
    def load(cls, path: str | os.PathLike) -> ForgettingStats:
        """Reads what `save` wrote; raises `FileError` for anything else."""
        arrays = read_npz(path, "forgetting")
        return cls.from_table(np.stack([arrays[name] for name in COLUMNS], axis=1))
