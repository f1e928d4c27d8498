"""Tables and figures of `tf-prac stability`."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tf_prac.analysis.aggregate import spread
from tf_prac.analysis.stability import StabilityRows
from tf_prac.plotting import COLORS, Line, draw_lines, line_figure, save_figure
from tf_prac.storage.files import write_csv
from tf_prac.tables import text_table

Row = Mapping[str, Any]
PANELS = {"distance": "L2 distance", "angle": "angle (degrees)"}
MEASURE = {"order": "data order", "pruning": "pruning"}


def stability_table(rows: StabilityRows) -> str:
    """Returns the table that the command prints: mean (min to max)."""
    accuracies = {subnetwork(row): row for row in rows.accuracies()}
    table = [
        ("k", "kept", "network", "stability to", "distance", "angle", "test accuracy", "pairs")
    ]
    for row in rows.summary():
        table.append(
            (
                f"{row['k']:,}",
                f"{row['density']:.1%}",
                network_name(row),
                MEASURE[row["measure"]],
                spread(row, "distance"),
                spread(row, "angle"),
                spread(accuracies[subnetwork(row)], "test_accuracy", 100, 2),
                str(row["samples"]),
            )
        )
    return text_table(table)


def write_stability(directory: str | os.PathLike, rows: StabilityRows) -> list[pathlib.Path]:
    """Writes copies.csv, pairs.csv, summary.csv, and the figures with their CSV.

    Returns:
        The files, in the order in which they were written.
    """
    path, summary = pathlib.Path(directory), rows.summary()
    tables = {"copies": rows.copies, "pairs": rows.pairs, "summary": summary}
    for name, table in tables.items():
        write_csv(path / f"{name}.csv", table)
    written = [path / f"{name}.csv" for name in tables]
    written += write_accuracy(path / "accuracy", rows.accuracies())
    several = len({row["k"] for row in summary}) > 1
    written += (_against_k if several else _bars)(path / "stability", summary)
    return written


def write_accuracy(stem: pathlib.Path, accuracies: Sequence[Row]) -> list[pathlib.Path]:
    """Draws test accuracy against remaining weights: a line for each network and k."""
    lines = lines_of(
        accuracies, "density", "test_accuracy", lambda row: f"{row['network']}, k={row['k']}"
    )
    if not lines:
        return []

    def prepare(axes: Any) -> None:
        remaining(axes, [row["density"] for row in accuracies])
        percent(axes)

    return line_figure(
        stem, lines, x_label="weights remaining", y_label="test accuracy", prepare=prepare
    )


def lines_of(rows: Sequence[Row], x: str, y: str, label: Any) -> list[Line]:
    """Groups aggregated rows into lines by `label(row)`, each in order of `x`."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if y in row:
            groups.setdefault(label(row).replace("_", " "), []).append(row)
    return [
        Line(name, *([row[key] for row in sorted(group, key=lambda row: row[x])] for key in keys))
        for name, group in groups.items()
        for keys in [(x, y, f"{y}_min", f"{y}_max")]
    ]


def remaining(axes: Any, densities: Sequence[float]) -> None:
    """Shows the densest networks at the left, on a logarithmic axis in percent."""
    axes.set_xscale("log")
    axes.invert_xaxis()
    ticks = sorted(set(densities), reverse=True)
    ticks = ticks[:: -(-len(ticks) // 8)]
    axes.set_xticks(ticks, [f"{density:.1%}" for density in ticks])
    axes.minorticks_off()


def percent(axes: Any) -> None:
    """Shows the fractions of the vertical axis in percent."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")


def one_legend(figure: Any) -> None:
    """Puts one legend below panels that show the same lines, in place of one in each."""
    shown: dict[str, Any] = {}
    for axes in figure.axes:
        shown |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        if axes.get_legend() is not None:
            axes.get_legend().remove()
    columns = 2 if max(map(len, shown)) > 24 else 4
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=columns, frameon=False
    )


def iterations(axes: Any, ks: Sequence[int]) -> None:
    """Shows rewind points on a logarithmic axis that has a 0."""
    positive = [k for k in ks if k > 0]
    axes.set_xscale("symlog", linthresh=min(positive, default=1))
    axes.set_xticks(sorted(set(ks)), [str(k) for k in sorted(set(ks))])
    axes.minorticks_off()


def network_name(row: Row) -> str:
    """Returns what a reader calls the network of a row."""
    return "dense" if row["round"] == 0 else row["network"].replace("_", " ")


def subnetwork(row: Row) -> tuple:
    """Returns what tells the subnetwork of a row from others."""
    return (row["k"], row["round"], row["network"])


def _against_k(stem: pathlib.Path, summary: Sequence[Row]) -> list[pathlib.Path]:
    """Draws distance and angle against k, as Figure 4 of the paper."""

    def label(row: Row) -> str:
        return f"{network_name(row)} ({row['density']:.1%}), {MEASURE[row['measure']]}"

    def draw(figure: Any) -> None:
        for axes, (name, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
            draw_lines(axes, lines_of(summary, "k", name, label))
            axes.set(xlabel="rewind point k (iterations)", ylabel=title, ylim=(0, None))
            iterations(axes, [row["k"] for row in summary])
        one_legend(figure)

    return save_figure(stem, summary, draw, size=(9.6, 4.0))


def _bars(stem: pathlib.Path, summary: Sequence[Row]) -> list[pathlib.Path]:
    """Draws distance and angle of one k as bars, as Figure 3 of the paper."""
    networks = list(dict.fromkeys(f"{network_name(r)} {r['density']:.1%}" for r in summary))
    measures = list(dict.fromkeys(row["measure"] for row in summary))
    width = 0.8 / len(networks)

    def draw(figure: Any) -> None:
        for axes, (name, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
            for row in summary:
                number = networks.index(f"{network_name(row)} {row['density']:.1%}")
                x = measures.index(row["measure"]) + (number - (len(networks) - 1) / 2) * width
                height = row[name]
                error = [[height - row[f"{name}_min"]], [row[f"{name}_max"] - height]]
                color = COLORS[number % len(COLORS)]
                axes.bar(x, height, 0.9 * width, color=color, label=networks[number])
                axes.errorbar(x, height, error, color="black", capsize=3, linewidth=1)
            axes.set_xticks(range(len(measures)), [f"to {MEASURE[m]}" for m in measures])
            axes.set_ylabel(title)
            axes.spines[["top", "right"]].set_visible(False)
        one_legend(figure)

    return save_figure(stem, summary, draw, size=(8.0, 4.0))
