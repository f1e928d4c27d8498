"""Exports other than SavedModels: a `.keras` file, and plain arrays."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.errors import ArgumentError, FileError
from tf_prac.export.content import description
from tf_prac.export.directory import METADATA, check_target, directory_bytes, new_directory
from tf_prac.export.serving import outputs_of, serve
from tf_prac.export.source import Source, source_of
from tf_prac.export.verify import compare, example_inputs, rounding_of
from tf_prac.export.writer import Export
from tf_prac.keras_api import flavour_of, vocabulary
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
    check_target(directory, overwrite)
    source = source_of(model_or_ticket, model=model, masks=masks)
    flavour = flavour_of(source.network).name
    if flavour == "tf_keras" and any(w.dtype == "bfloat16" for w in source.network.weights):
        allowed = "weights in another dtype, as tf_keras cannot read them from a .keras file"
        raise ArgumentError("model", "weights in bfloat16", allowed, "Export as saved_model.")
    document = {**description(source, "keras", "float32"), **(metadata or {})}
    with source.applied(), new_directory(directory, overwrite) as temporary:
        path = temporary / MODEL
        try:
            source.network.save(path)
        except (NotImplementedError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ArgumentError(
                "model", source.network.name, "a model of classes that Keras can save", reason
            ) from error
        max_error = None
        if check:
            served = serve(source.network)
            inputs = example_inputs(served.inputs, samples, words=vocabulary(source.network))
            max_error = compare(
                flavour, path, inputs, outputs_of(served, inputs), rounding_of(source.network)
            )
        write_json(temporary / METADATA, "export", document)
    return Export(pathlib.Path(directory), document, directory_bytes(directory), max_error)


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
    """
    check_target(directory, overwrite)
    source = source_of(model_or_ticket, model=model, masks=masks)
    document = {**description(source, "npz", "float32"), **(metadata or {})}
    weights = dict(source.weights) if source.weights is not None else snapshot(source.network)
    with new_directory(directory, overwrite) as temporary:
        write_npz(temporary / WEIGHTS, "weights", weights)
        source.masks.save(temporary / MASKS)
        if check:
            _check_arrays(temporary, source, weights)
        write_json(temporary / METADATA, "export", document)
    return Export(
        pathlib.Path(directory), document, directory_bytes(directory), 0.0 if check else None
    )


def _check_arrays(
    directory: pathlib.Path, source: Source, weights: Mapping[str, np.ndarray]
) -> None:
    for name, kind, written in ((WEIGHTS, "weights", weights), (MASKS, "masks", source.masks)):
        read = read_npz(directory / name, kind)
        if set(read) != set(written) or any(not np.array_equal(read[n], written[n]) for n in read):
            raise FileError(f"{directory / name}: does not contain what was written to it.")
