"""Builds the smaller model from the configs and sliced weights of a `Network`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tf_prac.checks import first_line
from tf_prac.errors import ArgumentError
from tf_prac.export.shrinking.kinds import Layer
from tf_prac.export.shrinking.network import Network
from tf_prac.keras_api import Call, Value, flavor_of, named_weights, unique_name
from tf_prac.pruning.masks import Masks

Array = np.ndarray


def rebuild(model: Any, network: Network, masked: Mapping[int, Array]) -> tuple[Any, Masks]:
    """Returns the smaller model and its masks.

    Args:
        model: the model that `network` describes.
        network: after `solve`.
        masked: the masks, by id of their variable.

    Raises:
        ArgumentError: If a layer cannot be made from its config.
    """
    import tensorflow as tf

    calls, _ = network.used()
    new: dict[tuple[int, bool], Any] = {}
    tensors: dict[Value, Any] = {}
    counts: dict[str, int] = {}
    for layer, value in network.graph.inputs:
        config = {**layer.get_config(), "name": unique_name(layer.name, counts)}
        tensors[value] = _make(type(layer).from_config, layer, config).output
    for call in calls:
        layer = network.layers[id(call.layer)]
        used = layer.kind.used_inputs(layer, call, network)
        used = [value for value in used if value in tensors]
        skipped = layer.kind.skips or len(used) == 1 < len(call.inputs)
        if skipped and call.outputs[0] not in network.outputs:
            tensors[call.outputs[0]] = tensors[used[0]]
            continue
        kept = id(call.layer), skipped
        if kept not in new:
            name = unique_name(_name(call, network), counts)
            new[kept] = _smaller(model, layer, network, name, skipped)
        results = tf.nest.flatten(_run(new[kept], call, used, tensors))
        tensors.update(zip(call.outputs, results, strict=True))
    keras = flavor_of(model).module
    structure = network.graph.output_structure
    outputs = tf.nest.map_structure(lambda value: tensors[value], structure)
    inputs = tf.nest.map_structure(lambda value: tensors[value], network.graph.input_structure)
    smaller = keras.Model(inputs, outputs, name=model.name)
    masks = {}
    for key, layer in network.layers.items():
        made = new.get((key, False))
        if hasattr(made, "weights"):
            masks.update(_set_weights(layer, made, network, masked))
    names = {id(w.variable): w.name for w in named_weights(smaller)}
    return smaller, Masks({names[key]: mask for key, mask in masks.items() if key in names})


def _name(call: Call, network: Network) -> str:
    """Returns the name of a layer, with the names of nested models if another has it too."""
    same = [each for each in network.layers.values() if each.layer.name == call.layer.name]
    return call.layer.name if len(same) == 1 else (call.path + call.layer.name).replace("/", "_")


def _smaller(model: Any, layer: Layer, network: Network, name: str, skipped: bool) -> Any:
    if skipped:  # an output keeps its name
        return flavor_of(model).module.layers.Activation("linear", name=name)
    if not hasattr(layer.layer, "weights"):  # an operation of Keras 3
        return layer.layer
    config = layer.kind.config(layer.layer.get_config(), layer, network)
    make = functools.partial(layer.kind.make, layer.layer)
    return _make(make, layer.layer, {**config, "name": name})


def _make(make: Callable[[Any], Any], layer: Any, config: dict[str, Any]) -> Any:
    try:
        return make(config)
    except Exception as error:  # classes of users raise errors of any class
        reason = first_line(error)
        raise ArgumentError(
            "model",
            f"the layer {layer.name} of class {type(layer).__name__}, which cannot be made from "
            f"its config ({reason})",
            "layers with get_config and from_config",
            "Replace it by a layer of Keras, or define both methods.",
        ) from error


def _run(layer: Any, call: Call, used: list[Value], tensors: Mapping[Value, Any]) -> Any:
    """Calls a layer with the arguments of a call, without the inputs that are not used."""
    import tensorflow as tf

    if type(layer) is not type(call.layer):  # stands for a layer that is left out
        return layer(tensors[used[0]])
    if set(used) != set(call.inputs):
        return layer([tensors[value] for value in call.inputs if value in used])
    args, kwargs = tf.nest.map_structure(
        lambda each: tensors[each] if isinstance(each, Value) else each, (call.args, call.kwargs)
    )
    return layer(*args, **kwargs)


def _set_weights(
    layer: Layer, new: Any, network: Network, masked: Mapping[int, Array]
) -> dict[int, Array]:
    """Sets the weights of a smaller layer; returns its masks by id of the variable."""
    if not layer.weights:
        return _copy_weights(layer.layer, new, masked)
    weights, present = layer.kind.adapted(layer, network)
    axes = layer.kind.axes(layer.layer)
    indices = layer.kind.indices(layer, network)
    old = layer.kind.variables(layer.layer)
    masks = {}
    for role, variable in layer.kind.variables(new).items():
        variable.assign(sliced(weights[role], axes[role], indices))
        if role in old and id(old[role]) in masked:
            masks[id(variable)] = sliced(present[role], axes[role], indices)
    return masks


def _copy_weights(layer: Any, new: Any, masked: Mapping[int, Array]) -> dict[int, Array]:
    if hasattr(layer, "set_vocabulary") and hasattr(layer, "get_vocabulary"):
        new.set_vocabulary(layer.get_vocabulary())
        return {}
    if not layer.weights:
        return {}
    new.set_weights(layer.get_weights())
    if hasattr(new, "finalize_state"):  # Normalization
        new.finalize_state()
    pairs = zip(layer.weights, new.weights, strict=True)
    return {id(b): masked[id(a)] for a, b in pairs if id(a) in masked}


def sliced(array: Array, axes: tuple[str | None, ...], indices: Mapping[str, Array]) -> Array:
    """Returns the kept part of an array, whose last axes are named."""
    for number, axis in enumerate(axes):
        if axis is not None:
            array = np.take(array, indices[axis], axis=number - len(axes))
    return array
