"""`Coverage`: epochs of a set and a random part of all other samples, with unbiased loss weights.

A network that is trained on a small set alone sees no other sample. Here every sample that is not
in the set is presented with probability q in each epoch, drawn again each time. The loss weights of
set and other samples have the ratio q : 1, so that the expected gradient of a step is that of a
step on the full data. The last epochs are drawn from all samples alike.

Source: Qin et al. 2024, "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning",
Section 3, where weights are 1 and 1 / q; here they are divided by their mean, so that the learning
rate keeps its meaning for any size of the set.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tf_prac.checks import check_int, check_number
from tf_prac.data.order import derive_seed


@dataclasses.dataclass(frozen=True, eq=False)
class Coverage:
    """The samples of each epoch of a round, and their loss weights. NumPy only.

    Example:

        >>> coverage = Coverage(np.arange(2), np.arange(2, 10), 0.5, uniform_from=3)
        >>> len(coverage), len(coverage.epoch_ids((0,), epoch=0))
        (6, 6)
        >>> coverage.weights(epoch=0, num_samples=10).tolist()[1:3]
        [0.6000000238418579, 1.2000000476837158]

    Args:
        always: ids of the set, int64 [n], presented in every epoch.
        others: all other ids, int64 [m].
        probability: q, in (0, 1].
        uniform_from: the first epoch of those that are drawn from all samples alike.

    Raises:
        ArgumentError: If a value is outside its range.
    """

    always: np.ndarray
    others: np.ndarray
    probability: float
    uniform_from: int

    def __post_init__(self):
        check_number("coverage", self.probability, above=0, maximum=1)
        check_int("uniform_from", self.uniform_from, 0)

    @property
    def drawn(self) -> int:
        """Number of other samples in each epoch."""
        return min(len(self.others), max(1, round(self.probability * len(self.others))))

    @property
    def ids(self) -> np.ndarray:
        """All samples, sorted."""
        return np.sort(np.concatenate([self.always, self.others]))

    def __len__(self) -> int:
        """Number of samples in each epoch."""
        return len(self.always) + self.drawn

    def epoch_ids(self, seed: tuple[int, ...], epoch: int) -> np.ndarray:
        """Returns the samples of an epoch, distinct, int64 [len(self)].

        Args:
            seed: integers >= 0; the same seed and epoch return the same samples.
            epoch: its number, from 0.
        """
        key = [int(word) for word in derive_seed(seed, "coverage")]
        generator = np.random.default_rng([*key, epoch])
        if epoch >= self.uniform_from:
            return generator.choice(self.ids, len(self), replace=False)
        drawn = generator.choice(self.others, self.drawn, replace=False)
        return np.concatenate([self.always, drawn])

    def weights(self, epoch: int, num_samples: int) -> np.ndarray:
        """Returns the loss weight of each sample in an epoch, float32 [num_samples].

        Their mean over the presented samples is 1.

        Args:
            epoch: its number, from 0.
            num_samples: size of the data set that ids belong to.
        """
        weights = np.ones(num_samples, np.float32)
        if epoch < self.uniform_from:
            scale = len(self) / (len(self.always) + len(self.others))
            weights[self.always] = scale
            weights[self.others] = scale * len(self.others) / self.drawn
        return weights
