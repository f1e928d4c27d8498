"""`MovingStatistics`: BatchNorm's moving mean and variance, computed anew from data."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_prac.keras_api import named_weights

MOVING = ("moving_mean", "moving_variance")


class MovingStatistics:
    """Recomputes the BatchNorm statistics that belong to a network's present weights.

    A network between two trained ones has activations of neither, so the mean of their statistics
    is wrong for it. Here the moving averages start at zero, see the same batches each time as
    training would, and are divided by the weight that those batches have in them.

    Args:
        network: a built model of either flavour. Layers that are not trainable keep theirs.
        batches: a `tf.data.Dataset` of ({"inputs": x, ...}, y) that is the same in each pass.
    """

    def __init__(self, network: Any, batches: tf.data.Dataset):
        self._batches = batches
        self._moving = [
            (weight.variable, weight.layer.momentum)
            for weight in named_weights(network)
            if weight.role in MOVING and weight.layer.trainable
        ]
        self._forward = tf.function(
            lambda x: network(x, training=True), reduce_retracing=True, autograph=False
        )

    def recompute(self) -> None:
        """Sets the statistics; does nothing for a network without BatchNorm."""
        if not self._moving:
            return
        for variable, _ in self._moving:
            variable.assign(tf.zeros_like(variable))
        count = 0
        for x, _ in self._batches:
            self._forward(x["inputs"])
            count += 1
        for variable, momentum in self._moving:
            variable.assign(tf.convert_to_tensor(variable) / (1 - momentum**count))
