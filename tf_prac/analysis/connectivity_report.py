"""The tables and figures of `tf-prac connectivity`."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from tf_prac.analysis.aggregate import Row, lines_of, spread, write_csvs
from tf_prac.analysis.connectivity import ConnectivityRows
from tf_prac.analysis.stability import network_name
from tf_prac.plotting import (
    draw_lines,
    line_figure,
    one_legend,
    save_figure,
    show_densities,
    show_percent,
    show_rewind_points,
)
from tf_prac.tables import text_table

LINES = {"order": "two data orders", "rounds": "from the round before"}
ERROR = {"train": "train_error", "test": "test_error"}


def connectivity_table(rows: ConnectivityRows) -> str:
    """Returns the table that the command prints: barriers in percentage points of error."""
    table = [("k", "kept", "network", "line", "train error", "test error", "test loss", "lines")]
    for row in rows.summary():
        table.append(
            (
                f"{row['k']:,}",
                f"{row['density']:.1%}",
                network_name(row),
                LINES[row["line"]],
                spread(row, "train_error_barrier", 100, 2),
                spread(row, "test_error_barrier", 100, 2),
                spread(row, "test_loss_barrier", 1, 3),
                str(row["samples"]),
            )
        )
    title = "error barriers: mean (min to max); of errors in percentage points"
    return f"{title}\n{text_table(table, keys=4)}"


def write_connectivity(directory: str | os.PathLike, rows: ConnectivityRows) -> list[pathlib.Path]:
    """Writes points.csv, barriers.csv, summary.csv, and the figures with their CSV.

    With barriers during training also during.csv, and their figure.

    Returns:
        The written files.
    """
    path, summary = pathlib.Path(directory), rows.summary()
    tables = {"points": rows.points, "barriers": rows.barriers, "summary": summary}
    written = write_csvs(path, tables)
    error = "test_error" if any("test_error_barrier" in row for row in summary) else "train_error"
    if rows.during:
        written += write_csvs(path, {"during": rows.during})
        written += draw_during(path / "barrier_during", rows.course(), f"{error}_barrier")
    written += _curves(path / "interpolation", rows.curves())
    written += _barriers(path / "barrier", summary, f"{error}_barrier")
    orders = [row for row in summary if row["line"] == "order" and row["network"] == "ticket"]
    if len({r["k"] for r in orders}) > 1 and len({r["round"] for r in orders}) > 1:
        written += draw_grid(path / "grid", orders, f"{error}_barrier")
    return written


def _label(row: Row, with_k: bool, with_density: bool) -> str:
    parts = [network_name(row)]
    parts += [f"{row['density']:.1%}"] if with_density and row["round"] else []
    parts += [f"k={row['k']}"] if with_k else []
    parts += [LINES[row["line"]]] if row["line"] != "order" else []
    return ", ".join(parts)


def _curves(stem: pathlib.Path, curves: Sequence[Row]) -> list[pathlib.Path]:
    """Draws the error on the line: one panel for training and one for test samples."""
    panels = {name: column for name, column in ERROR.items() if any(column in r for r in curves)}

    def draw(figure: Any) -> None:
        all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (name, column) in zip(all_axes, panels.items(), strict=True):
            draw_lines(axes, lines_of(curves, "alpha", column, lambda r: _label(r, True, True)))
            axes.set(xlabel="position on the line", ylabel=f"{name} error")
            values = [row[column] for row in curves]
            if min(values) < max(values) / 2:
                axes.set_ylim(0, None)
            show_percent(axes)
        one_legend(figure)

    return save_figure(stem, curves, draw, size=(4.8 * len(panels), 4.4))


def _barriers(stem: pathlib.Path, summary: Sequence[Row], column: str) -> list[pathlib.Path]:
    """Draws the barrier against k or, for a single k, against the remaining weights."""
    y_label = column.replace("_", " ")
    if len(ks := {row["k"] for row in summary}) > 1:
        x, x_label = "k", "rewind point k (iterations)"
    else:
        x, x_label = "density", "weights remaining"

    def prepare(axes: Any) -> None:
        if x == "k":
            show_rewind_points(axes, sorted(ks))
        else:
            show_densities(axes, [row["density"] for row in summary])
        axes.set_ylim(0, None)
        show_percent(axes)

    def label(row: Row) -> str:
        return _label(row, False, True) if x == "k" else f"{row['network']}, {LINES[row['line']]}"

    lines = lines_of(summary, x, column, label)
    return line_figure(stem, lines, x_label=x_label, y_label=y_label, prepare=prepare)


def draw_during(stem: pathlib.Path, course: Sequence[Row], column: str) -> list[pathlib.Path]:
    """Draws the barrier during training, a line for each subnetwork and k."""

    def prepare(axes: Any) -> None:
        axes.set_ylim(0, None)
        show_percent(axes)

    lines = lines_of(
        course, "step", column, lambda row: _label({**row, "line": "order"}, True, True)
    )
    y_label = column.replace("_", " ")
    return line_figure(stem, lines, x_label="training step", y_label=y_label, prepare=prepare)


def draw_grid(stem: pathlib.Path, rows: Sequence[Row], column: str) -> list[pathlib.Path]:
    """Draws the barrier for every k and sparsity, as in Figure 8 of the paper."""
    ks = sorted({row["k"] for row in rows})
    densities = sorted({row["density"] for row in rows}, reverse=True)
    values = {(row["density"], row["k"]): row[column] for row in rows}
    table = [{"density": d, **{f"k={k}": values.get((d, k)) for k in ks}} for d in densities]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        cells = [[values.get((d, k), float("nan")) for k in ks] for d in densities]
        image = axes.imshow(cells, cmap="Blues", vmin=0, aspect="auto")
        for (d, k), value in values.items():
            position = (ks.index(k), densities.index(d))
            color = "white" if 2 * value > max(values.values()) else "black"
            axes.text(*position, f"{value:.1%}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(ks)), [str(k) for k in ks])
        axes.set_yticks(range(len(densities)), [f"{d:.1%}" for d in densities])
        axes.set(xlabel="rewind point k (iterations)", ylabel="weights remaining")
        bar = figure.colorbar(image, label=column.replace("_", " "))
        show_percent(bar.ax)

    return save_figure(stem, table, draw)
