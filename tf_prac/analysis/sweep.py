"""`RewindSweep`: one search for each rewind point, with the training of the dense network shared.

DIRECTORY/sweep.json               the options that all runs share
DIRECTORY/rewind_500it/seed_0/     one ordinary run for each rewind point and seed
DIRECTORY/results.json, .csv       mean and spread for each rewind point, control and sparsity
DIRECTORY/cost.csv, runs.csv       what the searches cost; every run by itself
DIRECTORY/accuracy_remaining.png   accuracy_rewind.png and others, each with its .svg and .csv

Source: "Stabilizing the Lottery Ticket Hypothesis", Figures 1, 4, 5, 7 and 8.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tf_prac.analysis.results import Row, cost_table, draw_results, run_rows, table
from tf_prac.checks import check_choice, check_seed
from tf_prac.config import (
    PracConfig,
    PruningConfig,
    RewindPoint,
    SearchConfig,
    TrainingRecipe,
)
from tf_prac.data.search_data import prepare
from tf_prac.errors import ArgumentError, FileError
from tf_prac.plotting import Line, line_figure
from tf_prac.search.progress import aligned
from tf_prac.search.ticket import CONTROLS, Control
from tf_prac.search.ticket_search import TicketSearch
from tf_prac.storage.files import read_json, write_csv, write_json
from tf_prac.storage.run_directory import CONFIG, RunDirectory, check_same
from tf_prac.training.schedules import Budget

SWEEP = "sweep.json"
MOST_LINES = 8


class RewindSweep:
    """Searches that differ in their rewind point alone, and controls of their tickets.

    Example:

        >>> sweep = RewindSweep(  # doctest: +SKIP
        ...     make_model, ("0it", "100it", "500it"), controls=("random_mask",), directory="out"
        ... )
        >>> results = sweep.run((x_train, y_train), test=(x_test, y_test))
        >>> results["steps"]["trained"], results["steps"]["shared"]

    The dense network is trained once for each seed: round 0 keeps the weights of all rewind points,
    and the other runs take it over. The same call again reads what is finished and goes on with
    the rest. A rewind point that is added later trains its own dense network.

    Args:
        model_fn: returns a new, built model whose initial weights depend on the seed alone.
        rewinds: rewind points, such as ("0it", "500it", "1ep").
        recipe: as in `TicketSearch`.
        pruning: likewise; its own rewind point is not looked at.
        prac: likewise.
        controls: kinds of controls that are retrained beside every retrained ticket. Default ().
        seeds: of initial weights, split, data order and augmentation, and of the controls.
            Default (0,).
        directory: where everything is kept.
        retrain: which tickets are retrained, as in `TicketSearch`. Default "all".
        deterministic: as in `TicketSearch`. Default False.
        labels: likewise.
        verbose: whether to show progress. Default True.

    Raises:
        ArgumentError: an option is not allowed.
    """

    def __init__(
        self,
        model_fn: Callable[[], Any],
        rewinds: Iterable[str],
        recipe: TrainingRecipe | SearchConfig | None = None,
        pruning: PruningConfig | None = None,
        prac: PracConfig | None = None,
        *,
        controls: Iterable[str] = (),
        seeds: Iterable[int] = (0,),
        directory: str | os.PathLike,
        retrain: str | Collection[int] = "all",
        deterministic: bool = False,
        labels: Mapping[str, Any] | None = None,
        verbose: bool = True,
    ):
        self.rewinds = _check_rewinds(rewinds)
        self.seeds = tuple(dict.fromkeys(seeds))
        if not self.seeds:
            raise ArgumentError("seeds", "", "at least one")
        for seed in self.seeds:
            check_seed("seeds", seed)
        self.controls = tuple(dict.fromkeys(controls))
        for kind in self.controls:
            check_choice("controls", kind, CONTROLS)
        self.directory = pathlib.Path(directory)
        self._model_fn, self.config = model_fn, SearchConfig.of(recipe, pruning, prac)
        self._options: dict[str, Any] = {
            "retrain": retrain,
            "deterministic": deterministic,
            "labels": labels,
            "verbose": verbose,
        }
        self._make_search(self.rewinds[0], self.seeds[0])  # refuses what is not allowed

    def run_path(self, rewind: str, seed: int) -> pathlib.Path:
        """The directory of a run."""
        return self.directory / f"rewind_{rewind}" / f"seed_{seed}"

    def run(self, train: Any, validation: Any = None, test: Any = None) -> dict[str, Any]:
        """Runs what is not finished, writes the results, and returns those of results.json.

        Args:
            train, validation, test: as in `TicketSearch.run`.

        Raises:
            ArgumentError, DataError: the data, the model or a rewind point cannot be used; nothing
                was trained.
            MismatchError: the directory holds a sweep with other options.
            FileError: a file is damaged, foreign, or cannot be written.
            NonFiniteLossError: training diverged; finished rounds are kept.
        """
        self._check_points(train, validation)
        self._check_directory()
        summaries: dict[str, dict[int, dict[str, Any]]] = {rewind: {} for rewind in self.rewinds}
        for seed in self.seeds:
            for rewind in self.rewinds:
                search = self._make_search(rewind, seed)
                search.callbacks.on_message(f"\nrewind to {rewind}, seed {seed}")
                result = search.run(train, validation, test, controls=self._controls(search, seed))
                summaries[rewind][seed] = result.summary
                write_json(self.directory / SWEEP, "sweep", self._shared_options)
        return write_results(self.directory, summaries)

    def _make_search(self, rewind: str, seed: int) -> TicketSearch:
        path, options = self.run_path(rewind, seed), dict(self._options)
        first = self._first_run(seed)
        if self.config.prac.pretrains:
            pass  # each k has a round 0 of its own
        elif first == path:
            options["also_keep"] = self._kept(first)
        elif rewind in self._kept(first):
            options["dense_from"] = first
        return TicketSearch(
            self._model_fn,
            self.config.replace(rewind=rewind),
            directory=path,
            seed=seed,
            **options,
        )

    def _first_run(self, seed: int) -> pathlib.Path:
        """The run that trains the dense network of a seed: one that has begun, or the first."""
        begun = self.directory.glob(f"rewind_*/seed_{seed}/{CONFIG}")
        keeping = [p.parent for p in sorted(begun) if self._kept(p.parent)]
        return keeping[0] if keeping else self.run_path(self.rewinds[0], seed)

    def _kept(self, path: pathlib.Path) -> tuple[str, ...]:
        """The rewind points that the dense round of a run keeps, or will keep."""
        if not (path / CONFIG).exists():
            return self.rewinds
        return tuple(RunDirectory(path).config()["search"].get("also_keep", ()))

    def _controls(self, search: TicketSearch, seed: int) -> list[Control]:
        rounds = self.config.pruning.rounds
        chosen = {"all": range(1, rounds + 1), "last": (rounds,), "none": ()}
        numbers = chosen[search.retrain] if isinstance(search.retrain, str) else search.retrain
        return [Control(n, kind, seed) for n in numbers if n for kind in self.controls]

    def _check_points(self, train: Any, validation: Any) -> None:
        """Refuses a rewind point beyond the end of training before anything is trained."""
        data = prepare(train, validation, None, self.config.recipe, self.seeds[0])
        full = Budget.full(self.config.recipe, len(data.train.ids))
        steps: dict[int, str] = {}
        for rewind in self.rewinds:
            try:
                k = RewindPoint.parse(rewind).steps(full.steps_per_epoch, full.total_steps)
            except ArgumentError as error:
                raise ArgumentError("rewinds", rewind, error.allowed, error.remedy) from error
            if steps.setdefault(k, rewind) != rewind:
                remedy = f"{steps[k]} is step {k} as well."
                raise ArgumentError("rewinds", rewind, "different steps", remedy)

    @property
    def _shared_options(self) -> dict[str, Any]:
        """What all runs share, for sweep.json."""
        groups = self.config.to_json()
        pruning = {name: value for name, value in groups["pruning"].items() if name != "rewind"}
        return {
            **groups,
            "pruning": pruning,
            "prac": dataclasses.asdict(self.config.prac),
            "search": {name: self._options[name] for name in ("retrain", "deterministic")},
            "labels": dict(self._options["labels"] or {}),
        }

    def _check_directory(self) -> None:
        """Refuses a directory that holds a sweep with other options, or other things."""
        if (self.directory / SWEEP).exists():
            found = read_json(self.directory / SWEEP, "sweep")
            check_same(self.directory, self._shared_options, found)
        elif self.directory.exists() and (
            not self.directory.is_dir()
            or any(not path.name.startswith("rewind_") for path in self.directory.iterdir())
        ):
            raise FileError(f"{self.directory}: not empty and not a sweep. Name another directory.")


def _check_rewinds(rewinds: Iterable[str]) -> tuple[str, ...]:
    points = tuple(rewinds)
    for point in points:
        try:
            RewindPoint.parse(point)
        except ArgumentError as error:
            raise ArgumentError("rewinds", point, error.allowed) from error
    if not points:
        raise ArgumentError("rewinds", "", "at least one rewind point, such as 500it")
    return tuple(dict.fromkeys(str(RewindPoint.parse(point)) for point in points))


def write_results(
    directory: str | os.PathLike, summaries: Mapping[str, Mapping[int, Mapping[str, Any]]]
) -> dict[str, Any]:
    """Writes results.json, results.csv, runs.csv, cost.csv and the figures of a sweep.

    Args:
        directory: where to.
        summaries: the contents of summary.json, by rewind point and seed.

    Returns:
        The content of results.json: "table", "cost", "steps" and "runs".
    """
    path = pathlib.Path(directory)
    runs: list[Row] = []
    for rewind, found in summaries.items():
        for seed, summary in found.items():
            runs += run_rows(f"k={rewind}", seed, summary)
            runs += _control_rows(f"k={rewind}", seed, summary)
    costs = {f"k={rewind}": list(found.values()) for rewind, found in summaries.items()}
    rows = table(runs, reference=f"k={next(iter(summaries))}")
    cost = cost_table(costs)
    results = {"table": rows, "cost": cost, "steps": _steps(summaries), "runs": runs}
    write_json(path / "results.json", "sweep_results", results)
    write_csv(path / "results.csv", rows)
    write_csv(path / "cost.csv", cost)
    write_csv(path / "runs.csv", runs)
    draw_results(path, rows)
    _draw_rewinds(path, rows, summaries)
    return results


def sweep_text(results: Mapping[str, Any]) -> str:
    """Returns the table of results.json for a terminal: test accuracy in %, a line for each arm."""
    sparsities = {row["round"]: f"{row['sparsity']:.2%}" for row in results["table"]}
    cells: dict[str, dict[int, str]] = {}
    for row in results["table"]:
        accuracy = row["test_accuracy"]
        shown = "-" if accuracy is None else f"{100 * accuracy:.2f}"
        cells.setdefault(row["arm"], {})[row["round"]] = shown
    numbers = sorted(sparsities)
    return aligned(
        [
            ("sparsity", *(sparsities[n] for n in numbers)),
            *((arm, *(found.get(n, "") for n in numbers)) for arm, found in cells.items()),
        ]
    )


def _control_rows(name: str, seed: int, summary: Mapping[str, Any]) -> list[Row]:
    """Rows like those of the tickets, an arm for each kind of control."""
    kinds = sorted({control["control"].rsplit("_", 1)[0] for control in summary["controls"]})
    rows = []
    for kind in kinds:
        mine = [c for c in summary["controls"] if c["control"] == f"{kind}_{seed}"]
        rows += run_rows(f"{name} {kind}", seed, {**summary, "tickets": mine})[1:]
    return rows


def _steps(summaries: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[str, int]:
    """SGD steps of the whole sweep: had each search been alone, shared, and really trained."""
    alone = shared = 0
    for found in summaries.values():
        for summary in found.values():
            cost, dense = summary["cost"], summary["rounds"][0]
            alone += cost["search_steps"] + cost["retrain_steps"] + cost["reference_steps"]
            shared += dense["steps"] if dense.get("dense_from") else 0
    return {"alone": alone, "shared": shared, "trained": alone - shared}


def _draw_rewinds(
    path: pathlib.Path,
    rows: list[Row],
    summaries: Mapping[str, Mapping[int, Mapping[str, Any]]],
) -> None:
    """Draws test accuracy against k, a line for each sparsity and control."""
    steps = {
        f"k={rewind}": next(iter(found.values()))["rewind_step"]
        for rewind, found in summaries.items()
    }
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        name, _, kind = row["arm"].partition(" ")
        if row["round"] and row["test_accuracy"] is not None:
            groups.setdefault((-row["round"], kind), []).append({**row, "k": steps[name]})
    lines = []
    for (_, kind), group in sorted(groups.items())[:MOST_LINES]:
        group.sort(key=lambda row: row["k"])
        remaining = f"{100 * (1 - group[0]['sparsity']):.3g}% {kind}".rstrip()
        values = {
            name: [100 * row[f"test_accuracy{end}"] for row in group]
            for name, end in (("y", ""), ("low", "_min"), ("high", "_max"))
        }
        lines.append(Line(remaining, [row["k"] for row in group], **values))
    if lines:
        line_figure(
            path / "accuracy_rewind",
            lines,
            x_label="rewind point k (steps)",
            y_label="test accuracy (%)",
            prepare=lambda axes: axes.set_xscale("symlog"),
        )
