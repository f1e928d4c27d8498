"""`Check`: one statement of a paper, the test of it, and whether a reproduction passes.

The tests are stated with each result. Accuracies are compared by their paired difference over seeds
with its 95% interval (`PairedDifference`). Plain Python.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tf_prac.analysis.paired import PairedDifference

MATCHED, NOT_MATCHED = "matched", "not matched"
UNDECIDED, NOT_JUDGED = "undecided", "not judged"
STATUSES = (NOT_MATCHED, UNDECIDED, MATCHED, NOT_JUDGED)
"""From the one that decides the verdict of an item to the one that does not count."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One statement and whether it holds here.

    Attributes:
        statement: what the paper says.
        test: how it is decided.
        status: one of `STATUSES`.
        measured: the result here.
        published: the paper's number, or None for a qualitative statement. It is judged at the
            scale of the paper only.
    """

    statement: str
    test: str
    status: str
    measured: Any = None
    published: Any = None

    def at_scale(self, is_paper: bool) -> Check:
        """Returns the check, not judged if it compares with a published number elsewhere."""
        if is_paper or self.published is None:
            return self
        reason = "not judged: the network, data and schedule are not the paper's"
        return dataclasses.replace(self, status=NOT_JUDGED, test=reason)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields by name."""
        return dataclasses.asdict(self)


def verdict_of(checks: Sequence[Check]) -> str:
    """Returns the verdict of all checks: that of the one that holds least."""
    judged = [check.status for check in checks if check.status != NOT_JUDGED]
    return min(judged, key=STATUSES.index, default=NOT_JUDGED)


def holds(statement: str, condition: bool, *, test: str, measured: Any = None) -> Check:
    """Returns the check of a qualitative statement that a condition decides."""
    status = MATCHED if condition else NOT_MATCHED
    return Check(statement=statement, test=test, status=status, measured=measured)


def near(
    statement: str, measured: float, published: float, *, relative: float = 0.0, absolute: float = 0
) -> Check:
    """Returns the check that a number is the published one, up to a tolerance.

    Args:
        statement: what the number is.
        measured, published: the numbers.
        relative: tolerance as a fraction of the published number. Default 0.
        absolute: tolerance in units of the number. Default 0.
    """
    tolerance = max(absolute, relative * abs(published))
    parts = [f"{absolute:g}"] * bool(absolute) + [f"{relative:.0%}"] * bool(relative)
    return Check(
        statement=statement,
        test=f"within {' or '.join(parts)} of the published number",
        status=MATCHED if abs(measured - published) <= tolerance else NOT_MATCHED,
        measured=measured,
        published=published,
    )


def as_good(
    statement: str, values: Mapping[int, float], reference: Mapping[int, float], points: float
) -> Check:
    """Returns the check that an arm loses at most `points` of accuracy against a reference.

    Args:
        statement: what the paper says.
        values, reference: accuracies by seed, fractions.
        points: the margin, in percentage points.
    """
    test = (
        f"paired difference over seeds: 95% interval (Student's t) at or above -{points:g} points; "
        "not matched if all of it is below"
    )
    return _paired(statement, test, values, reference, -points / 100)


def worse(statement: str, values: Mapping[int, float], reference: Mapping[int, float]) -> Check:
    """Returns the check that an arm is less accurate than a reference; arguments of `as_good`."""
    test = (
        "paired difference over seeds: 95% interval (Student's t) below 0; not matched if all of "
        "it is above"
    )
    return _paired(statement, test, reference, values, 0.0, sign=-1)


def _paired(
    statement: str,
    test: str,
    values: Mapping[int, float],
    reference: Mapping[int, float],
    margin: float,
    sign: int = 1,
) -> Check:
    difference = PairedDifference.of(values, reference)
    status = UNDECIDED
    if difference is not None and difference.low is not None and difference.high is not None:
        if difference.low >= margin:
            status = MATCHED
        elif difference.high < margin:
            status = NOT_MATCHED
    return Check(statement=statement, test=test, status=status, measured=_points(difference, sign))


def _points(difference: PairedDifference | None, sign: int) -> str:
    """Returns a difference in percentage points, as text."""
    if difference is None:
        return "no common seeds"
    mean = f"{100 * sign * difference.mean:+.2f} points"
    if difference.low is None or difference.high is None:
        return f"{mean}, one seed"
    ends = sorted((100 * sign * difference.low, 100 * sign * difference.high))
    return f"{mean} [{ends[0]:+.2f}, {ends[1]:+.2f}]"


def holds_between(
    statement: str, measured: float, low: float, high: float, *, slack: float
) -> Check:
    """Returns the check that a number is in a published range, up to `slack` at both ends."""
    return Check(
        statement=statement,
        test=f"in the published range, or at most {slack:g} outside",
        status=MATCHED if low - slack <= measured <= high + slack else NOT_MATCHED,
        measured=measured,
        published=f"{low:g} to {high:g}",
    )


def sparsest_within(rows: Sequence[Mapping[str, Any]], arm: str, points: float) -> int | None:
    """Returns the number of the sparsest ticket as accurate as the dense network, up to `points`.

    Args:
        rows: rows of `results.table`.
        arm: the arm.
        points: the largest loss of mean accuracy, in percentage points.

    Returns:
        0 if no ticket is; None without the dense network.
    """
    accuracies = {
        row["round"]: row["test_accuracy"]
        for row in rows
        if row["arm"] == arm and row["test_accuracy"] is not None
    }
    if 0 not in accuracies:
        return None
    least = accuracies[0] - points / 100
    return max(number for number, accuracy in accuracies.items() if accuracy >= least)


def ticket_near(arm: str, ticket: int | None, published: int) -> Check:
    """Returns the check that the sparsest ticket within 1 point is, or is next to, the published.

    Rounds of the paper prune 20%.

    Args:
        arm: the arm.
        ticket: the result of `sparsest_within`.
        published: the number of the published ticket.
    """
    here, there = (None if n is None else f"{100 * (1 - 0.8**n):.2f}%" for n in (ticket, published))
    is_near = ticket is not None and abs(ticket - published) <= 1
    return Check(
        statement=f"sparsest ticket of {arm} within 1 point of the dense network",
        test="mean accuracy; at most one pruning from the published sparsity",
        status=MATCHED if is_near else NOT_MATCHED,
        measured=here,
        published=there,
    )
