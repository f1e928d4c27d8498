"""`FusedSGD`: the update of SGD with momentum as one operation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tf_prac.keras_api import (
    CoupledWeightDecay,
    PyTorchMomentum,
    flavor_of,
    momentum_of,
    tf_variable,
)


class FusedSGD:
    """Updates weight and momentum with one operation of TensorFlow, in a context.

    Keras composes the update of five operations, each of which reads and writes as many numbers as
    the network has weights. The results are the same bits on a CPU. The context changes neither the
    optimizer's configuration nor what is saved.

    Not fused are: SGD without momentum and other optimizers, subclasses of SGD, sparse gradients,
    dtypes other than float32, and more than one replica.

    Example:

        >>> with FusedSGD(model)():  # doctest: +SKIP
        ...     model.train_step(batch)  # where the training step is traced

    Args:
        model: a compiled model of either flavor.
    """

    def __init__(self, model: Any):
        optimizer = getattr(model, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        self._optimizer = optimizer if _is_fusible(model, optimizer) else None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Fuses in the context."""
        if self._optimizer is None:
            yield
            return
        self._optimizer.update_step = _fused_update(self._optimizer)
        try:
            yield
        finally:
            del self._optimizer.update_step


def _is_fusible(model: Any, optimizer: Any) -> bool:
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        return False
    flavor = flavor_of(model)
    sgd = flavor.module.optimizers.SGD
    classes = [sgd, flavor.subclass(PyTorchMomentum, sgd)]
    classes += [flavor.subclass(CoupledWeightDecay, cls) for cls in classes]
    return type(optimizer) in classes and (
        optimizer.momentum > 0 and "update_step" not in vars(optimizer)
    )


def _fused_update(optimizer: Any) -> Callable[..., None]:
    """Returns the replacement of `optimizer.update_step`."""
    keras_update = optimizer.update_step
    is_pytorch = isinstance(optimizer, PyTorchMomentum)
    fused = (
        tf.raw_ops.ResourceApplyMomentum if is_pytorch else tf.raw_ops.ResourceApplyKerasMomentum
    )

    def update_step(gradient: Any, variable: Any, *learning_rate: Any) -> None:
        weight = tf_variable(variable)
        is_dense = isinstance(gradient, tf.Tensor)
        if not is_dense or not weight.dtype == gradient.dtype == tf.float32:
            return keras_update(gradient, variable, *learning_rate)
        if isinstance(optimizer, CoupledWeightDecay):
            gradient = optimizer.decayed(gradient, variable)
        rate = learning_rate[0] if learning_rate else optimizer.learning_rate  # Keras 3, Keras 2
        fused(
            var=weight.handle,
            accum=tf_variable(momentum_of(optimizer, variable)).handle,
            lr=tf.cast(rate, tf.float32),
            grad=gradient,
            momentum=tf.constant(optimizer.momentum, tf.float32),
            use_nesterov=optimizer.nesterov and not is_pytorch,
        )

    return update_step
