"""`Count`: the steps and samples of a search, counted from its options before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from tf_prac.config import SearchConfig


@dataclasses.dataclass(frozen=True)
class Count:
    """SGD steps and the samples they take, of one or several trainings.

    Example:

        >>> Count(10, 1280) + Count(5, 640, at_most=True)
        Count(steps=15, samples=1920, at_most=True)

    Attributes:
        steps: number of SGD steps.
        samples: steps times batch size.
        at_most: whether it may be less, as an early stop or the size of a set decides.
    """

    steps: int = 0
    samples: int = 0
    at_most: bool = False

    def __add__(self, other: Count) -> Count:
        return Count(
            self.steps + other.steps, self.samples + other.samples, self.at_most or other.at_most
        )

    def __mul__(self, times: int) -> Count:
        return Count(self.steps * times, self.samples * times, self.at_most)

    @property
    def text(self) -> str:
        """The steps as text."""
        return f"{'at most ' if self.at_most else ''}{self.steps:,}"


def search_count(
    config: SearchConfig, train_size: int, retrain: str | Collection[int], controls: int = 0
) -> Count:
    """Counts the steps of a search, with the retraining of its tickets and their controls.

    Rounds on a set of samples are counted with the full training set, so that this is a bound.

    Args:
        config: the options of the search.
        train_size: number of training samples.
        retrain: as in `TicketSearch`.
        controls: number of kinds of controls that are retrained with each ticket. Default 0.
    """
    from tf_prac.search.plan import RoundPlan
    from tf_prac.search.retraining import check_retrain, tickets_to_retrain

    rounds = config.pruning.rounds
    plan = RoundPlan(config, train_size)
    may_stop = plan.trains and config.prac.early_stop_eps is not None
    cuts, largest = config.pruning.larger_cuts, config.pruning.largest_cut
    at_most = plan.trains and (config.prac.selects_data or may_stop or cuts not in (None, 0))
    trained = {n for n in range(rounds) if cuts != 0 or n % largest == 0}
    steps = sum(plan.budget(number, train_size).steps for number in trained)
    full, later = plan.full.total_steps, plan.full.total_steps
    if config.pruning.lr_rewind:
        later -= plan.k
    dense_is_done = plan.trains and plan.trains_dense_fully and not may_stop
    numbers = tickets_to_retrain(check_retrain(retrain, rounds), rounds, dense_is_done)
    tickets = numbers - {0}
    in_rounds = {
        number
        for number in tickets
        if number in trained
        and not at_most
        and plan.trains
        and plan.budget(number, train_size).steps == later
        and config.pruning.ticket_start == "as_rounds"
    }
    steps += full * (0 in numbers) + later * len(tickets - in_rounds)
    steps += full * controls * len(tickets)  # T - k steps if a control starts from W_k
    at_most = at_most or controls > 0
    if config.prac.pretrains:
        steps += plan.k
    return Count(steps, steps * config.recipe.batch_size, at_most)
