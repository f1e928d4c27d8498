"""Sharing round 0, the training of the dense network, between runs with other rewind points.

Round 0 depends on k only in the weights that it stores. With `also_keep` a run stores the weights
of further rewind points in round_00, and with `dense_from` another run copies that round.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.errors import FileError
from tf_prac.storage.atomic import atomic_write
from tf_prac.storage.config_check import check_same
from tf_prac.storage.files import read_npz, write_npz
from tf_prac.storage.layout import ROUND
from tf_prac.storage.run_directory import RunDirectory

ALLOWED_TO_DIFFER = {
    "pruning": ("rewind", "rounds", "lr_rewind"),
    "search": ("retrain", "also_keep"),
}
"""Options that do not affect the training and pruning of round 0, by group of config.json."""


def rewind_point_name(step: int) -> str:
    """Returns the name of the file in round_00 with the weights after `step` steps."""
    return f"rewind_step_{step}.npz"


def save_rewind_points(
    run: RunDirectory, snapshots: Mapping[int, Mapping[str, np.ndarray]]
) -> None:
    """Writes snapshots of round 0, weights by step, into round_00."""
    for step, weights in snapshots.items():
        write_npz(run.round_path(0) / rewind_point_name(step), "rewind", weights)


def copy_dense_round(
    run: RunDirectory, source: str | os.PathLike, config: Mapping[str, Any], step: int
) -> dict[str, Any]:
    """Copies the finished round 0 of another run into this run.

    Args:
        run: a run without round 0.
        source: directory of the other run.
        config: the run configuration of `run`.
        step: k of `run`, in steps.

    Returns:
        The metrics of the round.

    Raises:
        FileError: If the other run has no finished round 0, did not store W_k, or is damaged.
        MismatchError: If an option that affects round 0 differs; the option is named.
    """
    other = RunDirectory(source)
    check_same(other.path, _round_0_options(config), _round_0_options(other.config()))
    metrics = other.finished_round(0)
    if metrics is None:
        raise FileError(f"{other.path}: its dense round is not finished. Run its search first.")
    stored = other.round_path(0) / rewind_point_name(step)
    if not stored.exists():
        raise FileError(
            f"{other.path}: its dense round did not store the weights after step {step}. "
            "Run that search again with also_keep, in a new directory."
        )
    weights = read_npz(stored, "rewind")
    other.check_weights(stored, {name: weight.shape for name, weight in weights.items()})
    for file in sorted(other.round_path(0).iterdir()):
        if file.is_file() and file.name != ROUND and not file.name.startswith((".", "rewind_")):
            _copy(file, run.round_path(0) / file.name)
    metrics = {**metrics, "rewind_sha256": run.save_rewind(weights), "dense_from": True}
    run.finish_round(0, metrics)
    return metrics


def _round_0_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a run configuration that affects round 0."""
    return {
        group: {n: v for n, v in options.items() if n not in ALLOWED_TO_DIFFER.get(group, ())}
        if isinstance(options, Mapping)
        else options
        for group, options in config.items()
    }


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    with atomic_write(target) as file:
        file.write(source.read_bytes())
