"""Which weights of a model are prunable, and snapshots of all weights.

Prunable weights are the same as in TensorFlow Model Optimization: kernels of supported layers, and
the weights that `get_prunable_weights` of a layer returns; never biases or normalization.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tf_prac.checks import class_path
from tf_prac.config import PruningConfig
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.keras_api import (
    NamedWeight,
    class_names,
    named_weights,
    output_layers,
    pruning_wrappers,
    to_numpy,
)
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.policies import PruneForLatencyOnXNNPack, check_policy

_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
_TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
PRUNABLE_LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Dense": ("dense", ("kernel",)),
    "EinsumDense": ("dense", ("kernel",)),
    **dict.fromkeys((*_CONVOLUTIONS, *_TRANSPOSED), ("conv", ("kernel",))),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), ("conv", ("pointwise_kernel",))),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), ("depthwise", ("depthwise_kernel",))),
    "Embedding": ("embedding", ("embeddings",)),
    **dict.fromkeys(
        ("SimpleRNNCell", "GRUCell", "LSTMCell"), ("recurrent", ("kernel", "recurrent_kernel"))
    ),
}


Decision = tuple[bool, str]
"""Whether a weight is pruned, and the reason."""
FROZEN = "frozen (trainable=False)"
"""The reason why a weight of a frozen layer is not pruned."""
OPTIMIZER = "@optimizer/"
"""Prefix of the optimizer's variables in the weights of a rewind point."""


class WeightInfo(NamedTuple):
    """An entry of `weight_report`: a weight, and why it is pruned or not.

    Attributes:
        name: the path of layers to the weight, such as "conv1/kernel".
        shape: its shape.
        prunable: whether it is pruned.
        reason: why, as a phrase.
    """

    name: str
    shape: tuple[int, ...]
    prunable: bool
    reason: str


def weight_report(
    model: Any,
    config: PruningConfig | None = None,
    policy: Any = None,
    *,
    frozen: bool = False,
) -> list[WeightInfo]:
    """Reports for every weight of a model whether it is pruned, and why.

    Example:

        >>> for weight in weight_report(model, PruningConfig(prune_last_dense=True)):
        ...     print(weight.name, weight.prunable, weight.reason)

    Args:
        model: a built model of either flavor. In a model that has masks, from `tf_prac.prune` or
            in TFMOT's pruning wrappers, the weights with a mask are pruned.
        config: which layers are pruned. Default `PruningConfig()`.
        policy: restricts these layers: an object such as TFMOT's `PruningPolicy`. Default None:
            the policy of `config.policy`.
        frozen: whether weights of layers with `trainable=False` are pruned like others.
            Default False: they are not pruned.

    Raises:
        ArgumentError: If the policy does not support the model, or a pattern of `ignore` matches
            no weight.
    """
    config = config or PruningConfig()
    weights = named_weights(model)
    masked = _masked_ids(model)
    if masked:
        decisions = [_decide_by_mask(id(w.variable) in masked) for w in weights]
    else:
        _check_ignored(weights, config)
        if policy is None and config.policy == "xnnpack":
            policy = PruneForLatencyOnXNNPack()
        if policy is not None:
            check_policy(policy, model)
        heads = _output_layers(model, weights)
        trainable = {id(variable) for variable in model.trainable_weights}
        decisions = [
            _decide(w, config, heads, frozen or id(w.variable) in trainable, policy)
            for w in weights
        ]
    return [
        WeightInfo(w.name, tuple(w.variable.shape), *decision)
        for w, decision in zip(weights, decisions, strict=True)
    ]


def prunable_weights(
    model: Any, config: PruningConfig | None = None, policy: Any = None
) -> dict[str, Any]:
    """Returns the prunable variables of a model, by name.

    Example:

        >>> list(prunable_weights(lenet))  # doctest: +SKIP
        ['dense_1/kernel', 'dense_2/kernel']

    Args:
        model: a built model of either flavor.
        config: which layers are pruned. Default `PruningConfig()`: convolutions and all dense
            layers except the last, or the output layers of a model with several outputs. Layers
            with `trainable=False` are not pruned.
        policy: as for `weight_report`.

    Raises:
        ArgumentError: If no weight is prunable; the message names the reasons.
    """
    config = config or PruningConfig()
    report = {info.name: info for info in weight_report(model, config, policy)}
    prunable = {w.name: w.variable for w in named_weights(model) if report[w.name].prunable}
    if not prunable:
        reasons = "; ".join(f"{i.name}: {i.reason}" for i in report.values() if len(i.shape) > 1)
        raise ArgumentError("model", model.name, "a model with weights to prune", reasons)
    return prunable


def prune_rates(model: Any, config: PruningConfig | None = None) -> dict[str, float]:
    """Returns the prune rate of each prunable weight, by name.

    Example:

        >>> config = PruningConfig(prune_last_dense=True, layer_rates=("output=0.1",))
        >>> prune_rates(lenet, config)  # doctest: +SKIP
        {'dense/kernel': 0.2, 'dense_1/kernel': 0.2, 'logits/kernel': 0.1}

    Source: "The Lottery Ticket Hypothesis", Appendix G and H (the output layer at half the rate,
    different rates for convolutions and dense layers).

    Args:
        model: a built model of either flavor.
        config: which layers are pruned, and how much. Default `PruningConfig()`.

    Raises:
        ArgumentError: If a rule of `layer_rates` matches no prunable weight.
    """
    config = config or PruningConfig()
    prunable = prunable_weights(model, config)
    weights = named_weights(model)
    heads = _output_layers(model, weights)
    labels = {w.name: _rate_labels(w, heads) for w in weights if w.name in prunable}
    for pattern, _ in config.rate_rules:
        if not any(_matches(labels[name], pattern) for name in labels):
            raise ArgumentError(
                "layer_rates",
                pattern,
                f"output, a group of layers, or a pattern of {', '.join(labels)}",
                "It matches no weight that is pruned.",
            )
    return {
        name: next(
            (rate for pattern, rate in config.rate_rules if _matches(labels[name], pattern)),
            config.prune_rate,
        )
        for name in labels
    }


def transposed_kernels(model: Any) -> frozenset[str]:
    """Returns the names of the kernels of transposed convolutions, for `tf_prac.pruning.refill`.

    Their output channels are the axis before the last.

    Example:

        >>> masks = refill(ticket.masks, transposed=transposed_kernels(model))

    Args:
        model: a built model of either flavor.
    """
    return frozenset(
        w.name
        for w in named_weights(model)
        if w.role == "kernel" and set(_TRANSPOSED).intersection(class_names(w.layer))
    )


def unused_patterns(model: Any, config: PruningConfig) -> list[str]:
    """Returns the patterns of `ignore` that match no weight of a model."""
    return _unused(named_weights(model), config)


def snapshot(model: Any) -> dict[str, np.ndarray]:
    """Returns a copy of every weight of a model, including BatchNorm's statistics, by name.

    Example:

        >>> w_0 = snapshot(model)
        >>> model.fit(x_train, y_train)
        >>> rewind(model, w_0)

    Args:
        model: a built model of either flavor.
    """
    return {w.name: to_numpy(w.variable) for w in named_weights(model)}


def rewind(model: Any, weights: Mapping[str, np.ndarray], masks: Masks | None = None) -> None:
    """Sets every weight of a model to its value in a `snapshot`, and pruned elements to zero.

    Example:

        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
        >>> rewind(model, {"dense/kernel": np.ones((2, 1)), "dense/bias": np.zeros(1)})
        >>> model.get_weights()[0].tolist()
        [[1.0], [1.0]]

    Source: "Stabilizing the Lottery Ticket Hypothesis", Algorithm 1 (reset W to W_k).

    Args:
        model: a built model of the same architecture, of either flavor.
        weights: a `snapshot`; variables of an optimizer are ignored.
        masks: if given, pruned weights are set to exactly 0. Default None.

    Raises:
        MismatchError: If names or shapes differ; the model is unchanged then.
    """
    variables = {w.name: w.variable for w in named_weights(model)}
    weights = {n: value for n, value in weights.items() if not n.startswith(OPTIMIZER)}
    check_same_shapes(
        {name: tuple(v.shape) for name, v in variables.items()},
        {name: np.shape(value) for name, value in weights.items()},
    )
    values = masks.apply(weights) if masks is not None else weights
    for name, variable in variables.items():
        variable.assign(values[name])


def check_same_shapes(
    model: Mapping[str, tuple[int, ...]], saved: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises `MismatchError`, naming the first difference, unless names and shapes are equal."""
    advice = "Use a model of the same architecture."
    for name in model:
        if name not in saved:
            raise MismatchError(f"model: its weight {name!r} is not in the saved weights. {advice}")
        if tuple(model[name]) != tuple(saved[name]):
            raise MismatchError(
                f"model: {name} has shape {tuple(model[name])}, the saved one "
                f"{tuple(saved[name])}. {advice}"
            )
    for name in saved:
        if name not in model:
            raise MismatchError(f"model: it has no weight {name!r}, which was saved. {advice}")


def _masked_ids(model: Any) -> set[int]:
    """Returns the ids of the variables for which a model has masks."""
    masked = getattr(model, "masked_weights", None)
    if masked is not None:
        return {id(v) for v in masked.variables.values()}
    return {id(w) for layer in pruning_wrappers(model) for w, _, _ in layer.pruning_vars}


def _check_ignored(weights: list[NamedWeight], config: PruningConfig) -> None:
    """Raises `ArgumentError` if a pattern of `ignore` matches no weight."""
    for pattern in _unused(weights, config):
        layers = dict.fromkeys(_names(weight)[1] for weight in weights)
        allowed = f"a layer, a weight or a pattern of them: {', '.join(layers)}"
        raise ArgumentError("ignore", pattern, allowed, "It matches no weight.")


def _unused(weights: list[NamedWeight], config: PruningConfig) -> list[str]:
    return [p for p in config.ignore if not any(_matches(_names(w), p) for w in weights)]


def _decide_by_mask(masked: bool) -> Decision:
    return masked, "the model has a mask for it" if masked else "the model has no mask for it"


def _decide(
    weight: NamedWeight, config: PruningConfig, heads: list[Any], trains: bool, policy: Any
) -> Decision:
    """Returns whether a weight is pruned by the options, unless it is frozen, and the policy."""
    decision = _decide_by_options(weight, config, heads)
    if not decision[0]:
        return decision
    if not trains:
        return False, FROZEN
    if policy is not None and not policy.allow_pruning(weight.layer):
        return False, f"the policy {type(policy).__name__} does not allow it"
    return decision


def _decide_by_options(weight: NamedWeight, config: PruningConfig, heads: list[Any]) -> Decision:
    """Returns whether the layer and the options make a weight prunable, and why."""
    if any(_matches(_names(weight), pattern) for pattern in config.ignore):
        return False, "named in ignore"
    rule = _rule(weight.layer)
    # TFMOT adds this method to instances of layers that it supports when it wraps them.
    owner = type(weight.layer) if rule else weight.layer
    if getattr(owner, "get_prunable_weights", None) is not None:
        chosen = any(weight.variable is w for w in weight.layer.get_prunable_weights())
        return chosen, "chosen by its layer" if chosen else "not chosen by its layer"
    if rule is None:
        return False, f"no pruning rule for layers of class {class_path(weight.layer)}"
    group, roles = rule
    if weight.role not in roles:
        return False, f"a {weight.role}, not a kernel"
    if group not in config.layers:
        return False, f"{group} layers are not pruned (layers={','.join(config.layers)})"
    if not config.prune_last_dense and any(weight.layer is head for head in heads):
        kind = "the last dense layer" if len(heads) == 1 else "an output layer"
        return False, f"{kind} (prune_last_dense=False)"
    return True, f"{group} layer"


def _names(weight: NamedWeight) -> list[str]:
    """Returns what a pattern of names is matched with: the weight's name and its layer's."""
    return [weight.name, weight.name.rpartition("/")[0]]


def _rate_labels(weight: NamedWeight, heads: list[Any]) -> list[str]:
    """Returns what the patterns of `layer_rates` are matched with."""
    rule = _rule(weight.layer)
    output = ["output"] if any(weight.layer is head for head in heads) else []
    return _names(weight) + output + ([rule[0]] if rule else [])


def _matches(labels: list[str], pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(label, pattern) for label in labels)


def _rule(layer: Any) -> tuple[str, tuple[str, ...]] | None:
    return next((PRUNABLE_LAYERS[c] for c in class_names(layer) if c in PRUNABLE_LAYERS), None)


def _output_layers(model: Any, weights: list[NamedWeight]) -> list[Any]:
    """Returns the dense layers that `prune_last_dense` is about.

    This is the last dense layer or, in a model with several outputs, the dense layer of each.
    """
    dense = [w.layer for w in weights if "Dense" in class_names(w.layer)]
    heads = [layer for layer in output_layers(model) if any(layer is other for other in dense)]
    return heads if len(heads) > 1 else dense[-1:]
