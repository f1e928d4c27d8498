"""Removes from a SavedModel what serving does not need: most of the file of a small network.

`tf.saved_model.save` writes the graph that saves checkpoints, every signature twice, the shapes of
all outputs, which loaders infer, and long names of nodes that only debuggers show. Names of inputs,
outputs and signatures, and everything that a loader computes with, stay.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import string
from collections.abc import Iterator
from typing import Any

from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_UNUSED_ATTRIBUTES = ("_output_shapes", "_collective_manager_ids")
_WRITES = re.compile(r"Assign|Resource(Scatter|Strided|Apply|Sparse)")
_CALL_CONFIG = ConfigProto(allow_soft_placement=True).SerializeToString()


def slim(text: bytes, prefix: str) -> bytes:
    """Returns a smaller saved_model.pb, whose fingerprint no longer matches.

    Args:
        text: the content of the saved_model.pb.
        prefix: of the names of variables, which must be unique in a session with several models.
    """
    saved = SavedModel.FromString(text)
    (meta,) = saved.meta_graphs
    meta.meta_info_def.ClearField("stripped_op_list")  # for loaders older than the writer
    meta.saver_def.save_tensor_name = meta.saver_def.filename_tensor_name
    _share_signatures(meta)
    _inline_restore(meta)
    _remove_unreachable(meta)
    library = meta.graph_def.library
    writers = _writers(library)
    for function in library.function:
        _shorten_function(function, function.signature.name in writers)
    _rename_functions(meta)
    _rename_nodes(meta, prefix)
    for node in itertools.chain(meta.graph_def.node, *(f.node_def for f in library.function)):
        _remove_attributes(node)
    return saved.SerializeToString(deterministic=True)


def _share_signatures(meta: Any) -> None:
    """Makes signatures of the same function use the same nodes of the graph."""
    first = meta.signature_def["serving_default"]
    for name, signature in meta.signature_def.items():
        same = [sorted(s.inputs) + sorted(s.outputs) for s in (first, signature)]
        if name == "serve" and same[0] == same[1]:
            signature.CopyFrom(first)


def _inline_restore(meta: Any) -> None:
    """Moves the function that restores the checkpoint into the graph.

    Loaders in Python build a graph of every function, but call the saver of the graph only in
    sessions.
    """
    graph, name = meta.graph_def, meta.saver_def.restore_op_name
    call = next(node for node in graph.node if node.name == name)
    functions = {function.signature.name: function for function in graph.library.function}
    body = functions[call.attr["f"].func.name]
    arguments = {
        arg.name: tensor for arg, tensor in zip(body.signature.input_arg, call.input, strict=False)
    }
    names = {node.name: f"restore/{node.name}" for node in body.node_def}

    def outside(tensor: str) -> str:
        node, _, output = tensor.partition(":")
        if node in arguments:
            return arguments[node]
        return f"{_renamed(node, names)}{output and ':'}{output.rpartition(':')[2]}"

    order = [f"^{names[node]}" for node in body.control_ret.values()]
    order += [f"^{names[_node_of(tensor)]}" for tensor in body.ret.values()]
    for node in body.node_def:
        copy = graph.node.add()
        copy.CopyFrom(node)
        copy.name = names[node.name]
        del copy.input[:]
        copy.input.extend(outside(tensor) for tensor in node.input)
    call.Clear()
    call.name, call.op = name, "NoOp"
    call.input.extend(dict.fromkeys(order))


def _remove_unreachable(meta: Any) -> None:
    """Removes nodes that no signature, initializer or checkpoint needs, and unused functions."""
    graph = meta.graph_def
    nodes = {node.name: node for node in graph.node}
    pending, reached = list(_named_nodes(meta)), set()
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += [_node_of(tensor) for tensor in nodes[name].input]
    _replace(graph.node, [node for node in graph.node if node.name in reached])
    functions = {function.signature.name: function for function in graph.library.function}
    called = [name for node in graph.node for name in _called(node)]
    called += list(meta.object_graph_def.concrete_functions)
    reached = set()
    while called:
        name = called.pop()
        if name not in reached and name in functions:
            reached.add(name)
            called += [each for node in functions[name].node_def for each in _called(node)]
    _replace(graph.library.function, [functions[n] for n in functions if n in reached])


def _named_nodes(meta: Any) -> set[str]:
    """The nodes of the graph that something outside the graph names."""
    saver = meta.saver_def
    names = [saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name]
    for signature in meta.signature_def.values():
        infos = [*signature.inputs.values(), *signature.outputs.values()]
        names += [info.name for info in infos]
    for collection in meta.collection_def.values():
        names += collection.node_list.value
    names += [asset.tensor_info.name for asset in meta.asset_file_def]
    objects = meta.object_graph_def.nodes
    names += [o.constant.operation for o in objects if o.HasField("constant")]
    return {_node_of(name) for name in names if name}


def _writers(library: Any) -> set[str]:
    """The names of functions that write to variables, themselves or by a call."""
    functions = {function.signature.name: function for function in library.function}
    called = {name: _called_by(function) for name, function in functions.items()}
    writers = {name for name, ops in called.items() if any(map(_WRITES.match, ops))}
    while new := {name for name, ops in called.items() if ops & writers} - writers:
        writers |= new
    return writers


def _shorten_function(function: Any, writes: bool) -> None:
    """Renames nodes and captured arguments; removes order among reads, if nothing is written."""
    signature, names = function.signature, _short_names()
    taken = {arg.name for arg in signature.input_arg} | set(function.ret)
    renamed: dict[str, str] = {}
    for index, arg in enumerate(signature.input_arg):
        arg.ClearField("handle_data")  # loaders infer it from the variables
        if arg.type == types_pb2.DT_RESOURCE:
            renamed[arg.name] = next(n for n in names if n not in taken)
            arg.name = renamed[arg.name]
            function.arg_attr.pop(index, None)
    reads = set()
    for node in function.node_def:
        renamed[node.name] = next(n for n in names if n not in taken)
        if node.op == "ReadVariableOp" and not writes:
            reads.add(node.name)
        node.ClearField("experimental_debug_info")
    for node in function.node_def:
        inputs = [_renamed(i, renamed) for i in node.input if i[:1] != "^" or i[1:] not in reads]
        node.name = renamed[node.name]
        del node.input[:]
        node.input.extend(inputs)
    for name, tensor in list(function.ret.items()):
        function.ret[name] = _renamed(tensor, renamed)
    kept = {name: node for name, node in function.control_ret.items() if node not in reads}
    function.control_ret.clear()
    del signature.control_output[:]
    for node in kept.values():
        function.control_ret[renamed[node]] = renamed[node]
        signature.control_output.append(renamed[node])


def _rename_functions(meta: Any) -> None:
    """Names functions by their content, so that equal ones are one."""
    library = meta.graph_def.library
    renamed: dict[str, str] = {}
    pending = {function.signature.name: function for function in library.function}
    while pending:
        ready = [n for n, f in pending.items() if not _called_by(f) & pending.keys()]
        if not ready:  # a recursive function
            break
        for name in ready:
            function = pending.pop(name)
            for node in function.node_def:
                _rename_calls(node, renamed)
            function.signature.name = ""
            content = function.SerializeToString(deterministic=True)
            function.signature.name = f"f{hashlib.sha256(content).hexdigest()[:8]}"
            renamed[name] = function.signature.name
    for function in pending.values():
        for node in function.node_def:
            _rename_calls(node, renamed)
    for node in meta.graph_def.node:
        _rename_calls(node, renamed)
    first = {f.signature.name: index for index, f in reversed(list(enumerate(library.function)))}
    unique = [library.function[index] for index in sorted(first.values())]
    _replace(library.function, unique)
    _rename_objects(meta.object_graph_def, renamed)


def _rename_objects(objects: Any, renamed: dict[str, str]) -> None:
    concrete = dict(objects.concrete_functions.items())
    copies = {
        renamed.get(name, name): type(f).FromString(f.SerializeToString())
        for name, f in concrete.items()
    }
    objects.concrete_functions.clear()
    for name, function in copies.items():
        objects.concrete_functions[name].CopyFrom(function)
    for node in objects.nodes:
        if node.HasField("variable"):
            node.variable.ClearField("name")
        names = node.function.concrete_functions
        if node.HasField("function"):
            short = [renamed.get(name, name) for name in names]
            del names[:]
            names.extend(short)
        if node.HasField("bare_concrete_function"):
            name = node.bare_concrete_function.concrete_function_name
            node.bare_concrete_function.concrete_function_name = renamed.get(name, name)


def _rename_nodes(meta: Any, prefix: str) -> None:
    """Renames the nodes of the graph that are named only in the graph, and variables."""
    named, names = _named_nodes(meta), _short_names()
    renamed = {
        node.name: node.name if node.name in named else next(n for n in names if n not in named)
        for node in meta.graph_def.node
    }
    for node in meta.graph_def.node:
        if node.op == "VarHandleOp":  # unique in a session with several models
            renamed[node.name] = f"{prefix}{renamed[node.name]}"
    for node in meta.graph_def.node:
        inputs = [_renamed(tensor, renamed) for tensor in node.input]
        node.name = renamed[node.name]
        del node.input[:]
        node.input.extend(inputs)
        if node.op == "VarHandleOp":  # the converter of TFLite expects equal names
            node.attr["shared_name"].s = node.name.encode()
        node.ClearField("experimental_debug_info")


def _remove_attributes(node: Any) -> None:
    for name in _UNUSED_ATTRIBUTES:
        node.attr.pop(name, None)
    node.attr.pop("debug_name", None)
    if "config_proto" in node.attr:
        node.attr["config_proto"].s = _CALL_CONFIG


def _short_names() -> Iterator[str]:
    """Yields a, b, ..., z, aa, ab, ..."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield "".join(letters)


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _renamed(tensor: str, names: dict[str, str]) -> str:
    """Returns a reference "node", "node:output:0" or "^node" with the new name of the node."""
    name = _node_of(tensor)
    return tensor.replace(name, names.get(name, name), 1)


def _functions(value: Any) -> list[Any]:
    """The references to functions of an attribute."""
    return [value.func] if value.HasField("func") else list(value.list.func)


def _called(node: Any) -> list[str]:
    return [node.op, *(f.name for value in node.attr.values() for f in _functions(value))]


def _called_by(function: Any) -> set[str]:
    return {name for node in function.node_def for name in _called(node)}


def _rename_calls(node: Any, renamed: dict[str, str]) -> None:
    node.op = renamed.get(node.op, node.op)
    for value in node.attr.values():
        for function in _functions(value):
            function.name = renamed.get(function.name, function.name)


def _replace(repeated: Any, items: list[Any]) -> None:
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del repeated[:]
    repeated.extend(copies)
