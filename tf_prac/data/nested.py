"""Reads a `tf.data.Dataset` of any labels, inputs and sample weights into arrays."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.ids import describe_spec
from tf_prac.data.numbering import differing_passes
from tf_prac.data.reading import read_errors
from tf_prac.data.scan import order_of
from tf_prac.errors import ArgumentError, DataError

BATCH = 512


def is_plain(spec: Any) -> bool:
    """Whether elements with ids are one tensor of numbers and a class number."""
    if len(spec) != 2:
        return False
    x = spec[0]["inputs"]
    single = isinstance(x, tf.TensorSpec) and isinstance(spec[1], tf.TensorSpec)
    if not single or x.dtype == tf.string:
        return False
    return spec[1].dtype.is_integer and (spec[1].shape.rank == 0 or spec[1].shape == (1,))


def read_nested(
    dataset: tf.data.Dataset, name: str, limit: int, *, check_order: bool
) -> tuple[Any, Any, np.ndarray | None]:
    """Returns inputs, labels and sample weights as arrays, in the order of the ids.

    Args:
        dataset: elements with ids, as from `identified`, of tensors or nests of them.
        name: name of the data, for errors.
        limit: maximum bytes of all arrays.
        check_order: whether two passes are compared.

    Raises:
        ArgumentError: If the elements are others.
        DataError: If it is unreadable, empty or too large, or the order differs between passes.
    """
    spec = dataset.element_spec
    for part in tf.nest.flatten(spec):
        if not isinstance(part, tf.TensorSpec) or part.shape.rank is None:
            remedy = "Pass dense tensors of known rank."
            raise ArgumentError("data", describe_spec(spec), "(x, y[, sample_weight])", remedy)
    arrays = _read(dataset, name, limit)
    if check_order and _digest(arrays) != _digest(_read(dataset, name, limit)):
        raise differing_passes(name)
    inputs, labels, *weights = arrays
    return inputs["inputs"], labels, weights[0] if weights else None


def _read(dataset: tf.data.Dataset, name: str, limit: int) -> Any:
    batches, total = [], 0
    with read_errors(name):
        for batch in dataset.batch(BATCH).as_numpy_iterator():
            total += sum(part.nbytes for part in tf.nest.flatten(batch))
            if total > limit:
                raise DataError(
                    f"{name}: {total:,} bytes in the first batches received; allowed: up to "
                    f"{limit:,} bytes for strings, several inputs, sample weights, or labels other "
                    "than class numbers, which are held in memory. Raise the limit with "
                    "tf_prac.data.as_samples(data, memory_limit_bytes=...)."
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
