"""Reads a `tf.data.Dataset` of any labels, inputs and sample weights into arrays."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.ids import describe_spec, has_ids, is_batched
from tf_prac.data.scan import ALLOWED, order_error, order_of, read_errors
from tf_prac.errors import ArgumentError, DataError

BATCH = 512


def is_plain(spec: Any) -> bool:
    """Whether elements are one tensor of numbers and a class number."""
    if not isinstance(spec, tuple) or len(spec) != 2:
        return False
    x = spec[0]["inputs"] if has_ids(spec) else spec[0]
    single = isinstance(x, tf.TensorSpec) and isinstance(spec[1], tf.TensorSpec)
    if not single or x.dtype == tf.string:
        return False
    return spec[1].dtype.is_integer and (spec[1].shape.rank == 0 or spec[1].shape == (1,))


def read_nested(
    dataset: tf.data.Dataset, name: str, limit: int, *, check_order: bool
) -> tuple[Any, Any, np.ndarray | None]:
    """Returns inputs, labels and sample weights as arrays, in the order of the ids.

    Args:
        dataset: elements (x, y) or (x, y, sample_weight), of tensors or nests of them.
        name: name of the data, for errors.
        limit: maximum bytes of all arrays.
        check_order: whether two passes are compared.

    Raises:
        ArgumentError: If the elements are others, or the dataset is batched or infinite.
        DataError: If it is unreadable, empty or too large, or the order differs between passes.
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ArgumentError("data", describe_spec(spec), ALLOWED)
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ArgumentError("data", "an infinite dataset", "a finite dataset")
    with_ids = has_ids(spec)
    for part in tf.nest.flatten(spec):
        if not isinstance(part, tf.TensorSpec) or part.shape.rank is None:
            remedy = "Pass dense tensors of known rank."
            raise ArgumentError("data", describe_spec(spec), ALLOWED, remedy)
    if is_batched(dataset):
        raise ArgumentError(
            "data", describe_spec(spec), ALLOWED, "It is batched: pass dataset.unbatch()."
        )
    if not with_ids:
        dataset = dataset.enumerate().map(lambda i, e: ({"inputs": e[0], "sample_id": i}, *e[1:]))
    arrays = _read(dataset, name, limit)
    if check_order and _digest(arrays) != _digest(_read(dataset, name, limit)):
        raise order_error(name)
    inputs, labels, *weights = arrays
    return inputs["inputs"], labels, weights[0] if weights else None


def _read(dataset: tf.data.Dataset, name: str, limit: int) -> Any:
    batches, total = [], 0
    with read_errors(name):
        for batch in dataset.batch(BATCH).as_numpy_iterator():
            total += sum(part.nbytes for part in tf.nest.flatten(batch))
            if total > limit:
                raise DataError(
                    f"{name}: more than {limit:,} bytes; allowed: data that fits into memory, for "
                    "other labels than class numbers, several inputs or sample weights. Raise "
                    "memory_limit_bytes."
                )
            batches.append(batch)
    if not batches:
        raise DataError(f"{name}: no samples received; allowed: at least one.")
    arrays = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)
    order = order_of(arrays[0]["sample_id"], name)
    return tf.nest.map_structure(lambda part: part[order], arrays)


def _digest(arrays: Any) -> str:
    digest = hashlib.blake2b()
    for part in tf.nest.flatten(arrays):
        for text in part.flat if part.dtype == object else (part.tobytes(),):
            digest.update(text)
    return digest.hexdigest()
