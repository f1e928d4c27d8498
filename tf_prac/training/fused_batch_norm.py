"""`FusedBatchNorm`: training-mode batch normalization of Keras 3 as one fused operation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_prac.keras_api import flavor_of


class FusedBatchNorm:
    """Computes a model's batch normalizations with TensorFlow's fused operation, in a context.

    Keras 3 composes the layer of about ten operations, each of which reads all activations again.
    This makes a ResNet-20 train a fifth slower than in Keras 2, which fuses them. The results are
    equal up to rounding. The context does not change the layers' configuration or what is saved.

    Not fused are: inputs other than images (rank 4, channels last) or in float64, layers that are
    called with a mask, frozen, synchronized over replicas or of a subclass, and all of Keras 2.

    Example:

        >>> fused = FusedBatchNorm(model)  # doctest: +SKIP
        >>> with fused():  # where the training step is traced
        ...     outputs = model(images, training=True)

    Args:
        model: a built model of either flavor.
    """

    def __init__(self, model: Any):
        flavor = flavor_of(model)
        self._layers = [] if flavor.name != "keras" else _fusible_layers(model, flavor.module)
        self._lock, self._entered = threading.Lock(), 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Fuses in the context; threads of several replicas may enter it at the same time."""
        self._add_entered(1)
        try:
            yield
        finally:
            self._add_entered(-1)

    def _add_entered(self, change: int) -> None:
        with self._lock:
            before, self._entered = self._entered, self._entered + change
            for layer in self._layers:
                if not before:
                    layer.call = _fused_call(layer)
                elif not self._entered:
                    del layer.call


def _fusible_layers(model: Any, keras: Any) -> list[Any]:
    return [
        layer
        for layer in model._flatten_layers()
        if type(layer) is keras.layers.BatchNormalization
        and "call" not in vars(layer)
        and not layer.synchronized
        and not getattr(layer, "renorm", False)
        and layer.input_spec is not None
        and layer.input_spec.ndim == 4
        and set(layer.input_spec.axes) <= {-1, 3}
    ]


def _fused_call(layer: Any) -> Any:
    """Returns the replacement of `layer.call`."""
    keras_call = type(layer).call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        fusible = mask is None and inputs.dtype != tf.float64
        if not (training and layer.trainable and fusible):
            return keras_call(layer, inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        fused = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(layer.gamma) if layer.scale else tf.ones(channels),
            offset=tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros(channels),
            mean=[],
            variance=[],
            epsilon=layer.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        variance = fused.batch_variance * (count - 1) / count  # Keras uses the biased variance
        for average, value in (
            (layer.moving_mean, fused.batch_mean),
            (layer.moving_variance, variance),
        ):
            previous = average * layer.momentum
            average.assign(previous + value * (1 - layer.momentum))
        return fused.y

    return call
