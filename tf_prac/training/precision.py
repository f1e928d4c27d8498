"""What depends on the kind of device: XLA, bfloat16, TensorFloat-32 and determinism.

On NVIDIA GPUs of compute capability 8.0 and higher, TensorFlow rounds the inputs of float32
products and convolutions to TensorFloat-32, with 10 bits of mantissa. Training may use this. What
is compared or stored as a score is computed without it, inside `exact_float32`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_prac.config import AUTO, DEVICE_OPTIONS, SearchConfig, TrainingRecipe
from tf_prac.errors import ArgumentError, FileError
from tf_prac.storage.files import read_json
from tf_prac.training.distribution import Distribution

TF32_CAPABILITY = (8, 0)
"""The first compute capability whose tensor cores multiply TensorFloat-32."""


@contextlib.contextmanager
def tf32_execution(enabled: bool) -> Iterator[None]:
    """Allows or disables TensorFloat-32 in the block, and then restores the previous value.

    The value is global in TensorFlow: other threads see it during the block. Kernels read it when
    they run, but XLA when it compiles, so a function that XLA compiled before the block does not
    change.

    Args:
        enabled: whether float32 products may use TensorFloat-32.
    """
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(enabled)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Disables TensorFloat-32 in the block, so that float32 products are those of float32.

    Also a decorator. See `tf32_execution` for what a global value means.

    Example:

        >>> with exact_float32():
        ...     product = tf.matmul([[1.0, 2.0]], [[3.0], [4.0]])
        >>> product.numpy().tolist()
        [[11.0]]
    """
    with tf32_execution(False):
        yield


def has_tf32() -> bool:
    """Returns whether the float32 products of this process use TensorFloat-32.

    All visible GPUs must support it, and it must be enabled in TensorFlow, as it is by default.
    """
    if not tf.config.experimental.tensor_float_32_execution_enabled():
        return False
    details = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.get_visible_devices("GPU")
    ]
    return bool(details) and min(details) >= TF32_CAPABILITY


def resolved(
    recipe: TrainingRecipe,
    distribution: Distribution,
    recorded: Mapping[str, Any] | None = None,
) -> TrainingRecipe:
    """Returns a recipe without "auto".

    A run that is resumed continues as it was started, also on another kind of device, because
    these options change the bits of its results.

    Args:
        recipe: the recipe.
        distribution: its device decides.
        recorded: the recipe in the configuration of a run that is resumed; its values replace
            "auto". Default None.

    Returns:
        The recipe with True or False for `DEVICE_OPTIONS`.
    """
    requested = [name for name in DEVICE_OPTIONS if getattr(recipe, name) == AUTO]
    if not requested:
        return recipe
    values = {**_defaults(distribution), **_recorded(recorded)}
    changes: dict[str, Any] = {name: values[name] for name in requested}
    return dataclasses.replace(recipe, **changes)


def resolved_config(
    config: SearchConfig, distribution: Distribution, files: Iterable[pathlib.Path]
) -> SearchConfig:
    """Returns options without "auto", see `resolved`.

    Args:
        config: the options.
        distribution: its device decides if no file does.
        files: documents with a recorded recipe, such as the config.json of a run that is resumed;
            the first that can be read decides. Whoever opens the run reports a damaged one.
    """
    recorded = None
    for file in files:
        with contextlib.suppress(FileError):
            recorded = read_json(file, file.stem).get("recipe")
            break
    return dataclasses.replace(config, recipe=resolved(config.recipe, distribution, recorded))


def _defaults(distribution: Distribution) -> dict[str, bool]:
    gpu = distribution.device_kind == "GPU"
    # XLA cannot compile the step of one of several replicas, which exchange gradients inside it.
    # mixed_precision stays off: it changes results more than the others.
    return {
        "jit_compile": gpu and distribution.replicas == 1,
        "mixed_precision": False,
        "tf32": gpu and has_tf32(),
    }


def _recorded(recipe: Mapping[str, Any] | None) -> dict[str, bool]:
    """Returns the options of a recorded recipe that are known; 0.1.0 had no `tf32`."""
    if not isinstance(recipe, Mapping):
        return {}
    values = {"tf32": False, **recipe}
    return {n: values[n] for n in DEVICE_OPTIONS if isinstance(values.get(n), bool)}


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
    """Turns TensorFlow's errors about determinism and XLA, in the block, into `ArgumentError`.

    Raises:
        ArgumentError: If determinism is enabled, and an operation has no deterministic
            implementation; or if XLA cannot compile an operation, or is not available.
    """
    try:
        yield
    except (tf.errors.OpError, RuntimeError) as error:
        if line := _line_with(str(error), ("eterminis",)):
            other = "False" if "XLA" in line else "True, which has some that TensorFlow lacks"
            raise ArgumentError(
                "deterministic",
                True,
                "models whose operations have a deterministic implementation on this device",
                f"TensorFlow says: {line} Set jit_compile to {other}.",
            ) from error
        if line := _line_with(str(error), XLA_ERRORS):
            raise ArgumentError(
                "jit_compile",
                True,
                "operations that XLA compiles, and a TensorFlow with XLA for this device",
                f"Set it to False. TensorFlow says: {line}",
            ) from error
        raise


XLA_ERRORS = (
    "unsupported operations when trying to compile",
    "could not find registered compiler",
    "could not find registered platform",
    "tf2xla conversion failed",
    "libdevice",
    "ptxas",
)
"""Texts in the errors of a function that XLA cannot compile."""


def _line_with(message: str, texts: Sequence[str]) -> str | None:
    """Returns the start of the first line of a message that contains one of the texts."""
    lines = message.splitlines()
    line = next((line for line in lines if any(text in line for text in texts)), None)
    return None if line is None else _NAMES.sub("", line).strip()[:300]


_NAMES = re.compile(r"__inference_\S+ |\{\{node [^}]*\}\}")
