"""What an export holds: which weights are encoded, where each is, and what the metadata says."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from tf_prac.export.architecture import model_config
from tf_prac.export.encoding import Encoded, decode, encode, information_bound
from tf_prac.export.serving import Serving
from tf_prac.export.source import Source
from tf_prac.keras_api import (
    NamedWeight,
    class_names,
    flavour_of,
    named_weights,
    stable_name,
    tf_variable,
    to_numpy,
)

_VERSIONS = ("tensorflow", "keras", "tf_keras", "tf_prac")


def description(source: Source, form: str, storage: str) -> dict[str, Any]:
    """Returns what the metadata of every format says."""
    return {
        "format": form,
        "content": source.kind,
        **source.about,
        "model": stable_name(source.network),
        "keras": flavour_of(source.network).name,
        "sparsity": source.masks.sparsity,
        "storage": storage,
        "versions": {name: _version(name) for name in _VERSIONS},
    }


class Content:
    """The weights of an export: which are encoded, and where each is in the checkpoint."""

    def __init__(self, source: Source, served: Serving, sparse: bool, storage: str):
        self.source, self.served, self.storage = source, served, storage
        self.plain: dict[str, Any] = {}
        self.packed: dict[str, Encoded] = {}
        self.variables: dict[str, Any] = {}
        for weight in named_weights(source.network):
            variable = tf_variable(weight.variable)
            self.variables[weight.name] = variable
            if sparse and weight.name in source.masks:
                value, mask = to_numpy(variable), source.masks[weight.name]
                self.packed[weight.name] = encode(value, mask, storage, _channel_axis(weight))
            else:
                self.plain[weight.name] = variable
        known = {id(v) for v in self.variables.values()}
        self.extra = [v for key, v in served.variables.items() if key not in known]
        self.extra += served.resources

    def rounded(self) -> dict[str, np.ndarray] | None:
        """Every weight as it is after loading; None if nothing was rounded."""
        if all(e.storage == e.dtype for e in self.packed.values()):
            return None
        values = {name: to_numpy(variable) for name, variable in self.variables.items()}
        return {n: decode(self.packed[n]) if n in self.packed else v for n, v in values.items()}

    def description(self) -> dict[str, Any]:
        """The part of the metadata about weights and signatures."""
        offsets: dict[str, int] = {}
        rows = [self._row(name, variable, offsets) for name, variable in self.variables.items()]
        signature = {
            kind: {n: {"shape": s.shape.as_list(), "dtype": s.dtype.name} for n, s in specs.items()}
            for kind, specs in (("inputs", self.served.inputs), ("outputs", self.served.outputs))
        }
        architecture = model_config(self.source.network)
        return {"signature": signature, "weights": rows, "architecture": architecture}

    def _row(self, name: str, variable: Any, offsets: dict[str, int]) -> dict[str, Any]:
        size, pruned = int(np.prod(variable.shape)), name in self.source.masks
        row = {
            "name": name,
            "shape": list(variable.shape),
            "dtype": variable.dtype.name,
            "pruned": pruned,
            "kept": int(self.source.masks[name].sum()) if pruned else size,
        }
        encoded = self.packed.get(name)
        if encoded is None:
            nbytes = size * variable.dtype.size
            key = f"dense/{list(self.plain).index(name)}/.ATTRIBUTES/VARIABLE_VALUE"
            return row | {"encoding": "dense", "variable": key, "bytes": nbytes, "bound": nbytes}
        row |= {"encoding": encoded.kind, "storage": encoded.storage, "bytes": encoded.nbytes}
        row["bound"] = information_bound(size, row["kept"], encoded.values.itemsize)
        # What is decoded together: weights of a type whose values and codes are of a kind.
        blob = f"values_{encoded.bits}_{encoded.values.dtype.name}_{encoded.dtype}"
        row["values"] = _place(blob, encoded.values, offsets)
        if encoded.bits:
            row["bits"] = encoded.bits
            row["codes"] = _place(blob.replace("values", "codes"), encoded.codes, offsets)
        if encoded.scale is not None:
            row["bound"] += encoded.scale.nbytes
            row["scale"] = _place("scales", encoded.scale, offsets) + [list(encoded.scale.shape)]
        return row


def _place(blob: str, array: np.ndarray, offsets: dict[str, int]) -> list[Any]:
    """Appends an array to a packed variable: its name, where the array starts, and its size."""
    start = offsets.get(blob, 0)
    offsets[blob] = start + array.size
    return [blob, start, array.size]


def _channel_axis(weight: NamedWeight) -> int:
    """The axis of a kernel that has a scale of its own for each element."""
    kinds = class_names(weight.layer)
    swapped = any(k.startswith("DepthwiseConv") or k.endswith("Transpose") for k in kinds)
    return -2 if swapped else -1


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
