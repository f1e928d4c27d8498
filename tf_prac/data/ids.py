"""Sample ids on a user's own `tf.data.Dataset`: adding them, filtering by them, splitting them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import check_choice, check_int, check_number
from tf_prac.data.order import on_cpu
from tf_prac.errors import ArgumentError

UNBATCHED = "an unbatched tf.data.Dataset of (x, y) or (x, y, sample_weight)"
WITH_IDS = 'an unbatched tf.data.Dataset of ({"inputs": x, "sample_id": id}, y[, sample_weight])'


def with_sample_ids(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Gives every sample its position as id, in a form that travels through Keras' `fit`.

    Call it before shuffling, batching and augmentation; then `PracModel`, `ForgettingLogger` and
    `PracSet.filter` know each sample wherever it goes.

    Example:

        >>> dataset = tf.data.Dataset.from_tensor_slices(([[1.0], [2.0]], [0, 1]))
        >>> [int(x["sample_id"]) for x, y in with_sample_ids(dataset)]
        [0, 1]

    Args:
        dataset: unbatched, of (x, y) or (x, y, sample_weight), with the same order in every pass.

    Returns:
        Unbatched, of ({"inputs": x, "sample_id": int64 scalar}, y[, sample_weight]).

    Raises:
        ArgumentError: not such a dataset, or it is batched.
    """
    spec = _element_spec(dataset, UNBATCHED)
    if isinstance(spec[0], dict) and "sample_id" in spec[0]:
        raise ArgumentError("dataset", brief(spec), "a dataset without sample ids")
    if looks_batched(spec[0], spec[1]):
        raise ArgumentError(
            "dataset", brief(spec), UNBATCHED, "Call this before batch(), or dataset.unbatch()."
        )
    return dataset.enumerate().map(lambda i, e: ({"inputs": e[0], "sample_id": i}, *e[1:]))


def filter_ids(dataset: tf.data.Dataset, ids: Any) -> tf.data.Dataset:
    """Keeps the samples with the given ids, and makes their number known.

    A sample that is dropped has been read, but what comes after the filter never sees it: decode
    and augment there.

    Args:
        dataset: unbatched, of ({"inputs": x, "sample_id": id}, y[, sample_weight]).
        ids: ids to keep, int [n]; each must be in the dataset once.

    Returns:
        The same elements in the same order, with cardinality n.

    Raises:
        ArgumentError: the dataset is batched or has no ids, or `ids` are no integers.
    """
    spec = _element_spec(dataset, WITH_IDS)
    if not has_ids(spec) or spec[0]["sample_id"].shape.rank != 0:
        remedy = "Add ids with tf_prac.with_sample_ids before batch()."
        raise ArgumentError("dataset", brief(spec), WITH_IDS, remedy)
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ArgumentError("ids", ids, "a vector of integer sample ids")
    array = np.unique(array.astype(np.int64))
    if not array.size:
        return dataset.take(0)
    known = on_cpu(array)

    def is_kept(inputs: dict[str, tf.Tensor], *_: tf.Tensor) -> tf.Tensor:
        sample_id = tf.cast(inputs["sample_id"], tf.int64)
        place = tf.searchsorted(known, sample_id[None])[0]
        return known[tf.minimum(place, len(array) - 1)] == sample_id

    kept = dataset.filter(is_kept)
    return kept.apply(tf.data.experimental.assert_cardinality(len(array)))


def split_validation(
    count: int, *, fraction: float = 0.1, method: str = "seeded", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Holds out samples for validation; they never enter a training or PrAC set.

    Example:

        >>> train, validation = split_validation(10, fraction=0.2, method="last")
        >>> validation.tolist()
        [8, 9]

    Source: the PrAC paper holds out 10% of the training data; its official code takes the last.

    Args:
        count: number of samples.
        fraction: part held out, in [0, 1); `round(count * fraction)` samples. Default 0.1.
        method: "seeded" draws them at random, "last" takes the end of the data. Default "seeded".
        seed: seed of the draw, >= 0. Default 0.

    Returns:
        Ids for training and ids for validation, int64, sorted and disjoint.

    Raises:
        ArgumentError: a value that is not allowed, or one that leaves a part empty.
    """
    check_int("count", count, 1)
    check_number("fraction", fraction, minimum=0, below=1)
    check_choice("method", method, ("seeded", "last"))
    check_int("seed", seed, 0)
    held_out = round(count * fraction)
    if held_out == count or (fraction and not held_out):
        raise ArgumentError(
            "fraction",
            fraction,
            f"a part that leaves samples on both sides ({held_out} of {count} held out)",
        )
    order = np.arange(count)
    if method == "seeded":
        order = np.random.default_rng([seed, *b"validation"]).permutation(count)
    return np.sort(order[: count - held_out]), np.sort(order[count - held_out :])


def has_ids(spec: Any) -> bool:
    """Whether elements carry sample ids, as `with_sample_ids` adds them."""
    return isinstance(spec[0], dict) and set(spec[0]) == {"inputs", "sample_id"}


def looks_batched(x: Any, y: Any) -> bool:
    """Whether labels have an unknown leading dimension, or the same one as the inputs."""
    inputs, labels = (tf.nest.flatten(part)[0].shape for part in (x, y))
    return bool(inputs.rank and labels.rank) and labels[0] in (None, inputs[0])


def _element_spec(dataset: Any, allowed: str) -> tuple[Any, ...]:
    if not isinstance(dataset, tf.data.Dataset):
        raise ArgumentError("dataset", type(dataset).__name__, allowed)
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ArgumentError("dataset", brief(spec), allowed)
    return spec


def brief(spec: Any) -> str:
    """Returns the dtypes and shapes of elements in a line, for what an error says was received."""
    shapes = tf.nest.map_structure(lambda part: f"{part.dtype.name}{part.shape}", spec)
    return f"elements {shapes}"
