"""Pruning criteria that take the network and samples, such as for gradients.

Each is a function of `ScoringInputs` that returns a score for each prunable weight. To add one,
write the function, make a `Criterion` of it, and add it to `CRITERIA` in `tf_prac/registry.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.errors import ArgumentError, NonFiniteLossError
from tf_prac.keras_api import named_weights
from tf_prac.pruning.criteria import REWIND_POINT, TRAINED, Criterion

Scores = dict[str, np.ndarray]
GRASP_TEMPERATURE = 200.0


@dataclasses.dataclass(frozen=True)
class ScoringInputs:
    """The inputs of a criterion that scores the weights of a network.

    A criterion may change the network's weights and statistics; they are restored afterwards.

    Attributes:
        network: a built model of either flavor; its pruned weights are zero.
        prunable: its prunable variables, by name.
        batches: tensors (inputs, labels) of the samples.
        from_logits: whether the network outputs logits; probabilities otherwise.
        loss: function of (labels, outputs, temperature[, weight]) that returns the mean loss of a
            batch, with logits divided by the temperature and losses multiplied by the sample
            weights. It can be differentiated twice.
        weights: the sample weights of each batch. Default (): all are 1.
    """

    network: Any
    prunable: Mapping[str, Any]
    batches: Sequence[tuple[tf.Tensor, tf.Tensor]]
    from_logits: bool
    loss: Callable[..., tf.Tensor]
    weights: Sequence[tf.Tensor] = ()

    def losses(
        self, *, training: bool, temperature: float = 1.0
    ) -> Iterator[tuple[Callable[[], tf.Tensor], float]]:
        """Yields, for each batch, a function that returns its mean loss, and its part of all data.

        Args:
            training, temperature: as for `gradients`.
        """
        weights: list[tuple[Any, ...]] = [(weight,) for weight in self.weights]
        weights = weights or [()] * len(self.batches)
        for (inputs, labels), weight in zip(self.batches, weights, strict=True):

            def loss(inputs: Any = inputs, labels: Any = labels, weight: Any = weight) -> tf.Tensor:
                return self.loss(
                    labels, self.network(inputs, training=training), temperature, *weight
                )

            yield loss, self.fraction(labels)

    def gradients(self, *, training: bool, temperature: float = 1.0) -> Scores:
        """Returns the gradient of the mean loss of all samples, by name.

        Args:
            training: whether layers run in training mode. BatchNorm then normalizes with the
                statistics of the batch, and Dropout drops.
            temperature: divides the logits. Default 1.
        """
        variables = list(self.prunable.values())
        total = [np.zeros_like(v.numpy()) for v in variables]
        for loss, fraction in self.losses(training=training, temperature=temperature):
            with tf.GradientTape() as tape:
                value = loss()
            gradients = as_tensors(tape.gradient(value, variables), variables)
            for index, gradient in enumerate(gradients):
                total[index] += gradient.numpy() * fraction
        return dict(zip(self.prunable, total, strict=True))

    def fraction(self, labels: tf.Tensor) -> float:
        """Returns the fraction of all samples that is in a batch."""
        return _count(labels) / sum(_count(y) for _, y in self.batches)


def snip(inputs: ScoringInputs) -> Scores:
    """|w dL/dw|: how much the loss changes when a weight is scaled, in training mode.

    Source: Lee et al. 2019, "SNIP: Single-shot Network Pruning based on Connection Sensitivity",
    Equation 5, without the division by the sum, which does not change the order.
    """
    return checked("snip", _times_weight(inputs, inputs.gradients(training=True)))


SNIP = Criterion(snip, REWIND_POINT, needs_network=True, passes=1)


def taylor(inputs: ScoringInputs) -> Scores:
    """|w dL/dw|: first-order estimate of the change of the loss without a weight, at inference.

    Source: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", Equation 8
    for single weights, without the square, which does not change the order.
    """
    return checked("taylor", _times_weight(inputs, inputs.gradients(training=False)))


TAYLOR = Criterion(taylor, TRAINED, needs_network=True, passes=1)


def grasp(inputs: ScoringInputs, temperature: float = GRASP_TEMPERATURE) -> Scores:
    """w (H g): how much a weight contributes to the gradient flow, in training mode.

    Source: Wang et al. 2020, "Picking Winning Tickets Before Training by Preserving Gradient
    Flow", Equation 8 with the opposite sign, as the lowest scores are pruned here; the authors'
    code divides logits by a temperature of 200.
    """
    gradients = inputs.gradients(training=True, temperature=temperature)
    total = [tf.constant(g) for g in gradients.values()]
    variables = list(inputs.prunable.values())
    products = [np.zeros_like(v.numpy()) for v in variables]
    for loss, fraction in inputs.losses(training=True, temperature=temperature):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                value = loss()
            of_batch = as_tensors(inner.gradient(value, variables), variables)
            flow = tf.add_n([tf.reduce_sum(t * g) for t, g in zip(total, of_batch, strict=True)])
        hessian_products = as_tensors(outer.gradient(flow, variables), variables)
        for product, part in zip(products, hessian_products, strict=True):
            product += part.numpy() * fraction
    scores = {
        name: product * np.asarray(inputs.prunable[name])
        for name, product in zip(inputs.prunable, products, strict=True)
    }
    return checked("grasp", scores)


GRASP = Criterion(grasp, REWIND_POINT, needs_network=True, passes=2)


def synflow(inputs: ScoringInputs) -> Scores:
    """w dR/dw of the absolute weights, where R sums the logits for inputs of ones.

    Takes no data. Moving means of BatchNorm are 0. If R overflows float32, inputs and outputs are
    scaled down by powers of two, which does not change the order in a network without biases.

    Source: Tanaka et al. 2020, "Pruning Neural Networks without Any Data by Iteratively Conserving
    Synaptic Flow", Algorithm 1.

    Raises:
        ArgumentError: If the network outputs probabilities, whose sum does not depend on weights,
            or nothing flows from its inputs to its outputs.
        NonFiniteLossError: If R overflows float32 at every scale.
    """
    check_synflow(inputs.from_logits, inputs.batches[0][0])
    _make_positive(inputs.network)
    variables = list(inputs.prunable.values())
    first = tf.nest.map_structure(lambda part: part[:1], inputs.batches[0][0])
    for exponent in (0, 40, 80, 120):
        scale = 2.0**-exponent
        ones = tf.nest.map_structure(
            lambda part, scale=scale: (
                tf.cast(tf.fill(tf.shape(part), scale), part.dtype)
                if part.dtype.is_floating
                else tf.ones_like(part)
            ),
            first,
        )
        sources = tf.nest.flatten(ones)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([source for source in sources if source.dtype.is_floating])
            outputs = tf.nest.flatten(inputs.network(ones, training=False))
            flow = tf.add_n([tf.reduce_sum(output * scale) for output in outputs])
        gradients = as_tensors(tape.gradient(flow, variables), variables)
        scores = [g.numpy() * np.asarray(v) for g, v in zip(gradients, variables, strict=True)]
        if all(np.isfinite(score).all() for score in scores):
            if not _flows(tape.gradient(flow, sources)):
                raise _no_flow()
            return checked("synflow", dict(zip(inputs.prunable, scores, strict=True)))
    raise NonFiniteLossError("criterion: the scores of synflow are infinite in this network.")


def check_synflow(from_logits: bool, inputs: Any) -> None:
    """Raises `ArgumentError` if a network has no logits, or text as input.

    Args:
        from_logits: whether it outputs logits; probabilities otherwise.
        inputs: of a batch, or their dtypes.
    """
    if not from_logits:
        raise ArgumentError(
            "criterion",
            "synflow",
            "another one for a model that outputs probabilities",
            "Use a model without the last softmax.",
        )
    dtypes = [getattr(part, "dtype", part) for part in tf.nest.flatten(inputs)]
    if tf.string in dtypes:
        raise ArgumentError("criterion", "synflow", "another one for a model with text as input")


def _make_positive(network: Any) -> None:
    """Makes weights absolute; moving means, which normalization subtracts, become 0."""
    for weight in named_weights(network):
        value = tf.convert_to_tensor(weight.variable)
        is_mean = weight.role == "moving_mean"
        weight.variable.assign(tf.zeros_like(value) if is_mean else tf.abs(value))


def _flows(gradients: Sequence[tf.Tensor | None]) -> bool:
    """Whether R depends on the inputs; ids, as of words, have no gradients and always do."""
    return any(each is None or np.any(each.numpy()) for each in gradients)


SYNFLOW = Criterion(synflow, REWIND_POINT, needs_network=True)


def as_tensors(gradients: Sequence[Any], variables: Sequence[Any]) -> list[tf.Tensor]:
    """Returns gradients as dense tensors, zero for variables that do not affect the loss."""
    return [
        tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g)
        for g, v in zip(gradients, variables, strict=True)
    ]


def checked(criterion: str, scores: Scores) -> Scores:
    """Returns scores; raises `ArgumentError` if all are 0, which ranks no weight above another."""
    if any(np.any(score) for score in scores.values()):
        return scores
    if criterion == "synflow":
        raise _no_flow()
    raise ArgumentError(
        "criterion",
        criterion,
        "another one for this network, in which all scores are 0",
        "The loss does not depend on its prunable weights: look for activations that are all 0, "
        "a last layer that starts at 0, samples whose weights are all 0, or a layer that is "
        "pruned entirely.",
    )


def _no_flow() -> ArgumentError:
    return ArgumentError(
        "criterion",
        "synflow",
        "another one for a network whose outputs do not depend on inputs of 1",
        "Rescaling with a negative offset, or Normalization, makes inputs of 1 negative, and ReLU "
        "then outputs 0: preprocess the data before the model instead. If min_layer_density is 0, "
        "a layer may also have been pruned entirely.",
    )


def _count(labels: Any) -> int:
    return len(tf.nest.flatten(labels)[0])


def _times_weight(inputs: ScoringInputs, gradients: Scores) -> Scores:
    """Returns |w g| by name."""
    return {
        name: np.abs(gradient * np.asarray(inputs.prunable[name]))
        for name, gradient in gradients.items()
    }
