"""`Comparison`: searches of several arms, from the same initial weights and data order.

DIRECTORY/comparison.json          the options that all arms share
DIRECTORY/prac/seed_0/             one ordinary run for each arm and seed
DIRECTORY/results.json, .csv       mean and spread for each arm and sparsity
DIRECTORY/cost.csv, runs.csv       the cost of the searches; the results of every run
DIRECTORY/accuracy_remaining.png   and accuracy_steps.png, each with its .svg and .csv
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tf_prac.analysis.arms import ARMS, chosen_arms
from tf_prac.analysis.experiment import Experiment
from tf_prac.analysis.results import write_results
from tf_prac.config import PracConfig, PruningConfig, SearchConfig, TrainingRecipe
from tf_prac.errors import ArgumentError
from tf_prac.search.ticket import Control
from tf_prac.storage.run_directory import RunDirectory


class Comparison(Experiment):
    """Runs arms for several seeds, resumably, and writes one table of their results.

    Example:

        >>> comparison = Comparison(  # doctest: +SKIP
        ...     make_model, ("prac", "imp", "imp+early_stop"), seeds=(0, 1, 2), directory="out"
        ... )
        >>> results = comparison.run((x_train, y_train), test=(x_test, y_test))
        >>> results["table"][0]["test_accuracy"], results["cost"][0]["steps_saved"]

    The same call again reads the finished runs and continues with the rest. Arms and seeds can be
    added later, and several processes can run different seeds in one directory at the same time,
    or different arms, unless one needs another.
    Where arms retrain the same dense network, it is trained once for each seed.

    Source: "Efficient Lottery Ticket Finding: Less Data is More", Figures 3, 5, 6 and 8. The paper
    does not train on full data with early stop, so it cannot attribute its saving to the data or
    to the early stop; the arm "imp+early_stop" separates the two.

    Args:
        model_fn: returns a new, built model whose initial weights depend on the seed alone.
        arms: names in `tf_prac.analysis.arms.ARMS`; an arm that another one needs is added.
        recipe, pruning: as in `TicketSearch`.
        prac: as in `TicketSearch`; each arm changes some of these options. `prac_from`, which the
            arm "transfer" uses, may also be the directory of an arm in another comparison: its
            run with the same seed is used.
        seeds: of initial weights, split, data order and augmentation. Default (0, 1, 2).
        directory: where runs and results are stored.
        retrain: which tickets are retrained, as in `TicketSearch`. Default "all".
        deterministic, data_placement, labels: as in `TicketSearch`.
        verbose: whether to show progress. Default True.

    Raises:
        ArgumentError: an unknown arm, or another option that is not allowed.
    """

    kind = "comparison"

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
        data_placement: str = "auto",
        labels: Mapping[str, Any] | None = None,
        verbose: bool = True,
    ):
        self.arms = chosen_arms(arms)
        super().__init__(
            model_fn,
            SearchConfig.of(recipe, pruning, prac),
            seeds=seeds,
            directory=directory,
            retrain=retrain,
            deterministic=deterministic,
            data_placement=data_placement,
            labels=labels,
            verbose=verbose,
        )
        chosen = self.config.prac
        if chosen.selector != "prac":
            raise ArgumentError("selector", chosen.selector, "prac; arms have other selectors")
        if chosen.sizes_from is not None:
            raise ArgumentError("sizes_from", chosen.sizes_from, "none; arms set it")
        self._check_different()

    def run(self, train: Any, validation: Any = None, test: Any = None) -> dict[str, Any]:
        """Runs what is not finished, writes the results, and returns the content of results.json.

        The results include every finished run in the directory, also of earlier calls.

        Args:
            train, validation, test: as in `TicketSearch.run`.

        Raises:
            ArgumentError, DataError: the data or the model cannot be used.
            MismatchError: the directory contains a comparison with other options.
            FileError: a file is damaged, of something else, or cannot be written.
            NonFiniteLossError: training diverged; finished rounds are kept.
        """
        self._run_all(train, validation, test)
        with self._opened():
            return write_results(self.directory, finished_runs(self.directory))

    def _arms(self) -> list[str]:
        return [name for name, arm in self.arms.items() if arm.controls is None]

    def _arm_config(self, arm: str, seed: int) -> SearchConfig:
        runs = {name: self.run_path(name, seed) for name in self.arms}
        return self.arms[arm].options(self._with_sets_of(seed), runs)

    def _with_sets_of(self, seed: int) -> SearchConfig:
        """Returns the options; if `prac_from` is an arm of a comparison, with its run of `seed`."""
        source = self.config.prac.prac_from
        if source is None or not (run := pathlib.Path(source, f"seed_{seed}")).is_dir():
            return self.config
        return self.config.replace(prac_from=str(run))

    def _shared_dense(self, arm: str, seed: int) -> dict[str, Any]:
        others = sorted(self.directory.glob(f"*/seed_{seed}"))
        return {"dense_tickets": [path for path in others if path != self.run_path(arm, seed)]}

    def _control_kinds(self, arm: str) -> list[str]:
        return [other.control for other in self.arms.values() if other.controls == arm]

    def _may_contain(self, name: str) -> bool:
        return name in ARMS

    def _check_different(self) -> None:
        names: dict[Any, str] = {}
        for seed in self.seeds:
            for name in self._arms():
                same = names.setdefault((seed, self.search(name, seed).config), name)
                if same != name:
                    remedy = f"With these options, {name} is the same as {same}."
                    raise ArgumentError("arms", name, "arms that differ", remedy)


def finished_runs(directory: str | os.PathLike) -> dict[str, dict[int, dict[str, Any]]]:
    """Returns the summaries of the finished runs of a comparison, by arm and seed."""
    summaries: dict[str, dict[int, dict[str, Any]]] = {}
    for name, arm in ARMS.items():
        for path in (pathlib.Path(directory) / (arm.controls or name)).glob("seed_*"):
            if not (run := RunDirectory(path)).has_summary:
                continue
            summary = run.summary()
            if arm.controls is not None:
                label = Control(1, arm.control, summary["seed"]).label
                summary["tickets"] = [c for c in summary["controls"] if c["control"] == label]
            if summary["tickets"]:
                summaries.setdefault(name, {})[summary["seed"]] = summary
    return {arm: dict(sorted(runs.items())) for arm, runs in summaries.items()}
