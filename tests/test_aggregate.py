"""Means and spreads of several runs; a single one has no spread."""

from tf_prac.analysis.aggregate import aggregate, spread
from tf_prac.analysis.results import _lines


def test_the_spread_of_one_value_is_not_shown():
    one, two = (
        aggregate([{"k": 0, "error": value} for value in values], by=["k"], values=["error"])[0]
        for values in ([0.25], [0.25, 0.75])
    )
    assert spread(one, "error", digits=2) == "0.25"
    assert spread(two, "error", digits=2) == "0.50 (0.25 to 0.75)"


def test_one_seed_has_no_band():
    rows = [{"arm": "prac", "test_accuracy": 0.9, "test_accuracy_std": std} for std in (None, 0.01)]
    (line,) = _lines(rows[:1], lambda row: 0.1)
    assert line.low is None and line.high is None
    (line,) = _lines(rows, lambda row: 0.1)
    assert line.low == [90, 89] and line.high == [90, 91]
