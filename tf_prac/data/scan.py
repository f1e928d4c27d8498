"""The first pass over a `tf.data.Dataset`: checks it, and reads labels, ids, a hash and inputs."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.adapters import Adapted
from tf_prac.data.ids import check_id_spec, describe_spec, identified
from tf_prac.data.numbering import differing_passes
from tf_prac.data.reading import read_errors
from tf_prac.errors import ArgumentError, DataError

ALLOWED = "(x, y) with a dense tensor x and a class number y, to read data that is not in memory"
OTHER_LABELS = (
    "tf_prac.data.as_samples takes other labels, several inputs and sample weights, if the data "
    "fits into memory."
)
_BATCH = 512
_DIGEST_BYTES = 16


@dataclasses.dataclass(frozen=True)
class Scan:
    """The result of a pass; all arrays except `read_order` are in the order of the ids.

    Attributes:
        labels: int64 [N].
        sizes: bytes of the inputs of each sample, int64 [N].
        digests: hash of the inputs and label of each sample, 16 bytes each, [N].
        read_order: the ids in the order of the dataset, int64 [N].
        inputs: bytes or numbers [N, ...]; None when larger than the limit.
    """

    labels: np.ndarray
    sizes: np.ndarray
    digests: np.ndarray
    read_order: np.ndarray
    inputs: np.ndarray | None

    def order_hash(self) -> str:
        """SHA-256 over the inputs and labels in the order of the ids, in hexadecimal."""
        return hashlib.sha256(self.digests.tobytes()).hexdigest()


def checked_elements(
    dataset: tf.data.Dataset, name: str, *, check_order: bool = True
) -> tf.data.Dataset:
    """Returns elements ({"inputs": x, "sample_id": int64 scalar}, y int64 scalar).

    Batches become samples. Elements without ids get those of `identified`.

    Raises:
        ArgumentError: If the elements are others, ids are not integers, or the dataset is
            infinite.
        DataError: If labels are not class numbers, or two passes have different samples.
    """
    dataset = identified(Adapted(dataset), name, check_order=check_order)
    spec = dataset.element_spec
    if len(spec) != 2 or tf.nest.is_nested(spec[0]["inputs"]) or tf.nest.is_nested(spec[1]):
        raise ArgumentError("data", describe_spec(spec), ALLOWED, OTHER_LABELS)
    x, y = spec[0]["inputs"], spec[1]
    if not isinstance(x, tf.TensorSpec) or not isinstance(y, tf.TensorSpec):
        raise ArgumentError("data", describe_spec(spec), ALLOWED, "Pass dense tensors.")
    _check_label(spec, y)
    check_id_spec(spec[0]["sample_id"].dtype, spec[0]["sample_id"].shape, 0)

    def cast(inputs: dict[str, tf.Tensor], label: tf.Tensor) -> tuple[Any, tf.Tensor]:
        sample_id = tf.cast(inputs["sample_id"], tf.int64)
        return {**inputs, "sample_id": sample_id}, tf.reshape(tf.cast(label, tf.int64), [])

    options = tf.data.Options()
    options.deterministic = True
    return dataset.map(cast).with_options(options)


def serialize(elements: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the elements with inputs as one string; tensors are checked and serialized."""

    def to_string(inputs: dict[str, tf.Tensor], label: tf.Tensor) -> tuple[Any, tf.Tensor]:
        x = inputs["inputs"]
        if x.dtype.is_floating:
            in_float32 = tf.cast(x, tf.float32)  # as which the model gets them
            check = tf.debugging.check_numerics(in_float32, "inputs must be finite")
            with tf.control_dependencies([check]):
                x = tf.identity(x)
        return {**inputs, "inputs": x if is_string(x) else tf.io.serialize_tensor(x)}, label

    return elements.map(to_string)


def deserialize(string: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Returns the inputs, of type `spec`, from the string of `serialize`."""
    if is_string(spec):
        return string
    return tf.ensure_shape(tf.io.parse_tensor(string, spec.dtype), spec.shape)


def is_string(x: tf.Tensor | tf.TensorSpec) -> bool:
    """Whether x is one string, such as an encoded image."""
    return x.dtype == tf.string and x.shape.rank == 0


def first_inputs(elements: tf.data.Dataset, name: str) -> tf.Tensor:
    """Returns the inputs of the first element; raises `DataError` if there is none."""
    with read_errors(name):
        for inputs, _ in elements.take(1):
            return inputs["inputs"]
    raise DataError(f"{name}: no samples received; allowed: at least one.")


def load_arrays(
    elements: tf.data.Dataset, name: str, limit: int, *, check_order: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Reads all elements into arrays (x, y) in the order of the ids.

    Returns:
        None when inputs are encoded strings, or have more than `limit` bytes in total.
    """
    spec = elements.element_spec[0]["inputs"]
    if is_string(spec):
        return None
    if not spec.shape.is_fully_defined():
        shape = first_inputs(elements, name).shape
        elements = elements.map(
            lambda x, y: ({**x, "inputs": tf.ensure_shape(x["inputs"], shape)}, y)
        )
        spec = elements.element_spec[0]["inputs"]
    if int(elements.cardinality()) * math.prod(spec.shape) * spec.dtype.size > limit:
        return None
    result = scan(elements, name, limit)
    if result.inputs is None:
        return None
    if check_order:
        same_order(elements, name, result)
    return result.inputs, result.labels


def scan(elements: tf.data.Dataset, name: str, limit: int) -> Scan:
    """Reads all elements once, and keeps up to `limit` bytes of inputs.

    Args:
        elements: inputs are strings, or numbers of one shape.
        name: name of the data, for errors.
        limit: bytes; inputs with more in total are not kept.

    Raises:
        DataError: If the data is unreadable or empty, or ids are not 0 to N - 1.
    """
    kept: list[np.ndarray] = []
    columns: list[tuple[np.ndarray, ...]] = []
    total = 0
    for inputs, labels in _batches(elements, name):
        sizes, digests = _measure(inputs["inputs"], labels)
        columns.append((inputs["sample_id"], labels, sizes, digests))
        total += int(sizes.sum())
        kept.append(inputs["inputs"])
        if total > limit:
            kept.clear()
    if not columns:
        raise DataError(f"{name}: no samples received; allowed: at least one.")
    ids, labels, sizes, digests = (np.concatenate(part) for part in zip(*columns, strict=True))
    order = order_of(ids, name)
    all_inputs = np.concatenate(kept)[order] if total <= limit else None
    return Scan(labels[order], sizes[order], digests[order], ids, all_inputs)


def same_order(elements: tf.data.Dataset, name: str, first: Scan) -> bool:
    """Reads all elements again; returns whether they come in the order of the first pass.

    Raises:
        DataError: If a sample has another id than in the first pass.
    """
    second = [(x["sample_id"], _measure(x["inputs"], y)[1]) for x, y in _batches(elements, name)]
    ids = np.concatenate([first.read_order[:0], *(part for part, _ in second)])
    digests = np.concatenate([first.digests[:0], *(part for _, part in second)])
    if not np.array_equal(digests[order_of(ids, name)], first.digests):
        raise differing_passes(name)
    return np.array_equal(ids, first.read_order)


def _batches(elements: tf.data.Dataset, name: str) -> Iterator[tuple[Any, np.ndarray]]:
    with read_errors(name):
        yield from elements.batch(_BATCH).prefetch(2).as_numpy_iterator()


def _measure(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of bytes and the hash of each sample."""
    rows = x if x.dtype == object else [row.tobytes() for row in x]
    sizes = np.array([len(row) for row in rows], np.int64)
    digests = [
        hashlib.blake2b(row, digest_size=_DIGEST_BYTES, key=label.tobytes()).digest()
        for row, label in zip(rows, labels, strict=True)
    ]
    return sizes, np.array(digests, f"V{_DIGEST_BYTES}")


def order_of(ids: np.ndarray, name: str) -> np.ndarray:
    """Returns the argsort of ids that must be 0 to N - 1 in any order."""
    order = np.argsort(ids)
    if not np.array_equal(ids[order], np.arange(len(ids))):
        duplicates = len(np.unique(ids)) < len(ids)
        problem = "with duplicates" if duplicates else f"from {ids.min()} to {ids.max()}"
        raise DataError(
            f"{name}: sample ids of {len(ids)} samples: {problem}; "
            f"allowed: 0 to {len(ids) - 1}, each once."
        )
    return order


def _check_label(spec: Any, y: tf.TensorSpec) -> None:
    """Raises an error unless labels are class numbers."""
    if y.shape.rank is None:
        remedy = "Their shape is not known: pass output_signature to from_generator."
        raise ArgumentError("data", describe_spec(spec), ALLOWED, remedy)
    if y.shape.num_elements() != 1 or y.shape.rank > 1 or not y.dtype.is_integer:
        raise ArgumentError("data", describe_spec(spec), ALLOWED, OTHER_LABELS)
