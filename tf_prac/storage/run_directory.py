"""`RunDirectory`: every file name of a run, and when it is written.

    config.json               everything that decides the result
    rewind.npz                W_k, the weights every round starts from
    pretraining/              rewind.npz pretrained.json, if W_k comes from other samples
    round_00/                 masks.npz forgetting.npz prac_set.npz predictions.npz history.csv
                              round.json (figures, and the SHA-256 of the other files)
    round_00/tentative/       with keep_epoch_masks: epoch_001.npz, the mask that it would give
    tickets/round_03/         masks.npz ticket.json, which refers to rewind.npz; weights.npz if the
                              ticket starts from other weights; after retraining trained.npz,
                              history.csv, retrained.json and, if Keras can save it, model.keras
    tickets/round_03/controls/reinit_0/    the same files of a control, with weights.npz
    copies/                   networks trained from W_k in other orders, one .npz each
    summary.json              the figures of the whole run
    report.html               its story, by `tf-prac report`
    tensorboard/              events, by `tf-prac search --tensorboard`

While a training is under way, checkpoints/step_000001234/ beside its other files has its state:
checkpoint.json and tensors.*. The search that works in the directory holds a lock on `.lock`.

A round counts as finished when its round.json is there and fits the other files: those beside it,
and those it was made from (config.json, rewind.npz and what the round before left), so that the
files of two runs cannot be mixed.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tf_prac.errors import DamagedFileError, FileError, MismatchError
from tf_prac.storage.files import inside, read_json, read_npz, sha256, write_json, write_npz
from tf_prac.storage.lock import locked

CONFIG, REWIND, SUMMARY, REPORT = "config.json", "rewind.npz", "summary.json", "report.html"
MASKS, FORGETTING, PRAC_SET = "masks.npz", "forgetting.npz", "prac_set.npz"
TENTATIVE = "tentative"
PREDICTIONS, HISTORY, ROUND = "predictions.npz", "history.csv", "round.json"
TICKET, WEIGHTS = "ticket.json", "weights.npz"
TRAINED, RETRAINED, MODEL = "trained.npz", "retrained.json", "model.keras"
TENSORBOARD = "tensorboard"
CHECKPOINTS, CHECKPOINT, LOCK = "checkpoints", "checkpoint.json", ".lock"
PRETRAINED = "pretrained.json"


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
        self._check(config)
        file = inside(self.path, CONFIG)
        if not file.exists():
            write_json(file, "config", config)

    @contextlib.contextmanager
    def locked(self, config: Mapping[str, Any]) -> Iterator[None]:
        """Opens the run, and keeps other searches out of it during the block.

        What kills have left half-written is removed.

        Raises:
            FileError: another search works in it; its process is named. Or as for `open`.
            MismatchError: as for `open`.
        """
        self._check(config)
        with locked(self.path / LOCK, f"{self.path}: another search works in it"):
            self._clear_up()
            self.open(config)
            yield

    def _clear_up(self) -> None:
        """Removes what kills have left half-written."""
        for left in [*self.path.rglob(".*.tmp"), *self.path.rglob(".*.tmp.keras")]:
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def _check(self, config: Mapping[str, Any]) -> None:
        """Raises an error unless a run of this configuration may be started or goes on here."""
        file = inside(self.path, CONFIG)
        try:
            started = file.exists()
            foreign = not started and _holds_other_things(self.path)
        except OSError as error:
            raise FileError(f"{self.path}: cannot be read: {error.strerror or error}.") from error
        if started:
            check_same(self.path, config, read_json(file, "config"))
        elif foreign:
            raise FileError(
                f"{self.path}: not empty and not a run of tf_prac. Name another directory."
            )

    def config(self) -> dict[str, Any]:
        """Reads the configuration of the run; raises `FileError` if there is none."""
        if not (self.path / CONFIG).exists():
            raise FileError(f"{self.path}: not a run of tf_prac, it has no {CONFIG}.")
        return read_json(inside(self.path, CONFIG), "config")

    def round_path(self, number: int) -> pathlib.Path:
        """The directory of a round."""
        return self._directory(f"round_{number:02d}")

    def ticket_path(self, number: int, control: str = "") -> pathlib.Path:
        """The directory of the ticket that round `number` would train, or of a control of it."""
        below = ("controls", control) if control else ()
        return self._directory("tickets", f"round_{number:02d}", *below)

    def controls(self, number: int) -> list[str]:
        """The retrained controls of a ticket, such as "random_mask_0", in order."""
        found = self.ticket_path(number).glob(f"controls/*/{RETRAINED}")
        return sorted(path.parent.name for path in found)

    def _directory(self, *names: str) -> pathlib.Path:
        """A directory of the run; refused if something else is in its place."""
        path = inside(self.path, *names)
        if path.exists() and not path.is_dir():
            raise FileError(f"{path}: not a directory. Remove it, or name another run.")
        return path

    def copy_path(self, number: int, network: str, copy: int) -> pathlib.Path:
        """The file of a network trained from W_k, of `Replicates`."""
        return self.path / "copies" / f"round_{number:02d}_{network}_{copy:02d}.npz"

    def finish_round(self, number: int, figures: Mapping[str, Any]) -> None:
        """Writes round.json, which makes the round finished, over the files already there."""
        origin = self._digests(self._origin_of_round(number))
        seal(self.round_path(number), ROUND, "round", {**figures, "made_from": origin})

    @property
    def pretraining_path(self) -> pathlib.Path:
        """The directory of the steps to W_k, if they were taken on other samples."""
        return self._directory("pretraining")

    def finish_pretraining(
        self, weights: Mapping[str, np.ndarray], figures: Mapping[str, Any]
    ) -> None:
        """Writes W_k, and the figures of the steps that led to it."""
        write_npz(self.pretraining_path / REWIND, "rewind", weights)
        document = {**figures, "made_from": self._digests([CONFIG])}
        seal(self.pretraining_path, PRETRAINED, "pretrained", document)

    def finished_pretraining(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Returns what `finish_pretraining` wrote; None if it has not.

        Raises:
            FileError: a file is damaged, missing or of another run; it is named.
        """
        file = self.pretraining_path / PRETRAINED
        figures = read_sealed(file.parent, PRETRAINED, "pretrained")
        if figures is None:
            return None
        figures.pop("sha256", None)
        checked = self._check_origin(file, figures, [CONFIG])
        return read_npz(inside(file.parent, REWIND), "rewind"), checked

    def finished_round(self, number: int) -> dict[str, Any] | None:
        """Returns the figures of a finished round, its files checked; None if unfinished.

        Raises:
            FileError: a file of the round is damaged, missing or of another run; it is named.
        """
        figures = read_sealed(self.round_path(number), ROUND, "round")
        file = self.round_path(number) / ROUND
        return figures and self._check_origin(file, figures, self._origin_of_round(number))

    def intact_round(self, number: int, say: Callable[[str], None]) -> dict[str, Any] | None:
        """Like `finished_round`, but None, after saying so, if something of it is damaged."""
        try:
            figures = self.finished_round(number)
            if figures is not None and number == 0:
                self.load_rewind(figures["rewind_sha256"])
            return figures
        except DamagedFileError as error:
            say(f"{error} Round {number} is trained again.")
            return None

    def finish_ticket(self, number: int, figures: Mapping[str, Any], control: str = "") -> None:
        """Writes retrained.json, which makes the retraining of a ticket finished."""
        origin = self._digests(self._origin_of_ticket(number))
        path = self.ticket_path(number, control)
        seal(path, RETRAINED, "retrained", {**figures, "made_from": origin})

    def finished_ticket(self, number: int, control: str = "") -> dict[str, Any] | None:
        """Returns the figures of a retrained ticket, its files checked; None if there are none."""
        file = self.ticket_path(number, control) / RETRAINED
        figures = read_sealed(file.parent, RETRAINED, "retrained")
        if figures and figures.get("control", "") != control:
            raise DamagedFileError(f"{file}: damaged, it is of control {figures['control']!r}.")
        return figures and self._check_origin(file, figures, self._origin_of_ticket(number))

    def _origin_of_round(self, number: int) -> list[str]:
        """The files that decide what a round trains."""
        if number == 0:
            return [CONFIG]
        before = self.round_path(number - 1).name
        return [CONFIG, REWIND, f"{before}/{MASKS}", f"{before}/{PRAC_SET}"]

    def _origin_of_ticket(self, number: int) -> list[str]:
        """The files that decide what a ticket is."""
        masks = [f"{self.round_path(number - 1).name}/{MASKS}"] if number else []
        return [CONFIG, REWIND, *masks]

    def _origin_of_summary(self) -> list[str]:
        return [
            CONFIG,
            *sorted(f"{p.parent.name}/{ROUND}" for p in self.path.glob(f"round_*/{ROUND}")),
        ]

    def _digests(self, names: Sequence[str]) -> dict[str, str]:
        return {name: sha256(inside(self.path, name)) for name in names}

    def _check_origin(
        self, file: pathlib.Path, document: dict[str, Any], names: Sequence[str]
    ) -> dict[str, Any]:
        """Returns what a file says, unless it was made from other files than those here."""
        claimed, found = document.pop("made_from", None), self._digests(names)
        if not isinstance(claimed, dict):
            raise DamagedFileError(f"{file}: damaged, it does not say what it was made from.")
        for name in [*found, *claimed]:
            if claimed.get(name) != found.get(name):
                raise DamagedFileError(
                    f"{self.path / name}: damaged, or of another run: "
                    f"{file} was not made from this one."
                )
        return document

    def save_rewind(self, weights: Mapping[str, np.ndarray]) -> str:
        """Writes W_k and returns the SHA-256 of the file."""
        write_npz(self.path / REWIND, "rewind", weights)
        return sha256(self.path / REWIND)

    def load_rewind(self, digest: str) -> dict[str, np.ndarray]:
        """Reads W_k; raises `DamagedFileError` unless the file has the given SHA-256."""
        if sha256(inside(self.path, REWIND)) != digest:
            raise DamagedFileError(
                f"{self.path / REWIND}: damaged, or of another run. "
                "The same search again makes it anew."
            )
        return read_npz(self.path / REWIND, "rewind")

    def save_predictions(self, number: int, classes: np.ndarray) -> None:
        """Writes the dense network's predictions on the training set, int32 [n]."""
        write_npz(self.round_path(number) / PREDICTIONS, "predictions", {"classes": classes})

    def load_predictions(self, number: int) -> np.ndarray:
        """Reads what `save_predictions` wrote."""
        path = inside(self.path, self.round_path(number).name, PREDICTIONS)
        classes = read_npz(path, "predictions").get("classes")
        if classes is None or classes.ndim != 1 or classes.dtype.kind != "i":
            raise DamagedFileError(f"{path}: damaged, it does not hold classes.")
        return classes

    def save_tentative(
        self,
        number: int,
        epoch: int,
        masks: Mapping[str, np.ndarray],
        tentative: Mapping[str, np.ndarray],
    ) -> None:
        """Writes the mask that an epoch would give: one bit for each weight that `masks` keep."""
        path = self._directory(f"round_{number:02d}", TENTATIVE) / f"epoch_{epoch:03d}.npz"
        bits = np.concatenate([tentative[name][mask] for name, mask in masks.items()])
        write_npz(path, "tentative", {"bits": np.packbits(bits), "count": np.array(len(bits))})

    def load_tentative(self, number: int) -> np.ndarray:
        """Reads what `save_tentative` wrote for a round: bool [epochs, remaining weights].

        Raises:
            FileError: there is nothing, or it is damaged.
        """
        place = self._directory(f"round_{number:02d}", TENTATIVE)
        rows = []
        for path in sorted(place.glob("epoch_*.npz")):
            arrays = read_npz(path, "tentative")
            if set(arrays) != {"bits", "count"} or arrays["bits"].dtype != np.uint8:
                raise FileError(f"{path}: damaged, it does not hold a tentative mask.")
            rows.append(np.unpackbits(arrays["bits"], count=int(arrays["count"])).astype(bool))
        if not rows or len({len(row) for row in rows}) != 1:
            raise FileError(
                f"{place}: no tentative masks of one round. Search with --keep_epoch_masks."
            )
        return np.stack(rows)

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json."""
        origin = self._digests(self._origin_of_summary())
        write_json(self.path / SUMMARY, "summary", {**summary, "made_from": origin})

    def summary(self) -> dict[str, Any]:
        """Reads summary.json; raises `FileError` if the run is not finished, or has changed."""
        self.config()
        file = inside(self.path, SUMMARY)
        if not file.exists():
            raise FileError(f"{self.path}: the search is not finished, there is no {SUMMARY}.")
        return self._check_origin(file, read_json(file, "summary"), self._origin_of_summary())


def read_sealed(directory: pathlib.Path, name: str, kind: str) -> dict[str, Any] | None:
    """Reads what `seal` wrote, and checks the files it vouches for; None if it is not there.

    Raises:
        DamagedFileError: it, or one of the files, is damaged or missing; that one is named.
    """
    if not (directory / name).exists():
        return None
    document = read_json(inside(directory, name), kind)
    files = document.pop("files", None)
    if not isinstance(files, dict):
        raise DamagedFileError(f"{directory / name}: damaged, it names no files.")
    for file, digest in files.items():
        if pathlib.PurePath(file).name != file:
            raise DamagedFileError(
                f"{directory / name}: damaged, {file!r} is not in the directory."
            )
        if sha256(inside(directory, file)) != digest:
            raise DamagedFileError(
                f"{directory / file}: damaged, its SHA-256 is not the one in {name}. "
                "The same search again makes it anew."
            )
    return document


def seal(directory: pathlib.Path, name: str, kind: str, figures: Mapping[str, Any]) -> None:
    """Writes figures as JSON, with the SHA-256 of each other file in the directory."""
    files = sorted(p for p in directory.iterdir() if p.is_file() and p.name != name)
    digests = {p.name: sha256(p) for p in files if not p.name.startswith(".")}
    write_json(directory / name, kind, {**figures, "files": digests})


def _holds_other_things(path: pathlib.Path) -> bool:
    """Whether there is more than what a kill while config.json was written leaves behind."""
    if not path.is_dir():
        return path.exists()
    return any(not p.name.startswith((f".{CONFIG}.", LOCK)) for p in path.iterdir())


def check_same(
    path: pathlib.Path,
    wanted: Mapping[str, Any],
    found: Mapping[str, Any],
    may_differ: tuple[str, ...] = (),
) -> None:
    """Raises `MismatchError`, naming the first difference, unless configurations are the same.

    Args:
        path: the run that has the configuration `found`.
        wanted: another configuration.
        found: that of the run.
        may_differ: beginnings of dotted names, "group.option", that may differ; labels may.
    """
    asked, there = _flatten(json.loads(json.dumps(wanted))), _flatten(found)
    for name in [*asked, *there]:
        if name.startswith(("labels.", *may_differ)):
            continue
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
