"""`RunData`: everything that a report shows of one run, finished or not. NumPy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet
from tf_prac.pruning.masks import Masks
from tf_prac.search.metric import Metric
from tf_prac.storage.layout import FORGETTING, MASKS, PRAC_SET
from tf_prac.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from tf_prac.data.splits import Split

Metrics = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class RunData:
    """The configuration and results of one run.

    Attributes:
        name: distinguishes the run from the others in the report.
        config: the run configuration.
        rounds: the metrics of each finished round.
        dense: accuracies of the dense network; None until it is trained for its full budget.
        tickets: the metrics of the retrained tickets.
        controls: the metrics of the retrained controls.
        cost: the counted cost; None if the search is not finished.
        masks: the masks after each finished round.
        sets: the PrAC set after each finished round.
        forgetting: the forgetting statistics of each finished round.
        command: the command line that reproduces the run, or None for a run from Python.
        train: the training samples, or None if the data set is not available.
        without_data: why it is not available.
    """

    name: str
    config: dict[str, Any]
    rounds: list[dict[str, Any]]
    dense: Metrics | None
    tickets: list[dict[str, Any]]
    controls: list[dict[str, Any]]
    cost: Metrics | None
    masks: dict[int, Masks]
    sets: dict[int, PracSet]
    forgetting: dict[int, ForgettingStats]
    command: str | None = None
    train: Split | None = None
    without_data: str = ""

    @property
    def metric(self) -> Metric:
        """The metric of the run's "val_accuracy" and "test_accuracy"."""
        return Metric.of(next(iter([*self.rounds, *self.tickets]), {}))

    @property
    def finished(self) -> bool:
        """Whether the search is finished."""
        return self.cost is not None

    @property
    def model(self) -> str:
        """The name of the network, or its number of weights if it has no name."""
        name = (self.config.get("labels") or {}).get("model")
        return name or f"a network of {len(self.config['model'])} weights"

    @property
    def dataset(self) -> str:
        """The name and version of the data set."""
        identity = self.config["dataset"]
        return f"{identity['name']} {identity['version']}".strip()

    @property
    def ticket(self) -> Metrics | None:
        """The sparsest retrained ticket."""
        return self.tickets[-1] if self.tickets else None

    @property
    def sparsity(self) -> float:
        """The sparsity of the last masks."""
        return self.rounds[-1]["next_sparsity"] if self.rounds else 0.0

    @property
    def selects_data(self) -> bool:
        """Whether any round found critical samples."""
        return any(metrics["cet"] or metrics["cep"] for metrics in self.rounds)


def read_run_data(
    run: RunDirectory,
    name: str,
    *,
    command: str | None = None,
    train: Split | None = None,
    without_data: str = "",
) -> RunData:
    """Reads the files of a run, finished or not, and checks each of them.

    Example:

        >>> data = read_run_data(RunDirectory("run"), "my run")  # doctest: +SKIP
        >>> data.sparsity

    Args:
        run: the directory of the run.
        name: the name of the run in the report.
        command: the command line that reproduces it.
        train: its training samples, if available.
        without_data: why they are not available.

    Raises:
        FileError: the directory is not a run, or one of its files is damaged.
    """
    config = run.config()
    if run.has_summary:
        summary = run.summary()
        rounds = run.finished_rounds()
        tickets, controls = summary["tickets"], summary["controls"]
        dense, cost = summary["dense"], summary["cost"]
    else:
        rounds = run.finished_rounds()
        retrained = [run.finished_ticket(n) for n in range(1, len(rounds) + 1)]
        tickets, controls, cost = [each for each in retrained if each], [], None
        dense = rounds[0] if rounds and rounds[0]["stop"] == "budget" else None
    paths = [run.round_path(n) for n in range(len(rounds))]
    return RunData(
        name=name,
        config=config,
        rounds=rounds,
        dense=dense,
        tickets=[t for t in tickets if t["round"] and t["retrain_steps"]],
        controls=list(controls),
        cost=cost,
        masks={n: Masks.load(path / MASKS) for n, path in enumerate(paths)},
        sets={n: PracSet.load(path / PRAC_SET) for n, path in enumerate(paths)},
        forgetting={n: ForgettingStats.load(path / FORGETTING) for n, path in enumerate(paths)},
        command=command,
        train=train,
        without_data=without_data,
    )
