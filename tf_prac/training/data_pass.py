"""`DataPass`: a function of each sample of a data set, by sample id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.adapters import adapt
from tf_prac.data.checks import MEMORY_LIMIT_BYTES
from tf_prac.data.ids import MAX_SAMPLES, check_id_spec, identified, is_batched
from tf_prac.data.pipeline import evaluation_batches
from tf_prac.data.source import Samples
from tf_prac.errors import ArgumentError
from tf_prac.training.compiled import compiled
from tf_prac.training.precision import exact_float32

BATCH = 512


class DataPass:
    """Maps every sample of a data set through a compiled function, without TensorFloat-32.

    Args:
        data: anything that `tf_prac.data.as_samples` takes. Samples are identified by the ids of
            `with_sample_ids`, or without ids as there.
        fn: function of inputs and targets of a batch, and sample weights if the data has them,
            to tensors [batch, ...].
        batch_size: number of samples per call. Default None: the batch size of the data, or 512.

    Raises:
        ArgumentError: If the data has another type or structure, or is infinite.
        DataError: If two passes over the data have different samples.
    """

    def __init__(
        self,
        data: Any,
        fn: Callable[..., Any],
        batch_size: int | None = None,
    ):
        self._batches = _batched(data, batch_size)
        self._fn = compiled(fn, reduce_retracing=True, autograph=False)

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
    if isinstance(data, Samples):
        ids = np.arange(len(data), dtype=np.int64)
        return evaluation_batches(data, ids, batch_size=batch_size or BATCH)
    adapted = adapt(data, "data", MEMORY_LIMIT_BYTES)
    samples = identified(adapted, "data", keep_batches=True, stacklevel=5)
    ids = samples.element_spec[0]["sample_id"]
    check_id_spec(ids.dtype, ids.shape, int(is_batched(samples)))
    if not is_batched(samples):
        return samples.batch(batch_size or BATCH)
    return samples if batch_size is None else samples.rebatch(batch_size)
