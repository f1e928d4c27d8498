"""The tables and figures of `tf-prac stability`."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from tf_prac.analysis.aggregate import Row, lines_of, spread, write_csvs
from tf_prac.analysis.stability import StabilityRows, network_name, subnetwork_key
from tf_prac.plotting import (
    COLORS,
    draw_lines,
    line_figure,
    one_legend,
    save_figure,
    show_densities,
    show_percent,
    show_rewind_points,
)
from tf_prac.tables import text_table

PANELS = {"distance": "L2 distance", "angle": "angle (degrees)"}
MEASURE = {"order": "data order", "pruning": "pruning"}


def stability_table(rows: StabilityRows) -> str:
    """Returns the table that the command prints; cells are mean (min to max).

    "x ticket" is the distance of a control divided by that of the ticket.
    """
    accuracies = {subnetwork_key(row): row for row in rows.accuracies()}
    columns = ("k", "kept", "network", "stability to", "distance", "x ticket", "angle")
    table = [(*columns, "test accuracy", "pairs")]
    ratios = {
        (*subnetwork_key(row), row["measure"]): f"{row['distance_ratio']:.1f}"
        for row in rows.ratios()
        if "distance_ratio" in row
    }
    for row in rows.summary():
        subnetwork, measure = subnetwork_key(row), row["measure"]
        table.append(
            (
                f"{row['k']:,}",
                f"{row['density']:.1%}",
                network_name(row),
                MEASURE[measure],
                spread(row, "distance"),
                ratios.get((*subnetwork, measure), "-"),
                spread(row, "angle"),
                spread(accuracies[subnetwork], "test_accuracy", 100, 2),
                str(row["samples"]),
            )
        )
    return text_table(table, keys=4)


def write_stability(directory: str | os.PathLike, rows: StabilityRows) -> list[pathlib.Path]:
    """Writes copies.csv, pairs.csv, summary.csv, ratios.csv, and the figures with their CSV.

    Returns:
        The written files.
    """
    path, summary = pathlib.Path(directory), rows.summary()
    tables = {"copies": rows.replicates, "pairs": rows.pairs, "summary": summary}
    tables |= {"ratios": ratios} if (ratios := rows.ratios()) else {}
    written = write_csvs(path, tables)
    written += write_accuracy(path / "accuracy", rows.accuracies())
    several = len({row["k"] for row in summary}) > 1
    written += (draw_stability_against_k if several else _bars)(path / "stability", summary)
    return written


def write_accuracy(stem: pathlib.Path, accuracies: Sequence[Row]) -> list[pathlib.Path]:
    """Draws test accuracy against remaining weights, a line for each network and k."""
    lines = lines_of(
        accuracies, "density", "test_accuracy", lambda row: f"{row['network']}, k={row['k']}"
    )
    if not lines:
        return []

    def prepare(axes: Any) -> None:
        show_densities(axes, [row["density"] for row in accuracies])
        show_percent(axes)

    return line_figure(
        stem, lines, x_label="weights remaining", y_label="test accuracy", prepare=prepare
    )


def draw_stability_against_k(stem: pathlib.Path, summary: Sequence[Row]) -> list[pathlib.Path]:
    """Draws distance and angle against k, as in Figure 4 of the paper."""

    def label(row: Row) -> str:
        return f"{network_name(row)} ({row['density']:.1%}), {MEASURE[row['measure']]}"

    def draw(figure: Any) -> None:
        for axes, (name, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
            draw_lines(axes, lines_of(summary, "k", name, label))
            axes.set(xlabel="rewind point k (iterations)", ylabel=title, ylim=(0, None))
            show_rewind_points(axes, [row["k"] for row in summary])
        one_legend(figure)

    return save_figure(stem, summary, draw, size=(9.6, 4.0))


def _bars(stem: pathlib.Path, summary: Sequence[Row]) -> list[pathlib.Path]:
    """Draws distance and angle for a single k as bars, as in Figure 3 of the paper."""
    networks = list(dict.fromkeys(f"{network_name(r)} {r['density']:.1%}" for r in summary))
    measures = list(dict.fromkeys(row["measure"] for row in summary))
    width = 0.8 / len(networks)

    def draw(figure: Any) -> None:
        for axes, (name, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
            for row in summary:
                index = networks.index(f"{network_name(row)} {row['density']:.1%}")
                x = measures.index(row["measure"]) + (index - (len(networks) - 1) / 2) * width
                height = row[name]
                error = [[height - row[f"{name}_min"]], [row[f"{name}_max"] - height]]
                color = COLORS[index % len(COLORS)]
                axes.bar(x, height, 0.9 * width, color=color, label=networks[index])
                if any(length > 0 for (length,) in error):
                    axes.errorbar(x, height, error, color="black", capsize=3, linewidth=1)
            axes.set_xticks(range(len(measures)), [f"to {MEASURE[m]}" for m in measures])
            axes.set_ylabel(title)
            axes.spines[["top", "right"]].set_visible(False)
        one_legend(figure)

    return save_figure(stem, summary, draw, size=(8.0, 4.0))
