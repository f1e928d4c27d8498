"""`Predictor`: predicted classes, accuracy and scores of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.pipeline import evaluation_batches, steps_per_epoch
from tf_prac.data.splits import Split
from tf_prac.training.distribution import Distribution
from tf_prac.training.precision import exact_float32
from tf_prac.training.recorder import all_gather

EVALUATION_BATCH = 512


class Predictor:
    """Classifies samples with a network's current weights, in one compiled function.

    Computes without TensorFloat-32, so that predictions of two networks can be compared.

    Args:
        network: a built model of either flavour that returns logits or probabilities.
        distribution: the `Distribution` of the strategy in whose scope it was created.
            Default None: that of the current strategy.
    """

    def __init__(self, network: Any, distribution: Distribution | None = None):
        self._distribution = distribution or Distribution()

        def classify(x: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            classes = tf.argmax(network(x["inputs"], training=False), -1)
            return all_gather(tf.cast(x["sample_id"], tf.int64)), all_gather(classes)

        strategy = self._distribution.strategy
        self._classify = tf.function(
            lambda x: strategy.run(classify, args=(x,)), reduce_retracing=True
        )
        self._outputs = tf.function(lambda x: network(x, training=False), reduce_retracing=True)

    @exact_float32()
    def classes(self, split: Split) -> np.ndarray:
        """Returns the predicted class of each sample, int32 [len(ids)]."""
        size = self._distribution.padded_batch_size(EVALUATION_BATCH)
        batches = iter(
            self._distribution.batches(
                lambda shard: evaluation_batches(*split, batch_size=size, shard=shard), size
            )
        )
        predicted = np.zeros(len(split.samples), np.int32)
        local = self._distribution.strategy.experimental_local_results
        for _ in range(steps_per_epoch(len(split.ids), size)):
            ids, classes = (local(each)[0].numpy() for each in self._classify(next(batches)[0]))
            predicted[ids[ids >= 0]] = classes[ids >= 0]  # Padding has ids below 0.
        return predicted[split.ids]

    def accuracy(self, split: Split) -> float:
        """Returns the fraction of the samples that are classified correctly."""
        return float(np.mean(self.classes(split) == split.labels))

    @exact_float32()
    def scores(
        self,
        split: Split,
        score: Callable[[np.ndarray, np.ndarray], np.ndarray],
        from_logits: bool,
    ) -> np.ndarray:
        """Returns a score of each sample, float [len(ids)].

        Args:
            split: the samples.
            score: function of probabilities [batch, classes] and classes [batch]; see
                `tf_prac.data.selection.SCORES`.
            from_logits: whether the network returns logits, to which softmax is applied.
        """
        scores = []
        for x, labels in evaluation_batches(*split, batch_size=EVALUATION_BATCH):
            outputs = self._outputs(x["inputs"])
            probabilities = tf.nn.softmax(outputs) if from_logits else outputs
            scores.append(score(probabilities.numpy(), labels.numpy()))
        return np.concatenate(scores)
