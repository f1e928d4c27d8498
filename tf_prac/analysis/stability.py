"""Stability of subnetworks to pruning and to data order.

Trained from the same W_k, networks that end near each other are stable: to pruning, if the
subnetwork ends near the full network trained on the same order of the data; to data order, if two
copies of the subnetwork do that were trained on different orders.

Source: "Stabilizing the Lottery Ticket Hypothesis", Section 3 (definitions), Figure 3 (distance),
Appendix B (angle).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tf_prac.analysis.aggregate import aggregate, by_k
from tf_prac.analysis.options import StabilityConfig
from tf_prac.analysis.replicates import Replicates, TrainedCopy
from tf_prac.analysis.weight_space import angle, distance
from tf_prac.pruning.masks import Masks

SUBNETWORK = ("k", "round", "density", "network")
FULL = {"ticket": "ticket", "random_mask": "ticket", "reinit": "reinit", "both": "reinit"}
"""The full network that starts from the weights of each subnetwork."""

MEASURES = ("distance", "angle", "disagreement")


class StabilityRows(NamedTuple):
    """Figures of one run, or of several put together.

    Attributes:
        copies: one row for each trained network, with its test accuracy.
        pairs: one row for each pair that is compared: "measure" is "order" or "pruning", "first"
            and "second" are the copies, "distance" and "angle" (degrees) are those of the kept
            weights, "disagreement" is the fraction of test samples they classify differently.
    """

    copies: list[dict[str, Any]]
    pairs: list[dict[str, Any]]

    def summary(self) -> list[dict[str, Any]]:
        """Mean, min and max over initialisations and orders: a row for each measure."""
        return aggregate(by_k(self.pairs), [*SUBNETWORK, "measure"], MEASURES)

    def accuracies(self) -> list[dict[str, Any]]:
        """Mean, min and max of the test accuracy over initialisations and orders."""
        return aggregate(by_k(self.copies), SUBNETWORK, ["test_accuracy"])


def measure_stability(copies: Replicates, config: StabilityConfig | None = None) -> StabilityRows:
    """Measures the stability of a run's tickets and controls; trains the copies that are missing.

    Example:

        >>> rows = measure_stability(Replicates(search, train, test=test))  # doctest: +SKIP
        >>> rows.summary()

    Args:
        copies: of the run.
        config: what is measured. Default `StabilityConfig()`.

    Raises:
        ArgumentError: the search has no such ticket, or all kept weights of a copy are zero.
        FileError: a ticket is missing, or a file is damaged.
    """
    config = config or StabilityConfig()
    found = StabilityRows([], [])
    for number, network in subnetworks(copies, config.rounds or (copies.rounds,), config.controls):
        head = subnetwork_columns(copies, number, network)
        masks = copies.ticket(number, network).masks
        trained = [copies.trained(number, network, u) for u in range(config.copies)]
        for u, copy in enumerate(trained):
            found.copies.append({**head, "copy": u, "test_accuracy": copy.accuracy})
        for u, v in itertools.combinations(range(config.copies), 2):
            row = {**head, "measure": "order", "first": u, "second": v}
            found.pairs.append({**row, **_compare(trained[u], trained[v], masks)})
        for u in range(config.pruning_copies if number else 0):
            full = copies.trained(0, FULL[network], u)
            row = {**head, "measure": "pruning", "first": u, "second": u}
            found.pairs.append({**row, **_compare(full, trained[u], masks)})
    return found


def subnetworks(
    copies: Replicates, rounds: Sequence[int], controls: Sequence[str]
) -> list[tuple[int, str]]:
    """Lists (round, network): each ticket and its controls; the dense network has none."""
    for number in rounds:
        copies.ticket(number)  # refuses one that is not there before anything is trained
    return [(r, name) for r in rounds for name in ("ticket", *(controls if r else ()))]


def subnetwork_columns(copies: Replicates, number: int, network: str) -> dict[str, Any]:
    """Returns the columns that say of which subnetwork a row is."""
    ticket = copies.ticket(number, network)
    return {
        "seed": copies.seed,
        "k": copies.ticket(number).rewind_step,
        "round": number,
        "density": ticket.masks.density,
        "network": network,
    }


def _compare(first: TrainedCopy, second: TrainedCopy, masks: Masks) -> dict[str, Any]:
    disagreement = None
    if first.classes is not None and second.classes is not None:
        disagreement = float(np.mean(first.classes != second.classes))
    return {
        "distance": distance(first.weights, second.weights, masks),
        "angle": angle(first.weights, second.weights, masks),
        "disagreement": disagreement,
    }


def merged(rows: Sequence[StabilityRows]) -> StabilityRows:
    """Puts the figures of several runs together."""
    return StabilityRows(
        [row for each in rows for row in each.copies], [row for each in rows for row in each.pairs]
    )
