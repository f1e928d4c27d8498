"""`onnx`: an ONNX file, for ONNX Runtime, TensorRT, OpenVINO and others."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tf_prac.checks import check_bool, first_line
from tf_prac.errors import ArgumentError
from tf_prac.export.destination import Destination, Export
from tf_prac.export.directory import METADATA
from tf_prac.export.n_m import two_of_four
from tf_prac.export.serving import Serving
from tf_prac.export.source import source_of
from tf_prac.extras import require
from tf_prac.storage.files import write_json

ONNX_FILE = "model.onnx"
TOLERANCE = 1e-4
OPSET = 17  # ONNX Runtime >= 1.12, TensorRT >= 8.5, OpenVINO >= 2023


def onnx(
    model_or_ticket: Any,
    directory: str | os.PathLike,
    *,
    model: Any = None,
    masks: Mapping[str, np.ndarray] | None = None,
    inputs: Any = None,
    preprocess: Callable[[Any], Any] | None = None,
    softmax: bool = False,
    metadata: Mapping[str, Any] | None = None,
    samples: Any = None,
    check: bool = True,
    overwrite: bool = False,
) -> Export:
    """Writes DIRECTORY/model.onnx, and runs it with ONNX Runtime to compare outputs.

    ONNX stores zeros like other values. The metadata reports under "2:4" which weights NVIDIA's
    sparse Tensor Cores can use, see `two_of_four`. Needs the packages of `tf-prac[onnx]`.

    Example:

        >>> export = onnx(network, "exported")  # doctest: +SKIP

    Args:
        model_or_ticket, directory, model, masks, inputs: as for `saved_model`.
        preprocess, softmax, metadata, samples, check, overwrite: as for `saved_model`.

    Returns:
        The `Export`.

    Raises:
        MismatchError, FileError: As for `saved_model`.
        ArgumentError: As for `saved_model`; or if tf2onnx cannot convert the model.
        MissingPackageError: If a package of `tf-prac[onnx]` is not installed.
    """
    check_bool("softmax", softmax)
    for package in ("tf2onnx", "onnx", "onnxruntime")[: 3 if check else 2]:
        require(package, "exports to ONNX")
    destination = Destination(
        directory=directory, metadata=metadata, samples=samples, check=check, overwrite=overwrite
    )
    source = source_of(model_or_ticket, model=model, masks=masks)
    with source.served(inputs, preprocess, softmax) as served:
        values = {"opset": OPSET, "2:4": two_of_four(source.network, source.masks)}
        document = destination.document(source, "onnx", "float32", values)
        with destination.new_directory() as temporary:
            _convert(served, source.network.name, temporary / ONNX_FILE)
            max_error = None
            if expected := destination.expected(source.network, served):
                max_error = expected.compare("onnx", temporary / ONNX_FILE, TOLERANCE)
            write_json(temporary / METADATA, "export", document)
    return destination.export(document, max_error)


def _convert(served: Serving, name: str, path: pathlib.Path) -> None:
    with _quiet():
        import tf2onnx

        try:
            tf2onnx.convert.from_function(
                served.function,
                input_signature=list(served.inputs.values()),
                opset=OPSET,
                output_path=str(path),
            )
        except Exception as error:  # tf2onnx raises errors of many classes
            allowed = "a model that tf2onnx converts"
            raise ArgumentError("model", name, allowed, first_line(error)) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the log and warnings of tf2onnx, and its change of TensorFlow's log level."""
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        if level is None:
            os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
        else:
            os.environ["TF_CPP_MIN_LOG_LEVEL"] = level
