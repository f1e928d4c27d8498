"""What of a traced function TensorFlow would run on the host, if a GPU ran it.

TensorFlow knows for each operation and dtype whether there is a kernel for GPUs, and which of its
inputs and outputs are in the memory of the host. It knows that without a GPU too.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import kernels, op_def_registry

CALLS = {"PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If"}
CALLS |= {"StatelessIf", "NoOp", "Placeholder"}
READING = {"IteratorGetNext"}  # takes the batch from the host
HOST_ONLY = {"PyFunc", "EagerPyFunc", "Assert", "Print", "PrintV2", "StringFormat", "CheckNumerics"}
DYNAMIC = {"Where", "Unique", "UniqueV2", "DynamicPartition", "ListDiff"}


def has_gpu_kernels() -> bool:
    """Whether TensorFlow was built with kernels for GPUs."""
    return any(k.device_type == "GPU" for k in _kernels("MatMul"))


def findings(function: Any) -> list[str]:
    """Returns what a `ConcreteFunction` does on the host or with dynamic shapes, a line each."""
    lines = [
        f"variable in {_dtype(handle).name}, captured"
        for handle in function.captured_inputs
        if handle.dtype == tf.resource and not _has_gpu_variables(_dtype(handle))
    ]
    library = {f.signature.name: f for f in function.graph.as_graph_def().library.function}
    library[""] = function.function_def
    for definition in library.values():
        lines += _of_body(definition)
    return sorted(set(lines))


def _of_body(definition: Any) -> Iterator[str]:
    on_host = {arg.name: arg.type == tf.int32 for arg in definition.signature.input_arg}
    # Constants in int32 are in host memory, and shapes and axes in int64 are folded into kernels.
    constants = {n.name for n in definition.node_def if n.op == "Const" and _is_host_constant(n)}
    reads = []
    for node in definition.node_def:
        if node.op in HOST_ONLY | DYNAMIC:
            yield f"{node.op}: {node.name}"
        if node.op == "VarHandleOp" and node.attr["dtype"].type in (tf.int32, tf.string):
            yield f"variable in int32 or string, created: {node.name}"
        if any(value.type == tf.string for value in node.attr.values()):
            yield f"string: {node.op} {node.name}"
        if node.op in CALLS | READING:
            continue
        kernel = _gpu_kernel(node)
        if kernel is None:
            types = {k: tf.as_dtype(v.type).name for k, v in node.attr.items() if v.type}
            yield f"no kernel for GPUs: {node.op} {types}"
            continue
        signature = op_def_registry.get(node.op)
        for arg in signature.output_arg:
            on_host[f"{node.name}:{arg.name}"] = arg.name in kernel.host_memory_arg
        data = [name for name in node.input if not name.startswith("^")]
        for arg in signature.input_arg:
            count = _length(arg, node)
            names, data = data[:count], data[count:]
            if arg.name in kernel.host_memory_arg and arg.type != tf.resource:
                reads += [(node, name) for name in names]
    for node, name in reads:
        source = name.rpartition(":")[0] or name
        if source.split(":")[0] not in constants and not on_host.get(source, False):
            yield f"host reads from the device: {node.op} {node.name} reads {name}"


def _is_host_constant(node: Any) -> bool:
    return node.attr["dtype"].type == tf.int32


def _length(arg: Any, node: Any) -> int:
    if arg.number_attr:
        return node.attr[arg.number_attr].i
    return len(node.attr[arg.type_list_attr].list.type) if arg.type_list_attr else 1


def _gpu_kernel(node: Any) -> Any:
    """Returns the kernel of a node on a GPU, or None."""
    for device in ("GPU", "DEFAULT"):
        for kernel in _kernels(node.op):
            if kernel.device_type == device and all(
                _types(node.attr[constraint.name]) <= set(constraint.allowed_values.list.type)
                for constraint in kernel.constraint
            ):
                return kernel
    return None


def _types(attribute: Any) -> set[int]:
    return set(attribute.list.type) or {attribute.type}


_cache: dict[str, list[Any]] = collections.defaultdict(list)


def _kernels(op: str) -> list[Any]:
    if op not in _cache:
        _cache[op] = list(kernels.get_registered_kernels_for_op(op).kernel)
    return _cache[op]


def _has_gpu_variables(dtype: Any) -> bool:
    """Whether a variable can be on a GPU; others, such as iterators, have no dtype."""
    return dtype is None or any(
        kernel.device_type in ("GPU", "DEFAULT")
        and all(dtype in each.allowed_values.list.type for each in kernel.constraint)
        for kernel in _kernels("VarHandleOp")
    )


def _dtype(handle: Any) -> Any:
    data = getattr(handle, "_handle_data", None)
    return tf.as_dtype(data.shape_and_type[0].dtype) if data and data.shape_and_type else None
