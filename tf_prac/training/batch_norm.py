"""`MovingStatistics`: BatchNorm's moving mean and variance, recomputed from data."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_prac.keras_api import named_weights
from tf_prac.training.compiled import compiled
from tf_prac.training.precision import exact_float32

MOVING = ("moving_mean", "moving_variance")


class MovingStatistics:
    """Recomputes the BatchNorm statistics for a network's current weights.

    A network with weights interpolated between two trained networks has activations unlike those
    of either, so interpolated statistics are wrong for it. Here, the moving averages start at zero
    and are updated with the given batches in training mode. Dividing them by the sum of the weights
    of all batches, 1 - momentum^count, removes the bias towards zero.

    Args:
        network: a built model of either flavor. Layers that are not trainable keep their
            statistics.
        batches: a `tf.data.Dataset` of ({"inputs": x, ...}, y) with the same batches in each pass.
    """

    def __init__(self, network: Any, batches: tf.data.Dataset):
        self._batches = batches
        self._moving = [
            (weight.variable, weight.layer.momentum)
            for weight in named_weights(network)
            if weight.role in MOVING and weight.layer.trainable
        ]
        self._forward = compiled(
            lambda x: network(x, training=True), reduce_retracing=True, autograph=False
        )

    @exact_float32()
    def recompute(self) -> None:
        """Recomputes the statistics in place; does nothing for a network without BatchNorm."""
        if not self._moving:
            return
        for variable, _ in self._moving:
            variable.assign(tf.zeros_like(variable))
        count = 0
        for x, *_ in self._batches:
            self._forward(x["inputs"])
            count += 1
        for variable, momentum in self._moving:
            variable.assign(tf.convert_to_tensor(variable) / (1 - momentum**count))
