"""`FusedBatchNorm`: batch normalisation of Keras 3 as one operation while a model trains."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_prac.keras_api import flavour_of


class FusedBatchNorm:
    """Computes a model's batch normalisations by TensorFlow's fused operation, inside a context.

    Keras 3 writes the layer in about ten operations, each of which reads all activations anew:
    a ResNet-20 trains a fifth slower for it than in Keras 2, which fuses them. What is computed is
    the same to rounding. Layers are as before outside the context, and so are their configuration
    and what is saved. Left to Keras: layers that are not images' (rank 4, channels last), masked,
    frozen, in float64, synchronized over replicas or of a subclass, and all of Keras 2.

        >>> fused = FusedBatchNorm(model)  # doctest: +SKIP
        >>> with fused():  # where the training step is traced
        ...     outputs = model(images, training=True)

    Args:
        model: a built model of either flavour.
    """

    def __init__(self, model: Any):
        keras = flavour_of(model)
        self._layers = [] if keras.name != "keras" else _normalisations(model, keras.module)
        self._lock, self._entered = threading.Lock(), 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Fuses meanwhile; replicas may enter side by side, each in a thread of its own."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            before, self._entered = self._entered, self._entered + change
            for layer in self._layers:
                if not before:
                    layer.call = _fused_call(layer)
                elif not self._entered:
                    del layer.call


def _normalisations(model: Any, keras: Any) -> list[Any]:
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
    """Returns what stands in for `layer.call`."""
    of_keras = type(layer).call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        plain = mask is None and inputs.dtype != tf.float64
        if not (training and layer.trainable and plain):
            return of_keras(layer, inputs, training=training, mask=mask)
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
        variance = fused.batch_variance * (count - 1) / count  # Keras takes the biased one
        for average, value in (
            (layer.moving_mean, fused.batch_mean),
            (layer.moving_variance, variance),
        ):
            kept = average * layer.momentum
            average.assign(kept + value * (1 - layer.momentum))
        return fused.y

    return call
