"""Runs that differ in their rewind point alone share the training of the dense network.

Round 0 does not depend on k but for the weights that it keeps. A run that was told to keep further
rewind points holds them in its round 0, and another run takes over that round, with its own W_k.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.errors import FileError
from tf_prac.storage.files import atomic_write, read_npz, write_npz
from tf_prac.storage.run_directory import ROUND, RunDirectory, check_same

ALLOWED_TO_DIFFER = {
    "pruning": ("rewind", "rounds", "lr_rewind"),
    "search": ("retrain", "also_keep"),
}
"""Options that do not change what round 0 trains and prunes, in the groups of config.json."""


def kept_name(step: int) -> str:
    """The file in round 0 with the weights after a number of training steps."""
    return f"rewind_step_{step}.npz"


def save_kept(run: RunDirectory, snapshots: Mapping[int, Mapping[str, np.ndarray]]) -> None:
    """Writes the weights after some steps of round 0 into its directory."""
    for step, weights in snapshots.items():
        write_npz(run.round_path(0) / kept_name(step), "rewind", weights)


def take_over(
    run: RunDirectory, source: str | os.PathLike, config: Mapping[str, Any], step: int
) -> dict[str, Any]:
    """Makes the finished round 0 of another run the round 0 of this one.

    Args:
        run: the run that has no round 0 yet.
        source: directory of the other run.
        config: the configuration of `run`.
        step: k of `run`.

    Returns:
        The figures of the round.

    Raises:
        FileError: the other run has no finished round 0, did not keep W_k, or is damaged.
        MismatchError: its round 0 was trained or pruned in another way; the option is named.
    """
    other = RunDirectory(source)
    check_same(other.path, _deciding(config), _deciding(other.config()))
    figures = other.finished_round(0)
    if figures is None:
        raise FileError(f"{other.path}: its dense round is not finished. Run its search first.")
    kept = other.round_path(0) / kept_name(step)
    if not kept.exists():
        raise FileError(
            f"{other.path}: its dense round did not keep the weights after step {step}. "
            "Search there with also_keep, in another directory."
        )
    weights = read_npz(kept, "rewind")
    for file in sorted(other.round_path(0).iterdir()):
        if file.is_file() and file.name != ROUND and not file.name.startswith((".", "rewind_")):
            _copy(file, run.round_path(0) / file.name)
    figures = {**figures, "rewind_sha256": run.save_rewind(weights), "dense_from": True}
    run.finish_round(0, figures)
    return figures


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide round 0."""
    return {
        group: {n: v for n, v in options.items() if n not in ALLOWED_TO_DIFFER.get(group, ())}
        if isinstance(options, Mapping)
        else options
        for group, options in config.items()
        if group not in ("kind", "schema", "sha256")
    }


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    with atomic_write(target) as file:
        file.write(source.read_bytes())
