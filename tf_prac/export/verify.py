"""Checks an export by running it in a new process where tf_prac cannot be imported.

Both sides compute without TensorFloat-32. Outputs may differ by what rounding explains, as the two
processes may choose other algorithms for the same operation; stored weights may not differ at all.
"""

from __future__ import annotations

import math
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.export.fresh_process import without_bfloat16
from tf_prac.keras_api import named_weights
from tf_prac.storage.atomic import scratch_directory

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
SMALLEST_SCALE = 1e-3  # of outputs; they may cancel to less than their own rounding errors
_WORDS = 6  # in a random text
_FREE_SIZE = 32  # size of unknown dimensions (but the first) in random inputs


def example_inputs(
    specs: Mapping[str, Any], samples: Any = None, count: int = 8, words: Sequence[str] = ()
) -> dict:
    """Returns inputs for a comparison: the given samples, or random ones.

    Args:
        specs: `tf.TensorSpec` of each input, by name.
        samples: an array if the model has one input, else arrays by name. Default None: random.
        count: number of random samples. Default 8.
        words: of which random texts consist. Default ().

    Raises:
        ArgumentError: If the samples do not match the specs, or an input is text, no samples are
            given, and there are no words.
    """
    if samples is not None:
        named = samples if isinstance(samples, Mapping) else dict.fromkeys(list(specs)[:1], samples)
        for name, spec in specs.items():
            if name not in named or not spec.shape.is_compatible_with(np.shape(named[name])):
                received = {key: np.shape(value) for key, value in named.items()}
                raise ArgumentError("samples", received, f"{name} of shape {spec.shape}")
        return {n: np.asarray(named[n], s.dtype.as_numpy_dtype) for n, s in specs.items()}
    generator = np.random.default_rng(0)
    return {name: _random(name, generator, spec, count, words) for name, spec in specs.items()}


def rounding_of(network: Any) -> float:
    """Returns by how much outputs may differ by rounding, relative to the largest output.

    Rounding errors add up like a random walk: over the products of each sum, which are accumulated
    in float32 or better, and over layers, whose outputs are rounded to their compute dtype. Twice
    the expected error is allowed.

    Args:
        network: a built model of either flavor.
    """
    kernels = [w for w in named_weights(network) if len(w.variable.shape) > 1]
    products = sum(math.prod(w.variable.shape[:-1]) for w in kernels)
    rounded = [EPSILON.get(w.layer.compute_dtype, EPSILON["float32"]) for w in kernels]
    accumulated = min([EPSILON["float32"], *rounded])
    return 2 * math.sqrt(products * accumulated**2 + sum(epsilon**2 for epsilon in rounded))


def check_weights(
    path: pathlib.Path, stored: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> None:
    """Raises `MismatchError` unless the stored weights are, bit for bit, those expected.

    A pruned weight may be -0.0, as in `kernel * mask`; it is stored as 0.0.
    """
    for name, value in expected.items():
        if name not in stored or (stored[name] + 0).tobytes() != (value + 0).tobytes():
            raise MismatchError(
                f"{path.name}: the export stores other values of {name} than the model has. "
                "The export was not saved."
            )


def compare(
    kind: str,
    path: pathlib.Path,
    samples: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    tolerance: float,
) -> float:
    """Runs an export in a new process; returns its largest difference from expected outputs.

    Args:
        kind: "saved_model", "keras", "tf_keras", "tflite" or "onnx".
        path: the export.
        samples: its inputs, by name.
        expected: the expected outputs, by name.
        tolerance: allowed difference, relative to the largest absolute output; see `rounding_of`.

    Raises:
        MismatchError: If the new process cannot load the export, or outputs differ by more.
    """
    outputs = run_in_new_process(kind, path, samples)
    numbers = {str(number) for number in range(len(expected))}
    if set(outputs) == numbers != set(expected):  # a list of outputs
        outputs = dict(zip(expected, outputs.values(), strict=True))
    max_error = 0.0
    for name, value in expected.items():
        if name not in outputs or outputs[name].shape != np.shape(value):
            raise MismatchError(f"{path.name}: the export has no output {name} of the same shape.")
        difference = np.abs(np.asarray(value, np.float64) - outputs[name])
        error = float(np.max(difference, initial=0))
        max_error = max(max_error, error)
        scale = float(np.max(np.abs(np.asarray(value, np.float64)), initial=0))
        allowed = tolerance * max(SMALLEST_SCALE, scale)
        if not error <= allowed:
            raise MismatchError(
                f"{path.name}: outputs {name} of the export differ from the model's by up to "
                f"{error:g}, more than the {allowed:g} that rounding explains (both computed "
                "without TensorFloat-32). The export was not saved."
            )
    return max_error


def run_in_new_process(
    kind: str, path: pathlib.Path, samples: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the outputs of an export for samples, from a process without tf_prac."""
    script = pathlib.Path(__file__).with_name("fresh_process.py")
    with scratch_directory() as directory:
        inputs, outputs = (os.path.join(directory, f"{n}.npz") for n in ("samples", "outputs"))
        arrays = [v.astype(str) if v.dtype == object else v for v in samples.values()]
        np.savez(inputs, *map(without_bfloat16, arrays), names=list(samples))
        command = [sys.executable, str(script), kind, str(path), inputs, outputs]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        process = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines() or ["no message"]
            raise MismatchError(f"{path.name}: the export cannot be loaded: {lines[-1]}")
        with np.load(outputs, allow_pickle=False) as archive:
            names = archive["names"].tolist()
            return {name: archive[f"arr_{i}"] for i, name in enumerate(names)}


def _random(
    name: str, generator: np.random.Generator, spec: Any, count: int, words: Sequence[str]
) -> np.ndarray:
    shape = [count, *(_FREE_SIZE if size is None else size for size in spec.shape[1:])]
    if spec.dtype.name == "string":
        if not words:
            allowed = f"samples of the text {name}, as the model has no vocabulary to draw from"
            raise ArgumentError("samples", None, allowed, "Or pass check=False.")
        texts = generator.choice(list(words), (*shape, _WORDS))
        return np.apply_along_axis(" ".join, -1, texts).astype(object)
    if spec.dtype.is_floating:
        return generator.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
    return generator.integers(0, 2, shape).astype(spec.dtype.as_numpy_dtype)
