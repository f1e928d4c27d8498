"""`RunDirectory`: every file name of a run, and when it is written.

    config.json               everything that decides the result
    rewind.npz                W_k, the weights every round starts from
    round_00/                 masks.npz forgetting.npz prac_set.npz predictions.npz history.csv
                              round.json (figures, and the SHA-256 of the other files)
    tickets/round_03/         masks.npz weights.npz ticket.json; after retraining trained.npz,
                              history.csv, retrained.json and, where Keras can save it, model.keras
    summary.json              the figures of the whole run

A round counts as finished when its round.json is there and fits the other files.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.errors import FileError, MismatchError
from tf_prac.files import read_json, read_npz, sha256, write_json, write_npz

CONFIG, REWIND, SUMMARY = "config.json", "rewind.npz", "summary.json"
MASKS, FORGETTING, PRAC_SET = "masks.npz", "forgetting.npz", "prac_set.npz"
PREDICTIONS, HISTORY, ROUND = "predictions.npz", "history.csv", "round.json"
TICKET, WEIGHTS = "ticket.json", "weights.npz"
TRAINED, RETRAINED, MODEL = "trained.npz", "retrained.json", "model.keras"


class RunDirectory:
    """The files of one search.

    Args:
        path: the directory; made when the first file is written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)

    def open(self, config: Mapping[str, Any]) -> None:
        """Starts a run, or goes on with one of the same configuration.

        What stands under "labels" only says how to make the run again; it may differ, as the
        place of a data set may.

        Raises:
            MismatchError: the directory holds a run with other options; the first is named.
            FileError: the directory holds other things, or cannot be written.
        """
        file = self.path / CONFIG
        try:
            started = file.exists()
            foreign = not started and self.path.exists() and _holds_other_things(self.path)
        except OSError as error:
            raise FileError(f"{self.path}: cannot be read: {error.strerror or error}.") from error
        if started:
            _check_same(self.path, config, read_json(file, "config"))
        elif foreign:
            raise FileError(
                f"{self.path}: not empty and not a run of tf_prac. Name another directory."
            )
        else:
            write_json(file, "config", config)

    def config(self) -> dict[str, Any]:
        """Reads the configuration of the run; raises `FileError` if there is none."""
        if not (self.path / CONFIG).exists():
            raise FileError(f"{self.path}: not a run of tf_prac, it has no {CONFIG}.")
        return read_json(self.path / CONFIG, "config")

    def round_path(self, number: int) -> pathlib.Path:
        """The directory of a round."""
        return self.path / f"round_{number:02d}"

    def ticket_path(self, number: int) -> pathlib.Path:
        """The directory of the ticket that round `number` would train."""
        return self.path / "tickets" / f"round_{number:02d}"

    def finish_round(self, number: int, figures: Mapping[str, Any]) -> None:
        """Writes round.json, which makes the round finished, over the files already there."""
        _seal(self.round_path(number), ROUND, "round", figures)

    def finished_round(self, number: int) -> dict[str, Any] | None:
        """Returns the figures of a finished round, its files checked; None if unfinished.

        Raises:
            FileError: a file of the round is damaged or missing; it is named.
        """
        return read_sealed(self.round_path(number), ROUND, "round")

    def finish_ticket(self, number: int, figures: Mapping[str, Any]) -> None:
        """Writes retrained.json, which makes the retraining of a ticket finished."""
        _seal(self.ticket_path(number), RETRAINED, "retrained", figures)

    def finished_ticket(self, number: int) -> dict[str, Any] | None:
        """Returns the figures of a retrained ticket, its files checked; None if there are none."""
        return read_sealed(self.ticket_path(number), RETRAINED, "retrained")

    def save_rewind(self, weights: Mapping[str, np.ndarray]) -> str:
        """Writes W_k and returns the SHA-256 of the file."""
        write_npz(self.path / REWIND, "rewind", weights)
        return sha256(self.path / REWIND)

    def load_rewind(self, digest: str) -> dict[str, np.ndarray]:
        """Reads W_k; raises `FileError` unless the file has the given SHA-256."""
        if sha256(self.path / REWIND) != digest:
            raise FileError(
                f"{self.path / REWIND}: damaged, or of another run. "
                "Put the right file back, or search again in another directory."
            )
        return read_npz(self.path / REWIND, "rewind")

    def save_predictions(self, number: int, classes: np.ndarray) -> None:
        """Writes the dense network's predictions on the training set, int32 [n]."""
        write_npz(self.round_path(number) / PREDICTIONS, "predictions", {"classes": classes})

    def load_predictions(self, number: int) -> np.ndarray:
        """Reads what `save_predictions` wrote."""
        path = self.round_path(number) / PREDICTIONS
        arrays = read_npz(path, "predictions")
        if set(arrays) != {"classes"}:
            raise FileError(f"{path}: damaged, it does not hold classes.")
        return arrays["classes"]

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json."""
        write_json(self.path / SUMMARY, "summary", summary)

    def summary(self) -> dict[str, Any]:
        """Reads summary.json; raises `FileError` if the run is not finished."""
        if not (self.path / SUMMARY).exists():
            raise FileError(f"{self.path}: the search is not finished, there is no {SUMMARY}.")
        return read_json(self.path / SUMMARY, "summary")


def read_sealed(directory: pathlib.Path, name: str, kind: str) -> dict[str, Any] | None:
    """Reads a file that `finish_...` wrote, and checks the files it vouches for."""
    if not (directory / name).exists():
        return None
    document = read_json(directory / name, kind)
    files = document.pop("files", None)
    if not isinstance(files, dict):
        raise FileError(f"{directory / name}: damaged, it names no files.")
    for file, digest in files.items():
        if pathlib.PurePath(file).name != file:
            raise FileError(f"{directory / name}: damaged, {file!r} is not in the directory.")
        if sha256(directory / file) != digest:
            raise FileError(
                f"{directory / file}: damaged, its SHA-256 is not the one in {name}. "
                f"Remove {directory} to compute it again."
            )
    return document


def _seal(directory: pathlib.Path, name: str, kind: str, figures: Mapping[str, Any]) -> None:
    files = sorted(p for p in directory.iterdir() if p.is_file() and p.name != name)
    digests = {p.name: sha256(p) for p in files if not p.name.startswith(".")}
    write_json(directory / name, kind, {**figures, "files": digests})


def _holds_other_things(path: pathlib.Path) -> bool:
    """Whether there is more than what a kill while config.json was written leaves behind."""
    return not path.is_dir() or any(not p.name.startswith(f".{CONFIG}.") for p in path.iterdir())


def _check_same(path: pathlib.Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    asked, there = _flatten(json.loads(json.dumps(wanted))), _flatten(found)
    asked, there = (
        {k: v for k, v in flat.items() if not k.startswith("labels.")} for flat in (asked, there)
    )
    for name in [*asked, *there]:
        if asked.get(name) != there.get(name):
            raise MismatchError(
                f"{name.rpartition('.')[2]}: {asked.get(name)!r} asked for, but the run in {path} "
                f"has {there.get(name)!r}. Ask for the same, or name another directory."
            )


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
