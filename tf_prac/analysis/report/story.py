"""`Story`: what a run has written down, finished or not. Numpy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet
from tf_prac.pruning.masks import Masks
from tf_prac.storage.run_directory import FORGETTING, MASKS, PRAC_SET, SUMMARY, RunDirectory

if TYPE_CHECKING:
    from tf_prac.data.search_data import Subset

Figures = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Story:
    """One run, as a report tells it.

    Attributes:
        name: sets it apart from the others of the report.
        config: what decided its result.
        rounds: the figures of each finished round.
        dense: accuracies of the dense network; None before it was trained for its whole budget.
        tickets: the figures of the retrained tickets.
        controls: those of the retrained controls.
        cost: counted cost; None while the search is not finished.
        masks: those that came out of each finished round.
        sets: the PrAC set that came out of each.
        forgetting: the statistics of each.
        command: the command line that makes the run, or None for one made from Python.
        train: its training samples, or None where the data set is not at hand.
        without_data: why it is not.
    """

    name: str
    config: dict[str, Any]
    rounds: list[dict[str, Any]]
    dense: Figures | None
    tickets: list[dict[str, Any]]
    controls: list[dict[str, Any]]
    cost: Figures | None
    masks: dict[int, Masks]
    sets: dict[int, PracSet]
    forgetting: dict[int, ForgettingStats]
    command: str | None = None
    train: Subset | None = None
    without_data: str = ""

    @property
    def finished(self) -> bool:
        """Whether the search is finished."""
        return self.cost is not None

    @property
    def model(self) -> str:
        """The network by the name it was asked for, or its weights in short."""
        named = (self.config.get("labels") or {}).get("model")
        return named or f"a network of {len(self.config['model'])} weights"

    @property
    def dataset(self) -> str:
        """The name and version of the data set."""
        identity = self.config["dataset"]
        return f"{identity['name']} {identity['version']}".strip()

    @property
    def ticket(self) -> Figures | None:
        """The sparsest retrained ticket."""
        return self.tickets[-1] if self.tickets else None

    @property
    def sparsity(self) -> float:
        """That of the sparsest masks there are."""
        return self.rounds[-1]["next_sparsity"] if self.rounds else 0.0

    @property
    def selects_data(self) -> bool:
        """Whether any round found critical samples."""
        return any(figures["cet"] or figures["cep"] for figures in self.rounds)


def read_story(
    run: RunDirectory,
    name: str,
    *,
    command: str | None = None,
    train: Subset | None = None,
    without_data: str = "",
) -> Story:
    """Reads what there is of a run, every file checked.

    Args:
        run: its directory.
        name: what the report calls it.
        command: the command line that makes it.
        train: its training samples, where they are at hand.
        without_data: why they are not.

    Raises:
        FileError: not a run, or a file of it is damaged; it is named.
    """
    config = run.config()
    number = config["pruning"]["rounds"]
    if (run.path / SUMMARY).exists():
        summary = run.summary()
        rounds = [run.finished_round(n) or {} for n in range(len(summary["rounds"]))]
        tickets, controls = summary["tickets"], summary["controls"]
        dense, cost = summary["dense"], summary["cost"]
    else:
        rounds = []
        while len(rounds) < number and (figures := run.finished_round(len(rounds))):
            rounds.append(figures)
        complete = len(rounds) == number
        found = [run.finished_ticket(n) for n in range(1, number + 1)] if complete else []
        tickets, controls, cost = [each for each in found if each], [], None
        dense = rounds[0] if rounds and rounds[0]["stop"] == "budget" else None
    paths = [run.round_path(n) for n in range(len(rounds))]
    return Story(
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
