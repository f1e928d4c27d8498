"""Options of the stability and connectivity analyses."""

from __future__ import annotations

import dataclasses

from tf_prac.checks import check_bool, check_choice, check_int
from tf_prac.config import CONTROLS
from tf_prac.errors import ArgumentError

BATCH_NORM = ("recomputed", "interpolated")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilityConfig:
    """Options of the stability analysis: stability to pruning and to data order.

    Source: "Stabilizing the Lottery Ticket Hypothesis", Section 3 and Appendix B.

    Args:
        rounds: tickets to measure, by number of prunings. Default (): the last.
        copies: replicates of each subnetwork, each trained in another data order; stability to
            data order compares all pairs. Default 4.
        pruning_copies: number of these data orders in which the full network is trained too, for
            stability to pruning. Default 1, as in the paper.
        controls: controls to measure along with the tickets: "random_mask" (a random mask with
            the same layer-wise density), "reinit" (the same mask, new initial weights) or "both".
            Default ("random_mask",).

    Raises:
        ArgumentError: a value is outside its range.
    """

    rounds: tuple[int, ...] = ()
    copies: int = 4
    pruning_copies: int = 1
    controls: tuple[str, ...] = ("random_mask",)

    def __post_init__(self):
        object.__setattr__(self, "rounds", check_rounds(self.rounds))
        object.__setattr__(self, "controls", _check_controls(self.controls))
        check_int("copies", self.copies, 2)
        check_int("pruning_copies", self.pruning_copies, 0)
        if self.pruning_copies > self.copies:
            raise ArgumentError(
                "pruning_copies", self.pruning_copies, f"at most copies, which is {self.copies}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConnectivityConfig:
    """Options of the connectivity analysis: error on the line between two trained networks.

    Source: "Linear Mode Connectivity and the Lottery Ticket Hypothesis", Sections 2 and 3.

    Args:
        rounds: tickets to measure, by number of prunings; 0 is the dense network. Default ():
            the dense network and the last ticket.
        copies: replicates of each subnetwork, each trained in another data order; a line is
            measured between all pairs. Default 2.
        controls: controls to measure along with the tickets: "random_mask" (a random mask with
            the same layer-wise density), "reinit" (the same mask, new initial weights) or "both".
            Default ().
        successive: whether to also measure the lines between tickets that are neighbors in
            `rounds`, trained in different data orders like the rounds of a search. Default False.
        points: number of evenly spaced points on a line, both ends included. Default 30.
        batch_norm: BatchNorm statistics at the points: "recomputed" from training data, or
            "interpolated" like weights. Default "recomputed".
        samples: number of training and of test samples to evaluate on, the first ones; None
            ("off" on the command line) for all. Default None.
        every_epochs: also measure the lines between networks during training, after every n
            epochs from W_k and at the end; None ("off" on the command line): only at the end.
            The weights are stored, once for each of these epochs. Default None.

    Raises:
        ArgumentError: a value is outside its range.
    """

    rounds: tuple[int, ...] = ()
    copies: int = 2
    controls: tuple[str, ...] = ()
    successive: bool = False
    points: int = 30
    batch_norm: str = "recomputed"
    samples: int | None = None
    every_epochs: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "rounds", check_rounds(self.rounds))
        object.__setattr__(self, "controls", _check_controls(self.controls))
        check_int("copies", self.copies, 2)
        check_bool("successive", self.successive)
        check_int("points", self.points, 2)
        check_choice("batch_norm", self.batch_norm, BATCH_NORM)
        for name in ("samples", "every_epochs"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), 1)


def check_rounds(rounds: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the distinct round numbers, sorted; raises `ArgumentError` for other values."""
    if not isinstance(rounds, (tuple, list)):
        raise ArgumentError("rounds", rounds, "integers >= 0")
    for number in rounds:
        check_int("rounds", number, 0)
    return tuple(sorted(set(rounds)))


def _check_controls(controls: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(controls, (tuple, list)):
        raise ArgumentError("controls", controls, "some of " + ", ".join(CONTROLS))
    for control in controls:
        check_choice("controls", control, CONTROLS)
    return tuple(dict.fromkeys(controls))
