"""`Destination`: where an export is written, and how it is checked; `Export`: the result."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.checks import check_bool
from tf_prac.errors import ArgumentError
from tf_prac.export.content import RESERVED, description
from tf_prac.export.directory import check_target, directory_bytes, new_directory
from tf_prac.export.serving import Serving, outputs_of
from tf_prac.export.source import Source
from tf_prac.export.verify import compare, example_inputs, rounding_of
from tf_prac.keras_api import vocabulary


@dataclasses.dataclass(frozen=True)
class Export:
    """A finished export.

    Example:

        >>> export = tf_prac.export.saved_model(network, "served/1")
        >>> export.bytes, export.metadata["sparsity"], export.max_error

    Attributes:
        directory: its directory.
        metadata: the content of its tf_prac.json.
        bytes: total size of its files.
        max_error: largest difference between the outputs of the export, loaded in a new process,
            and of the Keras model; None if it was not checked.
    """

    directory: pathlib.Path
    metadata: dict[str, Any]
    bytes: int
    max_error: float | None

    def __repr__(self) -> str:
        kind, sparsity = self.metadata["format"], self.metadata["sparsity"]
        checked = "" if self.max_error is None else f", outputs differ by {self.max_error:.2g}"
        size = f"{sparsity:.1%} sparse, {self.bytes:,} bytes"
        return f"Export({self.directory}: {kind}, {size}{checked})"


@dataclasses.dataclass(frozen=True)
class Expected:
    """Inputs and outputs of the Keras model, with which an export is compared.

    Attributes:
        samples: inputs, by name.
        outputs: outputs, by name.
        tolerance: allowed difference, see `rounding_of`.
    """

    samples: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    tolerance: float

    def compare(self, kind: str, path: pathlib.Path, tolerance: float = 0.0) -> float:
        """Returns the largest difference between the outputs of an export and these.

        Args:
            kind, path: as for `verify.compare`.
            tolerance: difference that is allowed at least. Default 0.
        """
        tolerance = max(tolerance, self.tolerance)
        return compare(kind, path, self.samples, self.outputs, tolerance)


def _check_metadata(metadata: Any) -> None:
    """Raises `ArgumentError` unless values can be added to tf_prac.json, and read again."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ArgumentError("metadata", metadata, "values by name")
    for name, value in (metadata or {}).items():
        if not isinstance(name, str) or name in RESERVED:
            allowed = "texts as names, other than those of tf_prac: " + ", ".join(sorted(RESERVED))
            raise ArgumentError("metadata", name, allowed)
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            allowed = "text, finite numbers, True, False, None, and lists and dictionaries of these"
            raise ArgumentError("metadata", f"{name}: {value!r}", allowed) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Destination:
    """The options that all exports share; see `saved_model`.

    Raises:
        ArgumentError: If an option has a value that is not allowed.
        ArgumentError, FileError: If no export may be written to the directory.
    """

    directory: str | os.PathLike
    metadata: Mapping[str, Any] | None = None
    samples: Any = None
    check: bool = True
    overwrite: bool = False

    def __post_init__(self):
        check_bool("check", self.check)
        check_bool("overwrite", self.overwrite)
        _check_metadata(self.metadata)
        check_target(self.directory, self.overwrite)

    def document(
        self, source: Source, export_format: str, storage: str, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns the content of tf_prac.json: that of all formats, `values`, and `metadata`."""
        return {**description(source, export_format, storage), **values, **(self.metadata or {})}

    def expected(self, network: Any, served: Serving) -> Expected | None:
        """Returns what the outputs of the export are compared with; None if they are not."""
        if not self.check:
            return None
        samples = example_inputs(served.inputs, self.samples, words=vocabulary(network))
        return Expected(samples, outputs_of(served, samples), rounding_of(network))

    def new_directory(self) -> contextlib.AbstractContextManager[pathlib.Path]:
        """Returns a context of a temporary directory that becomes the export at its end."""
        return new_directory(self.directory, self.overwrite)

    def export(self, document: dict[str, Any], max_error: float | None) -> Export:
        """Returns the finished export."""
        path = pathlib.Path(self.directory)
        return Export(path, document, directory_bytes(path), max_error)
