"""The content of an export: how each weight is encoded and where it is stored; the metadata."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from tf_prac.export.architecture import model_config
from tf_prac.export.encoding import (
    PLAIN,
    Packed,
    Stored,
    code_bytes,
    information_bound,
    is_smaller_dense,
    pack,
    store,
)
from tf_prac.export.serving import Serving
from tf_prac.export.source import Source
from tf_prac.export.vectors import join_vectors
from tf_prac.keras_api import (
    NamedWeight,
    class_names,
    flavor_of,
    named_weights,
    stable_name,
    tf_variable,
    to_numpy,
)

VECTORS = "vectors"  # the group of the weights that one variable serves
RESERVED = frozenset(
    ("format", "content", "model", "keras", "sparsity", "storage", "versions", "signature")
    + ("weights", "groups", "streams", "architecture", "model_sha256", "kind", "schema", "sha256")
    + ("opset", "2:4", "sparse_weights", "sparse_inference")
)
"""Names in tf_prac.json that exports write themselves."""
_VERSIONS = ("tensorflow", "keras", "tf_keras", "tf_prac")


def description(source: Source, export_format: str, storage: str) -> dict[str, Any]:
    """Returns the metadata that all formats have."""
    return {
        "format": export_format,
        "content": source.kind,
        **source.metadata,
        "model": stable_name(source.network),
        "keras": flavor_of(source.network).name,
        "sparsity": source.masks.sparsity,
        "storage": storage,
        "versions": {name: _version(name) for name in _VERSIONS},
    }


class Content:
    """The weights of an export: which are packed, and where each is in the checkpoint.

    Args:
        source: the network and its masks.
        served: its traced inference function.
        sparse: whether to pack pruned weights.
        storage: storage type of packed weights, one of `encoding.STORAGES`.

    Attributes:
        variables: the variable of every weight, by name.
        plain: the variables that the checkpoint stores as they are, by name: all of a dense export.
        stored: the packed weights, rounded to their storage type, by name.
        groups: the names of the weights that are packed together, by name of the group.
        vectors: the weights that one variable serves, or None.
        function: the served function, which reads them from that variable.
        packed: the packed values and codes of each group.
        extra: variables and resources of the model that are not weights.
    """

    def __init__(self, source: Source, served: Serving, sparse: bool, storage: str):
        self.source, self.served, self.storage = source, served, storage
        self.function = served.function
        self.plain: dict[str, Any] = {}
        self.stored: dict[str, Stored] = {}
        self.variables: dict[str, Any] = {}
        self.groups: dict[str, list[str]] = {}
        pack_all = sparse and bool(source.masks)
        self.vectors = join_vectors(served, self._vectors()) if pack_all else None
        if self.vectors:
            self.function = self.vectors.function
        for weight in named_weights(source.network):
            variable = tf_variable(weight.variable)
            self.variables[weight.name] = variable
            if not pack_all or variable.dtype.name not in PLAIN:
                self.plain[weight.name] = variable
                continue
            pruned = weight.name in source.masks
            kind = storage if pruned else variable.dtype.name
            stored = store(to_numpy(variable), kind, _channel_axis(weight), exact=not pruned)
            self.stored[weight.name] = stored
            self.groups.setdefault(self._group(weight.name, stored), []).append(weight.name)
        if self.vectors:
            self.groups[VECTORS] = self.vectors.names
        self.packed = {group: self._pack(group) for group in self.groups}
        weight_ids = {id(v) for v in self.variables.values()}
        self.extra = [v for key, v in served.variables.items() if key not in weight_ids]
        self.extra += served.resources

    def rounded(self) -> dict[str, np.ndarray] | None:
        """Returns every weight as it is after loading; None if no weight is rounded."""
        if all(stored.storage == stored.dtype for stored in self.stored.values()):
            return None
        return {
            name: self.stored[name].restored() if name in self.stored else to_numpy(variable)
            for name, variable in self.variables.items()
        }

    def description(self) -> dict[str, Any]:
        """Returns the metadata of weights, groups, signature and architecture."""
        rows = {name: self._row(name, variable) for name, variable in self.variables.items()}
        for index, name in enumerate(self.plain):
            rows[name]["variable"] = f"dense/{index}/.ATTRIBUTES/VARIABLE_VALUE"
        for group, names in self.groups.items():
            starts = np.cumsum([0, *(self.stored[name].values.size for name in names)]).tolist()
            for name, start in zip(names, starts, strict=False):
                rows[name] |= {"group": group, "start": start}
        signature = {
            kind: {n: {"shape": s.shape.as_list(), "dtype": s.dtype.name} for n, s in specs.items()}
            for kind, specs in (("inputs", self.served.inputs), ("outputs", self.served.outputs))
        }
        groups = {
            n: {"bits": packed.bits, "size": packed.size} for n, packed in self.packed.items()
        }
        streams = [
            {"name": name, "dtype": array.dtype.name, "size": array.size}
            for name, array in self.streams.items()
        ]
        return {
            "signature": signature,
            "weights": list(rows.values()),
            "groups": groups,
            "streams": streams,
            "architecture": model_config(self.source.network),
        }

    def _vectors(self) -> dict[str, Any]:
        """The weights that one variable may serve: vectors of float32 without a mask."""
        weights = {w.name: tf_variable(w.variable) for w in named_weights(self.source.network)}
        return {
            name: variable
            for name, variable in weights.items()
            if name not in self.source.masks
            and len(variable.shape) == 1
            and variable.dtype.name == "float32"
        }

    @property
    def streams(self) -> dict[str, np.ndarray]:
        """The arrays of groups and the scales of int8 weights, by name, in the stored order."""
        streams = {}
        for group, packed in self.packed.items():
            streams[f"{group}/values"] = packed.values
            if packed.bits:
                streams[f"{group}/codes"] = packed.codes
        for name, stored in self.stored.items():
            if stored.scale is not None:
                streams[f"{name}/scale"] = stored.scale.reshape(-1)
        return streams

    def _group(self, name: str, stored: Stored) -> str:
        """Returns the group of a weight, which names its encoding, storage type and own type."""
        if self.vectors and name in self.vectors.names:
            return VECTORS
        if name not in self.source.masks:
            return f"plain_{stored.dtype}"
        dense = is_smaller_dense(stored.values.reshape(-1), self._keep(name))
        return f"{'dense' if dense else 'kept'}_{stored.storage}_{stored.dtype}"

    def _pack(self, group: str) -> Packed:
        names = self.groups[group]
        values = np.concatenate([self.stored[name].values.reshape(-1) for name in names])
        if not group.startswith("kept"):
            return pack(values, np.ones(values.size, bool), dense=True)
        return pack(values, np.concatenate([self._keep(name) for name in names]))

    def _keep(self, name: str) -> np.ndarray:
        return self.source.masks[name].reshape(-1)

    def _row(self, name: str, variable: Any) -> dict[str, Any]:
        size, pruned = int(np.prod(variable.shape)), name in self.source.masks
        row = {
            "name": name,
            "shape": list(variable.shape),
            "dtype": variable.dtype.name,
            "pruned": pruned,
            "kept": int(self.source.masks[name].sum()) if pruned else size,
        }
        if name in self.plain:
            nbytes = size * variable.dtype.size
            return row | {"encoding": "dense", "bytes": nbytes, "bound": nbytes}
        stored = self.stored[name]
        packed = next(p for group, p in self.packed.items() if name in self.groups[group])
        itemsize = stored.values.itemsize
        positions = code_bytes(self._keep(name), packed.bits) if packed.bits else 0
        nbytes = itemsize * (row["kept"] if packed.bits else size) + positions
        bound = information_bound(size, row["kept"], itemsize)
        if stored.scale is not None:
            nbytes, bound = nbytes + stored.scale.nbytes, bound + stored.scale.nbytes
            row["scale"] = list(stored.scale.shape)
        return row | {
            "encoding": packed.kind,
            "storage": stored.storage,
            "bytes": nbytes,
            "bound": bound,
        }


def _channel_axis(weight: NamedWeight) -> int:
    """The axis of the output channels, which have one int8 scale each."""
    names = class_names(weight.layer)
    swapped = any(n.startswith("DepthwiseConv") or n.endswith("Transpose") for n in names)
    return -2 if swapped else -1


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
