"""Scores of weights that need no training: what pruning at initialisation ranks by.

Each is a function of a network whose present weights are masked, and of a few samples; the search
calls it at W_k, so with `rewind="0it"` at initialisation. BatchNorm uses the statistics of the
batch where a loss is differentiated, as in training. To add one, write it and name it in
`SALIENCIES` and in `tf_prac.pruning.criteria.UNTRAINED`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_prac.config import PruningConfig
from tf_prac.data.pipeline import evaluation_batches
from tf_prac.data.search_data import Subset
from tf_prac.data.selection import choose
from tf_prac.errors import ArgumentError, NonFiniteLossError
from tf_prac.keras_api import named_weights
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import rewind
from tf_prac.training.gradients import as_logits, cross_entropy
from tf_prac.training.trainer import Trainer

Scores = dict[str, np.ndarray]
GRASP_TEMPERATURE = 200.0
BATCH = 256


class Probe(NamedTuple):
    """What a saliency is computed from.

    Attributes:
        network: a built model with masked weights.
        prunable: its prunable variables, by name.
        batches: tensors (inputs, labels) of the samples.
        from_logits: whether it gives logits; probabilities otherwise.
    """

    network: Any
    prunable: Mapping[str, Any]
    batches: Sequence[tuple[tf.Tensor, tf.Tensor]]
    from_logits: bool


def magnitude(probe: Probe) -> Scores:
    """|w|: magnitude pruning without training."""
    return {name: np.abs(np.asarray(v)) for name, v in probe.prunable.items()}


def snip(probe: Probe) -> Scores:
    """|w dL/dw|: how much the loss changes when a weight is scaled.

    Source: Lee et al. 2019, "SNIP: Single-shot Network Pruning based on Connection Sensitivity",
    Equation 5, without the division by the sum, which changes no order.
    """
    gradients = _gradient(probe, 1.0)
    return {
        name: np.abs(gradient * np.asarray(probe.prunable[name]))
        for name, gradient in zip(probe.prunable, gradients, strict=True)
    }


def grasp(probe: Probe, temperature: float = GRASP_TEMPERATURE) -> Scores:
    """w (H g): how much gradient flow a weight carries; those that hinder it go first.

    Source: Wang et al. 2020, "Picking Winning Tickets Before Training by Preserving Gradient
    Flow", Equation 8 with the opposite sign, as here the lowest scores are pruned; the authors'
    code divides logits by a temperature of 200.
    """
    total = [tf.constant(g) for g in _gradient(probe, temperature)]
    variables = list(probe.prunable.values())
    products = [np.zeros_like(v.numpy()) for v in variables]
    for inputs, labels in probe.batches:
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                loss = _loss(probe, inputs, labels, temperature)
            gradients = _dense(inner.gradient(loss, variables), variables)
            flow = tf.add_n([tf.reduce_sum(t * g) for t, g in zip(total, gradients, strict=True)])
        for product, part in zip(
            products, _dense(outer.gradient(flow, variables), variables), strict=True
        ):
            product += part.numpy() * _share(probe, labels)
    return {
        name: product * np.asarray(probe.prunable[name])
        for name, product in zip(probe.prunable, products, strict=True)
    }


def synflow(probe: Probe) -> Scores:
    """|w dR/dw|, where R sums the logits for inputs of ones and all weights made positive.

    Needs no data. Where R does not fit float32, inputs and outputs are scaled down by powers of
    two, which changes no order in a network without biases.

    Source: Tanaka et al. 2020, "Pruning Neural Networks without Any Data by Iteratively Conserving
    Synaptic Flow", Algorithm 1.

    Raises:
        ArgumentError: the network gives probabilities, which sum to one whatever its weights.
        NonFiniteLossError: R does not fit float32 however it is scaled.
    """
    if not probe.from_logits:
        raise ArgumentError(
            "criterion",
            "synflow",
            "another one for a model that gives probabilities",
            "Give it a model without the last softmax.",
        )
    for weight in named_weights(probe.network):
        weight.variable.assign(tf.abs(tf.convert_to_tensor(weight.variable)))
    variables = list(probe.prunable.values())
    ones = tf.ones_like(probe.batches[0][0][:1])
    for exponent in (0, 40, 80, 120):
        scale = 2.0**-exponent
        with tf.GradientTape() as tape:
            flow = tf.reduce_sum(probe.network(ones * scale, training=False) * scale)
        gradients = _dense(tape.gradient(flow, variables), variables)
        scores = [g.numpy() * np.asarray(v) for g, v in zip(gradients, variables, strict=True)]
        if all(np.isfinite(score).all() for score in scores):
            return dict(zip(probe.prunable, scores, strict=True))
    raise NonFiniteLossError("criterion: the scores of synflow are infinite in this network.")


class Saliency(NamedTuple):
    """A way to score untrained weights, and how often it goes through its samples."""

    score: Callable[[Probe], Scores]
    passes: int


SALIENCIES = {
    "magnitude_init": Saliency(magnitude, 0),
    "snip": Saliency(snip, 1),
    "grasp": Saliency(grasp, 2),
    "synflow": Saliency(synflow, 0),
}


class UntrainedScores:
    """Scores the weights of a network by a criterion of `SALIENCIES`.

    Args:
        trainer: whose network is scored; its weights are left as those scored.
        config: which criterion, and from how many samples of each class.
        train: the training set, from which those are drawn.
        weights: the weights to score, every one of the network, W_k.
        seed: of the draw.
    """

    def __init__(
        self,
        trainer: Trainer,
        config: PruningConfig,
        train: Subset,
        weights: Mapping[str, np.ndarray],
        seed: int,
    ):
        self._weights, self._saliency = weights, SALIENCIES[config.criterion]
        chosen = few_of_each_class(train, config.score_samples, seed)
        read = evaluation_batches(train.samples, chosen, batch_size=BATCH)
        batches = [(x["inputs"], y) for x, y in read]
        self._probe = Probe(trainer.network, trainer.model.prunable, batches, trainer.from_logits)
        self._passed = len(chosen) * self._saliency.passes
        self.gradient_samples = 0

    def __call__(self, masks: Masks) -> Scores:
        """Returns the scores under masks, and counts the samples of `gradient_samples`."""
        rewind(self._probe.network, self._weights, masks)
        scores = self._saliency.score(self._probe)
        rewind(self._probe.network, self._weights, masks)
        self.gradient_samples += self._passed
        return scores


def few_of_each_class(train: Subset, count: int, seed: int) -> np.ndarray:
    """Returns the ids of `count` samples of each class, or all it has, drawn at random."""
    labels = train.labels
    chosen = [
        members[choose(np.zeros(len(members)), min(count, len(members)), seed=(seed, int(each)))]
        for each in np.unique(labels)
        for members in [train.ids[labels == each]]
    ]
    return np.sort(np.concatenate(chosen))


def _gradient(probe: Probe, temperature: float) -> list[np.ndarray]:
    """The gradient of the mean loss over all samples, for each prunable weight."""
    variables = list(probe.prunable.values())
    total = [np.zeros_like(v.numpy()) for v in variables]
    for inputs, labels in probe.batches:
        with tf.GradientTape() as tape:
            loss = _loss(probe, inputs, labels, temperature)
        for place, part in enumerate(_dense(tape.gradient(loss, variables), variables)):
            total[place] += part.numpy() * _share(probe, labels)
    return total


def _loss(probe: Probe, inputs: tf.Tensor, labels: tf.Tensor, temperature: float) -> tf.Tensor:
    outputs = probe.network(inputs, training=True)
    logits = outputs if probe.from_logits else as_logits(outputs)
    return cross_entropy(labels, logits / temperature, from_logits=True)


def _share(probe: Probe, labels: tf.Tensor) -> float:
    return len(labels) / sum(len(y) for _, y in probe.batches)


def _dense(gradients: Sequence[Any], variables: Sequence[Any]) -> list[tf.Tensor]:
    """Gradients as tensors; zeros where the loss does not depend on a weight."""
    return [
        tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g)
        for g, v in zip(gradients, variables, strict=True)
    ]
