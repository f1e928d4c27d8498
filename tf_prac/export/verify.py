"""Checks an export by running it in a new process where tf_prac cannot be imported."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.storage.atomic import scratch_directory

TOLERANCE = 1e-5  # relative to max(1, largest absolute output)
_FREE_SIZE = 32  # size of unknown dimensions (but the first) in random inputs


def example_inputs(specs: Mapping[str, Any], samples: Any = None, count: int = 8) -> dict:
    """Returns inputs for a comparison: the given samples, or random ones.

    Args:
        specs: `tf.TensorSpec` of each input, by name.
        samples: an array if the model has one input, else arrays by name. Default None: random.
        count: number of random samples. Default 8.

    Raises:
        ArgumentError: If the samples do not match the specs.
    """
    if samples is not None:
        named = samples if isinstance(samples, Mapping) else dict.fromkeys(list(specs)[:1], samples)
        for name, spec in specs.items():
            if name not in named or not spec.shape.is_compatible_with(np.shape(named[name])):
                received = {key: np.shape(value) for key, value in named.items()}
                raise ArgumentError("samples", received, f"{name} of shape {spec.shape}")
        return {n: np.asarray(named[n], s.dtype.as_numpy_dtype) for n, s in specs.items()}
    generator = np.random.default_rng(0)
    return {name: _random(generator, spec, count) for name, spec in specs.items()}


def compare(
    kind: str,
    path: pathlib.Path,
    samples: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    tolerance: float = TOLERANCE,
) -> float:
    """Runs an export in a new process; returns its largest difference from expected outputs.

    Args:
        kind: "saved_model", "keras", "tf_keras" or "tflite".
        path: the export.
        samples: its inputs, by name.
        expected: the expected outputs, by name.
        tolerance: allowed difference, relative to max(1, largest absolute output). Default 1e-5.

    Raises:
        MismatchError: If the new process cannot load the export, or outputs differ by more.
    """
    outputs = run_in_new_process(kind, path, samples)
    if set(outputs) == {str(number) for number in range(len(expected))}:  # a list of outputs
        outputs = dict(zip(expected, outputs.values(), strict=True))
    max_error = 0.0
    for name, value in expected.items():
        if name not in outputs or outputs[name].shape != np.shape(value):
            raise MismatchError(f"{path.name}: the export has no output {name} of the same shape.")
        difference = np.abs(np.asarray(value, np.float64) - outputs[name])
        error = float(np.max(difference, initial=0))
        max_error = max(max_error, error)
        if not error <= tolerance * max(1.0, float(np.max(np.abs(value), initial=0))):
            raise MismatchError(
                f"{path.name}: outputs {name} of the export differ from the model's by "
                f"up to {error:g}. The export was not saved."
            )
    return max_error


def run_in_new_process(
    kind: str, path: pathlib.Path, samples: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the outputs of an export for samples, from a process without tf_prac."""
    script = pathlib.Path(__file__).with_name("fresh_process.py")
    with scratch_directory() as directory:
        inputs, outputs = (os.path.join(directory, f"{n}.npz") for n in ("samples", "outputs"))
        np.savez(inputs, *samples.values(), names=list(samples))
        command = [sys.executable, "-P", str(script), kind, str(path), inputs, outputs]
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


def _random(generator: np.random.Generator, spec: Any, count: int) -> np.ndarray:
    shape = [count, *(_FREE_SIZE if size is None else size for size in spec.shape[1:])]
    if spec.dtype.is_floating:
        return generator.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
    return generator.integers(0, 2, shape).astype(spec.dtype.as_numpy_dtype)
