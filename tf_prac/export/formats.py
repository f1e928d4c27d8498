"""Exports other than SavedModels: a `.keras` file, and plain arrays."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.checks import first_line
from tf_prac.errors import ArgumentError, FileError
from tf_prac.export.destination import Destination, Export
from tf_prac.export.directory import METADATA
from tf_prac.export.serving import serve
from tf_prac.export.source import Source, source_of
from tf_prac.keras_api import flavor_of
from tf_prac.pruning.weights import snapshot
from tf_prac.storage.files import read_npz, write_json, write_npz
from tf_prac.storage.layout import MASKS, MODEL, WEIGHTS


def keras_file(
    model_or_ticket: Any,
    directory: str | os.PathLike,
    *,
    model: Any = None,
    masks: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
    samples: Any = None,
    check: bool = True,
    overwrite: bool = False,
) -> Export:
    """Writes DIRECTORY/model.keras, which Keras loads. Keras stores zeros like other values.

    Example:

        >>> keras_file(network, "exported")  # doctest: +SKIP

    Arguments, results and errors are those of `saved_model`.
    """
    destination = Destination(
        directory=directory, metadata=metadata, samples=samples, check=check, overwrite=overwrite
    )
    source = source_of(model_or_ticket, model=model, masks=masks)
    flavor = flavor_of(source.network).name
    if flavor == "tf_keras" and any(w.dtype == "bfloat16" for w in source.network.weights):
        allowed = "weights in another dtype, as tf_keras cannot read them from a .keras file"
        raise ArgumentError("model", "weights in bfloat16", allowed, "Export as saved_model.")
    document = destination.document(source, "keras", "float32", {})
    with source.applied(), destination.new_directory() as temporary:
        _save(source.network, temporary / MODEL)
        max_error = None
        if check and (expected := destination.expected(source.network, serve(source.network))):
            max_error = expected.compare(flavor, temporary / MODEL)
        write_json(temporary / METADATA, "export", document)
    return destination.export(document, max_error)


def _save(network: Any, path: pathlib.Path) -> None:
    try:
        network.save(path)
    except (NotImplementedError, TypeError, ValueError) as error:
        allowed = "a model of classes that Keras can save"
        raise ArgumentError("model", network.name, allowed, first_line(error)) from error


def npz(
    model_or_ticket: Any,
    directory: str | os.PathLike,
    *,
    model: Any = None,
    masks: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
    check: bool = True,
    overwrite: bool = False,
) -> Export:
    """Writes DIRECTORY/weights.npz and masks.npz: compressed arrays by name, for research.

    Example:

        >>> npz("run/tickets/round_03", "arrays", model=network)  # doctest: +SKIP

    Arguments and errors are those of `saved_model`. The weights of a ticket are its masked W_k.
    `check` reads the arrays again; as they compute nothing, `Export.max_error` is None.
    """
    destination = Destination(
        directory=directory, metadata=metadata, check=check, overwrite=overwrite
    )
    source = source_of(model_or_ticket, model=model, masks=masks)
    document = destination.document(source, "npz", "float32", {})
    weights = dict(source.weights) if source.weights is not None else snapshot(source.network)
    with destination.new_directory() as temporary:
        write_npz(temporary / WEIGHTS, "weights", weights)
        source.masks.save(temporary / MASKS)
        if check:
            _check_arrays(temporary, source, weights)
        write_json(temporary / METADATA, "export", document)
    return destination.export(document, None)


def _check_arrays(
    directory: pathlib.Path, source: Source, weights: Mapping[str, np.ndarray]
) -> None:
    for name, kind, written in ((WEIGHTS, "weights", weights), (MASKS, "masks", source.masks)):
        read = read_npz(directory / name, kind)
        if set(read) != set(written) or any(not np.array_equal(read[n], written[n]) for n in read):
            raise FileError(f"{directory / name}: does not contain what was written to it.")
