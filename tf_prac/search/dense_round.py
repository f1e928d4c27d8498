"""Sharing trainings of the dense network between runs.

Round 0 depends on k only in the weights that it stores. With `also_keep` a run stores the weights
of further rewind points in round_00, and with `dense_from` another run copies that round.

The dense network that is retrained for comparison with the tickets does not depend on how rounds
train and prune. With `dense_tickets` a run copies it from another run.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tf_prac.errors import FileError, MismatchError
from tf_prac.storage.atomic import atomic_write
from tf_prac.storage.config_check import check_same
from tf_prac.storage.files import read_json, read_npz, write_npz
from tf_prac.storage.layout import MASKS, RETRAINED, ROUND, TICKET
from tf_prac.storage.run_directory import RunDirectory

ALLOWED_TO_DIFFER = {
    "pruning": ("rewind", "rounds", "lr_rewind"),
    "search": ("retrain", "also_keep"),
}
"""Options that do not affect the training and pruning of round 0, by group of config.json."""
NOT_OF_RETRAINING = (
    "prac.",
    "other_runs.",
    "pruning.criterion",
    "pruning.retraining",
    "pruning.ticket_start",
    "pruning.rounds",
    "pruning.sparsities",
    "pruning.larger_cuts",
    "pruning.largest_cut",
    "search.retrain",
    "search.also_keep",
)
"""Prefixes of options that affect the retraining of the dense network through W_k alone."""


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
    run: RunDirectory,
    source: str | os.PathLike,
    config: Mapping[str, Any],
    step: int,
    also_keep: Iterable[int] = (),
) -> dict[str, Any]:
    """Copies the finished round 0 of another run into this run.

    Args:
        run: a run without round 0.
        source: directory of the other run.
        config: the run configuration of `run`.
        step: k of `run`, in steps.
        also_keep: further steps after which `run` stores the weights. Default ().

    Returns:
        The metrics of the round.

    Raises:
        FileError: If the other run has no finished round 0, did not store the weights of a
            step, or is damaged.
        MismatchError: If an option that affects round 0 differs; the option is named.
    """
    other = RunDirectory(source)
    check_same(other.path, _round_0_options(config), _round_0_options(other.config()))
    metrics = other.finished_round(0)
    if metrics is None:
        raise FileError(f"{other.path}: its dense round is not finished. Run its search first.")
    weights = _stored_weights(other, step)
    further = {each: _stored_weights(other, each) for each in also_keep}
    _copy_files(other.round_path(0), run.round_path(0), (ROUND, ".", "rewind_"))
    save_rewind_points(run, further)
    metrics = {**metrics, "rewind_sha256": run.save_rewind(weights), "dense_from": True}
    run.finish_round(0, metrics)
    return metrics


def _stored_weights(run: RunDirectory, step: int) -> dict[str, np.ndarray]:
    """Returns the weights that round 0 of a run stored after a step."""
    stored = run.round_path(0) / rewind_point_name(step)
    if not stored.exists():
        raise FileError(
            f"{run.path}: its dense round did not store the weights after step {step}. "
            "Run that search again with also_keep, in a new directory."
        )
    weights = read_npz(stored, "rewind")
    run.check_weights(stored, {name: weight.shape for name, weight in weights.items()})
    return weights


def copy_dense_ticket(
    run: RunDirectory, sources: Iterable[str | os.PathLike], log: Callable[[str], None]
) -> dict[str, Any] | None:
    """Copies the retrained dense network of another run, if the same training is in one.

    Args:
        run: a run with the ticket 0, which is not retrained.
        sources: directories of other runs; those that are missing, unfinished, damaged, or of
            another training are passed over.
        log: function that receives a message about a damaged run.

    Returns:
        The metrics of the retraining, or None.
    """
    for source in sources:
        other = RunDirectory(source)
        try:
            if not _retrain_the_same(run, other):
                continue
            metrics = other.finished_ticket(0)
        except FileError as error:
            log(f"{error} Its dense network is not copied.")
            continue
        if metrics is None:
            continue
        _copy_files(other.ticket_path(0), run.ticket_path(0), (RETRAINED, TICKET, MASKS, "."))
        metrics = {**metrics, "dense_from": True}
        run.finish_ticket(0, metrics)
        return metrics
    return None


def _retrain_the_same(run: RunDirectory, other: RunDirectory) -> bool:
    """Whether the retraining of the dense network is the same in two runs.

    Raises:
        FileError: If a file of the other run is damaged.
    """
    theirs = other.started_config()
    if theirs is None or not (other.ticket_path(0) / TICKET).exists():
        return False
    try:
        check_same(other.path, run.config(), theirs, NOT_OF_RETRAINING)
    except MismatchError:
        return False
    ours, theirs = (read_json(each.ticket_path(0) / TICKET, "ticket") for each in (run, other))
    return ours == theirs  # with the SHA-256 of its masks and of W_k


def _round_0_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a run configuration that affects round 0."""
    return {
        group: {n: v for n, v in options.items() if n not in ALLOWED_TO_DIFFER.get(group, ())}
        if isinstance(options, Mapping)
        else options
        for group, options in config.items()
    }


def _copy_files(source: pathlib.Path, target: pathlib.Path, without: tuple[str, ...]) -> None:
    """Copies the files of a directory, without those whose names begin with one of `without`."""
    for file in sorted(source.iterdir()):
        if file.is_file() and not file.name.startswith(without):
            with atomic_write(target / file.name) as copy:
                copy.write(file.read_bytes())
