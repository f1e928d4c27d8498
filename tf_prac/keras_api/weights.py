"""The weights of a model: names that are the same in every process, and their variables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tf_prac.errors import ArgumentError
from tf_prac.keras_api.flavor import flavor_of
from tf_prac.keras_api.layers import class_names, stable_name, unique_name, unwrapped


class NamedWeight(NamedTuple):
    """A weight of a model, with a name that does not depend on flavor or process.

    Attributes:
        name: the path of layers to the weight, such as "conv1/kernel".
        role: the last part of the name, such as "kernel".
        variable: the Keras variable.
        layer: the layer that owns it.
    """

    name: str
    role: str
    variable: Any
    layer: Any


def named_weights(model: Any) -> list[NamedWeight]:
    """Returns every weight of a built model once, in a fixed order.

    A name is the path of layers to the weight, such as "mobilenet/conv1/kernel". Names generated
    by Keras ("dense_7") are renumbered for each model, so that the same architecture always has
    the same names, in both flavors. Pruning wrappers of TFMOT do not appear in the path.

    Args:
        model: a built model or layer of either flavor.

    Returns:
        A `NamedWeight` for each weight.

    Raises:
        ArgumentError: If the model is not built.
    """
    flavor_of(model)
    if not model.built:
        raise ArgumentError(
            "model", model.name, "a built model", "Call it on a batch, or give it an Input."
        )
    weights: dict[int, NamedWeight] = {}
    counts: dict[str, int] = {}
    for path, layer in _layers(model, ()):
        for variable in _own_weights(layer):
            if id(variable) in weights:
                continue
            role = _role(variable, layer)
            name = unique_name("/".join((*path, role)), counts)
            weights[id(variable)] = NamedWeight(name, role, variable, layer)
    return list(weights.values())


def numeric(weights: Iterable[Any]) -> list[Any]:
    """Returns the weights that are variables of numbers; others are tables of words, in Keras 2."""
    return [weight for weight in weights if hasattr(weight, "name") and hasattr(weight, "dtype")]


def to_numpy(variable: Any) -> np.ndarray:
    """Returns a copy of a variable's value as an array."""
    return np.array(variable.numpy())


def tf_variable(variable: Any) -> Any:
    """Returns the `tf.Variable` of a weight of either flavor."""
    for attribute in ("_value", "_variable"):  # Keras 3; mixed precision in Keras 2
        if (inner := getattr(variable, attribute, None)) is not None:
            return inner
    return variable


def _layers(layer: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, layer
    counts: dict[str, int] = {}
    children = [unwrapped(c) for c in layer._flatten_layers(include_self=False, recursive=False)]
    for child in children:
        if numeric(child.weights):
            yield from _layers(child, (*path, unique_name(stable_name(child), counts)))


def _own_weights(layer: Any) -> Iterable[Any]:
    children = layer._flatten_layers(include_self=False, recursive=False)
    inherited = {id(w) for child in children for w in child.weights}
    return [w for w in numeric(layer.weights) if id(w) not in inherited]


def _role(variable: Any, layer: Any) -> str:
    role = variable.name.split("/")[-1].split(":")[0]
    depthwise = any(name.startswith("DepthwiseConv") for name in class_names(layer))
    return "depthwise_kernel" if depthwise and role == "kernel" else role
