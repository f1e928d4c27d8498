"""Figures: a CSV always, images if matplotlib is installed, the same bytes each time."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest

from tf_prac import plotting
from tf_prac.plotting import Line, line_figure, save_figure

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
