"""Figures: a CSV always, images if matplotlib is installed, the same bytes each time."""

from __future__ import annotations

import csv
import itertools
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from tf_prac import plotting
from tf_prac.plotting import (
    Line,
    draw_lines,
    line_figure,
    log_axis,
    save_figure,
    show_rewind_points,
)

LINES = [
    Line("imp", [1.0, 0.5], [0.98, 0.97], [0.97, 0.96], [0.99, 0.98]),
    Line("random", [1.0, 0.5], [0.98, 0.90]),
]


def draw_both(stem):
    return line_figure(stem, LINES, x_label="remaining", y_label="accuracy")


def test_the_numbers_are_written_with_the_figure(tmp_path):
    written = draw_both(tmp_path / "accuracy")
    assert [path.name for path in written] == ["accuracy.csv", "accuracy.png", "accuracy.svg"]
    with open(written[0], newline="") as file:
        rows = list(csv.DictReader(file))
    points = [(row["line"], float(row["x"]), float(row["y"]), row["low"]) for row in rows]
    assert points == [
        ("imp", 1.0, 0.98, "0.97"),
        ("imp", 0.5, 0.97, "0.96"),
        ("random", 1.0, 0.98, ""),
        ("random", 0.5, 0.90, ""),
    ]
    svg = written[2].read_text()
    assert all(text in svg for text in ("imp", "random", "remaining", "accuracy"))


def test_the_same_figure_is_the_same_file(tmp_path):
    first, second = draw_both(tmp_path / "a"), draw_both(tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_without_matplotlib_only_the_numbers_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(plotting, "can_draw", lambda: False)
    assert [path.name for path in draw_both(tmp_path / "accuracy")] == ["accuracy.csv"]


def test_a_failed_drawing_leaves_no_image(tmp_path):
    def draw(_):
        raise RuntimeError("no ink")

    with pytest.raises(RuntimeError):
        save_figure(tmp_path / "f", [{"x": 1}], draw)
    assert [path.name for path in tmp_path.iterdir()] == ["f.csv"]


def test_matplotlib_is_imported_to_draw_and_not_before():
    code = "import sys, tf_prac.plotting; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (84, 97, {"84", "90", "96"}),
        (1.2, 7, {"2", "5"}),
        (0.3, 100, {"0.5", "1", "20", "100"}),
        (3000, 110_000, {"5,000", "100,000"}),
        (1, 10**6, {"1", "1,000", "1,000,000"}),
    ],
)
def test_labels_of_logarithmic_axes_are_numbers_that_do_not_overlap(low, high, expected):
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes, points = figure.subplots(), np.geomspace(low, high, 9)
    draw_lines(axes, [Line("a", points, points)])
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    figure.draw_without_rendering()
    for axis in (axes.xaxis, axes.yaxis):
        ends = axis.get_view_interval()
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        labels = [tick.label1 for tick in ticks if ends[0] <= tick.get_loc() <= ends[1]]
        labels = [label for label in labels if label.get_text()]
        assert expected <= {label.get_text() for label in labels}
        assert not [label for label in labels if not re.fullmatch(r"[\d.,]+", label.get_text())]
        boxes = [label.get_window_extent() for label in labels]
        assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_all_figures_take_their_logarithmic_axes_from_here():
    sources = pathlib.Path(plotting.__file__).parent.rglob("*.py")
    own = [
        path.name
        for path in sources
        if re.search(r"[xy]_?scale\(\"|[xy]scale=\"", path.read_text())
    ]
    assert own == ["plotting.py"]


@pytest.mark.parametrize("ks", [[0, 11, 34, 113, 339], [0], [7], [30, 300], [0, 1]])
def test_rewind_points_fill_the_axis(ks):
    figure = Figure()
    axes = figure.subplots()
    axes.plot(ks, [1.0] * len(ks))
    show_rewind_points(axes, ks)
    figure.canvas.draw()
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [to_axes.transform((k, 1.0))[0] for k in ks]
    assert all(0 < place < 1 for place in places) and places == sorted(places)
    if len(ks) > 1:
        assert places[0] < 0.1 and places[-1] > 0.9
