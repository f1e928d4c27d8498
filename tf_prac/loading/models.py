"""The only way from a file to a Keras model: checked first, built in safe mode, limited in size."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tf_prac.checks import first_line
from tf_prac.errors import FileError, TfPracError
from tf_prac.keras_api import Flavor
from tf_prac.loading.archive import read_archive
from tf_prac.loading.documents import check_document
from tf_prac.loading.saved_model import SAVED_MODEL_FILES, check_saved_model
from tf_prac.loading.sizes import at_most
from tf_prac.storage.layout import MODEL, TICKET


class ModelFile:
    """A `.keras` file of either flavor, or a SavedModel directory of tf_keras.

    Args:
        path: the file or directory.

    Attributes:
        flavor: the Keras that wrote it.

    Raises:
        FileError: If the file is missing, damaged, or of another format.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = pathlib.Path(path)
        _check_exists(self._path)
        self._archive = None if self._path.is_dir() else read_archive(path)
        self.flavor = Flavor("tf_keras") if self._archive is None else self._archive.flavor

    def load(
        self, custom_objects: Mapping[str, Any], *, safe_mode: bool = True, **options: Any
    ) -> Any:
        """Builds the model with its weights.

        Args:
            custom_objects: user-defined classes and functions, by name.
            safe_mode: whether to refuse what `check_document` refuses. Default True.
            **options: passed to Keras's `load_model`.

        Raises:
            UnsafeFileError: If the file names classes or functions that are not allowed.
            FileError: If Keras cannot load it.
        """
        source, known = str(self._path), dict(custom_objects)
        if self._archive is None:
            elements, known = check_saved_model(self._path, self.flavor, known, safe_mode)
        else:
            elements = self._archive.elements
            if safe_mode:
                config = self._archive.config
                if not options.get("compile", True):  # Keras then replaces this part by None too
                    config = {**config, "compile_config": None}
                known = check_document(self.flavor, config, known, source)
        remedy = "Build the model in Python, and load its weights instead."
        saved_by = self._archive.version if self._archive else None
        remedy = _other_version(self.flavor, saved_by) + remedy
        with _as_file_error(source, remedy), at_most(elements, source):
            model = self.flavor.module.models.load_model(
                self._path, custom_objects=known, safe_mode=safe_mode, **options
            )
        return _checked(model, self.flavor, source)


def _check_exists(path: pathlib.Path) -> None:
    """Raises `FileError` if a path is a directory of something else, or a ticket's missing file."""
    ticket = path.parent / TICKET
    if path.is_dir() and not any(os.path.lexists(path / name) for name in SAVED_MODEL_FILES):
        raise FileError(
            f"{path}: not a SavedModel; allowed: a .keras file, such as "
            "RUN/tickets/round_05/model.keras, or a SavedModel of tf_keras."
        )
    if not path.exists() and path.name == MODEL and ticket.exists():
        raise FileError(
            f"{path}: no such file; the ticket is not retrained yet. Run: tf-prac retrain RUN "
            "--round=N, or search with retrain='all'."
        )


def model_from_config(
    flavor: Flavor,
    config: dict[str, Any],
    custom_objects: Mapping[str, Any] | None,
    *,
    source: str,
    elements: int,
    saved_by: object = None,
) -> Any:
    """Builds a model from an architecture in a JSON document.

    Args:
        flavor: which Keras.
        config: what `serialize_keras_object` returned for the model, without its optimizer.
        custom_objects: user-defined classes and functions, by name.
        source: the file that contains the architecture, for errors.
        elements: the number of elements of all weights in the file.
        saved_by: the version of Keras that wrote the document, if the file states it.

    Raises:
        UnsafeFileError: If the architecture names classes or functions that are not allowed.
        FileError: If Keras cannot build the model.
    """
    known = check_document(flavor, config, custom_objects, source)
    remedy = "Pass a built model: load_sparse(directory, model=...)."
    remedy = _other_version(flavor, saved_by) + remedy
    with _as_file_error(source, remedy), at_most(elements, source):
        model = flavor.module.saving.deserialize_keras_object(
            config, custom_objects=known, safe_mode=True
        )
    return _checked(model, flavor, source)


def _other_version(flavor: Flavor, saved_by: object) -> str:
    """Returns a sentence about the version of Keras that wrote a file, if it is another."""
    name, installed = flavor.name, flavor.module.__version__
    if not isinstance(saved_by, str) or saved_by == installed:
        return ""
    return f"{name} {saved_by} saved it; {name} {installed} is installed. "


def _checked(model: Any, flavor: Flavor, source: str) -> Any:
    if not isinstance(model, flavor.module.Model):
        raise FileError(f"{source}: it describes a {type(model).__name__}, not a Keras model.")
    return model


@contextlib.contextmanager
def _as_file_error(source: str, remedy: str) -> Iterator[None]:
    """Raises the errors of Keras and TensorFlow, which are of many kinds, as a `FileError`."""
    try:
        yield
    except TfPracError:
        raise
    except Exception as error:
        reason = first_line(error)
        if "No cast function" in str(error):
            reason = "tf_keras cannot read the weights in bfloat16 of a .keras file."
            remedy = "Save the model as a SavedModel directory, or with weights in float32."
        raise FileError(f"{source}: its model cannot be built: {reason} {remedy}") from error
