"""`as_samples`, which converts arrays and datasets to `Samples`, and the names of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_int
from tf_prac.data.checks import MEMORY_LIMIT_BYTES
from tf_prac.data.ids import filter_ids, split_validation, with_sample_ids
from tf_prac.data.nested import is_plain, read_nested
from tf_prac.data.scan import checked_elements, load_arrays
from tf_prac.data.source import ArraySamples, DatasetIdentity, Samples
from tf_prac.data.stream import StreamSamples
from tf_prac.errors import ArgumentError

__all__ = [
    "ArraySamples",
    "DatasetIdentity",
    "Samples",
    "StreamSamples",
    "as_samples",
    "filter_ids",
    "split_validation",
    "with_sample_ids",
]


def as_samples(
    data: Any, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES, **options: Any
) -> Samples:
    """Returns arrays or a `tf.data.Dataset` as `Samples`.

    Example:

        >>> as_samples((np.zeros([4, 3], np.float32), [0, 1, 0, 1]))
        ArraySamples(arrays train: 4 of (3,), 2 classes)

    Args:
        data: `Samples` (returned unchanged); a tuple of arrays (x, y) or (x, y, sample_weight); or
            a finite, unbatched `tf.data.Dataset` of such elements in the same order in every pass,
            or with {"inputs": x, "sample_id": id} in place of x in any order, with ids 0 to N - 1.
            x and y may be dictionaries of arrays, for several inputs and outputs, and x a tuple.
        memory_limit_bytes: a dataset with more bytes of inputs is not held in memory decoded, but
            read as `StreamSamples`. Default 4 GiB.
        **options: name, version, split, num_classes, classes, mean, std, rescale as in
            `ArraySamples`; for datasets also decode, buffer_size and check_order as in
            `StreamSamples`.

    Raises:
        ArgumentError: If the data is of another kind, batched or infinite.
        DataError: If labels, inputs or ids are invalid, or the order differs between passes.
    """
    check_int("memory_limit_bytes", memory_limit_bytes, 0)
    if isinstance(data, Samples):
        if options:
            raise ArgumentError(", ".join(options), data, "no options with data that is Samples")
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return ArraySamples(*data, **options)
    if isinstance(data, tuple) and len(data) == 3 and np.ndim(data[2]):
        return ArraySamples(*data[:2], weights=data[2], **options)
    if isinstance(data, tf.data.Dataset):
        return _from_dataset(data, memory_limit_bytes=memory_limit_bytes, **options)
    raise ArgumentError(
        "data",
        f"{type(data).__name__} of {len(data)}" if isinstance(data, tuple) else type(data).__name__,
        "Samples, a tuple of arrays (x, y) or (x, y, sample_weight), or an unbatched "
        "tf.data.Dataset of them",
    )


def _from_dataset(
    dataset: tf.data.Dataset,
    *,
    memory_limit_bytes: int,
    check_order: bool = True,
    decode: Callable[[tf.Tensor], tf.Tensor] | None = None,
    buffer_size: int = 10_000,
    name: str = "dataset",
    **options: Any,
) -> Samples:
    if decode is None and not is_plain(dataset.element_spec):
        images, labels, weights = read_nested(
            dataset, name, memory_limit_bytes, check_order=check_order
        )
        return ArraySamples(images, labels, weights=weights, name=name, **options)
    elements = checked_elements(dataset)
    if decode is not None:
        elements = elements.map(
            lambda x, y: ({**x, "inputs": decode(x["inputs"])}, y),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    arrays = load_arrays(elements, name, memory_limit_bytes, check_order=check_order)
    if arrays is not None:
        return ArraySamples(*arrays, name=name, **options)
    return StreamSamples(
        dataset,
        decode=decode,
        memory_limit_bytes=memory_limit_bytes,
        buffer_size=buffer_size,
        check_order=check_order,
        name=name,
        **options,
    )
