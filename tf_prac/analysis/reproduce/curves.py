"""Tables and figures of accuracy that items of several papers share: curves of runs, and k."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tf_prac.analysis.reproduce.parts import Row, Runs
from tf_prac.plotting import Line, line_figure, log_axis, show_rewind_points


def remaining(row: Row) -> float:
    """Returns the remaining weights of a row of `results.table`, in percent."""
    return 100 * (1 - row["sparsity"])


@dataclasses.dataclass(frozen=True)
class Curve:
    """The accuracy of the tickets of one arm.

    Attributes:
        label: its name in table and figure.
        runs: the runs it is from.
        arm: the arm of `Runs.rows`.
    """

    label: str
    runs: Runs
    arm: str

    @property
    def rows(self) -> list[Row]:
        """The rows of `results.table` of its tickets, the densest first; not the dense network."""
        rows = [r for r in self.runs.table() if r["arm"] == self.arm and r["round"]]
        return [row for row in rows if row["test_accuracy"] is not None]

    def accuracies(self, number: int) -> dict[int, float]:
        """Returns the test accuracy of a ticket by seed; 0 is the dense network."""
        return self.runs.accuracies(self.arm, number)

    def line(self, x_of: Callable[[Row], float] = remaining) -> Line:
        """Returns accuracy in percent, with minimum and maximum over the seeds.

        Args:
            x_of: returns x of a row. Default: the remaining weights in percent.
        """
        rows, names = self.rows, ("test_accuracy", "test_accuracy_min", "test_accuracy_max")
        values = ([100 * row[name] for row in rows] for name in names)
        return Line(self.label, [x_of(row) for row in rows], *values)


def curves_table(curves: Sequence[Curve]) -> list[Row]:
    """Returns one row for each sparsity of each setup, with the accuracy of each curve."""
    rows: dict[tuple[str, int], Row] = {}
    for curve in curves:
        for each in curve.rows:
            key = curve.runs.setup.name, each["round"]
            row = rows.setdefault(key, {"setup": key[0], "remaining (%)": remaining(each)})
            row[f"{curve.label} (%)"] = 100 * each["test_accuracy"]
            row[f"{curve.label} min"] = 100 * each["test_accuracy_min"]
            row[f"{curve.label} max"] = 100 * each["test_accuracy_max"]
    return list(rows.values())


def draw_curves(
    curves: Sequence[Curve], dense: Mapping[str, float], stem: pathlib.Path
) -> list[pathlib.Path]:
    """Draws accuracy against remaining weights; dotted lines are dense networks.

    Args:
        curves: the lines.
        dense: accuracies of dense networks in percent, by name.
        stem: path without a suffix.
    """

    def prepare(axes: Any) -> None:
        for name, accuracy in dense.items():
            axes.axhline(accuracy, color="black", linewidth=0.8, linestyle=":")
            place = {"xycoords": ("axes fraction", "data"), "ha": "right", "fontsize": 8}
            axes.annotate(name, (0.995, accuracy), **place)
        log_axis(axes.xaxis)
        axes.invert_xaxis()

    return line_figure(
        stem,
        [curve.line() for curve in curves],
        x_label="remaining weights (%)",
        y_label="test accuracy (%)",
        prepare=prepare,
    )


def draw_against_k(lines: Sequence[Line], y_label: str, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draws lines whose x is the rewind point k in steps."""
    ks = sorted({int(k) for line in lines for k in line.x})
    return line_figure(
        stem,
        lines,
        x_label="rewind point k (steps)",
        y_label=y_label,
        prepare=lambda axes: show_rewind_points(axes, ks),
    )


def percent(fraction: float | None) -> float | None:
    """Returns a fraction in percent."""
    return None if fraction is None else 100 * fraction


def mean_percent(values: Mapping[int, float]) -> float | None:
    """Returns the mean of values by seed, in percent; None without values."""
    return 100 * sum(values.values()) / len(values) if values else None
