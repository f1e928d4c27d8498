"""`SearchData`: which samples a search trains, validates and tests on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tf_prac.config import TrainingRecipe
from tf_prac.data.samples import Samples, as_samples, split_validation


class Subset(NamedTuple):
    """Some samples of a data set: `ids` are positions in it, int64, sorted."""

    samples: Samples
    ids: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The classes of the samples, int64 [len(ids)]."""
        return self.samples.labels[self.ids]


class SearchData(NamedTuple):
    """The three subsets of a search. Validation and test samples never enter training."""

    train: Subset
    validation: Subset | None
    test: Subset | None


def prepare(
    train: Any, validation: Any, test: Any, recipe: TrainingRecipe, seed: int
) -> SearchData:
    """Reads what the user gave, and holds out validation samples if none were given.

    Args:
        train: anything `as_samples` takes.
        validation: the same, or None to hold out `recipe.validation_split` of `train`.
        test: the same, or None.
        recipe: says how much is held out, and how.
        seed: seed of a "seeded" split.

    Raises:
        ArgumentError, DataError: the data cannot be trained on.
    """
    everything = whole(train)
    tested = None if test is None else whole(test)
    if validation is not None:
        return SearchData(everything, whole(validation), tested)
    if recipe.validation_split == 0:
        return SearchData(everything, None, tested)
    samples = everything.samples
    train_ids, validation_ids = split_validation(
        len(samples), fraction=recipe.validation_split, method=recipe.split, seed=seed
    )
    return SearchData(Subset(samples, train_ids), Subset(samples, validation_ids), tested)


def whole(data: Any) -> Subset:
    """Returns all samples of anything that `as_samples` takes."""
    samples = as_samples(data)
    return Subset(samples, np.arange(len(samples), dtype=np.int64))
