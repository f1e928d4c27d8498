"""The graph of a functional model: its inputs and outputs, and the calls of its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tf_prac.errors import ArgumentError
from tf_prac.keras_api.flavor import FLAVORS
from tf_prac.keras_api.layers import class_names, unwrapped

_KEEP_VALUES = frozenset({"Dropout", "Flatten", "Permute", "Reshape", "RepeatVector"})


def structures(model: Any) -> tuple[Any, Any]:
    """Returns the symbolic inputs and outputs of a model, in their nested structure.

    Both are None for a subclassed model.
    """
    for names in (("_inputs_struct", "_outputs_struct"), ("_nested_inputs", "_nested_outputs")):
        inputs, outputs = (getattr(model, name, None) for name in names)
        if inputs is not None:
            return inputs, outputs
    inputs = getattr(model, "inputs", None)  # Sequential of Keras 3
    return (inputs[0], model.outputs[0]) if inputs else (None, None)


def symbolic_inputs(model: Any) -> list[Any]:
    """Returns the symbolic inputs of a model, without their structure; none if it has no graph."""
    return list(getattr(model, "inputs", None) or ())


def output_activations(model: Any) -> Any:
    """Returns the name of the activation of each output of a model, in their nested structure.

    None stands for an activation that is not known, as in a subclassed model.
    """
    import tensorflow as tf

    _, outputs = structures(model)
    return None if outputs is None else tf.nest.map_structure(_activation, outputs)


def _activation(tensor: Any) -> str | None:
    history = getattr(tensor, "_keras_history", None)
    layer = getattr(history, "operation", None) or getattr(history, "layer", None)
    if layer is None:
        return None
    if "Model" in class_names(layer):
        activations = output_activations(layer)
        return activations if isinstance(activations, str) else None
    if "Softmax" in class_names(layer):
        return "softmax"
    if _KEEP_VALUES.intersection(class_names(layer)) and len(layer._inbound_nodes) == 1:
        return _activation(layer.input)
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None) if activation is not None else None


def producers(layer: Any) -> list[Any]:
    """Returns the layers whose outputs are inputs of a layer, in a functional model."""
    layers = []
    for node in layer._inbound_nodes:
        if hasattr(node, "operation"):  # Keras 3
            layers += [parent.operation for parent in node.parent_nodes]
        else:
            inbound = node.inbound_layers
            layers += inbound if isinstance(inbound, list) else [inbound]
    return list(dict.fromkeys(layers))


def consumers(layer: Any) -> list[Any]:
    """Returns the layers that use a layer's outputs; for a Sequential model, its first layer."""
    layers = []
    for node in layer._outbound_nodes:
        consumer = node.operation if hasattr(node, "operation") else node.outbound_layer
        while "Sequential" in class_names(consumer):
            consumer = consumer.layers[0]
        layers.append(consumer)
    return list(dict.fromkeys(layers))


def output_layers(model: Any) -> list[Any]:
    """Returns the last layer with weights before each output, for a functional model.

    Layers without weights, such as activations, are passed over; in a layer that contains others,
    it is the last of these. Returns an empty list for any other model.
    """
    if structures(model)[1] is None:
        return []
    to_visit = [tensor._keras_history[0] for tensor in model.outputs]
    seen, layers = list(to_visit), []
    while to_visit:
        layer = unwrapped(to_visit.pop())
        if layer.weights:
            inside = [other for other in layer._flatten_layers(include_self=False) if other.weights]
            layers += output_layers(layer) or inside[-1:] or [layer]
            continue
        new = [other for other in producers(layer) if other not in seen]
        seen += new
        to_visit += new
    return list(dict.fromkeys(layers))


class Value:
    """A tensor in a `Graph`.

    Attributes:
        shape: its shape; None stands for an unknown size.
    """

    def __init__(self, shape: Iterable[int | None]):
        self.shape: tuple[Any, ...] = tuple(shape)


class Call(NamedTuple):
    """A call of a layer in a `Graph`.

    Attributes:
        layer: the layer, or an operation of Keras 3.
        path: the names of the nested models that contain it, such as "encoder/", or "".
        args, kwargs: its arguments, in which a `Value` stands for each tensor.
        inputs: the tensors in its arguments.
        outputs: the tensors that it returns.
    """

    layer: Any
    path: str
    args: Any
    kwargs: Any
    inputs: list[Value]
    outputs: list[Value]


class Graph(NamedTuple):
    """The calls of a functional model in topological order, nested models inlined.

    Attributes:
        inputs: for each input, its layer and tensor.
        calls: all calls that the outputs depend on.
        input_structure, output_structure: the tensors, nested as in the model.
    """

    inputs: list[tuple[Any, Value]]
    calls: list[Call]
    input_structure: Any
    output_structure: Any


def graph_of(model: Any) -> Graph:
    """Returns the graph of a functional or sequential model.

    Raises:
        ArgumentError: If the model is another one, whose calls Keras does not record.
    """
    import tensorflow as tf

    if not _has_graph(model):
        raise ArgumentError(
            "model",
            f"{model.name} of class {type(model).__name__}, a subclass whose graph Keras does not "
            "record",
            "a functional or sequential model, built",
            "Build the same layers as a functional model and copy the weights with set_weights.",
        )
    inputs, outputs = structures(model)
    flat = tf.nest.flatten(inputs)
    values = {id(tensor): Value(tensor.shape) for tensor in flat}
    calls: list[Call] = []
    _inline(model, values, "", calls)
    return Graph(
        [(tensor._keras_history[0], values[id(tensor)]) for tensor in flat],
        calls,
        tf.nest.map_structure(lambda tensor: values[id(tensor)], inputs),
        tf.nest.map_structure(lambda tensor: values[id(tensor)], outputs),
    )


def _has_graph(layer: Any) -> bool:
    """Whether a layer is a model of one of Keras's own functional classes, built."""
    kinds = {"Functional", "Sequential"} & {type(layer).__name__}
    own = type(layer).__module__.startswith(FLAVORS)
    return bool(kinds) and own and structures(layer)[1] is not None


def _inline(model: Any, values: dict[int, Value], path: str, calls: list[Call]) -> None:
    """Appends the calls of a model to `calls`, and its tensors to `values` (first its inputs)."""
    import tensorflow as tf

    for node in _sorted_nodes(tf.nest.flatten(structures(model)[1]), values):
        layer = node.operation if hasattr(node, "operation") else node.layer
        arguments = getattr(node, "arguments", None)
        args, kwargs = (
            (arguments.args, arguments.kwargs) if arguments else (node.call_args, node.call_kwargs)
        )
        args, kwargs = tf.nest.map_structure(
            lambda each: values[id(each)] if hasattr(each, "_keras_history") else each,
            (tuple(args), dict(kwargs)),
        )
        inputs = [each for each in tf.nest.flatten((args, kwargs)) if isinstance(each, Value)]
        tensors = tf.nest.flatten(node.outputs)
        if _has_graph(layer) and not kwargs.get("training"):
            inner = tf.nest.flatten(structures(layer)[0])
            given = _in_order(layer, args[0] if args else kwargs.get("inputs")) or inputs
            if len(inner) == len(given):
                scope = {id(t): value for t, value in zip(inner, given, strict=True)}
                _inline(layer, scope, f"{path}{layer.name}/", calls)
                returned = tf.nest.flatten(structures(layer)[1])
                for tensor, result in zip(tensors, returned, strict=True):
                    values[id(tensor)] = scope[id(result)]
                continue
        outputs = [Value(tensor.shape) for tensor in tensors]
        values.update({id(t): value for t, value in zip(tensors, outputs, strict=True)})
        calls.append(Call(layer, path, args, kwargs, inputs, outputs))


def _in_order(model: Any, given: Any) -> list[Value]:
    """Returns the tensors that a model is called with by name, in its order; else none."""
    reference = structures(model)[0]
    if not isinstance(given, Mapping):
        return []
    if isinstance(reference, Mapping):
        names = sorted(reference)
    elif isinstance(reference, (list, tuple)):
        names = [tensor._keras_history[0].name for tensor in reference]
    else:
        return []
    return [given[name] for name in names if isinstance(given.get(name), Value)]


def _sorted_nodes(tensors: Iterable[Any], known: Mapping[int, Value]) -> list[Any]:
    """Returns the nodes that compute tensors from known ones, in topological order."""
    done: dict[int, Any] = {}
    stack = [(tensor, False) for tensor in tensors]
    while stack:
        tensor, expanded = stack.pop()
        if id(tensor) in known:
            continue
        history = tensor._keras_history
        node = history[0]._inbound_nodes[history.node_index]
        if id(node) in done:
            continue
        if expanded:
            done[id(node)] = node
            continue
        stack.append((tensor, True))
        before = node.input_tensors if hasattr(node, "operation") else node.keras_inputs
        stack += [(each, False) for each in reversed(before)]
    return list(done.values())
