"""Which id each sample of a `tf.data.Dataset` has: its position, or the rank of its content."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.order import on_cpu, with_cardinality, without_autotune
from tf_prac.data.reading import read_errors
from tf_prac.errors import DataError

CHECKED = 256  # elements at the start, of which two passes are compared
_BATCH = 512
_HASHES = 2**62
_SAME_SAMPLES = (
    *("ShuffleDataset", "BatchDataset", "ParallelBatchDataset", "UnbatchDataset"),
    *("PrefetchDataset", "OptionsDataset"),
)
"""Transformations that change only the order of samples, or how many are read together."""


def changes_order(dataset: tf.data.Dataset, name: str) -> bool:
    """Whether the order differs between passes, by the transformations and the first 256 samples.

    Random augmentation also changes elements, but not the order: passes whose labels agree have the
    same order, unless all labels are equal.

    Args:
        dataset: unbatched, finite elements (x, y) or (x, y, sample_weight).
        name: name of the data, for errors.

    Raises:
        DataError: If the passes differ in length.
    """
    return tf.executing_eagerly() and (reshuffles(dataset) or not _starts_alike(dataset, name))


def by_position(dataset: tf.data.Dataset, batched: bool = False) -> tf.data.Dataset:
    """Adds the position of each sample as its id, to samples or batches of them."""
    if not batched:
        return dataset.enumerate().map(lambda i, e: ({"inputs": e[0], "sample_id": i}, *e[1:]))

    def add_ids(start: tf.Tensor, batch: Any) -> tuple[tf.Tensor, Any]:
        count = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]
        ids = tf.range(start, start + count)
        ids.set_shape(tf.nest.flatten(batch)[0].shape[:1])
        return start + count, ({"inputs": batch[0], "sample_id": ids}, *batch[1:])

    return dataset.scan(np.int64(0), add_ids)


def by_content(
    dataset: tf.data.Dataset, name: str, in_order: tf.data.Dataset | None = None
) -> tf.data.Dataset:
    """Adds an id to each sample, found by its content; the order stays that of the dataset.

    The id is the position in `in_order`. Without it, samples are ranked by a hash of inputs, labels
    and weights, so that ids are the same for every shuffle. Equal samples are interchangeable.
    Reads the dataset twice; later passes fail at a sample that these did not have.

    Args:
        dataset: unbatched elements (x, y) or (x, y, sample_weight).
        name: name of the data, for errors.
        in_order: the same samples in an order that is the same in each pass. Default None.

    Raises:
        DataError: If the two passes have different samples.
    """
    hashes = content_hashes(dataset if in_order is None else in_order, name)
    check_same_samples(hashes, content_hashes(dataset, name), name)
    values, counts = np.unique(hashes, return_counts=True)
    known, first_ranks = on_cpu(values), on_cpu(np.cumsum(counts) - counts)
    by_rank = np.arange(len(hashes)) if in_order is None else np.argsort(hashes, kind="stable")
    id_of = on_cpu(by_rank.astype(np.int64))
    message = f"{name}: a sample that is in no earlier pass. {_REMEDY}"

    def index_of(element: Any) -> tf.Tensor:
        content = content_hash(element)
        index = tf.minimum(tf.searchsorted(known, content[None])[0], len(values) - 1)
        with tf.control_dependencies([tf.debugging.assert_equal(known[index], content, message)]):
            return tf.identity(index)

    def with_id(element: Any, rank: tf.Tensor) -> Any:
        return {"inputs": element[0], "sample_id": id_of[rank]}, *element[1:]

    if counts.max() == 1:
        result = dataset.map(lambda *element: with_id(element, first_ranks[index_of(element)]))
        return with_cardinality(result, len(hashes))
    repeats = on_cpu(np.where(counts > 1, np.cumsum(counts > 1) - 1, -1))

    def count(seen: tf.Tensor, element: Any) -> tuple[tf.Tensor, Any]:
        """Counts how often contents that are in the data several times were in this pass."""
        index = index_of(element)
        is_repeated = tf.cast(repeats[index] >= 0, tf.int64)
        row = tf.maximum(repeats[index], 0)
        rank = first_ranks[index] + is_repeated * seen[row]
        return tf.tensor_scatter_nd_add(seen, [[row]], [is_repeated]), with_id(element, rank)

    nothing_seen = np.zeros(np.count_nonzero(counts > 1), np.int64)
    return with_cardinality(dataset.scan(nothing_seen, count), len(hashes))


def content_hash(element: Any) -> tf.Tensor:
    """Returns a hash of one element, int64 in [0, 2**62), the same in every process."""
    parts = tf.nest.flatten(element, expand_composites=True)
    text = tf.strings.join([tf.io.serialize_tensor(part) for part in parts])
    return tf.strings.to_hash_bucket_fast(text, _HASHES)


def content_hashes(dataset: tf.data.Dataset, name: str) -> np.ndarray:
    """Reads unbatched elements once, and returns the hash of each, int64 [N]."""
    hashes = dataset.map(lambda *element: content_hash(element), num_parallel_calls=2)
    with read_errors(name):
        parts = list(without_autotune(hashes.batch(_BATCH)).as_numpy_iterator())
    if not parts:
        raise DataError(f"{name}: no samples received; allowed: at least one.")
    return np.concatenate(parts)


def check_same_samples(first: np.ndarray, second: np.ndarray, name: str) -> None:
    """Raises `DataError` unless two passes have the same hashes, in any order."""
    if not np.array_equal(np.sort(first), np.sort(second)):
        raise differing_passes(name)


_REMEDY = (
    "Random augmentation inside the pipeline changes the samples: apply it in the model, or after "
    "tf_prac.with_sample_ids. Data that is read from an iterator is empty in the second pass: pass "
    "the function that returns the iterator."
)


def differing_passes(name: str) -> DataError:
    """Returns the error for data with other samples in each pass, or with other ids."""
    return DataError(
        f"{name}: two passes over the data differ; allowed: the same samples in every pass, with "
        f"the same ids if they have ids. {_REMEDY}"
    )


def passes_needed(elements: int) -> int:
    """Returns how many equal passes show that `elements` elements are not shuffled.

    A shuffle repeats the order of the first pass by chance with probability 1/elements!; the
    returned number makes that less than 1e-6.
    """
    if elements < 2:
        return 1
    return math.ceil(6 * math.log(10) / math.lgamma(elements + 1))


def is_shuffled(
    first: np.ndarray, read_again: Callable[[], np.ndarray], elements: int, name: str
) -> bool:
    """Whether the order of the samples differs between passes.

    Args:
        first: the hash of each sample in the first pass, int64 [N].
        read_again: reads the data again, and returns the hashes.
        elements: number of elements that a shuffle would exchange.
        name: name of the data, for errors.

    Raises:
        DataError: If the passes have different samples.
    """
    for _ in range(passes_needed(elements)):
        again = read_again()
        check_same_samples(first, again, name)
        if not np.array_equal(first, again):
            return True
    return False


def reshuffles(dataset: Any) -> bool:
    """Whether transformations shuffle in another order in each pass, as `shuffle` does."""
    kind = type(dataset).__name__
    if "Cache" in kind:
        return False
    if "Shuffle" in kind and getattr(dataset, "_reshuffle_each_iteration", None) is not False:
        return True
    return any(map(reshuffles, dataset._inputs()))


def before_shuffle(dataset: Any) -> tf.data.Dataset | None:
    """Returns the same samples in the order before they are shuffled, or None if it is not known.

    It is known if only batching and prefetching come after a `shuffle`, and if what comes before
    has a fixed order.
    """
    is_shuffled = False
    while (kind := type(dataset).__name__.strip("_")) in _SAME_SAMPLES:
        is_shuffled |= kind == "ShuffleDataset"
        (dataset,) = dataset._inputs()
    return dataset if is_shuffled and not reshuffles(dataset) else None


def warn_about_content_ids(name: str, stacklevel: int) -> None:
    """Warns that ids of shuffled data are not positions."""
    warnings.warn(
        f"{name}: shuffled in each pass, so sample ids are no positions: they number the samples "
        "in an order of their content. tf_prac.data.as_samples(data).inputs(ids) returns samples "
        "by id. Shuffle after tf_prac.with_sample_ids to have positions as ids.",
        stacklevel=stacklevel + 1,
    )


def _starts_alike(dataset: tf.data.Dataset, name: str) -> bool:
    """Whether passes begin with the same order of samples."""
    first = _digests(dataset.take(CHECKED))
    for _ in range(passes_needed(len(first))):
        again = _digests(dataset.take(CHECKED))
        if len(again) != len(first):
            raise differing_passes(name)
        if not _same_order(first, again):
            return False
    return True


def _same_order(first: list[tuple[bytes, bytes]], second: list[tuple[bytes, bytes]]) -> bool:
    labels = [label for _, label in first]
    alike = labels == [label for _, label in second] and len(set(labels)) > 1
    return first == second or alike


def _digests(elements: tf.data.Dataset) -> list[tuple[bytes, bytes]]:
    """Returns hashes of the inputs and of the labels of each element."""
    return [(_digest(x), _digest(y)) for x, y, *_ in elements]


def _digest(part: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for leaf in tf.nest.flatten(part, expand_composites=True):
        array = leaf.numpy()
        is_text = isinstance(array, bytes) or array.dtype == object
        digest.update(repr(array if is_text else array.shape).encode())
        digest.update(b"" if is_text else array.tobytes())
    return digest.digest()
