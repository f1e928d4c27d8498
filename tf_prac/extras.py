"""The optional packages, and the extra of tf_prac that installs each."""

from __future__ import annotations

import importlib.util
import sys

from tf_prac.errors import MissingPackageError

EXTRAS = {
    "keras_tuner": "tuner",
    "matplotlib": "figures",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "tensorboard": "tensorboard",
    "tensorflow_datasets": "tfds",
    "tensorflow_model_optimization": "tfmot",
    "tf2onnx": "onnx",
    "tf_keras": "tf-keras",
}


def is_installed(package: str) -> bool:
    """Whether a package can be imported. It is not imported here."""
    return sys.modules.get(package) is not None or importlib.util.find_spec(package) is not None


def require(package: str, purpose: str) -> None:
    """Raises `MissingPackageError` unless an optional package is installed.

    Example:

        >>> require("tf_keras", "models of Keras 2")

    Args:
        package: a key of `EXTRAS`.
        purpose: what needs it, for the message.
    """
    if not is_installed(package):
        raise missing(package, purpose)


def missing(package: str, purpose: str) -> MissingPackageError:
    """Returns the error of `require`."""
    return MissingPackageError(package, EXTRAS[package], purpose)
