"""`Predictor`: what a network says about samples."""

from __future__ import annotations

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

    def classes(self, subset: Subset) -> np.ndarray:
        """Returns the predicted class of each sample, int32 [len(ids)]."""
        batches = evaluation_batches(*subset, batch_size=EVALUATION_BATCH)
        return np.concatenate([self._classify(x["inputs"]).numpy() for x, _ in batches])

    def accuracy(self, subset: Subset) -> float:
        """Returns the fraction of the samples that are classified rightly."""
        return float(np.mean(self.classes(subset) == subset.labels))
