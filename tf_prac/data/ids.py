"""Sample ids in a `tf.data.Dataset`: add them, filter by them, split them; batched or not.

An element is `({"inputs": x, "sample_id": id}, y[, sample_weight])` from the user's dataset to the
batches that `fit` takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_choice, check_int, check_number
from tf_prac.data.adapters import Adapted, adapt
from tf_prac.data.checks import MEMORY_LIMIT_BYTES, NAMED_LABELS, check_id_vector
from tf_prac.data.numbering import (
    before_shuffle,
    by_content,
    by_position,
    changes_order,
    warn_about_content_ids,
)
from tf_prac.data.order import on_cpu
from tf_prac.data.reading import read_errors
from tf_prac.errors import ArgumentError, DataError

ELEMENTS = "a finite tf.data.Dataset of (x, y) or (x, y, sample_weight)"
PADDING = -1  # the id of padding, in padded batches
MAX_SAMPLES = 2**30
_OPAQUE = ("FlatMap", "Interleave", "Window", "Variant")  # elements come from other datasets
WITH_IDS = 'a tf.data.Dataset of ({"inputs": x, "sample_id": id}, y[, sample_weight])'


def with_sample_ids(data: Any) -> tf.data.Dataset:
    """Adds a sample id to the inputs of each sample: its position.

    `PracModel`, `ForgettingLogger` and `SampleSet.filter` then identify each sample in Keras's
    `fit` and in any order: shuffle, batch and augment after this call.

    Data that is shuffled already is accepted too. If only `batch` and `prefetch` come after the
    shuffle, ids are positions before it. Otherwise they are positions in an order of the samples'
    content, which is the same for every shuffle; a warning says so.

    Example:

        >>> dataset = tf.data.Dataset.from_tensor_slices(([[1.0], [2.0]], [0, 1]))
        >>> [int(x["sample_id"]) for x, y in with_sample_ids(dataset)]
        [0, 1]

    Args:
        data: a `tf.data.Dataset` of (x, y) or (x, y, sample_weight), or other data that
            `tf_prac.data.as_samples` takes. The first 256 samples of a dataset are read twice to
            see whether the order is fixed.

    Returns:
        Elements ({"inputs": x, "sample_id": int64 scalar}, y[, sample_weight]); batches of the same
        size if `data` has batches.

    Raises:
        ArgumentError: If the data is of another kind, infinite, or has ids already.
        DataError: If two passes have different samples.
    """
    adapted = adapt(data, "dataset", MEMORY_LIMIT_BYTES)
    dataset = adapted.dataset()
    if has_ids(check_elements(dataset)):
        raise ArgumentError(
            "dataset", describe_spec(dataset.element_spec), "a dataset without sample ids"
        )
    return identified(adapted, keep_batches=True, stacklevel=3)


def identified(
    adapted: Adapted,
    name: str = "dataset",
    *,
    check_order: bool = True,
    keep_batches: bool = False,
    stacklevel: int = 0,
) -> tf.data.Dataset:
    """Returns elements with ids: the ids they have, positions, or ranks of the content.

    Args:
        adapted: the data; a dataset may be batched.
        name: name of the data, for errors.
        check_order: whether the order may differ between passes. Default True.
        keep_batches: whether batches stay batches. Default False: they become samples.
        stacklevel: the caller that is warned if ids are ranks of the content. Default 0: none.

    Raises:
        ArgumentError: If the elements are not (x, y) or (x, y, sample_weight), or infinite.
        DataError: If two passes have different samples.
    """
    dataset = adapted.dataset()
    has_own_ids = has_ids(check_elements(dataset))
    is_kept = keep_batches and is_batched(dataset)
    samples = dataset if is_kept and has_own_ids else unbatched(dataset)
    if has_own_ids:
        return samples
    _check_no_repeat(dataset, name)
    shuffled = adapted.shuffled
    if shuffled is None and check_order and isinstance(adapted.data, tf.data.Dataset):
        shuffled = changes_order(samples, name)
    if not shuffled:
        return by_position(dataset, batched=True) if is_kept else by_position(samples)
    in_order = before_shuffle(dataset)
    samples = by_content(samples, name, None if in_order is None else unbatched(in_order))
    if stacklevel and in_order is None:
        warn_about_content_ids(name, stacklevel + 1)
    return samples.batch(batch_size_of(dataset)) if is_kept else samples


def filter_ids(dataset: tf.data.Dataset, ids: Any) -> tf.data.Dataset:
    """Keeps the samples with the given ids, with known cardinality.

    Other samples are read and dropped. Decode and augment after the filter, so that they do not
    cost that time.

    Example:

        >>> dataset = tf.data.Dataset.from_tensor_slices((np.eye(4), np.arange(4)))
        >>> kept = filter_ids(with_sample_ids(dataset), [0, 3])
        >>> [int(y) for _, y in kept]
        [0, 3]

    Args:
        dataset: elements ({"inputs": x, "sample_id": id}, y[, sample_weight]), batched or not.
        ids: ids to keep, int [n]; each is in the dataset once.

    Returns:
        The samples in the same order, n in all; in batches of the same size if `dataset` has
        batches.

    Raises:
        ArgumentError: If the dataset has no ids, or ids are not integers.
    """
    if not has_ids(check_elements(dataset, WITH_IDS)):
        remedy = "Add ids with tf_prac.with_sample_ids."
        raise ArgumentError("dataset", describe_spec(dataset.element_spec), WITH_IDS, remedy)
    sample_id = dataset.element_spec[0]["sample_id"]
    check_id_spec(sample_id.dtype, sample_id.shape, int(is_batched(dataset)))
    array = np.unique(check_id_vector("ids", ids))
    if not array.size:
        return dataset.take(0)
    known = on_cpu(array)

    def is_kept(inputs: dict[str, tf.Tensor], *_: tf.Tensor) -> tf.Tensor:
        sample_id = tf.cast(inputs["sample_id"], tf.int64)
        position = tf.searchsorted(known, sample_id[None])[0]
        return known[tf.minimum(position, len(array) - 1)] == sample_id

    def keep(samples: tf.data.Dataset) -> tf.data.Dataset:
        count = tf.data.experimental.assert_cardinality(len(array))
        return samples.filter(is_kept).apply(count)

    return per_sample(dataset, keep)


def without_ids(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns elements (x, y, ...) of a dataset with ids, in the same order, as any model takes."""
    return dataset.map(lambda x, *rest: (x["inputs"], *rest), num_parallel_calls=tf.data.AUTOTUNE)


def per_sample(
    dataset: tf.data.Dataset, change: Callable[[tf.data.Dataset], tf.data.Dataset]
) -> tf.data.Dataset:
    """Changes the samples of a dataset; batches are then formed again."""
    if not is_batched(dataset):
        return change(dataset)
    return change(dataset.unbatch()).batch(batch_size_of(dataset))


def unbatched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the samples of a dataset that may be batched."""
    return dataset.unbatch() if is_batched(dataset) else dataset


def batch_size_of(dataset: tf.data.Dataset) -> int:
    """Returns the size of the batches; one of the first two may be smaller."""
    size = tf.nest.flatten(dataset.element_spec)[0].shape[0]
    if size is not None:
        return size
    with read_errors("dataset"):
        return max([1, *(len(tf.nest.flatten(batch)[0]) for batch in dataset.take(2))])


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
    is unknown, or that of the inputs. With sample ids, their rank decides.
    """
    spec = dataset.element_spec
    if has_ids(spec):
        is_possible = bool(spec[0]["sample_id"].shape.rank)
    else:
        inputs, labels = (tf.nest.flatten(part)[0].shape for part in spec[:2])
        is_possible = inputs.rank and labels.rank and labels[0] in (None, inputs[0])
    return bool(is_possible) and _ends_with_batch(dataset) is not False


def _ends_with_batch(dataset: Any) -> bool | None:
    """Whether `batch` comes after the source of elements; None if that cannot be found out."""
    while True:
        name = type(dataset).__name__
        if "Unbatch" in name or "TensorSlice" in name or name == "_RangeDataset":
            return False
        if "batch" in name.lower():  # also `_RebatchDataset`
            return True
        inputs = dataset._inputs()
        if not inputs or any(kind in name for kind in _OPAQUE):
            return None
        dataset = inputs[0]


def _check_no_repeat(dataset: Any, name: str) -> None:
    """Raises `ArgumentError` if `repeat` is among the last transformations of a dataset.

    Each copy of a sample would have its own id, and could be in another split.
    """
    while len(inputs := dataset._inputs()) == 1:
        if "Repeat" in type(dataset).__name__ and (count := int(dataset._count)) != 1:
            received = f"repeat({'' if count < 0 else count})"
            allowed = "a dataset that has each sample once"
            remedy = "Call repeat() after tf_prac.with_sample_ids, or not at all."
            raise ArgumentError(name, received, allowed, remedy)
        (dataset,) = inputs


def check_elements(dataset: Any, allowed: str = ELEMENTS) -> tuple[Any, ...]:
    """Returns the element spec of a finite dataset of (x, y) or (x, y, sample_weight).

    Raises:
        ArgumentError: If the dataset is infinite, or has other elements.
        DataError: If labels are strings.
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise ArgumentError("dataset", type(dataset).__name__, allowed)
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        remedy = "Call repeat() later, or not at all."
        raise ArgumentError("dataset", "an infinite dataset", allowed, remedy)
    spec = dataset.element_spec
    if isinstance(spec, tuple) and len(spec) in (2, 3):
        if any(getattr(part, "dtype", None) == tf.string for part in tf.nest.flatten(spec[1])):
            raise DataError(f"labels: strings received; allowed: numbers. {NAMED_LABELS}")
        return spec
    remedy = "Elements have no labels."
    if isinstance(spec, dict):
        x = next((name for name in spec if name not in ("id", "label")), "x")
        remedy = f"Map them, as in dataset.map(lambda e: (e[{x!r}], e['label']))"
        remedy += ", or load a TFDS data set with as_supervised=True."
    raise ArgumentError("dataset", describe_spec(spec), allowed, remedy)


def describe_spec(spec: Any) -> str:
    """Returns the dtypes and shapes of elements in one line, for errors."""
    shapes = tf.nest.map_structure(lambda part: f"{part.dtype.name}{part.shape}", spec)
    return f"elements {shapes}"
