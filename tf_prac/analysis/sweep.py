"""`RewindSweep`: one search for each rewind point, with the dense round shared between them.

DIRECTORY/sweep.json               the options that all runs share
DIRECTORY/rewind_500it/seed_0/     one ordinary run for each rewind point and seed
DIRECTORY/results.json, .csv       mean and spread for each rewind point, control and sparsity
DIRECTORY/cost.csv, runs.csv       the cost of the searches; the results of every run
DIRECTORY/accuracy_remaining.png   accuracy_rewind.png and others, each with its .svg and .csv

Source: "Stabilizing the Lottery Ticket Hypothesis", Figures 1, 4, 5, 7 and 8.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tf_prac.analysis.experiment import Experiment
from tf_prac.analysis.results import (
    Row,
    Summaries,
    copied_steps,
    counted_steps,
    metric_of,
    run_rows,
    scale_of,
    write_results,
)
from tf_prac.checks import check_choice
from tf_prac.config import PracConfig, PruningConfig, RewindPoint, SearchConfig, TrainingRecipe
from tf_prac.data.splits import make_splits
from tf_prac.errors import ArgumentError
from tf_prac.plotting import Line, line_figure, show_rewind_points
from tf_prac.search.ticket import CONTROLS
from tf_prac.storage.layout import CONFIG
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.tables import text_table
from tf_prac.training.schedules import Budget

MAX_LINES = 8


class RewindSweep(Experiment):
    """Searches that differ only in their rewind point, and controls of their tickets.

    Example:

        >>> sweep = RewindSweep(  # doctest: +SKIP
        ...     make_model, ("0it", "100it", "500it"), controls=("random_mask",), directory="out"
        ... )
        >>> results = sweep.run((x_train, y_train), test=(x_test, y_test))
        >>> results["steps"]["trained"], results["steps"]["shared"]

    The dense network is trained once for each seed: round 0 saves the weights of all rewind points,
    and the other runs reuse it. The same call again reads the finished runs and continues with the
    rest. A rewind point that is added later trains its own dense network.

    Args:
        model_fn: returns a new, built model whose initial weights depend on the seed alone.
        rewinds: rewind points, such as ("0it", "500it", "1ep").
        recipe, prac: as in `TicketSearch`.
        pruning: as in `TicketSearch`; its own rewind point is ignored.
        controls: kinds of controls that are retrained with every retrained ticket. Default ().
        seeds: of initial weights, split, data order and augmentation, and of the controls.
            Default (0,).
        directory: where runs and results are stored.
        retrain: which tickets are retrained, as in `TicketSearch`. Default "all".
        deterministic, data_placement, labels: as in `TicketSearch`.
        verbose: whether to show progress. Default True.

    Raises:
        ArgumentError: an option is not allowed.
    """

    kind = "sweep"

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
        data_placement: str = "auto",
        labels: Mapping[str, Any] | None = None,
        verbose: bool = True,
    ):
        self.rewinds = _check_rewinds(rewinds)
        self.controls = tuple(dict.fromkeys(controls))
        for kind in self.controls:
            check_choice("controls", kind, CONTROLS)
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
        self.search(self.rewinds[0], self.seeds[0])  # refuses what is not allowed

    def run_path(self, rewind: str, seed: int) -> pathlib.Path:
        """Returns the directory of a run."""
        return super().run_path(f"rewind_{rewind}", seed)

    def run(self, train: Any, validation: Any = None, test: Any = None) -> dict[str, Any]:
        """Runs what is not finished, writes the results, and returns the content of results.json.

        Args:
            train, validation, test: as in `TicketSearch.run`.

        Raises:
            ArgumentError, DataError: the data, the model or a rewind point cannot be used; nothing
                was trained.
            MismatchError: the directory contains a sweep with other options.
            FileError: a file is damaged, of something else, or cannot be written.
            NonFiniteLossError: training diverged; finished rounds are kept.
        """
        self._check_steps(train, validation)
        summaries = self._run_all(train, validation, test)
        with self._opened():
            return write_sweep(self.directory, summaries)

    def _arms(self) -> tuple[str, ...]:
        return self.rewinds

    def _title(self, arm: str) -> str:
        return f"rewind to {arm}"

    def _arm_config(self, arm: str, seed: int) -> SearchConfig:
        return self.config.replace(rewind=arm)

    def _control_kinds(self, arm: str) -> tuple[str, ...]:
        return self.controls

    def _may_contain(self, name: str) -> bool:
        return name.startswith("rewind_")

    def _shared_options(self) -> dict[str, Any]:
        options = super()._shared_options()
        del options["pruning"]["rewind"]
        return options

    def _shared_dense(self, arm: str, seed: int) -> dict[str, Any]:
        if self.config.prac.pretrains:
            return {}  # each k has a round 0 of its own
        source = self._dense_run(seed)
        saved = self._saved_points(source)
        if source == self.run_path(arm, seed):
            return {"also_keep": saved}
        return {"dense_from": source} if arm in saved else {}

    def _dense_run(self, seed: int) -> pathlib.Path:
        """Returns the run that trains the dense network of a seed: a started one, or the first."""
        started = self.directory.glob(f"rewind_*/seed_{seed}/{CONFIG}")
        sharing = [path.parent for path in sorted(started) if self._saved_points(path.parent)]
        return sharing[0] if sharing else self.run_path(self.rewinds[0], seed)

    def _saved_points(self, run: pathlib.Path) -> tuple[str, ...]:
        """Returns the rewind points whose weights the dense round of a run saves."""
        if not (run / CONFIG).exists():
            return self.rewinds
        return tuple(RunDirectory(run).config()["search"].get("also_keep", ()))

    def _check_steps(self, train: Any, validation: Any) -> None:
        """Refuses a rewind point beyond the end of training before anything is trained."""
        data = make_splits(train, validation, None, self.config.recipe, self.seeds[0])
        budget = Budget.full(self.config.recipe, len(data.train.ids))
        points: dict[int, str] = {}
        for rewind in self.rewinds:
            try:
                k = RewindPoint.parse(rewind).steps(budget.steps_per_epoch, budget.total_steps)
            except ArgumentError as error:
                raise ArgumentError("rewinds", rewind, error.allowed, error.remedy) from error
            if points.setdefault(k, rewind) != rewind:
                remedy = f"{points[k]} is step {k} as well."
                raise ArgumentError("rewinds", rewind, "different steps", remedy)


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


def write_sweep(directory: str | os.PathLike, summaries: Summaries) -> dict[str, Any]:
    """Writes results.json, results.csv, runs.csv, cost.csv and the figures of a sweep.

    Args:
        directory: where to write.
        summaries: the contents of summary.json, by rewind point and seed.

    Returns:
        The content of results.json: "table", "cost", "steps" and "runs".
    """
    arms = {f"k={rewind}": runs for rewind, runs in summaries.items()}
    rows: list[Row] = []
    for arm, runs in arms.items():
        for seed, summary in runs.items():
            rows += run_rows(arm, seed, summary)
            rows += control_rows(arm, seed, summary)
    results = write_results(
        directory,
        arms,
        rows,
        kind="sweep_results",
        reference=next(iter(arms)),
        steps=_steps(summaries),
    )
    _draw_rewinds(pathlib.Path(directory), results["table"], arms)
    return results


def sweep_text(results: Mapping[str, Any]) -> str:
    """Returns the table of results.json for a terminal: test accuracy in %, a line for each arm."""
    sparsities = {row["round"]: f"{row['sparsity']:.2%}" for row in results["table"]}
    cells: dict[str, dict[int, str]] = {}
    for row in results["table"]:
        accuracy = row["test_accuracy"]
        digits = 2 if metric_of([row]).is_fraction else 4
        text = "-" if accuracy is None else f"{scale_of([row]) * accuracy:.{digits}f}"
        cells.setdefault(row["arm"], {})[row["round"]] = text
    rounds = sorted(sparsities)
    head = ("sparsity", *(sparsities[n] for n in rounds))
    lines = ((arm, *(texts.get(n, "") for n in rounds)) for arm, texts in cells.items())
    return text_table([head, *lines])


def control_rows(arm: str, seed: int, summary: Mapping[str, Any]) -> list[Row]:
    """Returns rows like those of the tickets, with an arm for each kind of control."""
    kinds = sorted({control["control"].rsplit("_", 1)[0] for control in summary["controls"]})
    rows = []
    for kind in kinds:
        controls = [c for c in summary["controls"] if c["control"] == f"{kind}_{seed}"]
        rows += run_rows(f"{arm} {kind}", seed, {**summary, "tickets": controls})[1:]
    return rows


def _steps(summaries: Summaries) -> dict[str, int]:
    """Counts the SGD steps: of the searches alone, saved by sharing, and actually trained."""
    of_all = [summary for runs in summaries.values() for summary in runs.values()]
    alone, shared = sum(map(counted_steps, of_all)), sum(map(copied_steps, of_all))
    return {"alone": alone, "shared": shared, "trained": alone - shared}


def _draw_rewinds(directory: pathlib.Path, rows: list[Row], summaries: Summaries) -> None:
    """Draws test accuracy against k, a line for each sparsity and control."""
    steps = {arm: next(iter(runs.values()))["rewind_step"] for arm, runs in summaries.items()}
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        arm, _, kind = row["arm"].partition(" ")
        if row["round"] and row["test_accuracy"] is not None:
            groups.setdefault((-row["round"], kind), []).append({**row, "k": steps[arm]})
    lines = []
    for (_, kind), group in sorted(groups.items())[:MAX_LINES]:
        group.sort(key=lambda row: row["k"])
        remaining = f"{100 * (1 - group[0]['sparsity']):.3g}% {kind}".rstrip()
        values = {
            name: [scale_of(rows) * row[f"test_accuracy{end}"] for row in group]
            for name, end in (("y", ""), ("low", "_min"), ("high", "_max"))
        }
        lines.append(Line(remaining, [row["k"] for row in group], **values))
    if lines:
        line_figure(
            directory / "accuracy_rewind",
            lines,
            x_label="rewind point k (steps)",
            y_label=f"test {metric_of(rows).title}" + (" (%)" if scale_of(rows) > 1 else ""),
            prepare=lambda axes: show_rewind_points(axes, list(steps.values())),
        )
