"""Stability of subnetworks to pruning and to data order.

A subnetwork is stable to pruning if training it from W_k ends near the full network trained from
W_k in the same data order. It is stable to data order if two replicates of it, trained from W_k in
different data orders, end near each other.

Source: "Stabilizing the Lottery Ticket Hypothesis", Section 3 (definitions), Figure 3 (distance),
Appendix B (angle); "Linear Mode Connectivity and the Lottery Ticket Hypothesis", Appendix G (other
distances).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tf_prac.analysis.aggregate import aggregate, by_k
from tf_prac.analysis.options import StabilityConfig
from tf_prac.analysis.replicates import Replicates, TrainedReplicate
from tf_prac.analysis.weight_space import angle, distance
from tf_prac.pruning.masks import Masks

SUBNETWORK = ("k", "round", "density", "network")
FULL = {"ticket": "ticket", "random_mask": "ticket", "reinit": "reinit", "both": "reinit"}
"""For each subnetwork, the network that is trained without a mask from the same weights."""

MEASURES = ("distance", "angle", "disagreement", "loss_distance")


class StabilityRows(NamedTuple):
    """Results of one run, or of several merged.

    Attributes:
        replicates: one row for each trained network, with its test accuracy.
        pairs: one row for each pair that is compared. "measure" is "order" or "pruning"; "first"
            and "second" are the replicates; "distance" and "angle" (degrees) are measured on the
            kept weights; "disagreement" is the fraction of test samples that the two networks
            predict differently; "loss_distance" is the L2 distance between their losses of the
            test samples.
    """

    replicates: list[dict[str, Any]]
    pairs: list[dict[str, Any]]

    def __repr__(self) -> str:
        return f"StabilityRows({len(self.replicates)} replicates, {len(self.pairs)} pairs)"

    def summary(self) -> list[dict[str, Any]]:
        """Returns mean, min and max over initializations and data orders, by measure."""
        return aggregate(by_k(self.pairs), [*SUBNETWORK, "measure"], MEASURES)

    def ratios(self) -> list[dict[str, Any]]:
        """Returns how many times as far apart the networks of each control are as the tickets'.

        One row for each control and measure, with the ratio of the means of each column of the
        summary, such as "distance_ratio". Tickets are stabler where it is above 1.
        """
        rows = self.summary()
        same = ("k", "round", "measure")
        tickets = {tuple(r[c] for c in same): r for r in rows if r["network"] == "ticket"}
        ratios = []
        for row in rows:
            ticket = tickets.get(tuple(row[column] for column in same), {})
            if row["network"] != "ticket":
                identity = {name: row[name] for name in (*SUBNETWORK, "measure")}
                values = {
                    f"{name}_ratio": row[name] / ticket[name]
                    for name in MEASURES
                    if name in row and ticket.get(name)
                }
                ratios.append({**identity, **values})
        return ratios

    def accuracies(self) -> list[dict[str, Any]]:
        """Returns mean, min and max of the test accuracy over initializations and data orders."""
        return aggregate(by_k(self.replicates), SUBNETWORK, ["test_accuracy"])


def measure_stability(
    replicates: Replicates, config: StabilityConfig | None = None
) -> StabilityRows:
    """Measures the stability of a run's tickets and controls; trains the missing replicates.

    Example:

        >>> rows = measure_stability(Replicates(search, train, test=test))  # doctest: +SKIP
        >>> rows.summary()

    Args:
        replicates: the replicates of the run.
        config: what to measure. Default `StabilityConfig()`.

    Raises:
        ArgumentError: the search has no such ticket, or all kept weights of a replicate are zero.
        FileError: a ticket is missing, or a file is damaged.
    """
    config = config or StabilityConfig()
    rows = StabilityRows([], [])
    rounds = config.rounds or (replicates.rounds,)
    for number, network in subnetworks(replicates, rounds, config.controls):
        columns = subnetwork_columns(replicates, number, network)
        masks = replicates.ticket(number, network).masks
        trained = [replicates.trained(number, network, u) for u in range(config.copies)]
        for u, replicate in enumerate(trained):
            accuracy = {"copy": u, "test_accuracy": replicate.accuracy}
            rows.replicates.append({**columns, **accuracy})
        for u, v in itertools.combinations(range(config.copies), 2):
            row = {**columns, "measure": "order", "first": u, "second": v}
            rows.pairs.append({**row, **_compare(replicates, trained[u], trained[v], masks)})
        for u in range(config.pruning_copies if number else 0):
            full = replicates.trained(0, FULL[network], u)
            row = {**columns, "measure": "pruning", "first": u, "second": u}
            rows.pairs.append({**row, **_compare(replicates, full, trained[u], masks)})
    return rows


def subnetworks(
    replicates: Replicates, rounds: Sequence[int], controls: Sequence[str]
) -> list[tuple[int, str]]:
    """Returns (round, network) of each ticket and its controls; the dense network has none."""
    for number in rounds:
        replicates.ticket(number)  # refuses a missing ticket before anything is trained
    return [(r, name) for r in rounds for name in ("ticket", *(controls if r else ()))]


def subnetwork_columns(replicates: Replicates, number: int, network: str) -> dict[str, Any]:
    """Returns the columns that identify the subnetwork of a row."""
    ticket = replicates.ticket(number, network)
    return {
        "seed": replicates.seed,
        "k": replicates.ticket(number).rewind_step,
        "round": number,
        "density": ticket.masks.density,
        "network": network,
    }


def network_name(row: Mapping[str, Any]) -> str:
    """Returns the display name of the network of a row."""
    return "dense" if row["round"] == 0 else row["network"].replace("_", " ")


def subnetwork_key(row: Mapping[str, Any]) -> tuple:
    """Returns the columns that distinguish the subnetworks of a table."""
    return (row["k"], row["round"], row["network"])


def _compare(
    replicates: Replicates, first: TrainedReplicate, second: TrainedReplicate, masks: Masks
) -> dict[str, Any]:
    return {
        "distance": distance(first.weights, second.weights, masks),
        "angle": angle(first.weights, second.weights, masks),
        "disagreement": replicates.disagreement(first, second),
        "loss_distance": None
        if first.losses is None or second.losses is None
        else float(np.linalg.norm(np.subtract(first.losses, second.losses, dtype=np.float64))),
    }
