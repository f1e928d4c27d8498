"""The device that the tests run on, and how precisely it adds up.

On a GPU, tests run with memory growth (so that the workers of pytest share it), without
TensorFloat-32 (so that they compare float32), and with deterministic operations (so that they
compare bits). TF_PRAC_TEST_AS_ON_GPU=1 does the last two on a CPU.
"""

from __future__ import annotations

import functools
import os
import pathlib

AS_ON_GPU = "TF_PRAC_TEST_AS_ON_GPU"
GPU_SUM = 1e-5
"""Error of a float32 sum on a GPU, relative to its terms: it adds in another order than NumPy."""


@functools.cache
def kind() -> str:
    """The kind of the devices that TensorFlow uses, "GPU" or "CPU"."""
    if not pathlib.Path("/dev/nvidiactl").exists():
        return "CPU"  # without importing TensorFlow
    import tensorflow as tf

    return "GPU" if tf.config.list_physical_devices("GPU") else "CPU"


def is_prepared() -> bool:
    """Whether `prepare` changes TensorFlow's options."""
    return kind() == "GPU" or bool(os.environ.get(AS_ON_GPU))


def prepare() -> None:
    """Makes float32 results exact and repeatable; call it before each test."""
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # also of processes that it starts
    if not is_prepared():
        return
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(0)  # random operations without a seed are refused


def rounding(on_cpu: float) -> float:
    """Returns a tolerance for float32 results: `on_cpu`, or on a GPU at least `GPU_SUM`."""
    return max(on_cpu, GPU_SUM) if kind() == "GPU" else on_cpu


def devices(count: int) -> list[str]:
    """Returns the names of `count` logical devices, after making them of one GPU or of the CPU."""
    from tf_prac.training.strategies import make_distribution

    return make_distribution("mirrored", count).devices
