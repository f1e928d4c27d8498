"""The check of a SavedModel of tf_keras: its metadata, and the operations of its graph.

The graph of a SavedModel is a program, which TensorFlow runs when it loads and calls the model.
`check_saved_model` refuses every operation that is not one of `operations.OPERATIONS`.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Set
from typing import Any

from tf_prac.checks import first_line
from tf_prac.errors import DamagedFileError, TfPracError, UnsafeFileError
from tf_prac.keras_api import Flavor
from tf_prac.loading.documents import check_document
from tf_prac.loading.operations import OPERATIONS, SAVER
from tf_prac.loading.sizes import open_checkpoint
from tf_prac.storage.files import MAX_JSON_BYTES, open_regular

SAVED_MODEL_FILES = _GRAPH, _METADATA = "saved_model.pb", "keras_metadata.pb"
_MAX_GRAPH_BYTES = 2**31  # the most that a protocol buffer can have


def check_saved_model(
    path: pathlib.Path,
    flavor: Flavor,
    custom_objects: Mapping[str, Any] | None,
    safe_mode: bool,
) -> tuple[int, dict[str, Any]]:
    """Checks a SavedModel; returns the number of elements it stores, and the custom objects.

    Raises:
        UnsafeFileError: If it names a class that is not allowed, or an operation that is not.
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
    from tensorflow.python.framework import op_def_registry

    saved = saved_model_pb2.SavedModel.FromString(_bytes(path / _GRAPH, _MAX_GRAPH_BYTES))
    for graph in saved.meta_graphs:
        functions = [(f.signature.name, f.node_def) for f in graph.graph_def.library.function]
        own = {name for name, _ in functions if op_def_registry.get(name) is None}
        savers = {name for name, nodes in functions if any(node.op in SAVER for node in nodes)}
        for name, nodes in functions:
            if name in savers:
                _check_nodes(path, nodes, OPERATIONS | SAVER)
            else:
                _check_nodes(path, nodes, OPERATIONS | own - savers, savers)
        _check_nodes(path, graph.graph_def.node, OPERATIONS | own)
        for name in graph.object_graph_def.concrete_functions:
            if name in savers:
                raise UnsafeFileError(f"{path}: not loaded, its function {name} uses files.")


def _check_nodes(
    path: pathlib.Path, nodes: Any, allowed: Set[str], refused: Set[str] = frozenset()
) -> None:
    """Refuses nodes of other operations, and those that call a function of `refused`."""
    for node in nodes:
        if node.op not in allowed or refused & _called(node):
            raise UnsafeFileError(
                f"{path}: not loaded. Its graph has the operation {node.op} ({node.name}); "
                "allowed: operations that compute, and read or assign variables. Save the model as "
                "a .keras file instead; or, if you trust whoever made it, pass safe_mode=False."
            )


def _called(node: Any) -> set[str]:
    values = node.attr.values()
    return {value.func.name for value in values} | {f.name for v in values for f in v.list.func}


def _bytes(path: pathlib.Path, limit: int) -> bytes:
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DamagedFileError(f"{path}: damaged, it has more than {limit} bytes.")
    return content
