"""`GradientNorms`: the norm of the gradient of each sample's loss."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_prac.keras_api import quiet_log, tf_variable
from tf_prac.pruning.masks import Masks

MAX_GRADIENT_ELEMENTS = 2**25  # of per-sample gradients at a time, 128 MiB
BATCH_PRODUCTS = ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")  # operations of TensorFlow


class GradientNorms:
    """Computes the GraNd score of samples: the norm of the gradient of each sample's loss.

    The gradient is with respect to all trainable weights except the pruned ones. BatchNorm uses its
    moving statistics, so that samples do not depend on each other.

    Source: Paul et al. 2021, "Deep Learning on a Data Diet", Definition 2.1.

    Args:
        network: a built classification model of either flavor.
        prunable: its prunable variables, by name.
        loss: function of (targets, outputs), each a batch of one sample, that returns its loss;
            and of their sample weights, where there are any.

    Attributes:
        batch_size: number of samples whose gradients fit into memory at a time.
    """

    def __init__(self, network: Any, prunable: Mapping[str, Any], loss: Callable[..., tf.Tensor]):
        self._network, self._loss = network, loss
        self._factors = {
            name: tf.Variable(tf.ones(variable.shape), trainable=False)
            for name, variable in prunable.items()
        }
        names = {id(variable): name for name, variable in prunable.items()}
        self._names = [names.get(id(variable)) for variable in network.trainable_variables]
        size = sum(math.prod(variable.shape) for variable in network.trainable_variables)
        self.batch_size = max(1, min(128, MAX_GRADIENT_ELEMENTS // max(1, size)))

    def set_masks(self, masks: Masks) -> None:
        """Sets the current masks."""
        for name, mask in masks.items():
            self._factors[name].assign(tf.cast(mask, tf.float32))

    def of_batch(self, inputs: Any, *targets: Any) -> tf.Tensor:
        """Returns the norm of each sample of a batch, float32 [batch].

        Args:
            inputs: of the network.
            *targets: targets and, if there are any, sample weights.
        """
        with quiet_log(logging.ERROR):  # warnings about operations that it runs in a loop
            return self._of_batch(inputs, *targets)

    def _of_batch(self, inputs: Any, *targets: Any) -> tf.Tensor:
        variables = self._network.trainable_variables

        def norm(sample: tuple[Any, ...]) -> tf.Tensor:
            x, y, *weight = tf.nest.map_structure(lambda part: part[None], sample)
            with tf.GradientTape() as tape:
                outputs = self._network(x, training=False)
                loss = self._loss(y, outputs, *weight)
            squares = [tf.zeros([], tf.float32)]
            gradients = tape.gradient(loss, variables)
            for gradient, name in zip(gradients, self._names, strict=True):
                if gradient is not None:
                    gradient = tf.cast(tf.convert_to_tensor(gradient), tf.float32)
                    gradient = gradient if name is None else gradient * self._factors[name]
                    squares.append(tf.reduce_sum(tf.square(gradient)))
            return tf.sqrt(tf.add_n(squares))

        @functools.partial(tf.function, autograph=False)
        def norms(samples: tuple[Any, ...]) -> tf.Tensor:
            return tf.vectorized_map(norm, samples)

        samples = (inputs, *targets)
        if _is_on_cpu(variables) and _broadcasts_matrices(norms.get_concrete_function(samples)):
            return tf.map_fn(norm, samples, fn_output_signature=tf.float32)
        return norms(samples)


def _is_on_cpu(variables: Sequence[Any]) -> bool:
    """Whether operations are on a CPU: where it is requested, otherwise where variables are."""
    requested = tf.zeros([]).device  # of the enclosing scope; in a graph, "" if there is none
    devices = [requested or tf_variable(variable).device for variable in variables]
    return not devices or any("CPU" in device for device in devices)


def _broadcasts_matrices(function: Any) -> bool:
    """Whether a concrete function multiplies batches of matrices and broadcasts one of them.

    On CPUs, such a product of [n, 1, ...] with one matrix, which batches of one sample lead to, is
    wrong or crashes in TensorFlow 2.21 (https://github.com/tensorflow/tensorflow/issues/117700).
    """
    graph = function.graph
    products = [op.inputs for op in graph.get_operations() if op.type in BATCH_PRODUCTS]
    if any(left.shape[:-2] != right.shape[:-2] for left, right in products):
        return True
    functions = graph.as_graph_def().library.function  # bodies of loops and conditions
    return any(node.op in BATCH_PRODUCTS for body in functions for node in body.node_def)
