"""The parts of an item's plan, each an analysis that exists: comparisons, sweeps, and what follows.

A part counts its steps before it runs, and runs resumably in RUNS/NAME, where items of the same
paper and scale find it again: parts with the same name are the same runs.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tf_prac.analysis.aggregate import Tables, merged
from tf_prac.analysis.arms import ARMS, chosen_arms
from tf_prac.analysis.options import ConnectivityConfig, StabilityConfig
from tf_prac.analysis.reproduce.count import Count, search_count
from tf_prac.analysis.reproduce.setup import Setup
from tf_prac.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from tf_prac.analysis.experiment import Experiment
    from tf_prac.analysis.replicates import Replicates, TrainingCost
    from tf_prac.data.datasets import LoadedData

Row = dict[str, Any]
"""A row of a table of an item, by name of the column."""


class Workplace:
    """Where and how parts run.

    Args:
        directory: of the runs.
        keras: the flavor.
        data_dir: directory of the data sets; None: the default of TensorFlow Datasets.
        verbose: whether to show progress.

    Attributes:
        replicates: the costs of the replicates that parts measured, by file: parts share them.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        keras: str = "keras",
        data_dir: str | os.PathLike | None = None,
        verbose: bool = True,
    ):
        self.directory = pathlib.Path(directory)
        self.keras, self.data_dir, self.verbose = keras, data_dir, verbose
        self.replicates: dict[pathlib.Path, TrainingCost] = {}
        self._loaded: dict[tuple, LoadedData] = {}

    def data(self, setup: Setup) -> LoadedData:
        """Returns the data set of a setup, which is loaded once."""
        key = setup.dataset, setup.limit_train, setup.image_size
        if key not in self._loaded:
            self._loaded[key] = setup.load(self.data_dir)
        return self._loaded[key]

    def options(self, setup: Setup) -> dict[str, Any]:
        """Returns the arguments that experiments of a setup share."""
        return {"labels": setup.labels(self.data_dir), "verbose": self.verbose}


@dataclasses.dataclass(frozen=True)
class Runs:
    """The finished runs of a part.

    Attributes:
        setup: their setup.
        summaries: the contents of summary.json, by arm and seed.
        experiment: the experiment they belong to.
        data: the data set.
    """

    setup: Setup
    summaries: Mapping[str, Mapping[int, Mapping[str, Any]]]
    experiment: Experiment
    data: LoadedData

    def rows(self) -> list[Row]:
        """Returns the rows of `results.run_rows` of tickets, and of controls as "ARM KIND"."""
        from tf_prac.analysis.results import run_rows
        from tf_prac.analysis.sweep import control_rows

        return [
            row
            for of_kind in (run_rows, control_rows)
            for arm, by_seed in self.summaries.items()
            for seed, summary in by_seed.items()
            for row in of_kind(arm, seed, summary)
        ]

    def table(self, reference: str = "imp") -> list[Row]:
        """Returns the rows of `results.table`: mean and spread for each arm and ticket."""
        from tf_prac.analysis.results import table

        return table(self.rows(), reference)

    def accuracies(self, arm: str, number: int) -> dict[int, float]:
        """Returns the test accuracy of a ticket or control by seed; 0 is the dense network."""
        return {
            row["seed"]: row["test_accuracy"]
            for row in self.rows()
            if (row["arm"], row["round"]) == (arm, number) and row["test_accuracy"] is not None
        }

    def run(self, arm: str, seed: int) -> RunDirectory:
        """Returns the directory of a run."""
        return RunDirectory(self.experiment.run_path(arm, seed))

    def _searches(self) -> Iterator[Mapping[str, Any]]:
        """Yields the summaries of searches; the arm of a control has none of its own."""
        for arm, by_seed in self.summaries.items():
            if arm not in ARMS or ARMS[arm].controls is None:
                yield from by_seed.values()

    @property
    def steps(self) -> int:
        """The SGD steps of all runs, with retraining; a shared dense network counts once."""
        from tf_prac.analysis.results import copied_steps, counted_steps

        return sum(counted_steps(each) - copied_steps(each) for each in self._searches())

    @property
    def seconds(self) -> float:
        """Wall time of all trainings; a shared dense network counts once."""
        return sum(
            trained.get("seconds", 0.0)
            for summary in self._searches()
            for kind in ("rounds", "tickets", "controls")
            for trained in summary[kind]
            if not (trained.get("in_round") or trained.get("dense_from"))
        )

    def replicates(self) -> Iterator[Replicates]:
        """Yields the replicates of each run, for measures of stability and connectivity."""
        from tf_prac.analysis.replicates import Replicates

        for arm, by_seed in self.summaries.items():
            for seed in by_seed:
                search = self.experiment.search(arm, seed)
                yield Replicates(search, self.data.train, test=self.data.test)


class Part(Protocol):
    """One analysis that an item needs."""

    @property
    def name(self) -> str:
        """Names its directory and its result."""

    @property
    def setup(self) -> Setup:
        """Its data, network and options."""

    def count(self) -> Count:
        """Counts its steps."""

    def run(self, work: Workplace, results: Mapping[str, Any]) -> Any:
        """Runs what is not finished.

        Args:
            work: where and how.
            results: what the parts before it returned, by name.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arms:
    """A `Comparison`; its result is `Runs` of these arms and seeds.

    Attributes:
        setup: data, network and options.
        arms: names of arms; those that they need are added.
        seeds: of the runs.
        retrain: which tickets are retrained.
        sets_from: name of an earlier part, whose arm "prac" has the sets of the arm "transfer".
    """

    setup: Setup
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    retrain: str | tuple[int, ...] = "all"
    sets_from: str | None = None

    @property
    def name(self) -> str:
        """The name of the setup, and what is retrained unless it is all."""
        if self.retrain == "all":
            return self.setup.name
        which = self.retrain if isinstance(self.retrain, str) else "_".join(map(str, self.retrain))
        return f"{self.setup.name}_retrain_{which}"

    def count(self) -> Count:
        """Counts the steps of all arms and seeds; a control has those of its retraining.

        The dense network counts for each arm that retrains it, also if they share it.
        """
        chosen, size, total = chosen_arms(self.arms), self.setup.train_size, Count()
        runs = {name: name for name in chosen}
        for name, arm in chosen.items():
            if arm.controls is None:
                base = self.setup.config.replace(prac_from=self.sets_from)
                kinds = sum(other.controls == name for other in chosen.values())
                total += search_count(arm.options(base, runs), size, self.retrain, kinds)
        return total * len(self.seeds)

    def run(self, work: Workplace, results: Mapping[str, Any]) -> Runs:
        """Runs the comparison."""
        from tf_prac.analysis.comparison import Comparison, finished_runs

        data, config = work.data(self.setup), self.setup.config
        if self.sets_from is not None:
            source = results[self.sets_from].experiment.directory / "prac"
            config = config.replace(prac_from=str(source))
        comparison = Comparison(
            self.setup.model_fn(data, work.keras),
            self.arms,
            config,
            directory=work.directory / self.name,
            seeds=self.seeds,
            retrain=self.retrain,
            **work.options(self.setup),
        )
        comparison.run(data.train, test=data.test)
        finished = finished_runs(comparison.directory)
        summaries = {
            arm: {seed: finished[arm][seed] for seed in self.seeds} for arm in comparison.arms
        }
        return Runs(self.setup, summaries, comparison, data)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """A `RewindSweep`; its result is `Runs`, whose arms are the rewind points.

    Attributes:
        setup: data, network and options; its own rewind point is ignored.
        rewinds: rewind points.
        controls: kinds of controls that are retrained with every ticket.
        seeds: of the runs.
        retrain: which tickets are retrained.
    """

    setup: Setup
    rewinds: tuple[str, ...]
    controls: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    retrain: str | tuple[int, ...] = "all"

    @property
    def name(self) -> str:
        """The name of the setup."""
        return f"{self.setup.name}_sweep"

    def count(self) -> Count:
        """Counts the steps of all rewind points and seeds, which share round 0."""
        total = Count()
        for rewind in self.rewinds:
            config = self.setup.config.replace(rewind=rewind)
            kinds = len(self.controls)
            total += search_count(config, self.setup.train_size, self.retrain, kinds)
        dense = self.setup.config.replace(rounds=1, sparsities=())
        shared = search_count(dense, self.setup.train_size, "none")
        saved = shared * (len(self.rewinds) - 1)
        total = Count(total.steps - saved.steps, total.samples - saved.samples, total.at_most)
        return total * len(self.seeds)

    def run(self, work: Workplace, results: Mapping[str, Any]) -> Runs:
        """Runs the sweep."""
        from tf_prac.analysis.sweep import RewindSweep

        data = work.data(self.setup)
        sweep = RewindSweep(
            self.setup.model_fn(data, work.keras),
            self.rewinds,
            self.setup.config,
            controls=self.controls,
            seeds=self.seeds,
            directory=work.directory / self.name,
            retrain=self.retrain,
            **work.options(self.setup),
        )
        sweep.run(data.train, test=data.test)
        summaries = {
            arm: {seed: RunDirectory(sweep.run_path(arm, seed)).summary() for seed in self.seeds}
            for arm in sweep.rewinds
        }
        return Runs(self.setup, summaries, sweep, data)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfReplicates:
    """A measure of the replicates of an earlier part.

    Attributes:
        of: the earlier part.
    """

    of: Arms | Sweep

    @property
    def setup(self) -> Setup:
        """The setup of the earlier part."""
        return self.of.setup

    def _count(self, per_run: int) -> Count:
        """Counts the steps of `per_run` replicates of each run, at most T each."""
        from tf_prac.training.schedules import Budget

        recipe = self.setup.config.recipe
        full = Budget.full(recipe, self.setup.train_size).total_steps
        names = self.of.rewinds if isinstance(self.of, Sweep) else self.of.arms
        steps = full * per_run * len(names) * len(self.of.seeds)
        return Count(steps, steps * recipe.batch_size, at_most=True)

    def _measure(
        self, measure: Callable[[Replicates], Tables], work: Workplace, results: Mapping[str, Any]
    ) -> Tables:
        """Measures the replicates of each run; notes what their training cost."""
        measured = []
        for replicates in results[self.of.name].replicates():
            measured.append(measure(replicates))
            work.replicates |= replicates.costs
        return merged(measured)


def _replicates(config: StabilityConfig | ConnectivityConfig, rounds: tuple[int, ...]) -> int:
    """Returns the number of replicates of tickets and controls; the dense network has no control.

    Args:
        config: of the measure.
        rounds: the tickets that are measured by default.
    """
    kinds = 1 + len(config.controls)
    return sum(config.copies * (kinds if n else 1) for n in config.rounds or rounds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stability(_OfReplicates):
    """The stability of the tickets of an earlier part; its result is `StabilityRows`.

    Attributes:
        of: the earlier part.
        config: what to measure.
    """

    config: StabilityConfig

    @property
    def name(self) -> str:
        """The name of the earlier part, with a suffix."""
        return f"{self.of.name}_stability"

    def count(self) -> Count:
        """Counts the steps of all replicates."""
        each = _replicates(self.config, (self.setup.config.pruning.rounds,))
        full = 1 + any(kind != "random_mask" for kind in self.config.controls)
        return self._count(each + full * self.config.pruning_copies)

    def run(self, work: Workplace, results: Mapping[str, Any]) -> Any:
        """Trains the missing replicates, and measures."""
        from tf_prac.analysis.stability import measure_stability

        return self._measure(lambda each: measure_stability(each, self.config), work, results)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connectivity(_OfReplicates):
    """The error barriers of an earlier part; its result is `ConnectivityRows`.

    Attributes:
        of: the earlier part.
        config: what to measure.
    """

    config: ConnectivityConfig

    @property
    def name(self) -> str:
        """The name of the earlier part, with a suffix."""
        return f"{self.of.name}_connectivity"

    def count(self) -> Count:
        """Counts the steps of all replicates."""
        return self._count(_replicates(self.config, (0, self.setup.config.pruning.rounds)))

    def run(self, work: Workplace, results: Mapping[str, Any]) -> Any:
        """Trains the missing replicates, and measures."""
        from tf_prac.analysis.connectivity import measure_connectivity

        return self._measure(lambda each: measure_connectivity(each, self.config), work, results)
