"""`DataPass`: something measured of each sample of a data set, by its id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.ids import has_ids, looks_batched, with_sample_ids
from tf_prac.errors import ArgumentError

BATCH = 512


class DataPass:
    """Goes over a data set, and measures each of its samples with a compiled function.

    Args:
        data: a finite `tf.data.Dataset` of (x, y) or (x, y, sample_weight), batched or not, or
            arrays (x, y). Samples have the ids that `with_sample_ids` gave them; without, their
            positions.
        measure: function of inputs and targets of a batch to tensors [batch, ...].
        batch_size: samples at a time. Default None: as many as the data has in a batch, or 512.

    Raises:
        ArgumentError: no such data, or endless.
    """

    def __init__(
        self,
        data: Any,
        measure: Callable[[Any, Any], Any],
        batch_size: int | None = None,
    ):
        self._batches = _batched(data, batch_size)
        self._measure = tf.function(measure, reduce_retracing=True)

    def __call__(self) -> tuple[np.ndarray, Any]:
        """Returns ids, int64 [samples], sorted, and what was measured of each.

        Raises:
            ArgumentError: the data has no samples.
        """
        ids, found = [], []
        for x, y, *_ in self._batches:
            ids.append(x["sample_id"].numpy())
            measured = self._measure(x["inputs"], y)
            found.append(tf.nest.map_structure(lambda part: part.numpy(), measured))
        if not ids:
            raise ArgumentError("data", "no samples", "a data set of at least one sample")
        every = np.concatenate(ids).astype(np.int64)
        order = np.argsort(every, kind="stable")
        return every[order], tf.nest.map_structure(
            lambda *parts: np.concatenate(parts)[order], *found
        )


def _batched(data: Any, batch_size: int | None) -> tf.data.Dataset:
    """Returns batches of ({"inputs": x, "sample_id": id}, y)."""
    if isinstance(data, (tuple, list)):
        data = tf.data.Dataset.from_tensor_slices(tuple(data))
        return with_sample_ids(data).batch(batch_size or BATCH)
    allowed = "a finite tf.data.Dataset of (x, y), or arrays (x, y)"
    if not isinstance(data, tf.data.Dataset):
        raise ArgumentError("data", type(data).__name__, allowed)
    if int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
        remedy = "Give it as it is before repeat()."
        raise ArgumentError("data", "an endless tf.data.Dataset", allowed, remedy)
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ArgumentError("data", "elements that are not (x, y)", allowed)
    if has_ids(spec):
        if spec[0]["sample_id"].shape.rank == 0:
            return data.batch(batch_size or BATCH)
        return data if batch_size is None else data.rebatch(batch_size)
    if looks_batched(spec[0], spec[1]):
        data = data.unbatch()
    return with_sample_ids(data).batch(batch_size or BATCH)
