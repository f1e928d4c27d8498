"""Paired differences against scipy's t test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tf_prac.analysis.paired import PairedDifference, t_95


@pytest.mark.parametrize("count", [2, 3, 7, 31, 32, 33, 200])
def test_the_interval_is_that_of_a_paired_t_test(count):
    generator = np.random.default_rng(count)
    a, b = generator.normal(size=(2, count))
    found = PairedDifference.of(dict(enumerate(a)), dict(enumerate(b)))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.mean, found.pairs) == (pytest.approx((a - b).mean()), count)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-3)
    assert found.std == pytest.approx((a - b).std(ddof=1))
    assert found.at_least(found.low) and not found.at_least(found.low + 1e-9)


def test_quantiles_are_those_of_student():
    many = [*range(1, 200), 1_000, 10**6]
    assert pytest.approx([stats.t.ppf(0.975, n) for n in many], abs=6e-4) == [*map(t_95, many)]
    assert [t_95(n) for n in (40, 60, 120)] == pytest.approx([2.0211, 2.0003, 1.9799], abs=1e-4)


def test_only_common_seeds_count():
    assert PairedDifference.of({0: 1.0}, {1: 1.0}) is None
    one = PairedDifference.of({0: 1.0, 1: 5.0}, {0: 0.5})
    assert (one.mean, one.low, one.std, one.pairs) == (0.5, None, None, 1)
    assert not one.at_least(-9)
