"""`Predictor`: predictions, the metric and scores of samples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_prac.data.pipeline import evaluation_batches, steps_per_epoch
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError
from tf_prac.tasks.classification import Sparse
from tf_prac.tasks.task import Task
from tf_prac.training.compiled import compiled
from tf_prac.training.distribution import Distribution
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
    """Predicts samples with a network's current weights, in one compiled function.

    Computes without TensorFloat-32, so that predictions of two networks can be compared.

    Args:
        network: a built model of either flavour.
        distribution: the `Distribution` of the strategy in whose scope it was created.
            Default None: that of the current strategy.
        task: what outputs mean. Default `Sparse()`.
    """

    def __init__(
        self, network: Any, distribution: Distribution | None = None, task: Task | None = None
    ):
        self._distribution = distribution or Distribution()
        self.task = task or Sparse()
        strategy = self._distribution.strategy

        def decide(x: Any, y: Any, weight: Any = None) -> Any:
            outputs = network(x["inputs"], training=False)
            parts = self.task.flat_decisions(outputs), self.task.judged(y, outputs, weight)
            return all_gather(tf.cast(x["sample_id"], tf.int64)), _map(_all_rows, parts)

        def measure(x: Any, y: Any, weight: Any = None) -> Any:
            outputs = network(x["inputs"], training=False)
            values, weights = self.task.metric_values(y, outputs, weight)
            weights = tf.ones_like(values) if weights is None else weights
            is_sample = tf.cast(x["sample_id"] >= 0, values.dtype)
            weights *= tf.reshape(is_sample, [-1] + [1] * (weights.shape.rank - 1))
            values, weights = tf.cast(values, tf.float64), tf.cast(weights, tf.float64)
            return tf.reduce_sum(values * weights), tf.reduce_sum(weights)

        self._decide, self._measure = (
            compiled(lambda batch, fn=fn: strategy.run(fn, args=batch), reduce_retracing=True)
            for fn in (decide, measure)
        )
        self._outputs = compiled(lambda x: network(x, training=False), reduce_retracing=True)

    @exact_float32()
    def decisions(self, split: Split) -> Decisions:
        """Returns the predictions for each sample, and which count."""
        local, predicted = self._distribution.strategy.experimental_local_results, None
        for batch in self._batches(split):
            ids, parts = _map(lambda each: local(each)[0].numpy(), self._decide(batch))
            if predicted is None:
                predicted = _map(lambda part: _rows_for(part, len(split.samples)), parts)
            for all_rows, rows in zip(_flat(predicted), _flat(parts), strict=True):
                all_rows[ids[ids >= 0]] = rows[ids >= 0]  # Padding has ids below 0.
        values, judged = _map(lambda part: part[split.ids], predicted)
        return Decisions(_map(_squeezed, values), judged)

    def classes(self, split: Split) -> Any:
        """Returns the predictions for each sample: the class, int32 [len(ids)], for `Sparse`."""
        return self.decisions(split).values

    @exact_float32()
    def measure(self, split: Split) -> float:
        """Returns the task's metric on the samples, such as the fraction that is correct."""
        task = self.task
        is_plain = isinstance(task, Sparse) and task.ignore_class is None
        if is_plain and np.ndim(split.labels) == 1 and split.samples.weights is None:
            return float(np.mean(self.classes(split) == split.labels))
        local, total = self._distribution.strategy.experimental_local_results, np.zeros(2)
        for batch in self._batches(split):
            sums = [sum(float(each) for each in local(part)) for part in self._measure(batch)]
            total += np.array(sums)
        if not total[1]:
            raise ArgumentError("data", "no sample that counts", "labels that the loss counts")
        return float(total[0] / total[1])

    @exact_float32()
    def scores(self, split: Split, score: str) -> np.ndarray:
        """Returns a score of each sample, float [len(ids)].

        Args:
            split: the samples.
            score: a key of `tf_prac.data.selection.SCORES`.
        """
        scores = []
        for x, y, *weight in evaluation_batches(*split, batch_size=EVALUATION_BATCH):
            parts = parts_of(score, self.task, y, self._outputs(x["inputs"]), *weight)
            scores.append(score_of(score, tf.nest.map_structure(lambda part: part.numpy(), parts)))
        return np.concatenate(scores)

    def _batches(self, split: Split) -> Any:
        """Yields the batches of one pass, padded if there are several replicas."""
        size = self._distribution.padded_batch_size(EVALUATION_BATCH)
        batches = iter(
            self._distribution.batches(
                lambda shard: evaluation_batches(*split, batch_size=size, shard=shard), size
            )
        )
        for _ in range(steps_per_epoch(len(split.ids), size)):
            yield next(batches)


def disagreement(task: Task, first: Any, second: Decisions) -> np.ndarray:
    """Returns on which samples two networks disagree, bool [samples].

    Args:
        task: their task.
        first: the values of the decisions of one network.
        second: the decisions of the other.
    """
    rows = _map(lambda values: values.reshape(len(values), -1), (first, second.values))
    return task.disagree(rows[0], rows[1], second.judged).numpy()


def _all_rows(rows: tf.Tensor) -> tf.Tensor:
    """Returns the rows of all replicas, [n, predictions]; flags as int64."""
    rows = tf.cast(rows, tf.int64) if rows.dtype == tf.bool else rows
    return tf.reshape(all_gather(tf.reshape(rows, [-1])), [-1, rows.shape[-1]])


def _rows_for(part: np.ndarray, count: int) -> np.ndarray:
    """Returns zeros for all samples; classes are stored as int32."""
    dtype = np.int32 if part.dtype == np.int64 else part.dtype
    return np.zeros((count, *part.shape[1:]), dtype)


def _squeezed(values: np.ndarray) -> np.ndarray:
    return values[:, 0] if values.shape[1] == 1 and values.dtype.kind == "i" else values


def _map(fn: Any, values: Any) -> Any:
    return tf.nest.map_structure(lambda each: None if each is None else fn(each), values)


def _flat(values: Any) -> list[Any]:
    return [each for each in tf.nest.flatten(values) if each is not None]
