"""The check of a SavedModel of tf_keras: its metadata, and the operations of its graph.

The graph of a SavedModel is a program, which TensorFlow runs when it loads and calls the model.
`check_saved_model` refuses operations that read or write files, or run Python.
"""

from __future__ import annotations

import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tf_prac.checks import first_line
from tf_prac.errors import DamagedFileError, TfPracError, UnsafeFileError
from tf_prac.keras_api import Flavor
from tf_prac.loading.documents import check_document
from tf_prac.loading.sizes import open_checkpoint
from tf_prac.storage.files import MAX_JSON_BYTES, open_regular

SAVED_MODEL_FILES = _GRAPH, _METADATA = "saved_model.pb", "keras_metadata.pb"
_MAX_GRAPH_BYTES = 2**31  # the most that a protocol buffer can have
# Operations that save and restore variables. TensorFlow adds them to each SavedModel, in functions
# of their own.
_SAVER = re.compile(r"SaveV2|RestoreV2|MergeV2Checkpoints")
# Stateless operations that use files nevertheless, or decode messages by a schema in a file.
_FILES = re.compile(r".*(File|Save|Restore|Checkpoint|Proto|PyFunc|Vocab|Debug|Custom|Sampler).*")
_STATEFUL = re.compile(
    r"VarHandleOp|VarIsInitializedOp|(Read|Assign\w*|Destroy)(Variable|Resource)Op|ResourceGather"
    r"|(Stateful|Remote)?PartitionedCall|If|While|Case|Assert|Placeholder\w*|NoOp|RngReadAndSkip"
    r"|(Stateful|Random|Truncated|Parameterized|Multinomial)(?!.*Dataset)\w*|RngSkip|Multinomial"
    r"|\w*HashTable(V2)?|LookupTable\w+|Cudnn\w+|FusedBatchNorm\w*"
)


def check_saved_model(
    path: pathlib.Path,
    flavor: Flavor,
    custom_objects: Mapping[str, Any] | None,
    safe_mode: bool,
) -> tuple[int, dict[str, Any]]:
    """Checks a SavedModel; returns the number of elements it stores, and the custom objects.

    Raises:
        UnsafeFileError: If it names a class that is not allowed, or an operation that has effects.
        DamagedFileError: If a part is missing or damaged.
    """
    known = dict(custom_objects or {})
    try:
        if safe_mode:
            for node in _metadata(path, flavor):
                known |= check_document(flavor, node, known, str(path), by_name=True)
            _check_graph(path)
        reader = open_checkpoint(path / "variables" / "variables")
        shapes = reader.get_variable_to_shape_map().values()
    except TfPracError:
        raise
    except Exception as error:  # protocol buffers and TensorFlow raise many kinds of errors
        reason = first_line(error)
        raise DamagedFileError(f"{path}: damaged, not a SavedModel ({reason}).") from error
    return sum(math.prod(shape) for shape in shapes), known


def _metadata(path: pathlib.Path, flavor: Flavor) -> Iterator[dict[str, Any]]:
    """Yields the serialized objects of a SavedModel, which are JSON in a protocol buffer."""
    metadata = flavor.module.protobuf.saved_metadata_pb2.SavedMetadata()
    metadata.ParseFromString(_bytes(path / _METADATA, MAX_JSON_BYTES))
    if not metadata.nodes:
        raise DamagedFileError(f"{path}: not loaded, its {_METADATA} describes no model.")
    for node in metadata.nodes:
        yield json.loads(node.metadata)


def _check_graph(path: pathlib.Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(_bytes(path / _GRAPH, _MAX_GRAPH_BYTES))
    for graph in saved.meta_graphs:
        functions = graph.graph_def.library.function
        savers = {f.signature.name for f in functions if _ops(f.node_def, _SAVER)}
        for function in functions:
            if function.signature.name not in savers:
                _check_nodes(path, function.node_def, savers)
        _check_nodes(path, graph.graph_def.node, set())
        for name in graph.object_graph_def.concrete_functions:
            if name in savers:
                raise UnsafeFileError(f"{path}: not loaded, its function {name} uses files.")


def _check_nodes(path: pathlib.Path, nodes: Any, savers: set[str]) -> None:
    from tensorflow.python.framework import op_def_registry

    for node in nodes:
        called = {a.func.name for a in node.attr.values()} | {
            f.name for a in node.attr.values() for f in a.list.func
        }
        definition = op_def_registry.get(node.op)
        stateful = definition is not None and definition.is_stateful
        if (
            _FILES.fullmatch(node.op)
            or (stateful and not _STATEFUL.fullmatch(node.op))
            or savers & (called | {node.op})
        ):
            raise UnsafeFileError(
                f"{path}: not loaded. Its graph has the operation {node.op} ({node.name}); "
                "allowed: operations that compute, and read or assign variables. Save the model "
                "as a .keras file instead."
            )


def _ops(nodes: Any, pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(node.op) for node in nodes)


def _bytes(path: pathlib.Path, limit: int) -> bytes:
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DamagedFileError(f"{path}: damaged, it has more than {limit} bytes.")
    return content
