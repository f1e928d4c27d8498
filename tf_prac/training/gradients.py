"""`GradientNorms`: how far each sample alone would move the network."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.pipeline import evaluation_batches
from tf_prac.data.search_data import Subset
from tf_prac.pruning.masks import Masks

HELD_GRADIENT_NUMBERS = 2**25  # most elements of per-sample gradients at a time, 128 MiB


class GradientNorms:
    """Computes the GraNd score of samples: the norm of the gradient of each one's loss.

    The gradient is over the weights that train: all trainable ones, pruned elements left out.
    BatchNorm uses its moving statistics, so that samples do not depend on each other.

    Source: Paul et al. 2021, "Deep Learning on a Data Diet", Definition 2.1.

    Args:
        network: a built model of either flavour that classifies.
        prunable: its prunable variables, by name.
        loss: function of targets and outputs, each of one sample, to its loss.

    Attributes:
        batch_size: how many samples' gradients fit into memory at a time.
    """

    def __init__(
        self, network: Any, prunable: Mapping[str, Any], loss: Callable[[Any, Any], tf.Tensor]
    ):
        self._network, self._loss = network, loss
        self._factors = {
            name: tf.Variable(tf.ones(variable.shape), trainable=False)
            for name, variable in prunable.items()
        }
        names = {id(variable): name for name, variable in prunable.items()}
        self._names = [names.get(id(variable)) for variable in network.trainable_variables]
        self._norms = tf.function(self.of_batch, reduce_retracing=True)
        numbers = sum(math.prod(variable.shape) for variable in network.trainable_variables)
        self.batch_size = max(1, min(128, HELD_GRADIENT_NUMBERS // max(1, numbers)))

    def __call__(self, subset: Subset, masks: Masks) -> np.ndarray:
        """Returns the norm for each sample, float32 [len(ids)], at the network's present weights.

        Args:
            subset: the samples.
            masks: the masks of the present weights.
        """
        self.set_masks(masks)
        batches = evaluation_batches(*subset, batch_size=self.batch_size)
        found = [self._norms(x["inputs"], y).numpy() for x, y in batches]
        return np.concatenate(found)

    def set_masks(self, masks: Masks) -> None:
        """Takes the masks of the present weights."""
        for name, mask in masks.items():
            self._factors[name].assign(tf.cast(mask, tf.float32))

    def of_batch(self, inputs: Any, targets: Any) -> tf.Tensor:
        """Returns the norm for each sample of a batch, float32 [batch]."""
        with _quiet():
            return self._of_batch(inputs, targets)

    def _of_batch(self, inputs: Any, targets: Any) -> tf.Tensor:
        variables = self._network.trainable_variables

        def norm(sample: tuple[Any, Any]) -> tf.Tensor:
            x, y = tf.nest.map_structure(lambda part: part[None], sample)
            with tf.GradientTape() as tape:
                outputs = self._network(x, training=False)
                loss = self._loss(y, outputs)
            squares = [tf.zeros([], tf.float32)]
            gradients = tape.gradient(loss, variables)
            for gradient, name in zip(gradients, self._names, strict=True):
                if gradient is not None:
                    gradient = tf.cast(tf.convert_to_tensor(gradient), tf.float32)
                    gradient = gradient if name is None else gradient * self._factors[name]
                    squares.append(tf.reduce_sum(tf.square(gradient)))
            return tf.sqrt(tf.add_n(squares))

        return tf.vectorized_map(norm, (inputs, targets))


def cross_entropy(labels: tf.Tensor, outputs: tf.Tensor, from_logits: bool) -> tf.Tensor:
    """Returns the mean cross-entropy, of logits or of probabilities.

    Args:
        labels: classes, int [batch].
        outputs: float [batch, classes].
        from_logits: which of the two they are.
    """
    logits = outputs if from_logits else as_logits(outputs)
    target = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    # Of plain operations, because Hessians need the second derivative.
    return tf.reduce_mean(-tf.reduce_sum(target * tf.nn.log_softmax(logits), axis=-1))


def as_logits(probabilities: tf.Tensor) -> tf.Tensor:
    """Returns logits whose softmax is `probabilities`: their logarithms."""
    return tf.math.log(tf.maximum(probabilities, tf.constant(1e-30, probabilities.dtype)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what TensorFlow says about operations that it loops over."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
