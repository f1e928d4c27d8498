"""`tflite`: a TFLite file with sparse weights, and whether its runtime can use the sparsity."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_choice
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.export.content import Content, description
from tf_prac.export.directory import METADATA, check_target, directory_bytes, new_directory
from tf_prac.export.kernels import kernel_uses
from tf_prac.export.serving import Serving, outputs_of
from tf_prac.export.source import source_of
from tf_prac.export.verify import compare, example_inputs, rounding_of
from tf_prac.export.writer import Export, write
from tf_prac.export.xnnpack import sparse_inference
from tf_prac.keras_api import named_weights, vocabulary
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
    check_target(directory, overwrite)
    source = source_of(model_or_ticket, model=model, masks=masks)
    _check_dtypes(source.network)
    sparse = sparse and bool(source.masks)
    with source.served(inputs, preprocess, softmax) as served:
        _check_fixed(served)
        examples = example_inputs(served.inputs, samples, words=vocabulary(source.network))
        expected = outputs_of(served, examples)
        tolerance = max(TOLERANCE[storage], rounding_of(source.network))
        uses = kernel_uses(source.network, served)
        with new_directory(directory, overwrite) as temporary:
            path = temporary / FILE
            max_error = None
            for stored_sparse in (True, False) if sparse else (False,):
                path.write_bytes(convert(Content(source, served, False, storage), stored_sparse))
                if not check:
                    break
                try:
                    max_error = compare("tflite", path, examples, expected, tolerance)
                    break
                except MismatchError:
                    if not stored_sparse:
                        raise
            document = {
                **description(source, "tflite", storage),
                "sparse_weights": stored_sparse,
                "sparse_inference": sparse_inference(
                    uses, served.graph, source.masks, storage, stored_sparse
                ),
                **(metadata or {}),
            }
            write_json(temporary / METADATA, "export", document)
    return Export(pathlib.Path(directory), document, directory_bytes(directory), max_error)


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
            reason = lines[0] if lines else str(error).strip().splitlines()[0]
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
