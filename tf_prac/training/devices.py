"""`use_device`: chooses CPU or GPU before TensorFlow starts, and says why there is no GPU."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pathlib
import warnings

import tensorflow as tf

from tf_prac.checks import check_choice
from tf_prac.errors import ArgumentError

DRIVER = "libcuda.so.1"
DEVICES = ("auto", "cpu", "gpu")
INSTALL = "Install them with: pip install 'tf-prac[gpu]'."
LIBRARIES = {
    "libcudart.so": "cuda",
    "libcublas.so": "cuda",
    "libcublasLt.so": "cuda",
    "libcufft.so": 11,
    "libcusolver.so": 11,
    "libcusparse.so": "cuda",
    "libcudnn.so": "cudnn",
}
"""The libraries that TensorFlow opens, each with its major version or whose version it has."""


def use_device(device: str) -> None:
    """Makes TensorFlow use a GPU or only the CPU.

    Call it before any other use of TensorFlow in the process.

    Example:

        >>> use_device("auto")

    Args:
        device: "gpu", "cpu", or "auto": a GPU if TensorFlow finds one.

    Raises:
        ArgumentError: If a GPU is requested and TensorFlow finds none, with the reason; if
            TensorFlow has already started with other devices.
    """
    check_choice("device", device, DEVICES)
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    if device == "gpu" and not has_gpu:
        raise ArgumentError(
            "device", "gpu", "cpu or auto, as TensorFlow finds no GPU", why_no_gpu()
        )
    if device == "auto" and not has_gpu and _opens(DRIVER) and missing_libraries():
        warnings.warn(f"No GPU is used. {why_no_gpu()}", stacklevel=2)
    if device == "cpu" and has_gpu:
        try:
            tf.config.set_visible_devices([], "GPU")
        except RuntimeError as error:
            allowed = "auto, as TensorFlow already uses the GPU in this process"
            raise ArgumentError("device", "cpu", allowed) from error


def why_no_gpu() -> str:
    """Returns a sentence that says why TensorFlow finds no GPU, and what to do."""
    build = tf.sysconfig.get_build_info()
    if not build.get("is_cuda_build"):
        return (
            f"This build of TensorFlow {tf.__version__} has no CUDA; on Linux, that of PyPI does."
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return f"The environment variable CUDA_VISIBLE_DEVICES={hidden!r} hides all GPUs."
    if not _opens(DRIVER):
        return (
            f"The NVIDIA driver is missing: {DRIVER} cannot be opened. Install the driver, or "
            "start the container with its GPU."
        )
    missing = missing_libraries()
    if missing:
        version = build.get("cuda_version", "an unknown version")
        return f"CUDA libraries are missing: {', '.join(missing)} (CUDA {version}). {INSTALL}"
    return "Driver and CUDA libraries are present: see whether `nvidia-smi` lists a GPU."


def missing_libraries() -> list[str]:
    """Returns the CUDA libraries, with versions, that can be opened neither here nor from PyPI.

    TensorFlow also looks into the packages nvidia-* next to it.
    """
    build = tf.sysconfig.get_build_info()
    versions = {kind: str(build.get(f"{kind}_version", "")) for kind in ("cuda", "cudnn")}
    names = []
    for name, version in LIBRARIES.items():
        major = versions.get(version, "") if isinstance(version, str) else str(version)
        names.append(f"{name}.{major.split('.')[0]}".rstrip("."))
    packaged = _packaged_libraries()
    return [name for name in names if name not in packaged and not _opens(name)]


def _packaged_libraries() -> set[str]:
    """Returns the file names of the libraries of the nvidia packages of PyPI."""
    spec = importlib.util.find_spec("nvidia")
    roots = list(spec.submodule_search_locations or []) if spec else []
    return {path.name for root in roots for path in pathlib.Path(root).glob("*/lib/*.so*")}


def _opens(library: str) -> bool:
    """Returns whether the dynamic linker can open a library."""
    try:
        ctypes.CDLL(library)
        return True
    except OSError:
        return False
