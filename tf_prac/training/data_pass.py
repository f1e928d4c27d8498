"""`DataPass`: a function of each sample of a data set, by sample id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.ids import MAX_SAMPLES, check_id_spec, has_ids, is_batched, with_sample_ids
from tf_prac.errors import ArgumentError
from tf_prac.training.compiled import compiled
from tf_prac.training.precision import exact_float32

BATCH = 512


class DataPass:
    """Maps every sample of a data set through a compiled function, without TensorFloat-32.

    Args:
        data: a finite `tf.data.Dataset` of (x, y) or (x, y, sample_weight), batched or not, or
            arrays (x, y) or (x, y, sample_weight). Samples are identified by the ids of
            `with_sample_ids`, or without ids by their positions.
        fn: function of inputs and targets of a batch, and sample weights if the data has them,
            to tensors [batch, ...].
        batch_size: number of samples per call. Default None: the batch size of the data, or 512.

    Raises:
        ArgumentError: If the data has another type or structure, or is infinite.
        DataError: If positions are the ids, and two passes over the data differ.
    """

    def __init__(
        self,
        data: Any,
        fn: Callable[..., Any],
        batch_size: int | None = None,
    ):
        self._batches = _batched(data, batch_size)
        self._fn = compiled(fn, reduce_retracing=True)

    @exact_float32()
    def __call__(self) -> tuple[np.ndarray, Any]:
        """Returns the ids, int64 [samples], sorted, and the results in the same order.

        Raises:
            ArgumentError: If the data has no samples, or two with the same id, or an id is not in
                [0, 2**30).
        """
        batches_of_ids, results = [], []
        for x, y, *weight in self._batches:
            batches_of_ids.append(x["sample_id"].numpy())
            result = self._fn(x["inputs"], y, *weight)
            results.append(tf.nest.map_structure(lambda tensor: tensor.numpy(), result))
        if not batches_of_ids:
            raise ArgumentError("data", "no samples", "a data set of at least one sample")
        ids = np.concatenate(batches_of_ids).astype(np.int64)
        order = np.argsort(ids, kind="stable")
        _check_sorted(ids[order])
        return ids[order], tf.nest.map_structure(
            lambda *arrays: np.concatenate(arrays)[order], *results
        )


def _check_sorted(ids: np.ndarray) -> None:
    """Raises `ArgumentError` unless sorted ids are distinct and in range."""
    remedy = "Number the samples with tf_prac.with_sample_ids."
    for sample_id in (ids[0], ids[-1]):
        if not 0 <= sample_id < MAX_SAMPLES:
            allowed = f"0 to {MAX_SAMPLES - 1}"
            raise ArgumentError("sample_id", int(sample_id), allowed, remedy)
    repeated = ids[:-1][ids[:-1] == ids[1:]]
    if repeated.size:
        received = f"{int(repeated[0])} for several samples"
        raise ArgumentError("sample_id", received, "an id of its own for each sample", remedy)


def _batched(data: Any, batch_size: int | None) -> tf.data.Dataset:
    """Returns batches of ({"inputs": x, "sample_id": id}, y)."""
    if isinstance(data, (tuple, list)):
        data = tf.data.Dataset.from_tensor_slices(tuple(data))
        return with_sample_ids(data).batch(batch_size or BATCH)
    allowed = "a finite tf.data.Dataset of (x, y), or arrays (x, y)"
    if not isinstance(data, tf.data.Dataset):
        raise ArgumentError("data", type(data).__name__, allowed)
    if int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
        remedy = "Pass the dataset without repeat()."
        raise ArgumentError("data", "an infinite tf.data.Dataset", allowed, remedy)
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ArgumentError("data", "elements that are not (x, y)", allowed)
    if has_ids(spec):
        ids = spec[0]["sample_id"]
        check_id_spec(ids.dtype, ids.shape, min(ids.shape.rank or 0, 1))
        if spec[0]["sample_id"].shape.rank == 0:
            return data.batch(batch_size or BATCH)
        return data if batch_size is None else data.rebatch(batch_size)
    if is_batched(data):
        data = data.unbatch()
    return with_sample_ids(data).batch(batch_size or BATCH)
