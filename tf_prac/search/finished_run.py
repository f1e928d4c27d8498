"""`FinishedRun`: a finished run whose sets, sizes or statistics another search uses.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Figure 4 (sets of one architecture
used with another) and Figures A10, A14 (controls of equal size).
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

import numpy as np

from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError, FileError, MismatchError
from tf_prac.storage.files import sha256
from tf_prac.storage.layout import FORGETTING, PRAC_SET
from tf_prac.storage.run_directory import RunDirectory


class FinishedRun:
    """Reads the results of a finished run; files are checked against their SHA-256.

    Args:
        argument: the option that names the run, for error messages.
        path: its directory.

    Raises:
        ArgumentError: If it is not a finished run.
        FileError: If it is damaged.

    Attributes:
        rounds: the metrics of its rounds.
    """

    def __init__(self, argument: str, path: str):
        self._argument = argument
        try:
            self._run = RunDirectory(path)
            self._config, summary = self._run.config(), self._run.summary()
        except FileError as error:
            raise ArgumentError(
                argument, path, "the directory of a finished run", str(error)
            ) from error
        self.rounds: list[dict[str, Any]] = summary["rounds"]
        self._cost = summary["cost"]

    def check_rounds(self, rounds: int) -> None:
        """Raises `ArgumentError` if the run has fewer rounds."""
        if len(self.rounds) < rounds:
            raise ArgumentError(
                self._argument,
                str(self._run.path),
                f"a run of at least {rounds} rounds; it has {len(self.rounds)}",
            )

    def check_same_samples(self, train: Split) -> None:
        """Raises `MismatchError` unless the run is on the same samples in the same order."""
        ours, theirs = train.samples.identity.to_json(), self._config["dataset"]
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise MismatchError(
                    f"{self._argument}: {name} of the data set is {value!r} here, but "
                    f"{theirs.get(name)!r} in {self._run.path}. Its sample ids are not valid here; "
                    "use the same data set, version, split and order."
                )

    def prac_set(self, number: int, train: Split) -> PracSet:
        """Returns the set after round `number`.

        Raises:
            MismatchError: If it contains samples that are held out for validation here.
        """
        self._run.finished_round(number)  # checks its files
        prac_set = PracSet.load(self._run.round_path(number) / PRAC_SET)
        unknown = int((~np.isin(prac_set.ids, train.ids)).sum())
        if unknown:
            raise self._other_split(f"{unknown} samples of its sets are for validation here")
        return prac_set

    def forgetting(self, train: Split) -> ForgettingStats:
        """Returns the forgetting statistics of round 0.

        Raises:
            MismatchError: If it did not train on every sample of `train`.
        """
        self._run.finished_round(0)  # checks its files
        stats = ForgettingStats.load(self._run.round_path(0) / FORGETTING)
        unseen = int((~stats.seen[train.ids]).sum())
        if unseen:
            raise self._other_split(
                f"{unseen} training samples of this search are for validation there"
            )
        return stats

    def to_json(self) -> dict[str, Any]:
        """Returns its entry in a summary, with its own cost."""
        return {"digest": self.digest, "search_steps": self._cost["search_steps"]}

    @property
    def digest(self) -> str:
        """SHA-256 of everything in the run that another search can use."""
        return self._digests[-1]

    @functools.cached_property
    def _digests(self) -> list[str]:
        """The digests of the first round, of the first two, and so on."""
        used: list[list[Any]] = []
        digests = []
        for number, metrics in enumerate(self.rounds):
            files = (self._run.round_path(number) / name for name in (PRAC_SET, FORGETTING))
            counts = (metrics[name] for name in ("train_samples", "prac_size", "steps"))
            used.append([*counts, *map(sha256, files)])
            digests.append(hashlib.sha256(json.dumps(used).encode()).hexdigest())
        return digests

    def check_unchanged(self, digest: str, whole: bool = False) -> None:
        """Raises `MismatchError` unless the run, or its first rounds, have this digest.

        Args:
            digest: that of the run when it was used before.
            whole: whether the run may not have further rounds either. Default False.
        """
        if digest not in self._digests[-1 if whole else 0 :]:
            raise MismatchError(
                f"{self._argument}: {self._run.path} has changed since it was used by this search."
                f" Restore its {'number of rounds' if whole else 'rounds'}, or name another "
                "directory for this search."
            )

    def _other_split(self, what: str) -> MismatchError:
        return MismatchError(
            f"{self._argument}: {what}. "
            f"Hold out the samples that {self._run.path} held out: the same seed, split and "
            "validation_split."
        )
