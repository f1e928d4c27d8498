"""`Comparison`: searches side by side, from the same initial weights and data order.

DIRECTORY/comparison.json          the options that all arms share
DIRECTORY/prac/seed_0/             one ordinary run for each arm and seed
DIRECTORY/results.json, .csv       mean and spread for each arm and sparsity
DIRECTORY/cost.csv, runs.csv       what the searches cost; every run by itself
DIRECTORY/accuracy_remaining.png   and accuracy_steps.png, each with its .svg and .csv
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tf_prac.analysis.arms import ARMS, Arm, chosen_arms
from tf_prac.analysis.results import write_results
from tf_prac.checks import check_seed
from tf_prac.config import PracConfig, PruningConfig, SearchConfig, TrainingRecipe
from tf_prac.errors import ArgumentError, FileError
from tf_prac.search.ticket import Control
from tf_prac.search.ticket_search import TicketSearch
from tf_prac.storage.files import read_json, write_json
from tf_prac.storage.run_directory import SUMMARY, RunDirectory, check_same

COMPARISON = "comparison.json"


class Comparison:
    """Runs arms for several seeds, resumably, and makes one table of them.

    Example:

        >>> comparison = Comparison(  # doctest: +SKIP
        ...     make_model, ("prac", "imp", "imp+early_stop"), seeds=(0, 1, 2), directory="out"
        ... )
        >>> results = comparison.run((x_train, y_train), test=(x_test, y_test))
        >>> results["table"][0]["test_accuracy"], results["cost"][0]["steps_saved"]

    The same call again reads what is finished and goes on with the rest; further arms and seeds
    may be asked for later.

    Source: "Efficient Lottery Ticket Finding: Less Data is More", Figures 3, 5, 6 and 8; the
    paper has no full data with early stop, so that its saving is not split into the two.

    Args:
        model_fn: returns a new, built model whose initial weights depend on the seed alone.
        arms: names of `tf_prac.analysis.arms.ARMS`; an arm that another needs comes unasked.
        recipe: as in `TicketSearch`.
        pruning: likewise.
        prac: likewise; what each arm departs from. `prac_from`, which the arm "transfer" uses,
            may also be an arm's directory in another comparison: its run of the same seed is used.
        seeds: of initial weights, split, data order and augmentation. Default (0, 1, 2).
        directory: where everything is kept.
        retrain: which tickets are retrained, as in `TicketSearch`. Default "all".
        deterministic: as in `TicketSearch`. Default False.
        labels: likewise.
        verbose: whether to show progress. Default True.

    Raises:
        ArgumentError: an arm that does not exist, or another option that is not allowed.
    """

    def __init__(
        self,
        model_fn: Callable[[], Any],
        arms: Iterable[str],
        recipe: TrainingRecipe | SearchConfig | None = None,
        pruning: PruningConfig | None = None,
        prac: PracConfig | None = None,
        *,
        directory: str | os.PathLike,
        seeds: Iterable[int] = (0, 1, 2),
        retrain: str | Collection[int] = "all",
        deterministic: bool = False,
        labels: Mapping[str, Any] | None = None,
        verbose: bool = True,
    ):
        self.arms = chosen_arms(arms)
        self.seeds = tuple(dict.fromkeys(seeds))
        if not self.seeds:
            raise ArgumentError("seeds", "", "at least one")
        for seed in self.seeds:
            check_seed("seeds", seed)
        self.directory = pathlib.Path(directory)
        self._model_fn, self.config = model_fn, SearchConfig.of(recipe, pruning, prac)
        self._search: dict[str, Any] = {
            "retrain": retrain,
            "deterministic": deterministic,
            "labels": labels,
            "verbose": verbose,
        }
        asked = self.config.prac
        if asked.selector != "prac":
            raise ArgumentError("selector", asked.selector, "prac; arms have other selectors")
        if asked.sizes_from is not None:
            raise ArgumentError("sizes_from", asked.sizes_from, "none; arms set it")
        _check_different(self._searches())

    def _searches(self) -> list[tuple[str, int, TicketSearch]]:
        """Every search, seed by seed; each after those that it needs."""
        return [
            (name, seed, self._searched(arm, name, seed))
            for seed in self.seeds
            for name, arm in self.arms.items()
            if arm.controls is None
        ]

    def _controls(self, name: str, search: TicketSearch) -> list[Control]:
        """The controls of an arm's tickets that other arms are made of."""
        rounds, asked = search.config.pruning.rounds, search.retrain
        chosen = {"all": range(1, rounds + 1), "last": [rounds], "none": []}
        numbers = chosen[asked] if isinstance(asked, str) else [n for n in asked if n]
        kinds = [arm.control for arm in self.arms.values() if arm.controls == name]
        return [Control(number, kind, search.seed) for kind in kinds for number in numbers]

    def _searched(self, arm: Arm, name: str, seed: int) -> TicketSearch:
        runs = {other: self.run_path(other, seed) for other in self.arms}
        return TicketSearch(
            self._model_fn,
            arm.options(self._with_sets_of(seed), runs),
            directory=self.run_path(name, seed),
            seed=seed,
            **self._search,
        )

    @property
    def _options(self) -> dict[str, Any]:
        """What all arms share, for comparison.json."""
        return {
            **self.config.to_json(),
            "prac": dataclasses.asdict(self.config.prac),
            "search": {name: self._search[name] for name in ("retrain", "deterministic")},
            "labels": dict(self._search["labels"] or {}),
        }

    def _with_sets_of(self, seed: int) -> SearchConfig:
        """Of an arm of another comparison, `prac_from` means the run of the same seed."""
        place = pathlib.Path(self.config.prac.prac_from or "", f"seed_{seed}")
        named = self.config.prac.prac_from is not None and place.is_dir()
        return self.config.replace(prac_from=str(place)) if named else self.config

    def run_path(self, arm: str, seed: int) -> pathlib.Path:
        """The directory of a run."""
        return self.directory / arm / f"seed_{seed}"

    def run(self, train: Any, validation: Any = None, test: Any = None) -> dict[str, Any]:
        """Runs what is not finished, writes the results, and returns those of results.json.

        The results are those of every finished run in the directory, also of earlier calls.

        Args:
            train, validation, test: as in `TicketSearch.run`.

        Raises:
            ArgumentError, DataError: the data or the model cannot be used.
            MismatchError: the directory holds a comparison with other options.
            FileError: a file is damaged, foreign, or cannot be written.
            NonFiniteLossError: training diverged; finished rounds are kept.
        """
        self._check_directory()
        searches = self._searches()
        for number, (name, seed, search) in enumerate(searches, 1):
            search.callbacks.on_message(f"\n{name}, seed {seed} ({number} of {len(searches)})")
            search.run(train, validation, test, controls=self._controls(name, search))
            if number == 1:  # what cannot be run at all leaves nothing behind
                write_json(self.directory / COMPARISON, "comparison", self._options)
        return write_results(self.directory, finished_runs(self.directory))

    def _check_directory(self) -> None:
        """Refuses a directory that holds a comparison with other options, or other things."""
        if (self.directory / COMPARISON).exists():
            found = read_json(self.directory / COMPARISON, "comparison")
            check_same(self.directory, self._options, found)
        elif self.directory.exists() and (
            not self.directory.is_dir()
            or any(path.name not in ARMS for path in self.directory.iterdir())
        ):
            raise FileError(
                f"{self.directory}: not empty and not a comparison. Name another directory."
            )


def finished_runs(directory: str | os.PathLike) -> dict[str, dict[int, dict[str, Any]]]:
    """Returns the summaries of the finished runs of a comparison, by arm and seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for name, arm in ARMS.items():
        for path in (pathlib.Path(directory) / (arm.controls or name)).glob(f"seed_*/{SUMMARY}"):
            summary = RunDirectory(path.parent).summary()
            if arm.controls is not None:
                label = Control(1, arm.control, summary["seed"]).label
                summary["tickets"] = [c for c in summary["controls"] if c["control"] == label]
            if summary["tickets"]:
                found.setdefault(name, {})[summary["seed"]] = summary
    return {arm: dict(sorted(runs.items())) for arm, runs in found.items()}


def _check_different(searches: list[tuple[str, int, TicketSearch]]) -> None:
    names: dict[Any, str] = {}
    for name, seed, search in searches:
        same = names.setdefault((seed, search.config), name)
        if same != name:
            raise ArgumentError(
                "arms",
                name,
                "arms that differ",
                f"With these options, {name} is the same as {same}.",
            )
