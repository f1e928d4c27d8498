"""The first pass over a `tf.data.Dataset`: its checks, labels, ids, hash and elements."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.ids import brief, has_ids, looks_batched
from tf_prac.errors import ArgumentError, DataError

ALLOWED = 'an unbatched tf.data.Dataset of (x, y), or of ({"inputs": x, "sample_id": id}, y)'
_BATCH = 512
_DIGEST_BYTES = 16
_NOISE = re.compile(r"\{\{.*?\}\}\s*|\s*\[Op:.*")  # node names around TensorFlow's messages


@dataclasses.dataclass(frozen=True)
class Scan:
    """What a first pass learned; arrays other than `read_order` are in the order of the ids.

    Attributes:
        labels: int64 [N].
        sizes: bytes of each element, int64 [N].
        digests: hash of each element and its label, 16 bytes each, [N].
        read_order: the ids as they came, int64 [N].
        elements: the elements, bytes or numbers [N, ...]; None when larger than the limit.
    """

    labels: np.ndarray
    sizes: np.ndarray
    digests: np.ndarray
    read_order: np.ndarray
    elements: np.ndarray | None

    def order_hash(self) -> str:
        """SHA-256 over the elements and labels in the order of the ids, in hexadecimal."""
        return hashlib.sha256(self.digests.tobytes()).hexdigest()


def numbered(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the elements as (id int64, x, y int64), ids being positions unless there are ids.

    Raises:
        ArgumentError: not such a dataset, a batched or an endless one.
        DataError: labels are not class numbers.
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise ArgumentError("data", brief(spec), ALLOWED)
    with_ids = has_ids(spec)
    x, y = (spec[0]["inputs"] if with_ids else spec[0]), spec[1]
    if not isinstance(x, tf.TensorSpec) or not isinstance(y, tf.TensorSpec):
        raise ArgumentError("data", brief(spec), ALLOWED)
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ArgumentError("data", "a dataset that repeats for ever", "a finite dataset")
    _check_label(spec, x, y)
    if with_ids:
        pairs = dataset.map(lambda part, label: (part["sample_id"], (part["inputs"], label)))
    else:
        pairs = dataset.enumerate()
    options = tf.data.Options()
    options.deterministic = True

    def number(i: tf.Tensor, pair: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        return tf.cast(i, tf.int64), pair[0], tf.reshape(tf.cast(pair[1], tf.int64), [])

    return pairs.map(number).with_options(options)


def packed(elements: tf.data.Dataset) -> tf.data.Dataset:
    """Returns (id, x, y) with x as one string: itself, or serialised when it is a tensor."""

    def pack(i: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, ...]:
        if x.dtype.is_floating:
            x = tf.debugging.check_numerics(x, "inputs must be finite")
        return i, x if is_string(x) else tf.io.serialize_tensor(x), y

    return elements.map(pack)


def unpack(element: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Returns the x that `packed` made one string of."""
    if is_string(spec):
        return element
    return tf.ensure_shape(tf.io.parse_tensor(element, spec.dtype), spec.shape)


def is_string(x: tf.Tensor | tf.TensorSpec) -> bool:
    """Whether x is one string, such as an encoded image."""
    return x.dtype == tf.string and x.shape.rank == 0


def first_element(elements: tf.data.Dataset, name: str) -> tuple[tf.Tensor, ...]:
    """Returns the first element; raises `DataError` when there is none."""
    with naming(name):
        for element in elements.take(1):
            return element
    raise DataError(f"{name}: no samples received; allowed: at least one.")


def load(
    elements: tf.data.Dataset, name: str, limit: int, *, check_order: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Reads the whole of (id, x, y) into arrays (x, y) in the order of the ids.

    Returns:
        None when x is an encoded string, or all x together have more than `limit` bytes.
    """
    spec = elements.element_spec[1]
    if is_string(spec):
        return None
    if not spec.shape.is_fully_defined():
        shape = first_element(elements, name)[1].shape
        elements = elements.map(lambda i, x, y: (i, tf.ensure_shape(x, shape), y))
        spec = elements.element_spec[1]
    if int(elements.cardinality()) * math.prod(spec.shape) * spec.dtype.size > limit:
        return None
    found = scan(elements, name, limit)
    if found.elements is None:
        return None
    if check_order:
        same_order(elements, name, found)
    return found.elements, found.labels


def scan(elements: tf.data.Dataset, name: str, limit: int) -> Scan:
    """Reads (id, x, y) once; x is a string or of one shape, of which `limit` bytes are kept.

    Raises:
        DataError: unreadable, no samples, or ids that are not 0 to N - 1.
    """
    kept: list[np.ndarray] = []
    columns: list[tuple[np.ndarray, ...]] = []
    total = 0
    for ids, x, labels in _batches(elements, name):
        sizes, digests = _measure(x, labels)
        columns.append((ids, labels, sizes, digests))
        total += int(sizes.sum())
        kept.append(x)
        if total > limit:
            kept.clear()
    if not columns:
        raise DataError(f"{name}: no samples received; allowed: at least one.")
    ids, labels, sizes, digests = (np.concatenate(part) for part in zip(*columns, strict=True))
    order = _order_of(ids, name)
    held = np.concatenate(kept)[order] if total <= limit else None
    return Scan(labels[order], sizes[order], digests[order], ids, held)


def same_order(elements: tf.data.Dataset, name: str, found: Scan) -> bool:
    """Reads a second time; returns whether the samples come in the same order.

    Raises:
        DataError: a sample has another id this time.
    """
    again = [(ids, _measure(x, labels)[1]) for ids, x, labels in _batches(elements, name)]
    ids = np.concatenate([found.read_order[:0], *(part for part, _ in again)])
    digests = np.concatenate([found.digests[:0], *(part for _, part in again)])
    if not np.array_equal(digests[_order_of(ids, name)], found.digests):
        raise DataError(
            f"{name}: two passes over the data differ; allowed: the same samples in the same "
            "order in every pass, or with sample ids. Do not shuffle or augment before this, "
            "or call tf_prac.with_sample_ids before shuffling."
        )
    return np.array_equal(ids, found.read_order)


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Turns an error of TensorFlow while reading into a `DataError` of one line."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = _NOISE.sub("", error.message.strip().splitlines()[0])
        raise DataError(f"{name}: cannot be read: {reason}") from error


def _batches(elements: tf.data.Dataset, name: str) -> Iterator[tuple[np.ndarray, ...]]:
    with naming(name):
        yield from elements.batch(_BATCH).prefetch(2).as_numpy_iterator()


def _measure(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = x if x.dtype == object else [row.tobytes() for row in x]
    sizes = np.array([len(row) for row in rows], np.int64)
    digests = [
        hashlib.blake2b(row, digest_size=_DIGEST_BYTES, key=label.tobytes()).digest()
        for row, label in zip(rows, labels, strict=True)
    ]
    return sizes, np.array(digests, f"V{_DIGEST_BYTES}")


def _order_of(ids: np.ndarray, name: str) -> np.ndarray:
    """Returns the argsort of ids that are 0 to N - 1 in any order."""
    order = np.argsort(ids)
    if not np.array_equal(ids[order], np.arange(len(ids))):
        twice = len(np.unique(ids)) < len(ids)
        problem = "some are there twice" if twice else f"from {ids.min()} to {ids.max()}"
        raise DataError(
            f"{name}: sample ids of {len(ids)} samples: {problem}; "
            f"allowed: 0 to {len(ids) - 1}, each once."
        )
    return order


def _check_label(spec: Any, x: tf.TensorSpec, y: tf.TensorSpec) -> None:
    single = y.shape.rank == 0 or (y.shape == (1,) and x.shape.rank and x.shape[0] not in (1, None))
    if not single:
        if y.shape.rank is None:
            remedy = "The labels have no known shape: give output_signature to from_generator."
        elif looks_batched(x, y):
            remedy = "It is batched: give dataset.unbatch()."
        else:
            remedy = "Turn one-hot labels into class numbers with tf.argmax(y, axis=-1)."
        raise ArgumentError("data", brief(spec), f"{ALLOWED}, y a class number", remedy)
    if not y.dtype.is_integer:
        raise DataError(
            f"labels: dtype {y.dtype.name} received; allowed: integer class numbers. "
            "Convert them with tf.cast(y, tf.int64)."
        )
