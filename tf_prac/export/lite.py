"""`tflite`: a TFLite file with sparse weights, and whether its runtime can use the sparsity."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_bool, check_choice, first_line
from tf_prac.errors import ArgumentError
from tf_prac.export.content import Content
from tf_prac.export.destination import Destination, Expected, Export
from tf_prac.export.directory import METADATA
from tf_prac.export.fresh_process import is_accepted
from tf_prac.export.kernels import kernel_uses
from tf_prac.export.serving import Serving
from tf_prac.export.source import source_of
from tf_prac.export.writer import write
from tf_prac.export.xnnpack import sparse_inference
from tf_prac.keras_api import named_weights
from tf_prac.storage.atomic import scratch_directory
from tf_prac.storage.files import write_json

LITE_STORAGES = ("float32", "float16", "int8")
FILE = "model.tflite"
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "int8": 0.25}


def tflite(
    model_or_ticket: Any,
    directory: str | os.PathLike,
    *,
    model: Any = None,
    masks: Mapping[str, np.ndarray] | None = None,
    sparse: bool = True,
    storage: str = "float32",
    inputs: Any = None,
    preprocess: Callable[[Any], Any] | None = None,
    softmax: bool = False,
    metadata: Mapping[str, Any] | None = None,
    samples: Any = None,
    check: bool = True,
    overwrite: bool = False,
) -> Export:
    """Writes DIRECTORY/model.tflite, converted with sparse weights, and checks it by running it.

    The interpreter refuses some models with sparse int8 weights; these are converted with dense
    weights. The metadata reports under "sparse_weights" whether weights are stored sparse, and
    under "sparse_inference" whether XNNPACK's sparse inference applies, and why not.

    Example:

        >>> export = tflite(network, "lite", storage="float16")  # doctest: +SKIP

    Args:
        model_or_ticket, directory, model, masks, inputs: as for `saved_model`.
        preprocess, softmax, metadata, samples, check, overwrite: as for `saved_model`.
        sparse: whether to store weights sparse. Default True.
        storage: type of the weights: "float32", "float16", or "int8" (dynamic range).
            Default "float32".

    Returns:
        The `Export`.

    Raises:
        MismatchError, FileError: As for `saved_model`.
        ArgumentError: As for `saved_model`; or if an input dimension other than the first is not
            fixed, or TFLite cannot convert the model.
    """
    check_choice("storage", storage, LITE_STORAGES)
    check_bool("sparse", sparse)
    check_bool("softmax", softmax)
    destination = Destination(
        directory=directory, metadata=metadata, samples=samples, check=check, overwrite=overwrite
    )
    source = source_of(model_or_ticket, model=model, masks=masks)
    _check_dtypes(source.network)
    with source.served(inputs, preprocess, softmax) as served:
        _check_fixed(served)
        expected = destination.expected(source.network, served)
        uses = kernel_uses(source.network, served)
        with destination.new_directory() as temporary:
            content = Content(source, served, False, storage)
            is_sparse, max_error = _write(
                content, sparse and bool(source.masks), temporary / FILE, expected
            )
            inference = sparse_inference(uses, served.graph, source.masks, storage, is_sparse)
            values = {"sparse_weights": is_sparse, "sparse_inference": inference}
            document = destination.document(source, "tflite", storage, values)
            write_json(temporary / METADATA, "export", document)
    return destination.export(document, max_error)


def _write(
    content: Content, sparse: bool, path: pathlib.Path, expected: Expected | None
) -> tuple[bool, float | None]:
    """Writes the file; returns whether its weights are stored sparse, and the largest difference.

    If the interpreter cannot load it with sparse weights, they are stored dense.
    """
    path.write_bytes(convert(content, sparse))
    if sparse and not is_accepted(str(path)):
        sparse = False
        path.write_bytes(convert(content, sparse))
    if expected is None:
        return sparse, None
    return sparse, expected.compare("tflite", path, TOLERANCE[content.storage])


def convert(content: Content, sparse: bool) -> bytes:
    """Converts the served function to TFLite, through a dense SavedModel.

    Raises:
        ArgumentError: If TFLite cannot convert the model.
    """
    with scratch_directory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(content, content.description(), directory)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(directory), signature_keys=["serving_default"]
        )
        optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] if sparse else []
        if content.storage != "float32":
            optimizations.append(tf.lite.Optimize.DEFAULT)
        if content.storage == "float16":
            converter.target_spec.supported_types = [tf.float16]
        converter.optimizations = optimizations
        try:
            return converter.convert()
        except Exception as error:  # ConverterError and other internal classes
            lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
            reason = lines[0] if lines else first_line(error)
            name = content.source.network.name
            raise ArgumentError("model", name, "a model that TFLite converts", reason) from error


def _check_dtypes(network: Any) -> None:
    half = [w.name for w in named_weights(network) if w.layer.compute_dtype == "bfloat16"]
    if half:
        raise ArgumentError(
            "model",
            f"a layer in bfloat16, with the weight {half[0]}",
            "layers in float32 or float16, as TFLite has no bfloat16",
            "Export as saved_model, or build the model without mixed_bfloat16.",
        )


def _check_fixed(served: Serving) -> None:
    for name, spec in served.inputs.items():
        if None in spec.shape[1:]:
            raise ArgumentError(
                "inputs",
                f"{name} of shape {spec.shape}",
                "fixed dimensions except the first, which TFLite requires",
                "Give inputs=tf.TensorSpec with fixed sizes.",
            )
