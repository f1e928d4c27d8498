"""Figures and their numbers: always a CSV, and PNG and SVG if matplotlib is installed.

Only this module imports matplotlib, and only when a figure is drawn. It is installed by the extra
`figures`. Matplotlib's global state does not change.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tf_prac.checks import printable
from tf_prac.extras import is_installed
from tf_prac.storage.atomic import atomic_write
from tf_prac.storage.files import write_csv

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555", "#000000")
"""Okabe and Ito's palette, which is distinguishable with any color vision."""

MARKERS = "os^Dv<>P"
NO_PICTURES = "not drawn, matplotlib is missing: pip install 'tf-prac[figures]'"


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes:
        label: its name in the legend.
        x, y: its points.
        low, high: the ends of the spread at each point, drawn as a band; or None.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return is_installed("matplotlib")


def save_figure(
    stem: str | os.PathLike,
    rows: Sequence[Mapping[str, Any]],
    draw: Callable[[Any], None],
    *,
    size: tuple[float, float] = (6.4, 4.0),
) -> list[pathlib.Path]:
    """Writes the numbers of a figure as CSV, and the figure if matplotlib is installed.

    Args:
        stem: path without a suffix; .csv, .png and .svg are added.
        rows: the numbers, each row a mapping of columns.
        draw: function that draws on a `matplotlib.figure.Figure`.
        size: width and height in inches.

    Returns:
        The written files, the CSV first.
    """
    base = pathlib.Path(stem)
    written = [base.with_name(f"{base.name}.csv")]
    write_csv(written[0], rows)
    if not can_draw():
        return written
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    style: Any = {"svg.hashsalt": "tf_prac", "svg.fonttype": "none", "font.size": 10}
    style["text.parse_math"] = False  # a dollar sign in the name of a run is no formula
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        draw(figure)
        for text in figure.findobj(Text):
            text.set_text(printable(text.get_text()))
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
            path = base.with_name(base.name + suffix)
            with atomic_write(path) as file:
                figure.savefig(file, format=suffix[1:], metadata=metadata)
            written.append(path)
    return written


def line_figure(
    stem: str | os.PathLike,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    prepare: Callable[[Any], None] | None = None,
) -> list[pathlib.Path]:
    """Writes a figure of lines with markers and bands, and a CSV of line, x, y, low and high.

    Example:

        >>> line = Line("ticket", x=[1.0, 0.5], y=[0.98, 0.97])
        >>> [path.suffix for path in line_figure("/tmp/f", [line], x_label="kept", y_label="acc")]
        ['.csv', '.png', '.svg']

    Args:
        stem: path without a suffix.
        lines: the lines, in order of the legend.
        x_label, y_label: labels of the axes, with units.
        title: title of the figure. Default "": none.
        prepare: function of the axes that sets scales, limits or reference lines after drawing.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        draw_lines(axes, lines)
        axes.set(xlabel=x_label, ylabel=y_label, title=title)
        if prepare is not None:
            prepare(axes)

    return save_figure(stem, line_rows(lines), draw)


def draw_lines(axes: Any, lines: Sequence[Line]) -> None:
    """Draws lines in the style of all figures, with a legend if there are several."""
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(line.x, line.y, color=color, marker=marker, markersize=4, label=line.label)
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.15, linewidth=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if len(lines) > 1:
        axes.legend(frameon=False)


def log_axis(axis: Any) -> None:
    """Makes an axis with data logarithmic, labeled at 1, 2 and 5 times the powers of ten.

    Over more than three decades, only powers of ten have labels. Matplotlib's own labels are
    formulas, which are switched off, or overlap.

    Args:
        axis: `axes.xaxis` or `axes.yaxis`.
    """
    from matplotlib.ticker import LogLocator

    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    is_wide = axis.get_data_interval()[1] > 2000 * axis.get_minpos()
    axis.set_major_locator(LogLocator(subs=(1.0,) if is_wide else (1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    axis.set_minor_formatter("")


def show_densities(axes: Any, densities: Sequence[float]) -> None:
    """Labels a logarithmic x axis with densities in percent, the densest at the left."""
    axes.set_xscale("log")
    axes.invert_xaxis()
    ticks = sorted(set(densities), reverse=True)
    ticks = ticks[:: -(-len(ticks) // 8)]
    axes.set_xticks(ticks, [f"{density:.1%}" for density in ticks])
    axes.minorticks_off()


def show_percent(axes: Any) -> None:
    """Labels the fractions on the y axis in percent."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")


def one_legend(figure: Any) -> None:
    """Replaces the legends of panels that show the same lines by one below them."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        if axes.get_legend() is not None:
            axes.get_legend().remove()
    columns = 2 if max(map(len, handles)) > 24 else 4
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False
    )


def show_rewind_points(axes: Any, ks: Sequence[int]) -> None:
    """Labels a logarithmic x axis, which includes 0, with rewind points."""
    smallest, largest = min((k for k in ks if k > 0), default=1), max(ks)
    axes.set_xscale("symlog", linthresh=smallest)
    # From 0 to `smallest` the axis is linear, and as wide as a factor of 10 is above.
    margin = 0.05 * (1 + math.log10(max(largest / smallest, 1)))
    left = -margin * smallest if 0 in ks else (1 - margin) * smallest
    axes.set_xlim(left, largest * 10**margin if largest else margin)
    axes.set_xticks(sorted(set(ks)), [str(k) for k in sorted(set(ks))])
    axes.minorticks_off()


def line_rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns the points of lines as rows for a CSV."""
    rows = []
    for line in lines:
        for index, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
            row: dict[str, Any] = {"line": line.label, "x": x, "y": y}
            if line.low is not None and line.high is not None:
                row |= {"low": line.low[index], "high": line.high[index]}
            rows.append(row)
    return rows
