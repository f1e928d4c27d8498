"""`load_sparse`: reads an export as a Keras model with its masks, for further training."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.errors import ArgumentError, FileError, MismatchError
from tf_prac.export.directory import METADATA
from tf_prac.export.encoding import Packed, Stored, unpack
from tf_prac.keras_api import FLAVOURS, Flavour
from tf_prac.loading.models import model_from_config
from tf_prac.loading.sizes import open_checkpoint
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import rewind
from tf_prac.storage.atomic import restore
from tf_prac.storage.files import read_json
from tf_prac.storage.names import check_name
from tf_prac.training.pruned import prune


def load_sparse(
    directory: str | os.PathLike,
    *,
    model: Any = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Any:
    """Reads an export of `saved_model` for further training, without executing code in it.

    Example:

        >>> model = load_sparse("served/1")  # doctest: +SKIP
        >>> model.compile("sgd", "sparse_categorical_crossentropy")
        >>> model.fit(x, y)  # pruned weights stay 0

    Args:
        directory: an export of `saved_model`.
        model: a built model of the same architecture that receives the weights. By default the
            model is built from the architecture in the export, in its flavour of Keras; the
            architecture of a subclassed model is not in the export.
        custom_objects: user-defined classes of the architecture, by name.

    Returns:
        A model of `tf_prac.prune` with the masks; a plain model if no weight is pruned.

    Raises:
        FileError: If the directory is not an export, is damaged, or declares sizes that its
            weights do not have.
        UnsafeFileError: If the architecture names classes that are neither Keras's own, nor
            registered with Keras, nor in `custom_objects`, or layers that contain code.
        ArgumentError: If the architecture is not in the export.
        MismatchError: If `model` has another architecture.
    """
    path = pathlib.Path(directory)
    metadata = read_metadata(path)
    weights, masks = read_weights(path, metadata)
    network = model
    if network is None:
        elements = sum(weight.size for weight in weights.values())
        network = _network(path, metadata, custom_objects, elements)
    try:
        rewind(network, weights)
    except MismatchError as error:
        if model is not None:
            raise
        raise FileError(f"{path}: damaged, its architecture is another one ({error})") from error
    return prune(network, masks=masks) if masks else network


def read_metadata(directory: str | os.PathLike) -> dict[str, Any]:
    """Reads the tf_prac.json of an export.

    Raises:
        FileError: If there is none, or it is damaged.
    """
    check_name(directory)
    path = pathlib.Path(directory)
    restore(path)
    for file in (path / "assets" / METADATA, path / METADATA):
        if file.exists():
            return read_json(file, "export")
    raise FileError(f"{path}: not an export of tf_prac, it has no {METADATA}.")


def read_weights(
    directory: pathlib.Path, metadata: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], Masks]:
    """Decodes every weight of a SavedModel, and the masks of the pruned weights.

    Args:
        directory: the export.
        metadata: the content of its tf_prac.json.

    Returns:
        Weights and masks, by name.

    Raises:
        FileError: If the checkpoint is missing, damaged or does not match the metadata.
    """
    import tensorflow as tf

    weights: dict[str, np.ndarray] = {}
    masks: dict[str, np.ndarray] = {}
    try:
        reader = open_checkpoint(directory / "variables" / "variables")
        groups = _Groups(reader, metadata["groups"])
        for row in metadata["weights"]:
            weights[row["name"]], keep = groups.weight(row)
            if row["pruned"]:
                masks[row["name"]] = keep
    except (KeyError, IndexError, TypeError, ValueError, tf.errors.OpError) as error:
        raise FileError(f"{directory}: damaged, its weights cannot be read ({error}).") from error
    return weights, Masks(masks)


class _Groups:
    """The packed weights of a checkpoint; each group is read once."""

    def __init__(self, reader: Any, groups: Mapping[str, Any]):
        self._reader, self._groups = reader, groups
        self._unpacked: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._read: set[str] = set()
        self._next: dict[str, int] = {}  # weights of a group are stored one after the other

    def weight(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Returns a weight and its mask."""
        shape = tuple(row["shape"])
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"{row['name']} has the shape {shape}")
        if "variable" in row:
            value = self._variable(row["variable"])
            if value.shape != shape or value.dtype.name != row["dtype"]:
                raise ValueError(f"{row['name']} is {value.dtype} of shape {value.shape}")
            return value, value != 0
        start = row["start"]
        if start != self._next.get(row["group"], 0):
            raise ValueError(f"{row['name']} starts at {start}")
        end = self._next[row["group"]] = start + math.prod(shape)
        values, keep = (part[start:end].reshape(shape) for part in self._group(row["group"]))
        scale = self._tensor(f"{row['name']}/scale") if "scale" in row else None
        stored = Stored(row["dtype"], row["storage"], values, scale)
        stored.check()
        return stored.restored(), keep

    def _variable(self, name: str) -> np.ndarray:
        if name in self._read:
            raise ValueError(f"{name} is the value of two weights")
        self._read.add(name)
        return np.asarray(self._reader.get_tensor(name))

    def _group(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        if name not in self._unpacked:
            bits, size = self._groups[name]["bits"], self._groups[name]["size"]
            if not all(type(number) is int and number >= 0 for number in (bits, size)):
                raise ValueError(f"{name} has {size!r} elements in codes of {bits!r} bits")
            codes = self._tensor(f"{name}/codes") if bits else np.zeros(0, np.uint8)
            values = self._tensor(f"{name}/values")
            self._unpacked[name] = unpack(Packed(size, values, bits, codes))
        return self._unpacked[name]

    def _tensor(self, name: str) -> np.ndarray:
        escaped = name.replace(".", "..").replace("/", ".S")
        return self._reader.get_tensor(f"decoder/{escaped}/.ATTRIBUTES/VARIABLE_VALUE")


def _network(
    path: pathlib.Path,
    metadata: Mapping[str, Any],
    custom_objects: Mapping[str, Any] | None,
    elements: int,
) -> Any:
    architecture = metadata.get("architecture")
    if architecture is None:
        raise ArgumentError(
            "model",
            None,
            "a built model of the same architecture",
            f"{path} does not describe the architecture: its model class has no configuration.",
        )
    if metadata.get("keras") not in FLAVOURS:
        allowed = ", ".join(FLAVOURS)
        raise FileError(f"{path}: keras: received {metadata.get('keras')!r}; allowed: {allowed}.")
    return model_from_config(
        Flavour(metadata["keras"]),
        architecture,
        custom_objects,
        source=str(path),
        elements=elements,
    )
