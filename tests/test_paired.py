"""Paired differences against scipy's t test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tf_prac.analysis.paired import T_95, PairedDifference


@pytest.mark.parametrize("count", [2, 3, 7, 31])
def test_the_interval_is_that_of_a_paired_t_test(count):
    generator = np.random.default_rng(count)
    a, b = generator.normal(size=(2, count))
    found = PairedDifference.of(dict(enumerate(a)), dict(enumerate(b)))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.mean, found.pairs) == (pytest.approx((a - b).mean()), count)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-3)
    assert found.at_least(found.low) and not found.at_least(found.low + 1e-9)


def test_quantiles_are_those_of_student():
    assert pytest.approx([stats.t.ppf(0.975, n) for n in range(1, 31)], abs=6e-4) == T_95


def test_only_common_seeds_count():
    assert PairedDifference.of({0: 1.0}, {1: 1.0}) is None
    one = PairedDifference.of({0: 1.0, 1: 5.0}, {0: 0.5})
    assert (one.mean, one.low, one.pairs) == (0.5, None, 1) and not one.at_least(-9)
