"""What the bytes of a SavedModel are."""

from __future__ import annotations

import os
import pathlib

from tf_prac.export.directory import directory_bytes


def saved_model_parts(directory: str | os.PathLike) -> dict[str, int]:
    """Returns the bytes of a SavedModel by what they are for, largest first.

    Example:

        >>> saved_model_parts("served/1")  # doctest: +SKIP
        {'weights': 14019, 'graph: network': 8285, 'graph: decoder': 6680, ...}

    Args:
        directory: a SavedModel of `saved_model`, or of Keras.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = pathlib.Path(directory)
    text = (path / "saved_model.pb").read_bytes()
    (meta,) = SavedModel.FromString(text).meta_graphs
    functions = {f.signature.name: f for f in meta.graph_def.library.function}
    sizes = {"network": 0, "decoder": 0, "signatures, checkpoints and others": 0}
    for function in functions.values():
        operations = {node.op for node in function.node_def}
        calls = {"PartitionedCall", "StatefulPartitionedCall"} & operations
        files = {"RestoreV2", "SaveV2", "MergeV2Checkpoints", "ShardedFilename"} & operations
        kind = "network"
        if "DecodeCompressed" in operations:
            kind = "decoder"
        elif files or (calls and len(function.node_def) < 8):
            kind = "signatures, checkpoints and others"
        sizes[kind] += function.ByteSize()
    sizes["signatures, checkpoints and others"] += sum(n.ByteSize() for n in meta.graph_def.node)
    parts = {f"graph: {name}": size for name, size in sizes.items()}
    parts["graph: objects"] = meta.object_graph_def.ByteSize()
    parts["graph: list of operations"] = meta.meta_info_def.stripped_op_list.ByteSize()
    parts["graph: rest"] = len(text) - sum(parts.values())
    parts["weights"] = directory_bytes(path / "variables")
    parts["metadata"] = directory_bytes(path) - directory_bytes(path / "saved_model.pb")
    parts["metadata"] -= parts["weights"]
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    return {name: size for name, size in ordered if size}
