"""`RunDirectory`: reads and writes the files of a run (`storage/layout.py`).

A round is finished once its round.json exists and matches the other files: those next to it, and
those it was computed from (config.json, rewind.npz and the files of the round before).
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tf_prac.errors import DamagedFileError, FileError, MismatchError
from tf_prac.storage.atomic import atomic_write, exclusive, is_foreign
from tf_prac.storage.config_check import OF_ROUNDS, check_same, has_other_rounds
from tf_prac.storage.files import (
    inside,
    open_regular,
    read_json,
    read_npz,
    read_shapes,
    sha256,
    write_json,
    write_npz,
)
from tf_prac.storage.layout import (
    AVERAGED,
    CONFIG,
    EARLIER_CONFIGS,
    FORGETTING,
    MASKS,
    PRAC_SET,
    PREDICTIONS,
    PRETRAINED,
    RETRAINED,
    REWIND,
    ROUND,
    SUMMARY,
    TENTATIVE,
    TRAINED,
    WEIGHTS,
    RunLayout,
)
from tf_prac.storage.manifest import (
    MADE_FROM,
    check_made_from,
    file_digests,
    read_manifest,
    write_manifest,
)

_KINDS = {
    MASKS: "masks",
    TRAINED: "weights",
    WEIGHTS: "weights",
    AVERAGED: "weights",
    FORGETTING: "forgetting",
    PREDICTIONS: "predictions",
}
"""The archives whose shapes follow from the configuration of the run."""


_UNUSED_VERSIONS = {"keras": ("versions.tf_keras",), "tf_keras": ("versions.keras",)}
"""By the flavor of Keras of a run."""

_REMEDIES = {
    "versions.": "Install that version, or resume with accept_versions; results may then differ "
    "in their last bits."
}


class RunDirectory(RunLayout):
    """The files of one search.

    Args:
        path: the directory; created when the first file is written.
    """

    def open(self, config: Mapping[str, Any]) -> None:
        """Starts a run, reopens one of the same configuration, or changes its number of rounds.

        Options under "labels", such as the directory of a data set, describe how to repeat the
        run; they may differ, and those of its start are kept. If the number of rounds changes, the
        earlier configuration is kept, as the finished rounds were computed from it.

        Raises:
            MismatchError: If the directory contains a run with other options; the first one that
                differs is named.
            FileError: If the directory contains something else, or cannot be written.
        """
        started, file = self._check(config), inside(self.path, CONFIG)
        if started is None:
            write_json(file, "config", config)
        elif started["pruning"]["rounds"] != config["pruning"]["rounds"]:
            earlier = self.earlier_config_path(sha256(file))
            with open_regular(file) as source, atomic_write(earlier) as copy:
                copy.write(source.read())
            write_json(file, "config", {**config, "labels": started.get("labels", {})})

    @contextlib.contextmanager
    def locked(self, config: Mapping[str, Any]) -> Iterator[None]:
        """Opens the run, and locks it against other searches during the block.

        Temporary files of killed processes are removed.

        Raises:
            FileError: If another search uses the run (its process is named), or as for `open`.
            MismatchError: As for `open`.
        """
        self._check(config)
        with exclusive(self.path, f"{self.path}: another search works in it", below=True):
            self.open(config)
            yield

    def _check(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """Raises an error unless a run of this configuration can be started or resumed here.

        Returns:
            The configuration of the run that is here, or None.
        """
        file = inside(self.path, CONFIG)
        try:
            started = file.exists()
            foreign = not started and _has_foreign_files(self.path)
        except OSError as error:
            raise FileError(f"{self.path}: cannot be read: {error.strerror or error}.") from error
        if started:
            existing = read_json(file, "config")
            of_rounds = OF_ROUNDS if has_other_rounds(self.path, config, existing) else ()
            check_same(self.path, config, existing, (*of_rounds, *_unused(config)), _REMEDIES)
            self._earlier_configs()
            return existing
        if foreign:
            raise FileError(
                f"{self.path}: not empty and not a run of tf_prac. Name another directory."
            )
        return None

    def started_config(self) -> dict[str, Any] | None:
        """Reads the configuration of the run; None if none was started here."""
        return self.config() if (self.path / CONFIG).exists() else None

    def config(self) -> dict[str, Any]:
        """Reads the configuration of the run; raises `FileError` if there is none."""
        if not (self.path / CONFIG).exists():
            runs = sorted(self.path.glob(f"*/{CONFIG}")) + sorted(self.path.glob(f"*/*/{CONFIG}"))
            hint = f" It contains runs, such as {runs[0].parent}." if runs else ""
            raise FileError(f"{self.path}: not a run of tf_prac, it has no {CONFIG}.{hint}")
        return read_json(inside(self.path, CONFIG), "config")

    def _earlier_configs(self) -> dict[str, set[str]]:
        """Returns the SHA-256 of the configurations that the run had with other rounds.

        Raises:
            DamagedFileError: If one of them differs in more than that.
        """
        digests = set()
        for path in sorted(self.path.glob(EARLIER_CONFIGS)):
            file, config = inside(self.path, path.name), self.config()
            may_differ = (*OF_ROUNDS, *_unused(config))
            try:
                check_same(file, config, read_json(file, "config"), may_differ)
            except MismatchError as error:
                raise DamagedFileError(f"{file}: damaged, or of another run ({error})") from error
            digests.add(sha256(file))
        return {CONFIG: digests}

    def _check_made_from(
        self, file: pathlib.Path, document: Mapping[str, Any], names: list[str]
    ) -> dict[str, Any]:
        return check_made_from(self.path, file, document, names, self._earlier_configs())

    def controls(self, number: int) -> list[str]:
        """The names of the retrained controls of a ticket, such as "random_mask_0", sorted."""
        files = self.ticket_path(number).glob(f"controls/*/{RETRAINED}")
        return sorted(path.parent.name for path in files)

    def finish_round(self, number: int, metrics: Mapping[str, Any]) -> None:
        """Writes round.json, which completes the round. The other files must exist."""
        inputs = file_digests(self.path, self._inputs_of_round(number))
        write_manifest(self.round_path(number), ROUND, "round", {**metrics, MADE_FROM: inputs})

    def finished_round(self, number: int) -> dict[str, Any] | None:
        """Returns the metrics of a finished round, its files verified; None if unfinished.

        Raises:
            FileError: If a file of the round is damaged, missing or of another run; it is named.
        """
        file = self.round_path(number) / ROUND
        document = read_manifest(file.parent, ROUND, "round")
        if document is None:
            return None
        metrics = self._check_made_from(file, document, self._inputs_of_round(number))
        self._check_number(file, metrics, number)
        self._check_arrays(file.parent)
        return metrics

    def finished_rounds(self) -> list[dict[str, Any]]:
        """Returns the metrics of the finished rounds, up to the first that is not finished.

        Raises:
            FileError: As for `finished_round`.
        """
        rounds: list[dict[str, Any]] = []
        total = self.config()["pruning"]["rounds"]
        while len(rounds) < total and (metrics := self.finished_round(len(rounds))) is not None:
            rounds.append(metrics)
        return rounds

    def intact_round(self, number: int, log: Callable[[str], None]) -> dict[str, Any] | None:
        """Like `finished_round`, but logs a damaged file and returns None."""
        try:
            metrics = self.finished_round(number)
            if metrics is not None and number == 0:
                self.load_rewind(metrics["rewind_sha256"])
            return metrics
        except DamagedFileError as error:
            log(f"{error} Round {number} is trained again.")
            return None

    def finish_pretraining(
        self, weights: Mapping[str, np.ndarray], metrics: Mapping[str, Any]
    ) -> None:
        """Writes W_k and the metrics of the training to it, on other samples."""
        write_npz(self.pretraining_path / REWIND, "rewind", weights)
        document = {**metrics, MADE_FROM: file_digests(self.path, [CONFIG])}
        write_manifest(self.pretraining_path, PRETRAINED, "pretrained", document)

    def finished_pretraining(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Returns what `finish_pretraining` wrote; None if it is not finished.

        Raises:
            FileError: If a file is damaged, missing or of another run; it is named.
        """
        file = self.pretraining_path / PRETRAINED
        document = read_manifest(file.parent, PRETRAINED, "pretrained")
        if document is None:
            return None
        metrics = self._check_made_from(file, document, [CONFIG])
        weights = read_npz(inside(file.parent, REWIND), "rewind")
        self.check_weights(file.parent / REWIND, {n: w.shape for n, w in weights.items()})
        return weights, metrics

    def finish_ticket(self, number: int, metrics: Mapping[str, Any], control: str = "") -> None:
        """Writes retrained.json, which completes the retraining of a ticket or control."""
        inputs = file_digests(self.path, self._inputs_of_ticket(number))
        path = self.ticket_path(number, control)
        write_manifest(path, RETRAINED, "retrained", {**metrics, MADE_FROM: inputs})

    def finished_ticket(self, number: int, control: str = "") -> dict[str, Any] | None:
        """Returns the metrics of a retrained ticket, its files verified; None if not retrained."""
        file = self.ticket_path(number, control) / RETRAINED
        document = read_manifest(file.parent, RETRAINED, "retrained")
        if document is None:
            return None
        if document["control"] != control:
            raise DamagedFileError(f"{file}: damaged, it is of control {document['control']!r}.")
        metrics = self._check_made_from(file, document, self._inputs_of_ticket(number))
        self._check_number(file, metrics, number)
        self._check_arrays(file.parent)
        return metrics

    def _check_number(self, file: pathlib.Path, metrics: Mapping[str, Any], number: int) -> None:
        if metrics["round"] != number:
            raise DamagedFileError(f"{file}: damaged, it is of round {metrics['round']}.")

    def _check_arrays(self, directory: pathlib.Path) -> None:
        """Raises `DamagedFileError` unless the arrays of a directory fit network and data set."""
        config = self.config()
        counts = {FORGETTING: config["dataset"]["count"], PREDICTIONS: config["train_samples"]}
        for name, kind in _KINDS.items():
            if not (directory / name).exists():
                continue
            file = inside(directory, name)
            shapes = read_shapes(file, kind)
            if name in counts:
                _check_samples(file, {size for size, *_ in shapes.values()}, counts[name])
            else:
                self.check_weights(file, shapes, complete=name in (TRAINED, WEIGHTS))
        if (directory / PRAC_SET).exists():
            file = inside(directory, PRAC_SET)
            size = read_npz(file, "prac_set")["num_samples"]
            _check_samples(file, {int(size)}, config["dataset"]["count"])

    def check_weights(
        self, file: pathlib.Path, shapes: Mapping[str, tuple[int, ...]], complete: bool = True
    ) -> None:
        """Raises `DamagedFileError` unless arrays have the shapes of the network of the run.

        Args:
            file: the file of the arrays, for the error.
            shapes: shapes of weights or masks by name; variables of an optimizer are skipped.
            complete: whether every weight of the network has to be among them. Default True.
        """
        model = {name: tuple(shape) for name, shape in self.config()["model"].items()}
        names = [name for name in shapes if not name.startswith("@")]
        for name in [*names, *(model if complete else ())]:
            if shapes.get(name) != model.get(name):
                raise DamagedFileError(
                    f"{file}: damaged, {name!r} has shape {shapes.get(name)}; "
                    f"allowed: {model.get(name)}, as in {CONFIG}."
                )

    def _inputs_of_round(self, number: int) -> list[str]:
        """The files that a round is computed from."""
        if number == 0:
            return [CONFIG]
        before = self.round_path(number - 1).name
        return [CONFIG, REWIND, f"{before}/{MASKS}", f"{before}/{PRAC_SET}"]

    def _inputs_of_ticket(self, number: int) -> list[str]:
        """The files that a ticket is computed from."""
        masks = [f"{self.round_path(number - 1).name}/{MASKS}"] if number else []
        return [CONFIG, REWIND, *masks]

    def _inputs_of_summary(self) -> list[str]:
        paths = map(self.round_path, range(self.config()["pruning"]["rounds"]))
        return [CONFIG, *(f"{p.name}/{ROUND}" for p in paths if (p / ROUND).exists())]

    def save_rewind(self, weights: Mapping[str, np.ndarray]) -> str:
        """Writes W_k and returns the SHA-256 of the file."""
        write_npz(self.path / REWIND, "rewind", weights)
        return sha256(self.path / REWIND)

    def load_rewind(self, digest: str) -> dict[str, np.ndarray]:
        """Reads W_k; raises `DamagedFileError` unless the file has the given SHA-256."""
        if sha256(inside(self.path, REWIND)) != digest:
            raise DamagedFileError(
                f"{self.path / REWIND}: damaged, or of another run. "
                "Run the same search again to restore it."
            )
        weights = read_npz(self.path / REWIND, "rewind")
        self.check_weights(self.path / REWIND, {name: w.shape for name, w in weights.items()})
        return weights

    def save_predictions(self, number: int, predictions: Any) -> None:
        """Writes the dense network's predictions on the training set.

        Args:
            number: of the round.
            predictions: classes, int32 [n], or other predictions [n, ...]; or a dictionary of
                them, for several outputs.
        """
        named = predictions if isinstance(predictions, Mapping) else {"": predictions}
        arrays = {f"classes/{name}" if name else "classes": v for name, v in named.items()}
        write_npz(self.round_path(number) / PREDICTIONS, "predictions", arrays)

    def load_predictions(self, number: int) -> Any:
        """Reads the predictions of `save_predictions`."""
        path = inside(self.path, self.round_path(number).name, PREDICTIONS)
        arrays = read_npz(path, "predictions")
        if set(arrays) == {"classes"}:
            return arrays["classes"]
        return {name.partition("/")[2]: values for name, values in arrays.items()}

    def save_tentative(
        self,
        number: int,
        epoch: int,
        masks: Mapping[str, np.ndarray],
        tentative: Mapping[str, np.ndarray],
    ) -> None:
        """Writes the tentative mask of an epoch, one bit for each weight that `masks` keep."""
        path = self._directory(f"round_{number:02d}", TENTATIVE) / f"epoch_{epoch:03d}.npz"
        bits = np.concatenate([tentative[name][mask] for name, mask in masks.items()])
        write_npz(path, "tentative", {"bits": np.packbits(bits), "count": np.array(len(bits))})

    def load_tentative(self, number: int) -> np.ndarray:
        """Reads the tentative masks of a round: bool [epochs, remaining weights].

        Raises:
            DamagedFileError: If one is damaged.
            FileError: If there are none.
        """
        directory = self._directory(f"round_{number:02d}", TENTATIVE)
        rows = []
        for path in sorted(directory.glob("epoch_*.npz")):
            arrays = read_npz(inside(directory, path.name), "tentative")
            rows.append(np.unpackbits(arrays["bits"], count=int(arrays["count"])).astype(bool))
            if len(rows[-1]) != len(rows[0]):
                raise DamagedFileError(
                    f"{path}: damaged, it is of {len(rows[-1])} weights; allowed: {len(rows[0])}, "
                    "as in the first epoch."
                )
        metrics = self.finished_round(number)
        if rows and metrics is not None and len(rows) != metrics["epochs"]:
            raise DamagedFileError(
                f"{directory}: damaged, it has the masks of {len(rows)} epochs; "
                f"allowed: {metrics['epochs']}, as in {ROUND}."
            )
        if not rows:
            raise FileError(f"{directory}: no tentative masks. Search with --keep_epoch_masks.")
        return np.stack(rows)

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json."""
        inputs = file_digests(self.path, self._inputs_of_summary())
        write_json(self.path / SUMMARY, "summary", {**summary, MADE_FROM: inputs})

    @property
    def has_summary(self) -> bool:
        """Whether the search is finished: a summary.json of its number of rounds exists.

        Raises:
            DamagedFileError: If it cannot be read.
        """
        return self._read_summary() is not None

    def _read_summary(self) -> dict[str, Any] | None:
        """Reads summary.json; None if there is none, or one of another number of rounds."""
        file = inside(self.path, SUMMARY)
        if not file.exists():
            return None
        document, rounds = read_json(file, "summary"), self.config()["pruning"]["rounds"]
        return document if len(document["rounds"]) == rounds else None

    def summary(self) -> dict[str, Any]:
        """Reads summary.json; raises `FileError` if the run is unfinished or has changed."""
        self.config()
        document = self._read_summary()
        if document is None:
            raise FileError(
                f"{self.path}: the search is not finished, there is no {SUMMARY} of its rounds. "
                "To resume it, run the same search again."
            )
        return self._check_made_from(self.path / SUMMARY, document, self._inputs_of_summary())


def _unused(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the versions that cannot change the result of a run."""
    return _UNUSED_VERSIONS.get(config.get("keras", ""), ())


def _check_samples(file: pathlib.Path, counts: set[int], count: int) -> None:
    """Raises `DamagedFileError` unless arrays are of a data set of `count` samples."""
    if counts != {count}:
        raise DamagedFileError(
            f"{file}: damaged, it is of a data set of {sorted(counts)} samples; "
            f"allowed: {count}, as in {CONFIG}."
        )


def _has_foreign_files(path: pathlib.Path) -> bool:
    """Whether a path has content other than a lock and temporaries, which a kill may leave."""
    if not path.is_dir():
        return path.exists()
    return any(is_foreign(p.name) for p in path.iterdir())
