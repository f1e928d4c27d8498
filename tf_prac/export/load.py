"""`load_sparse`: an export as a Keras model again, masks and all, for further training."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.errors import ArgumentError, FileError
from tf_prac.export.architecture import model_from_config
from tf_prac.export.directory import METADATA
from tf_prac.export.encoding import Encoded, decode, kept_mask
from tf_prac.files import read_json
from tf_prac.keras_api import Flavour
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import rewind
from tf_prac.training.pruned import prune


def load_sparse(
    directory: str | os.PathLike,
    *,
    model: Any = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Any:
    """Reads an export of `saved_model` for further training; nothing in it is executed.

    Example:

        >>> model = load_sparse("served/1")  # doctest: +SKIP
        >>> model.compile("sgd", "sparse_categorical_crossentropy")
        >>> model.fit(x, y)  # pruned weights stay 0

    Args:
        directory: what `saved_model` wrote.
        model: a built model of the same architecture, to put the weights into. Default: the
            model that the export describes, of the flavour it was made with. Subclassed models
            cannot describe themselves.
        custom_objects: classes of the user's own that the architecture names.

    Returns:
        A model of `tf_prac.prune`, which holds the masks; a plain one if nothing is pruned.

    Raises:
        FileError: no export, or a damaged one.
        ArgumentError: the architecture is not described, or needs classes that are not given.
        MismatchError: `model` has another architecture.
    """
    path = pathlib.Path(directory)
    metadata = read_metadata(path)
    weights, masks = read_weights(path, metadata)
    network = _network(path, metadata, custom_objects) if model is None else model
    rewind(network, weights)
    return prune(network, masks=masks) if masks else network


def read_metadata(directory: str | os.PathLike) -> dict[str, Any]:
    """Reads the tf_prac.json of an export.

    Raises:
        FileError: there is none, or it is damaged.
    """
    path = pathlib.Path(directory)
    for file in (path / "assets" / METADATA, path / METADATA):
        if file.exists():
            return read_json(file, "export")
    raise FileError(f"{path}: not an export of tf_prac, it has no {METADATA}.")


def read_weights(
    directory: pathlib.Path, metadata: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], Masks]:
    """Returns every weight of a SavedModel, decoded, and the masks of the pruned ones.

    Raises:
        FileError: the checkpoint is missing, damaged or not that of the metadata.
    """
    import tensorflow as tf

    weights: dict[str, np.ndarray] = {}
    masks: dict[str, np.ndarray] = {}
    try:
        reader = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
        read = _Blobs(reader)
        for row in metadata["weights"]:
            encoded = read.encoded(row)
            weights[row["name"]] = decode(encoded)
            if row["pruned"]:
                masks[row["name"]] = kept_mask(encoded)
    except (KeyError, IndexError, TypeError, ValueError, tf.errors.OpError) as error:
        raise FileError(f"{directory}: damaged, its weights cannot be read ({error}).") from error
    return weights, Masks(masks)


class _Blobs:
    """The packed variables of a checkpoint, each read once."""

    def __init__(self, reader: Any):
        self._reader = reader
        self._read: dict[str, np.ndarray] = {}

    def _part(self, blob: str, start: int, size: int) -> np.ndarray:
        if blob not in self._read:
            key = f"decoder/{blob}/.ATTRIBUTES/VARIABLE_VALUE"
            self._read[blob] = self._reader.get_tensor(key)
        part = self._read[blob][start : start + size]
        if len(part) != size:
            raise ValueError(f"{blob} ends too early")
        return part

    def encoded(self, row: Mapping[str, Any]) -> Encoded:
        """The stored form of one weight."""
        shape = tuple(row["shape"])
        if "variable" in row:
            values = self._reader.get_tensor(row["variable"])
            codes, bits, storage = np.zeros(0, np.uint8), 0, row["dtype"]
        else:
            values, storage = self._part(*row["values"]), row["storage"]
            bits = row.get("bits", 0)
            codes = self._part(*row["codes"]) if bits else np.zeros(0, np.uint8)
        scale = None
        if "scale" in row:
            scale = self._part(*row["scale"][:3]).reshape(row["scale"][3])
        return Encoded(shape, row["dtype"], storage, values, bits, codes, scale)


def _network(
    path: pathlib.Path, metadata: Mapping[str, Any], custom_objects: Mapping[str, Any] | None
) -> Any:
    architecture = metadata.get("architecture")
    if architecture is None:
        raise ArgumentError(
            "model",
            None,
            "a built model of the same architecture",
            f"{path} does not describe one, as its model class has no configuration.",
        )
    try:
        return model_from_config(Flavour(metadata["keras"]), architecture, custom_objects)
    except ArgumentError:
        raise
    except Exception as error:  # whatever Keras raises on a configuration
        raise FileError(
            f"{path}: its architecture cannot be built: {str(error).splitlines()[0]} "
            "Give a built model: load_sparse(directory, model=...)."
        ) from error
