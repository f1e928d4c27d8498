"""`Predictor`: predictions, the metric and scores of samples."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_prac.data.order import steps_per_epoch
from tf_prac.data.source import Samples
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError
from tf_prac.tasks.classification import Sparse
from tf_prac.tasks.task import Task
from tf_prac.training.batch_map import BatchMap, map_tensors, tensors_in
from tf_prac.training.distribution import Distribution
from tf_prac.training.gradients import GradientNorms
from tf_prac.training.placement import DataPlacement
from tf_prac.training.precision import exact_float32
from tf_prac.training.recorder import all_gather
from tf_prac.training.scores import parts_of, score_of

EVALUATION_BATCH = 512


class Decisions(NamedTuple):
    """What a network predicts for some samples.

    Attributes:
        values: predictions as the task's `decisions`, [samples, predictions], or a dictionary of
            them for several outputs; [samples] if each sample has one class.
        judged: which predictions count, bool [samples, predictions] or nested; None: all.
    """

    values: Any
    judged: Any


class Predictor:
    """Predicts samples with a network's current weights, in compiled loops over the batches.

    Reads samples from where training does, and computes without TensorFloat-32, so that predictions
    of two networks can be compared.

    Args:
        network: a built model of either flavor.
        distribution: the `Distribution` of the strategy in whose scope it was created.
            Default None: that of the current strategy.
        task: what outputs mean. Default `Sparse()`.
        placement: where the samples are. Default None: they are streamed.
    """

    def __init__(
        self,
        network: Any,
        distribution: Distribution | None = None,
        task: Task | None = None,
        placement: DataPlacement | None = None,
    ):
        self._network, self._distribution = network, distribution or Distribution()
        self.task = task or Sparse()
        self._placement = placement or DataPlacement(self._distribution, "stream")
        self._maps: dict[str, BatchMap] = {}

    @exact_float32()
    def decisions(self, split: Split) -> Decisions:
        """Returns the predictions for each sample, and which count."""
        predicted = None
        for ids, *parts in self._results("decisions", self._decide, split):
            if predicted is None:
                predicted = map_tensors(lambda part: _rows_for(part, len(split.samples)), parts)
            for all_rows, rows in zip(tensors_in(predicted), tensors_in(parts), strict=True):
                all_rows[ids[ids >= 0]] = rows[ids >= 0]  # Padding has ids below 0.
        values, judged = map_tensors(lambda part: part[split.ids], predicted)
        return Decisions(map_tensors(_squeezed, values), judged)

    def classes(self, split: Split) -> Any:
        """Returns the predictions for each sample: the class, int32 [len(ids)], for `Sparse`."""
        return self.decisions(split).values

    @exact_float32()
    def measure(self, split: Split) -> float:
        """Returns the task's metric on the samples, such as the fraction that is correct.

        Raises:
            ArgumentError: If no sample has a label that counts.
        """
        total = np.zeros(2)
        if is_class_accuracy(self.task, split.samples):
            return float(np.mean(self.classes(split) == split.labels))
        for sums in self._results("metric", self._measure, split):
            for of_batch in sums:
                total += of_batch
        if not total[1]:
            raise ArgumentError("data", "no sample that counts", "labels that the loss counts")
        return float(total[0] / total[1])

    @exact_float32()
    def scores(self, split: Split, score: str) -> np.ndarray:
        """Returns a score of each sample, float [len(ids)].

        Args:
            split: the samples.
            score: a key of `tf_prac.data.selection.SCORES`.

        Raises:
            ArgumentError: If the task does not have the score, as regression has no entropy.
        """
        results = self._results(score, functools.partial(self._parts, score), split)
        return _of_samples(split, ((ids, score_of(score, parts)) for ids, parts in results))

    @exact_float32()
    def gradient_norms(self, split: Split, norms: GradientNorms) -> np.ndarray:
        """Returns the GraNd score of each sample, float32 [len(ids)].

        Args:
            split: the samples.
            norms: of the network; the same in each call.
        """

        def of_batch(x: Any, *targets: Any) -> Any:
            return _ids(x), _all_rows(norms.of_batch(x["inputs"], *targets))

        results = self._results("grand", of_batch, split, norms.batch_size)
        return _of_samples(split, results)

    def _decide(self, x: Any, y: Any, weight: Any = None) -> Any:
        outputs = self._network(x["inputs"], training=False)
        parts = self.task.flat_decisions(outputs), self.task.judged(y, outputs, weight)
        return _ids(x), *map_tensors(_all_rows, parts)

    def _measure(self, x: Any, y: Any, weight: Any = None) -> Any:
        """Returns the sums of the weighted values and of the weights, float64 [1, 2]."""
        outputs = self._network(x["inputs"], training=False)
        values, weights = self.task.metric_values(y, outputs, weight)
        weights = tf.ones_like(values) if weights is None else weights
        is_sample = tf.cast(x["sample_id"] >= 0, values.dtype)
        weights *= tf.reshape(is_sample, [-1] + [1] * (weights.shape.rank - 1))
        values, weights = tf.cast(values, tf.float64), tf.cast(weights, tf.float64)
        sums = tf.stack([tf.reduce_sum(values * weights), tf.reduce_sum(weights)])
        return tf.reduce_sum(all_gather(sums[None]), 0, keepdims=True)

    def _parts(self, score: str, x: Any, y: Any, weight: Any = None) -> Any:
        outputs = self._network(x["inputs"], training=False)
        parts = parts_of(score, self.task, y, outputs, weight)
        return _ids(x), map_tensors(_all_rows, parts)

    def _results(
        self, name: str, fn: Any, split: Split, batch_size: int | None = None
    ) -> Iterator[Any]:
        """Yields what a function, compiled under a name, returns for the batches of one pass."""
        if name not in self._maps:
            self._maps[name] = BatchMap(self._distribution, fn)
        size = self._distribution.padded_batch_size(batch_size or EVALUATION_BATCH)
        batches = self._placement.evaluation(split, size, jit_compile=False)
        yield from self._maps[name](batches, steps_per_epoch(len(split.ids), size))


def is_class_accuracy(task: Task, samples: Samples) -> bool:
    """Whether the metric is Keras's accuracy of class numbers, as for image classification."""
    is_sparse = isinstance(task, Sparse) and task.ignore_class is None
    return is_sparse and np.ndim(samples.labels) == 1 and samples.weights is None


def disagreement(task: Task, first: Any, second: Decisions) -> np.ndarray:
    """Returns on which samples two networks disagree, bool [samples].

    Args:
        task: their task.
        first: the values of the decisions of one network.
        second: the decisions of the other.
    """
    rows = map_tensors(lambda values: values.reshape(len(values), -1), (first, second.values))
    return task.disagree(rows[0], rows[1], second.judged).numpy()


def _ids(x: Any) -> tf.Tensor:
    """Returns the sample ids of all replicas, int64 [n]."""
    return all_gather(tf.cast(x["sample_id"], tf.int64))


def _all_rows(rows: tf.Tensor) -> tf.Tensor:
    """Returns the rows of all replicas, [n, ...]; flags as int64."""
    return all_gather(tf.cast(rows, tf.int64) if rows.dtype == tf.bool else rows)


def _of_samples(split: Split, results: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Returns the value of each sample of a split, from ids and values; ids below 0 are padding."""
    values = np.zeros(0)
    for ids, of_ids in results:
        if not len(values):
            values = np.zeros(len(split.samples), of_ids.dtype)
        values[ids[ids >= 0]] = of_ids[ids >= 0]
    return values[split.ids]


def _rows_for(part: np.ndarray, count: int) -> np.ndarray:
    """Returns zeros for all samples; classes are stored as int32."""
    dtype = np.int32 if part.dtype == np.int64 else part.dtype
    return np.zeros((count, *part.shape[1:]), dtype)


def _squeezed(values: np.ndarray) -> np.ndarray:
    return values[:, 0] if values.shape[1] == 1 and values.dtype.kind == "i" else values
