"""`Predictor`: what a network says about samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.pipeline import evaluation_batches
from tf_prac.data.search_data import Subset

EVALUATION_BATCH = 512


class Predictor:
    """Classifies samples with a network's present weights, with one compiled function.

    Args:
        network: a built model of either flavour that gives logits or probabilities.
    """

    def __init__(self, network: Any):
        self._classify = tf.function(
            lambda x: tf.argmax(network(x, training=False), -1, output_type=tf.int32),
            reduce_retracing=True,
        )
        self._outputs = tf.function(lambda x: network(x, training=False), reduce_retracing=True)

    def classes(self, subset: Subset) -> np.ndarray:
        """Returns the predicted class of each sample, int32 [len(ids)]."""
        batches = evaluation_batches(*subset, batch_size=EVALUATION_BATCH)
        return np.concatenate([self._classify(x["inputs"]).numpy() for x, _ in batches])

    def accuracy(self, subset: Subset) -> float:
        """Returns the fraction of the samples that are classified rightly."""
        return float(np.mean(self.classes(subset) == subset.labels))

    def scores(
        self,
        subset: Subset,
        score: Callable[[np.ndarray, np.ndarray], np.ndarray],
        from_logits: bool,
    ) -> np.ndarray:
        """Returns a score of each sample, float [len(ids)].

        Args:
            subset: the samples.
            score: function of probabilities [batch, classes] and classes [batch]; see
                `tf_prac.data.selection.SCORES`.
            from_logits: whether the network gives logits, which then go through a softmax.
        """
        found = []
        for x, labels in evaluation_batches(*subset, batch_size=EVALUATION_BATCH):
            outputs = self._outputs(x["inputs"])
            probabilities = tf.nn.softmax(outputs) if from_logits else outputs
            found.append(score(probabilities.numpy(), labels.numpy()))
        return np.concatenate(found)
