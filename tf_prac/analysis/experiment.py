"""`Experiment`: the base of a comparison and of a sweep, a grid of arms and seeds.

Every pair of an arm and a seed is an ordinary run in a directory of its own, so that an experiment
that was interrupted continues where it stopped, and several processes can work on different seeds
at the same time. DIRECTORY/KIND.json stores the options that all runs share. The directory is
locked while that file and the results are written, and each run while it is searched.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from tf_prac.checks import check_seed
from tf_prac.config import SearchConfig
from tf_prac.errors import ArgumentError, FileError
from tf_prac.search.callbacks import SearchCallback
from tf_prac.search.retraining import check_retrain
from tf_prac.search.ticket import Control
from tf_prac.search.ticket_search import TicketSearch
from tf_prac.storage.atomic import exclusive, is_foreign
from tf_prac.storage.config_check import OF_ROUNDS, check_same, has_other_rounds
from tf_prac.storage.files import read_json, write_json
from tf_prac.storage.layout import CONFIG
from tf_prac.storage.names import check_name
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.distribution import Distribution
from tf_prac.training.precision import resolved_config

WAIT_SECONDS = 60.0
"""How long to wait for other processes that write the files of an experiment."""


class Experiment:
    """Runs of several arms with several seeds in one directory, resumable.

    A subclass lists its arms and defines how their options differ.

    Args:
        model_fn: returns a new, built model whose initial weights depend on the seed alone.
        config: the options that the arms start from.
        seeds: each arm runs once with each seed.
        directory: where runs and results are stored.
        retrain, deterministic, data_placement, labels, verbose: as in `TicketSearch`.

    Attributes:
        kind: names the experiment in messages and in the file of its options.

    Raises:
        ArgumentError: a seed is not allowed, or there is none; or `retrain` is not allowed.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        model_fn: Callable[[], Any],
        config: SearchConfig,
        *,
        seeds: Iterable[int],
        directory: str | os.PathLike,
        retrain: str | Collection[int],
        deterministic: bool,
        data_placement: str,
        labels: Mapping[str, Any] | None,
        verbose: bool,
    ):
        self.seeds = tuple(dict.fromkeys(seeds))
        if not self.seeds:
            raise ArgumentError("seeds", "", "at least one")
        for seed in self.seeds:
            check_seed("seeds", seed)
        self.seeds = tuple(map(int, self.seeds))
        check_name(directory)
        self.directory = pathlib.Path(directory)
        recorded = [self._document, *sorted(self.directory.glob(f"*/seed_*/{CONFIG}"))]
        self.config = resolved_config(config, Distribution(), recorded)
        self._model_fn = model_fn
        self._search_options: dict[str, Any] = {
            "retrain": check_retrain(retrain, self.config.pruning.rounds),
            "deterministic": deterministic,
            "data_placement": data_placement,
            "labels": labels,
            "verbose": verbose,
        }

    def __repr__(self) -> str:
        seeds = ", ".join(map(str, self.seeds))
        return f"{type(self).__name__}({self.directory}: seeds {seeds})"

    def run_path(self, arm: str, seed: int) -> pathlib.Path:
        """Returns the directory of a run."""
        return self.directory / arm / f"seed_{seed}"

    def _arms(self) -> Collection[str]:
        """Returns the names of the arms that have searches, each after those it depends on."""
        raise NotImplementedError

    def _title(self, arm: str) -> str:
        """Returns the name of an arm in progress messages."""
        return arm

    def _arm_config(self, arm: str, seed: int) -> SearchConfig:
        """Returns the options of a run."""
        raise NotImplementedError

    def _shared_dense(self, arm: str, seed: int) -> dict[str, Any]:
        """Returns the arguments of `TicketSearch` that share the dense network between runs."""
        return {}

    def _control_kinds(self, arm: str) -> Collection[str]:
        """Returns the kinds of controls that are retrained with the tickets of an arm."""
        raise NotImplementedError

    def _may_contain(self, name: str) -> bool:
        """Whether the directory may contain this entry before its first run is finished."""
        raise NotImplementedError

    def search(self, arm: str, seed: int) -> TicketSearch:
        """Returns the search of a run."""
        return TicketSearch(
            self._model_fn,
            self._arm_config(arm, seed),
            directory=self.run_path(arm, seed),
            seed=seed,
            **self._search_options,
            **self._shared_dense(arm, seed),
        )

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        """Locks the directory for a block, in which its files are checked or written."""
        self._check_directory()
        busy = f"{self.directory}: another {self.kind} writes its files"
        with exclusive(self.directory, busy, wait=WAIT_SECONDS):
            self._check_directory()
            yield

    def _run_all(
        self, train: Any, validation: Any, test: Any
    ) -> dict[str, dict[int, dict[str, Any]]]:
        """Runs what is not finished, seed by seed; returns the summaries by arm and seed."""
        with self._opened():
            self._check_started()  # and the directory, before anything is trained
        grid = [(arm, seed) for seed in self.seeds for arm in self._arms()]
        summaries: dict[str, dict[int, dict[str, Any]]] = {arm: {} for arm in self._arms()}
        for number, (arm, seed) in enumerate(grid, 1):
            search = self.search(arm, seed)
            search.callbacks.on_message(
                f"\n{self._title(arm)}, seed {seed} ({number} of {len(grid)})"
            )
            controls = self._controls(arm, search)
            result = search.run(
                train, validation, test, controls=controls, callbacks=[_RecordOptions(self)]
            )
            summaries[arm][seed] = result.summary
        return summaries

    def record_options(self) -> None:
        """Writes the options that all runs share, unless the same are stored already.

        Raises:
            MismatchError: If other options are stored.
        """
        with self._opened():
            options = self._shared_options()
            if not self._document.exists() or self._gets_more_rounds(options, self._stored()):
                write_json(self._document, self.kind, options)

    def _controls(self, arm: str, search: TicketSearch) -> list[Control]:
        """Returns the controls of all retrained tickets of a run."""
        rounds, retrain = search.config.pruning.rounds, search.retrain
        named = {"all": range(1, rounds + 1), "last": [rounds], "none": []}
        numbers = named[retrain] if isinstance(retrain, str) else [n for n in retrain if n]
        kinds = self._control_kinds(arm)
        return [Control(number, kind, search.seed) for kind in kinds for number in numbers]

    @property
    def _document(self) -> pathlib.Path:
        return self.directory / f"{self.kind}.json"

    def _shared_options(self) -> dict[str, Any]:
        """Returns the options that all runs share."""
        names = ("retrain", "deterministic")
        return {
            **self.config.to_json(),
            "prac": self.config.prac.to_json(),
            "search": {name: self._search_options[name] for name in names},
            "labels": dict(self._search_options["labels"] or {}),
        }

    def _stored(self) -> dict[str, Any]:
        """Returns the stored options; numbers of tickets, once stored in any order, are sorted."""
        stored = read_json(self._document, self.kind)
        search, rounds = stored["search"], stored["pruning"]["rounds"]
        if isinstance(numbers := search.get("retrain"), list):
            search["retrain"] = [*check_retrain(numbers, rounds)]
        return stored

    def _gets_more_rounds(self, options: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
        """Whether the stored experiment has fewer rounds than the one with these options."""
        more = options["pruning"]["rounds"] > stored["pruning"]["rounds"]
        return more and has_other_rounds(self.directory, options, stored)

    def _check_started(self) -> None:
        """Refuses another number of rounds for runs that cannot change it."""
        for seed in self.seeds:
            for arm in self._arms():
                path = self.run_path(arm, seed)
                if (started := RunDirectory(path).started_config()) is not None:
                    has_other_rounds(path, self._arm_config(arm, seed).to_json(), started)

    def _check_directory(self) -> None:
        """Refuses a directory with other files, or with an experiment of other options."""
        if self._document.exists():
            options, stored = self._shared_options(), self._stored()
            of_rounds = OF_ROUNDS if self._gets_more_rounds(options, stored) else ()
            check_same(self.directory, options, stored, of_rounds)
        elif self.directory.exists() and (
            not self.directory.is_dir()
            or any(
                is_foreign(name) and not self._may_contain(name)
                for name in os.listdir(self.directory)
            )
        ):
            raise FileError(
                f"{self.directory}: not empty and not a {self.kind}. Name another directory."
            )


class _RecordOptions(SearchCallback):
    """Records the options of an experiment once a run is accepted; a refused one leaves no file.

    Args:
        experiment: the experiment of the run.
    """

    def __init__(self, experiment: Experiment):
        self._experiment = experiment

    def on_search_begin(self, config: Mapping[str, Any]) -> None:
        """Records the options."""
        self._experiment.record_options()
