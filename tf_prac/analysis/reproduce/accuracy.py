"""Tables and figures of the accuracy of arms, for the items of all papers."""

from __future__ import annotations

import operator
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tf_prac.analysis.reproduce.curves import Curve, percent, remaining
from tf_prac.analysis.reproduce.parts import Row, Runs
from tf_prac.plotting import Line, draw_lines, line_rows, log_axis, one_legend, save_figure

REMAINING, SEARCH_STEPS = "remaining weights (%)", "steps of the search"
"""What accuracy is drawn against."""


def accuracy_rows(runs: Runs, arms: Sequence[str], against: str = REMAINING) -> list[Row]:
    """Returns one row for each ticket: mean accuracy and standard deviation in percent, by arm.

    Args:
        runs: the runs of a part.
        arms: the arms to show, in order of the columns.
        against: `REMAINING`, or `SEARCH_STEPS` for columns of steps too. Default `REMAINING`.
    """
    table = {(row["arm"], row["round"]): row for row in runs.table()}
    rows: list[Row] = []
    for number in sorted({number for _, number in table}):
        members = [table[arm, number] for arm in arms if (arm, number) in table]
        if not members:
            continue
        sparsity = 100 * members[0]["sparsity"]
        row: Row = {"setup": runs.setup.name, "ticket": number, "sparsity (%)": sparsity}
        for each in members:
            row[f"{each['arm']} (%)"] = percent(each["test_accuracy"])
            row[f"{each['arm']} std"] = percent(each["test_accuracy_std"])
            if against == SEARCH_STEPS:
                row[f"{each['arm']} steps"] = round(each["search_steps"])
        rows.append(row)
    return rows


def accuracy_lines(runs: Runs, arms: Sequence[str], against: str) -> list[Line]:
    """Returns a line for each arm, with minimum and maximum over the seeds.

    Args:
        runs: the runs of a part.
        arms: the arms to show.
        against: `REMAINING` or `SEARCH_STEPS`.
    """
    x_of = operator.itemgetter("search_steps") if against == SEARCH_STEPS else remaining
    return [Curve(arm, runs, arm).line(x_of) for arm in arms]


def draw_panels(
    stem: pathlib.Path, panels: Mapping[str, Sequence[Line]], against: str = REMAINING
) -> list[pathlib.Path]:
    """Draws test accuracy, one panel for each setup.

    Args:
        stem: path without a suffix.
        panels: the lines of each panel, by title.
        against: `REMAINING` or `SEARCH_STEPS`.
    """
    rows = [{"panel": title, **row} for title, lines in panels.items() for row in line_rows(lines)]
    columns = min(2, len(panels))
    height = -(-len(panels) // columns)

    def draw(figure: Any) -> None:
        grid = figure.subplots(height, columns, squeeze=False).flat
        for axes, (title, lines) in zip(grid, panels.items(), strict=False):
            draw_lines(axes, lines)
            axes.set(title=title, xlabel=against, ylabel="test accuracy (%)")
            if against == REMAINING:
                log_axis(axes.xaxis)
                axes.invert_xaxis()
        for axes in list(figure.axes)[len(panels) :]:
            axes.remove()
        if len(panels) > 1:
            one_legend(figure)

    return save_figure(stem, rows, draw, size=(5.6 * columns, 3.6 * height + 0.4))
