"""`load_sparse`: reads an export as a Keras model with its masks, for further training."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tf_prac.errors import ArgumentError, FileError, MismatchError
from tf_prac.export.directory import read_metadata
from tf_prac.export.encoding import DATA, Packed, Stored, decompress, unpack
from tf_prac.keras_api import FLAVORS, Flavor
from tf_prac.loading.models import model_from_config
from tf_prac.loading.sizes import open_checkpoint
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import rewind
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
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> model.fit(x, y)  # pruned weights stay 0

    Args:
        directory: an export of `saved_model`.
        model: a built model of the same architecture that receives the weights. By default the
            model is built from the architecture in the export, in its flavor of Keras; the
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
        groups = _Groups(_tensors(reader, metadata), metadata["groups"])
        dense = _Dense(reader)
        for row in metadata["weights"]:
            read = dense if "variable" in row else groups
            weights[row["name"]], keep = read.weight(row)
            if row["pruned"]:
                masks[row["name"]] = keep
    except (KeyError, IndexError, TypeError, ValueError, tf.errors.OpError) as error:
        raise FileError(f"{directory}: damaged, its weights cannot be read ({error}).") from error
    return weights, Masks(masks)


class _Dense:
    """The variables of a checkpoint that are stored as they are."""

    def __init__(self, reader: Any):
        self._reader = reader
        self._read: set[str] = set()

    def weight(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Returns a weight and its mask."""
        shape, name = _shape(row), row["variable"]
        if name in self._read:
            raise ValueError(f"{name} is the value of two weights")
        self._read.add(name)
        value = np.asarray(self._reader.get_tensor(name))
        if value.shape != shape or value.dtype.name != row["dtype"]:
            raise ValueError(f"{row['name']} is {value.dtype} of shape {value.shape}")
        return value, value != 0


class _Groups:
    """The packed weights of a checkpoint; each group is read once.

    Args:
        tensor: returns the array of a stream, by name.
        groups: the rows about groups in the metadata.
    """

    def __init__(self, tensor: Callable[[str], np.ndarray], groups: Mapping[str, Any]):
        self._tensor, self._groups = tensor, groups
        self._unpacked: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._next: dict[str, int] = {}  # weights of a group are stored one after the other

    def weight(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Returns a weight and its mask."""
        shape, start = _shape(row), row["start"]
        if start != self._next.get(row["group"], 0):
            raise ValueError(f"{row['name']} starts at {start}")
        end = self._next[row["group"]] = start + math.prod(shape)
        values, keep = (part[start:end].reshape(shape) for part in self._group(row["group"]))
        scale = None
        if "scale" in row:
            scale = self._tensor(f"{row['name']}/scale").reshape(row["scale"])
        stored = Stored(row["dtype"], row["storage"], values, scale)
        stored.check()
        return stored.restored(), keep

    def _group(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        if name not in self._unpacked:
            bits, size = self._groups[name]["bits"], self._groups[name]["size"]
            if not all(type(number) is int and number >= 0 for number in (bits, size)):
                raise ValueError(f"{name} has {size!r} elements in codes of {bits!r} bits")
            codes = self._tensor(f"{name}/codes") if bits else np.zeros(0, np.uint8)
            values = self._tensor(f"{name}/values")
            self._unpacked[name] = unpack(Packed(size, values, bits, codes))
        return self._unpacked[name]


def _shape(row: Mapping[str, Any]) -> tuple[int, ...]:
    shape = tuple(row["shape"])
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{row['name']} has the shape {shape}")
    return shape


def _tensors(reader: Any, metadata: Mapping[str, Any]) -> Callable[[str], np.ndarray]:
    """Returns the function that reads a stream by name."""
    if "streams" not in metadata:  # exports of 0.1 have a variable for each

        def tensor(name: str) -> np.ndarray:
            escaped = name.replace(".", "..").replace("/", ".S")
            return reader.get_tensor(f"decoder/{escaped}/.ATTRIBUTES/VARIABLE_VALUE")

        return tensor
    streams = metadata["streams"]
    data = reader.get_tensor(f"decoder/{DATA}/.ATTRIBUTES/VARIABLE_VALUE") if streams else []
    if len(data) != len(streams):
        raise ValueError(f"{len(data)} arrays, and {len(streams)} declared")
    rows = {
        row["name"]: (text, row["dtype"], row["size"])
        for text, row in zip(data, streams, strict=True)
    }
    return lambda name: decompress(*rows[name])


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
    if metadata.get("keras") not in FLAVORS:
        allowed = ", ".join(FLAVORS)
        raise FileError(f"{path}: keras: received {metadata.get('keras')!r}; allowed: {allowed}.")
    versions = metadata.get("versions")
    return model_from_config(
        Flavor(metadata["keras"]),
        architecture,
        custom_objects,
        source=str(path),
        elements=elements,
        saved_by=versions.get(metadata["keras"]) if isinstance(versions, dict) else None,
    )
