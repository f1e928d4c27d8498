"""`DataSplits`: the training, validation and test samples of a search."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tf_prac.config import TrainingRecipe
from tf_prac.data.ids import split_validation
from tf_prac.data.samples import as_samples
from tf_prac.data.source import Samples
from tf_prac.errors import ArgumentError, DataError


class Split(NamedTuple):
    """Some samples of a data set.

    Attributes:
        samples: the data set.
        ids: the ids of the split, int64, sorted.
    """

    samples: Samples
    ids: np.ndarray

    @property
    def labels(self) -> Any:
        """The labels of the split, [len(ids), ...]: int64 [len(ids)] for class numbers."""
        return rows_of(self.samples.labels, self.ids)


def rows_of(values: Any, ids: np.ndarray) -> Any:
    """Returns the rows `ids` of an array, or of each array of a dictionary."""
    if isinstance(values, dict):
        return {name: value[ids] for name, value in values.items()}
    return values[ids]


class DataSplits(NamedTuple):
    """The splits of a search; validation and test samples are never trained on."""

    train: Split
    validation: Split | None
    test: Split | None


def make_splits(
    train: Any, validation: Any, test: Any, recipe: TrainingRecipe, seed: int
) -> DataSplits:
    """Returns the user's data as splits; by default, validation samples are held out of `train`.

    Args:
        train: anything `as_samples` takes.
        validation: the same, or None to hold out `recipe.validation_split` of `train`.
        test: the same, or None.
        recipe: `validation_split` and `split` set how many samples are held out, and which.
        seed: seed of a "seeded" split.

    Raises:
        ArgumentError, DataError: If the data cannot be trained on, or splits number the classes
            differently.
    """
    train_split = full_split(train)
    with names_split("test"):
        test_split = None if test is None else full_split(test)
    with names_split("validation"):
        held_out = None if validation is None else full_split(validation)
    for name, split in (("validation", held_out), ("test", test_split)):
        _check_classes(train_split, split, name)
    if held_out is not None:
        return DataSplits(train_split, held_out, test_split)
    if recipe.validation_split == 0:
        return DataSplits(train_split, None, test_split)
    samples, count = train_split.samples, len(train_split.ids)
    if not 0 < round(count * recipe.validation_split) < count:
        received = f"{recipe.validation_split}, {count} training samples"
        remedy = "Set it to 0 to search without validation, or pass validation samples."
        allowed = "a fraction that leaves samples on both sides"
        raise ArgumentError("validation_split", received, allowed, remedy)
    train_ids, validation_ids = split_validation(
        len(samples), fraction=recipe.validation_split, method=recipe.split, seed=seed
    )
    return DataSplits(Split(samples, train_ids), Split(samples, validation_ids), test_split)


@contextlib.contextmanager
def names_split(name: str) -> Iterator[None]:
    """Puts the name of a split before the message of errors about its data, and keeps their class.

    Args:
        name: of the split.

    Raises:
        DataError, ArgumentError: Those that are raised inside the context.
    """
    try:
        yield
    except DataError as error:
        error.args = (f"{name}: {error}",)
        raise
    except ArgumentError as error:
        argument = name if error.argument == "data" else f"{name}: {error.argument}"
        ArgumentError.__init__(error, argument, error.received, error.allowed, error.remedy)
        raise


def _check_classes(train: Split, split: Split | None, name: str) -> None:
    """Raises `DataError` if class numbers have other names than in the training set."""
    ours, theirs = train.samples.classes, None if split is None else split.samples.classes
    if ours is not None and theirs is not None and ours != theirs:
        raise DataError(
            f"{name}: classes {', '.join(theirs)} received; allowed: those of the training set in "
            f"the same order: {', '.join(ours)}."
        )


def full_split(data: Any) -> Split:
    """Returns all samples of anything that `as_samples` takes."""
    samples = as_samples(data)
    return Split(samples, np.arange(len(samples), dtype=np.int64))
