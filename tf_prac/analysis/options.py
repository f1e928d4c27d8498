"""The options of the stability and connectivity analyses."""

from __future__ import annotations

import dataclasses

from tf_prac.checks import check_bool, check_choice, check_int
from tf_prac.config import CONTROLS
from tf_prac.errors import ArgumentError

BATCH_NORM = ("recomputed", "interpolated")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilityConfig:
    """How stable subnetworks are to pruning and to data order.

    Source: "Stabilizing the Lottery Ticket Hypothesis", Section 3 and Appendix B.

    Args:
        rounds: tickets to measure, by number of prunings. Default (): the last.
        copies: orders of the data in which each subnetwork is trained; all pairs of copies are
            compared for stability to data order. Default 4.
        pruning_copies: how many of those orders the full network is trained in too, for
            stability to pruning. Default 1, as in the paper.
        controls: subnetworks to measure beside the tickets: "random_mask" (as many weights of
            each layer, at random places), "reinit" (the same mask, other initial weights) or
            "both". Default ("random_mask",).

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
    """Error along the line between two networks trained from one W_k.

    Source: "Linear Mode Connectivity and the Lottery Ticket Hypothesis", Sections 2 and 3.

    Args:
        rounds: tickets to measure, by number of prunings; 0 is the dense network. Default ():
            the dense network and the last ticket.
        copies: orders of the data in which each subnetwork is trained; the lines are those
            between all pairs. Default 2.
        controls: subnetworks to measure beside the tickets: "random_mask" (as many weights of
            each layer, at random places), "reinit" (the same mask, other initial weights) or
            "both". Default ().
        successive: also measure the lines between tickets that are neighbours in `rounds`, each
            trained in another order, as the rounds of a search are. Default False.
        points: evenly spaced points of a line, both ends included. Default 30.
        batch_norm: statistics at the points: "recomputed" from training data, or
            "interpolated" like weights. Default "recomputed".
        samples: evaluate on the first so many of the training and of the test samples; None
            ("off" on the command line): on all. Default None.

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

    def __post_init__(self):
        object.__setattr__(self, "rounds", check_rounds(self.rounds))
        object.__setattr__(self, "controls", _check_controls(self.controls))
        check_int("copies", self.copies, 2)
        check_bool("successive", self.successive)
        check_int("points", self.points, 2)
        check_choice("batch_norm", self.batch_norm, BATCH_NORM)
        if self.samples is not None:
            check_int("samples", self.samples, 1)


def check_rounds(rounds: tuple[int, ...]) -> tuple[int, ...]:
    """Returns numbers of rounds in order, each once; raises `ArgumentError` for other things."""
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
