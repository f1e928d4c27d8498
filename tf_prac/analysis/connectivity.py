"""Linear mode connectivity: error and loss on the line between two trained networks.

Two networks trained from the same W_k in different data orders are linearly connected if the error
does not increase on the line between them. The increase is the error barrier.

Source: "Linear Mode Connectivity and the Lottery Ticket Hypothesis", Section 2 (instability
analysis), Section 3, and the appendices (barriers during training). Lines between successive
rounds: "Unmasking the Lottery Ticket Hypothesis", Section 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tf_prac.analysis.aggregate import aggregate, by_k
from tf_prac.analysis.options import ConnectivityConfig
from tf_prac.analysis.replicates import Replicates
from tf_prac.analysis.stability import SUBNETWORK, subnetwork_columns, subnetworks
from tf_prac.analysis.weight_space import barrier, interpolate
from tf_prac.data.pipeline import training_batches
from tf_prac.data.splits import Split
from tf_prac.search.ticket import STATISTICS_ORDER
from tf_prac.training.batch_norm import MovingStatistics

STATISTICS_BATCHES = 100
VALUES = ("train_error", "train_loss", "test_error", "test_loss")
BARRIERS = tuple(f"{name}_barrier" for name in VALUES)


class ConnectivityRows(NamedTuple):
    """Results of one run, or of several merged.

    Attributes:
        points: one row for each point of each line: "alpha", then error and loss on the training
            and the test samples.
        barriers: one row for each line: "line" is "order" or "rounds", "first" and "second" are
            the replicates at its ends, then the barrier of each error and loss.
        during: one row for each line between two replicates during their training: "step" of
            training, then the barriers.
    """

    points: list[dict[str, Any]]
    barriers: list[dict[str, Any]]
    during: list[dict[str, Any]]

    def __repr__(self) -> str:
        return f"ConnectivityRows({len(self.barriers)} lines, {len(self.points)} points)"

    def summary(self) -> list[dict[str, Any]]:
        """Returns mean, min and max of the barriers over initializations and data orders."""
        return aggregate(by_k(self.barriers), [*SUBNETWORK, "line"], BARRIERS)

    def course(self) -> list[dict[str, Any]]:
        """Returns mean, min and max of the barriers during training."""
        return aggregate(by_k(self.during), [*SUBNETWORK, "step"], BARRIERS)

    def curves(self) -> list[dict[str, Any]]:
        """Returns mean, min and max along the lines over initializations and data orders."""
        return aggregate(by_k(self.points), [*SUBNETWORK, "line", "alpha"], VALUES)


def measure_connectivity(
    replicates: Replicates, config: ConnectivityConfig | None = None
) -> ConnectivityRows:
    """Measures the lines between replicates of a run; trains the missing replicates.

    Example:

        >>> rows = measure_connectivity(Replicates(search, train, test=test))  # doctest: +SKIP
        >>> rows.summary()[0]["test_error_barrier"]

    Args:
        replicates: the replicates of the run.
        config: what to measure. Default `ConnectivityConfig()`.

    Raises:
        ArgumentError: the search has no such ticket.
        FileError: a ticket is missing, or a file is damaged.
    """
    config = config or ConnectivityConfig()
    rounds = config.rounds or tuple(sorted({0, replicates.rounds}))
    rows = ConnectivityRows([], [], [])
    chosen = subnetworks(replicates, rounds, config.controls)
    evaluate = LineEvaluation(replicates, config)

    def measure(columns: Mapping[str, Any], ends: Sequence[tuple[int, str, int]]) -> None:
        first, second = (replicates.trained(*end).weights for end in ends)
        points = evaluate(first, second)
        rows.points.extend({**columns, **point} for point in points)
        rows.barriers.append({**columns, **barriers(points)})

    for number, network in chosen:
        rows.during.extend(_during(replicates, number, network, config, evaluate))
        for u, v in itertools.combinations(range(config.copies), 2):
            columns = subnetwork_columns(replicates, number, network)
            columns |= {"line": "order", "first": u, "second": v}
            measure(columns, [(number, network, u), (number, network, v)])
    for before, after in itertools.pairwise(rounds) if config.successive else ():
        for u in range(config.copies):
            v = (u + 1) % config.copies  # rounds of a search have different data orders
            columns = subnetwork_columns(replicates, after, "ticket")
            columns |= {"line": "rounds", "first": u, "second": v}
            measure(columns, [(before, "ticket", u), (after, "ticket", v)])
    return rows


def _during(
    replicates: Replicates,
    number: int,
    network: str,
    config: ConnectivityConfig,
    evaluate: LineEvaluation,
) -> Iterator[dict[str, Any]]:
    """Yields the barriers between the replicates of a subnetwork during their training."""
    if config.every_epochs is None:
        return
    recipe, size = replicates.search.config.recipe, len(replicates.data.train.ids)
    budget = replicates.ticket(number, network).retrain_budget(recipe, size)
    apart = config.every_epochs * budget.steps_per_epoch
    steps = sorted({*range(apart, budget.steps, apart), budget.steps})
    courses = [replicates.trajectory(number, network, u, steps) for u in range(config.copies)]
    columns = subnetwork_columns(replicates, number, network)
    for (u, first), (v, second) in itertools.combinations(enumerate(courses), 2):
        for step in steps:
            points = evaluate(first[step], second[step])
            row = {**columns, "first": u, "second": v, "step": budget.first_step + step}
            yield {**row, **barriers(points)}


def barriers(points: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Returns the barrier of each error and loss on one line; None if it was not measured."""
    return {
        f"{name}_barrier": None
        if points[0][name] is None
        else barrier([point[name] for point in points])
        for name in VALUES
    }


class LineEvaluation:
    """Evaluates networks on lines, with the compiled evaluation of one trainer.

    Args:
        replicates: provide the network and the samples.
        config: sets the points, the number of samples and the BatchNorm statistics.
    """

    def __init__(self, replicates: Replicates, config: ConnectivityConfig):
        self._config, self._trainer = config, replicates.trainer
        data = replicates.data
        train, test = (_first(split, config.samples) for split in (data.train, data.test))
        assert train is not None
        self._train = self._trainer.evaluator(train)
        self._test = None if test is None else self._trainer.evaluator(test)
        recipe = replicates.search.config.recipe
        batches = training_batches(
            data.train.samples,
            data.train.ids,
            batch_size=recipe.batch_size,
            seed=(replicates.seed, STATISTICS_ORDER),
            steps=STATISTICS_BATCHES,
            augment=recipe.augment,
        )
        self._statistics = MovingStatistics(self._trainer.network, batches)

    def __call__(
        self, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
    ) -> list[dict[str, Any]]:
        """Returns a row for each point, from `second` (alpha 0) to `first` (alpha 1)."""
        return [
            {"alpha": float(alpha), **self._at(interpolate(first, second, float(alpha)))}
            for alpha in np.linspace(0, 1, self._config.points)
        ]

    def _at(self, weights: Mapping[str, np.ndarray]) -> dict[str, float | None]:
        self._trainer.load(weights)
        if self._config.batch_norm == "recomputed":
            self._statistics.recompute()
        train, test = self._train(), self._test() if self._test else None
        return {
            "train_error": self._error(train),
            "train_loss": train["loss"],
            "test_error": None if test is None else self._error(test),
            "test_loss": None if test is None else test["loss"],
        }

    def _error(self, metrics: Mapping[str, float]) -> float:
        """Returns one minus the accuracy, or a metric of which lower values are better."""
        task = self._trainer.task
        value = metrics[task.metric]
        return 1 - value if task.higher_is_better else value


def _first(split: Split | None, count: int | None) -> Split | None:
    return None if split is None else Split(split.samples, split.ids[:count])
