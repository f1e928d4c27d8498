"""Serves biases and normalization from one variable, as every variable costs load time and bytes.

A SavedModel names each variable in about ten places, with some 230 bytes, and a loader creates and
restores each one. In ResNet-20, 80 of 98 variables are vectors of batch normalization. The served
function reads one variable instead, and splits it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_prac.export.serving import Serving


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Small weights that are served from one variable.

    Attributes:
        names: the names of the weights, in the order in which the variable has them.
        variable: the concatenated weights.
        function: the served function that reads them from the variable.
    """

    names: list[str]
    variable: Any
    function: Any


def join_vectors(served: Serving, candidates: Mapping[str, Any]) -> Vectors | None:
    """Returns the served function with one variable in place of several vectors.

    Args:
        served: the traced inference function.
        candidates: variables of rank 1 and one type, by name. Those that the graph uses in another
            way than reading them, or not at all, are left out.

    Returns:
        The `Vectors`; None if fewer than two can be joined, or the graph calls functions.
    """
    graph = served.graph
    definition = graph.as_graph_def()
    reads = _reads(graph, candidates)
    if len(reads) < 2 or definition.library.function:
        return None
    variables = [candidates[name] for name in reads]
    variable = tf.Variable(tf.concat(variables, 0), trainable=False)
    joined = {tensor.op.inputs[0].op.name for tensors in reads.values() for tensor in tensors}
    joined |= {tensor.op.name for tensors in reads.values() for tensor in tensors}
    others = [(outer, inner) for outer, inner in graph.captures if inner.op.name not in joined]
    _remove(definition, joined | {tensor.op.name for tensor in graph.inputs})
    outputs = graph.structured_outputs

    def call(*args: Any) -> dict[str, Any]:
        parts = tf.split(variable.read_value(), [int(v.shape[0]) for v in variables])
        tensors = dict(zip((t.name for t in graph.inputs), args, strict=False))
        capture = tf.compat.v1.get_default_graph().capture
        tensors |= {inner.name: capture(outer) for outer, inner in others}
        for part, read in zip(parts, reads.values(), strict=True):
            tensors |= {tensor.name: part for tensor in read}
        results = tf.graph_util.import_graph_def(
            definition, tensors, [tensor.name for tensor in outputs.values()], name=""
        )
        return dict(zip(outputs, results, strict=True))

    signature = list(served.inputs.values())
    function = tf.function(call, input_signature=signature, autograph=False)
    return Vectors(list(reads), variable, function)


def _reads(graph: Any, candidates: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The tensors that read each variable, by its name."""
    names = {id(variable): name for name, variable in candidates.items()}
    may_fuse = any(_is_layer_norm(op) for op in graph.get_operations())
    reads = {}
    for outer, inner in graph.captures:
        name = names.get(id(getattr(outer, "_parent_trackable", lambda: None)()))
        users = inner.consumers()
        if name is None or not users or any(op.type != "ReadVariableOp" for op in users):
            continue
        tensors = [op.outputs[0] for op in users]
        types = {op.type for tensor in tensors for op in tensor.consumers()}
        if not (may_fuse and types & {"Mul", "AddV2"}):
            reads[name] = tensors
    return {name: reads[name] for name in candidates if name in reads}


def _is_layer_norm(operation: Any) -> bool:
    """Whether an operation is the core of a layer normalization of tf_keras.

    On CPUs, TensorFlow replaces it, the product with gamma and the sum with beta by one operation.
    It then takes the first output of the operation that gamma is an output of, whichever it is.
    """
    return operation.type == "FusedBatchNormV3" and operation.get_attr("is_training")


def _remove(definition: Any, names: set[str]) -> None:
    """Removes nodes, the order of other nodes after them, and their devices in common."""
    kept = [node for node in definition.node if node.name not in names]
    for node in kept:
        inputs = [i for i in node.input if not (i.startswith("^") and i[1:] in names)]
        del node.input[:]
        node.input.extend(inputs)
        node.attr.pop("_class", None)  # an embedding of tf_keras names the variable that it reads
    copies = [type(node).FromString(node.SerializeToString()) for node in kept]
    del definition.node[:]
    definition.node.extend(copies)
