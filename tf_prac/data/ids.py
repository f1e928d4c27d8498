"""Sample ids in a `tf.data.Dataset`: add them, filter by them, split them.

An element is `({"inputs": x, "sample_id": id}, y[, sample_weight])` from the user's dataset to the
batches that `fit` takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_choice, check_int, check_number
from tf_prac.data.checks import check_id_vector
from tf_prac.data.order import on_cpu
from tf_prac.data.order_check import check_fixed_order
from tf_prac.errors import ArgumentError

UNBATCHED = "an unbatched tf.data.Dataset of (x, y) or (x, y, sample_weight)"
PADDING = -1  # the id of padding, in padded batches
MAX_SAMPLES = 2**30
_OPAQUE = ("FlatMap", "Interleave", "Window", "Variant")  # elements come from other datasets
WITH_IDS = 'an unbatched tf.data.Dataset of ({"inputs": x, "sample_id": id}, y[, sample_weight])'


def with_sample_ids(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Adds the position of each sample to its inputs as sample id.

    Call it before shuffling, batching and augmentation. `PracModel`, `ForgettingLogger` and
    `SampleSet.filter` then identify each sample in Keras's `fit` and in any order.

    Example:

        >>> dataset = tf.data.Dataset.from_tensor_slices(([[1.0], [2.0]], [0, 1]))
        >>> [int(x["sample_id"]) for x, y in with_sample_ids(dataset)]
        [0, 1]

    Args:
        dataset: unbatched elements (x, y) or (x, y, sample_weight), in the same order in every
            pass; the first 256 are read twice to check this.

    Returns:
        Unbatched elements ({"inputs": x, "sample_id": int64 scalar}, y[, sample_weight]).

    Raises:
        ArgumentError: If the elements are others, or batched.
        DataError: If two passes differ, as those over a shuffled dataset do.
    """
    spec = _element_spec(dataset, UNBATCHED)
    if isinstance(spec[0], dict) and "sample_id" in spec[0]:
        raise ArgumentError("dataset", describe_spec(spec), "a dataset without sample ids")
    if is_batched(dataset):
        raise ArgumentError(
            "dataset",
            describe_spec(spec),
            UNBATCHED,
            "Call this before shuffle() and batch().",
        )
    check_fixed_order(dataset)
    return dataset.enumerate().map(lambda i, e: ({"inputs": e[0], "sample_id": i}, *e[1:]))


def filter_ids(dataset: tf.data.Dataset, ids: Any) -> tf.data.Dataset:
    """Keeps the samples with the given ids, with known cardinality.

    Other samples are read and dropped. Decode and augment after the filter, so that they do not
    cost that time.

    Args:
        dataset: unbatched elements ({"inputs": x, "sample_id": id}, y[, sample_weight]).
        ids: ids to keep, int [n]; each is in the dataset once.

    Returns:
        The elements in the same order, with cardinality n.

    Raises:
        ArgumentError: If the dataset is batched or has no ids, or ids are not integers.
    """
    spec = _element_spec(dataset, WITH_IDS)
    if not has_ids(spec) or spec[0]["sample_id"].shape.rank != 0:
        remedy = "Add ids with tf_prac.with_sample_ids before batch()."
        raise ArgumentError("dataset", describe_spec(spec), WITH_IDS, remedy)
    check_id_spec(spec[0]["sample_id"].dtype, [], 0)
    array = np.unique(check_id_vector("ids", ids))
    if not array.size:
        return dataset.take(0)
    known = on_cpu(array)

    def is_kept(inputs: dict[str, tf.Tensor], *_: tf.Tensor) -> tf.Tensor:
        sample_id = tf.cast(inputs["sample_id"], tf.int64)
        position = tf.searchsorted(known, sample_id[None])[0]
        return known[tf.minimum(position, len(array) - 1)] == sample_id

    kept = dataset.filter(is_kept)
    return kept.apply(tf.data.experimental.assert_cardinality(len(array)))


def split_validation(
    count: int, *, fraction: float = 0.1, method: str = "seeded", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Holds out samples for validation, which are never in a training or PrAC set.

    Example:

        >>> train, validation = split_validation(10, fraction=0.2, method="last")
        >>> validation.tolist()
        [8, 9]

    Source: the PrAC paper holds out 10% of the training data; its official code, the last 10%.

    Args:
        count: number of samples.
        fraction: fraction held out, in [0, 1); `round(count * fraction)` samples. Default 0.1.
        method: "seeded" draws them at random, "last" takes the last ones. Default "seeded".
        seed: seed of the draw, >= 0. Default 0.

    Returns:
        Ids for training and ids for validation, int64, sorted and disjoint.

    Raises:
        ArgumentError: If a value is out of range, or leaves one of the two empty.
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
    """Whether elements have sample ids, as `with_sample_ids` adds them."""
    return isinstance(spec[0], dict) and set(spec[0]) == {"inputs", "sample_id"}


def check_id_spec(dtype: tf.DType, shape: tf.TensorShape, rank: int = 1) -> None:
    """Checks the type of sample ids: integers, which are not rounded, and one for each sample.

    Args:
        dtype: dtype of the ids.
        shape: shape of the ids.
        rank: 1 for batches, 0 for an unbatched dataset. Default 1.

    Raises:
        ArgumentError: If the ids are of another dtype or rank.
    """
    shape = tf.TensorShape(shape)
    if not dtype.is_integer or shape.rank not in (None, rank):
        remedy = "Number the samples with tf_prac.with_sample_ids(dataset)"
        raise ArgumentError(
            "sample_id",
            f"{dtype.name} of shape {tuple(shape)}" if shape.rank is not None else dtype.name,
            f"integers of shape {['()', '(batch,)'][rank]}",
            f"{remedy} before batch()." if rank else f"{remedy}.",
        )


def is_batched(dataset: tf.data.Dataset) -> bool:
    """Whether elements (x, y, ...) are batches, judged by the dataset's last transformations.

    Shapes alone do not tell: the label of one sample may have as many entries as its input has
    rows, as in segmentation. They decide where the transformations are not known, such as after
    `flat_map` or `from_generator`: elements are then batches if the first dimension of the labels
    is unknown, or that of the inputs.
    """
    x, y = dataset.element_spec[:2]
    inputs, labels = (tf.nest.flatten(part)[0].shape for part in (x, y))
    if not (inputs.rank and labels.rank and labels[0] in (None, inputs[0])):
        return False
    batched = _ends_with_batch(dataset)
    return True if batched is None else batched


def _ends_with_batch(dataset: Any) -> bool | None:
    """Whether `batch` comes after the source of elements; None if that cannot be found out."""
    while True:
        name = type(dataset).__name__
        if "Unbatch" in name or "TensorSlice" in name or name == "_RangeDataset":
            return False
        if "Batch" in name:
            return True
        inputs = dataset._inputs()
        if not inputs or any(kind in name for kind in _OPAQUE):
            return None
        dataset = inputs[0]


def _element_spec(dataset: Any, allowed: str) -> tuple[Any, ...]:
    if not isinstance(dataset, tf.data.Dataset):
        raise ArgumentError("dataset", type(dataset).__name__, allowed)
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ArgumentError("dataset", describe_spec(spec), allowed)
    return spec


def describe_spec(spec: Any) -> str:
    """Returns the dtypes and shapes of elements in one line, for errors."""
    shapes = tf.nest.map_structure(lambda part: f"{part.dtype.name}{part.shape}", spec)
    return f"elements {shapes}"
