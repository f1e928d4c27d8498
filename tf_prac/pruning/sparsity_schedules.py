"""Sparsity schedules: TFMOT's two, for either flavor. Plain Python.

Names, arguments and behavior are the same as in TensorFlow Model Optimization. In
`tf_prac.prune(model, schedule=...)` a step is a training step, counted from 1. `per_round` returns
the target sparsities of a search.

Source: "To prune, or not to prune", Zhu and Gupta 2017, Section 3 (polynomial decay).
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

from tf_prac.checks import check_int, check_number
from tf_prac.errors import ArgumentError


class Schedule(abc.ABC):
    """Base class of sparsity schedules, which are frozen dataclasses.

    Attributes:
        begin_step: first step that may update masks.
        end_step: last step that may update masks; -1: no end.
        frequency: number of steps between updates.
    """

    begin_step: int
    end_step: int
    frequency: int

    @abc.abstractmethod
    def sparsity(self, step: int) -> float:
        """Returns the sparsity at a step."""

    def is_due(self, step: int) -> bool:
        """Whether masks are updated at a step."""
        inside = step >= self.begin_step and (self.end_step < 0 or step <= self.end_step)
        return inside and (step - self.begin_step) % self.frequency == 0

    def per_round(self, rounds: int) -> tuple[float, ...]:
        """Returns the sparsity after each round, for `PruningConfig(sparsities=...)`.

        A step is a round.
        """
        check_int("rounds", rounds, 1)
        return tuple(round(self.sparsity(number), 6) for number in range(1, rounds + 1))


@dataclasses.dataclass(frozen=True)
class ConstantSparsity(Schedule):
    """A constant sparsity.

    Example:

        >>> ConstantSparsity(0.5, begin_step=100).sparsity(200)
        0.5

    Args:
        target_sparsity: fraction of pruned weights, in [0, 1).
        begin_step: first step that may update masks, >= 0.
        end_step: last step that may update masks; -1: no end. Default -1.
        frequency: number of steps between updates. Default 100.

    Raises:
        ArgumentError: If a value is outside its range.
    """

    target_sparsity: float
    begin_step: int
    end_step: int = -1
    frequency: int = 100

    def __post_init__(self):
        check_number("target_sparsity", self.target_sparsity, minimum=0, below=1)
        _check_steps(self.begin_step, self.end_step, self.frequency, first_end=-1)

    def sparsity(self, step: int) -> float:
        """Returns the sparsity at a step."""
        return self.target_sparsity


@dataclasses.dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """A sparsity that increases polynomially: quickly at first, and slowly at the end.

    It is final + (initial - final) * (1 - (step - begin) / (end - begin)) ** power.

    Example:

        >>> PolynomialDecay(0.5, 0.9, begin_step=0, end_step=3, power=1).per_round(3)
        (0.633333, 0.766667, 0.9)

    Args:
        initial_sparsity: fraction of pruned weights at `begin_step`, in [0, 1).
        final_sparsity: fraction of pruned weights at `end_step`, in [`initial_sparsity`, 1).
        begin_step: first step that may update masks, >= 0.
        end_step: last step that may update masks, > `begin_step`.
        power: exponent, > 0. Default 3.
        frequency: number of steps between updates. Default 100.

    Raises:
        ArgumentError: If a value is outside its range.
    """

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    power: float = 3
    frequency: int = 100

    def __post_init__(self):
        check_number("initial_sparsity", self.initial_sparsity, minimum=0, below=1)
        check_number("final_sparsity", self.final_sparsity, minimum=self.initial_sparsity, below=1)
        check_number("power", self.power, above=0)
        check_int("begin_step", self.begin_step, 0)
        _check_steps(self.begin_step, self.end_step, self.frequency, self.begin_step + 1)

    def sparsity(self, step: int) -> float:
        """Returns the sparsity at a step."""
        done = (step - self.begin_step) / (self.end_step - self.begin_step)
        rest = (1 - min(1.0, max(0.0, done))) ** self.power
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * rest


def as_schedule(schedule: Any) -> Schedule:
    """Returns a schedule of tf_prac, given one of tf_prac or TFMOT, or its configuration.

    Raises:
        ArgumentError: If it is none of them, or an option is outside its range.
    """
    if isinstance(schedule, Schedule):
        return schedule
    config = schedule.get_config() if hasattr(schedule, "get_config") else schedule
    try:
        cls = {c.__name__: c for c in (ConstantSparsity, PolynomialDecay)}[config["class_name"]]
        return cls(**config["config"])
    except (KeyError, TypeError):
        raise ArgumentError(
            "schedule", schedule, "a ConstantSparsity or PolynomialDecay, of tf_prac or TFMOT"
        ) from None


def schedule_config(schedule: Schedule) -> dict[str, Any]:
    """Returns the configuration of a schedule as in TFMOT, for `as_schedule`."""
    return {"class_name": type(schedule).__name__, "config": dict(vars(schedule))}


def _check_steps(begin: int, end: int, frequency: int, first_end: int) -> None:
    check_int("begin_step", begin, 0)
    check_int("end_step", end, first_end)
    if 0 <= end < begin:
        raise ArgumentError("end_step", end, f"-1, or a step >= begin_step ({begin})")
    check_int("frequency", frequency, 1)
