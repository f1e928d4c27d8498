"""Scores of samples and the choice of the highest, against slow references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.selection import SCORES, apportion, choose, forgetting_scores
from tf_prac.errors import ArgumentError


@st.composite
def predictions(draw):
    """Probabilities [n, classes], some of them 0 or 1, and labels."""
    n, classes = draw(st.integers(1, 8)), draw(st.integers(2, 6))
    numbers = st.sampled_from([0.0, 1.0, 2.0]) | st.floats(1e-3, 10)
    raw = draw(hnp.arrays(np.float64, (n, classes), elements=numbers))
    raw[np.arange(n), draw(hnp.arrays(int, n, elements=st.integers(0, classes - 1)))] += 1
    labels = draw(hnp.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    return raw / raw.sum(-1, keepdims=True), labels


def slow_entropy(p, label):
    return -sum(x * math.log(x) for x in p if x > 0)


def slow_margin(p, label):
    first, second, *_ = sorted(p, reverse=True)
    return 1 - (first - second)


def slow_el2n(p, label):
    return math.sqrt(sum((x - (i == label)) ** 2 for i, x in enumerate(p)))


def slow_loss(p, label):
    return -math.log(p[label]) if p[label] > 0 else -math.log(np.finfo(np.float32).tiny)


@pytest.mark.parametrize("name", SCORES)
@given(predictions())
def test_scores_match_their_formulas(name, prediction):
    probabilities, labels = prediction
    before = probabilities.copy()
    expected = [globals()[f"slow_{name}"](list(p), y) for p, y in zip(*prediction, strict=True)]
    np.testing.assert_allclose(SCORES[name](probabilities, labels), expected, atol=1e-12)
    np.testing.assert_array_equal(probabilities, before)


def test_a_confident_correct_prediction_has_the_lowest_score():
    probabilities = np.array([[1.0, 0, 0], [0.5, 0.3, 0.2], [0.2, 0.4, 0.4]], np.float32)
    labels = np.zeros(3, np.int64)
    for score in SCORES.values():
        scores = score(probabilities, labels)
        assert scores.shape == (3,) and np.isfinite(scores).all()
        assert scores[0] == 0 and scores[0] < scores[1] < scores[2]


@given(
    hnp.arrays(np.float64, st.integers(1, 30), elements=st.sampled_from([0.0, 1.0, 2.0, -1.0])),
    st.data(),
)
def test_the_highest_are_chosen_and_choices_are_nested(scores, data):
    larger = data.draw(st.integers(0, len(scores)))
    smaller = data.draw(st.integers(0, larger))
    seed = data.draw(st.integers(0, 2**32))
    chosen = choose(scores, larger, seed=seed)
    assert len(np.unique(chosen)) == larger and (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(np.sort(scores[chosen]), np.sort(scores)[len(scores) - larger :])
    assert set(choose(scores, smaller, seed=seed)) <= set(chosen)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint64", "int8", "int64", "float32"])
@given(st.data())
def test_scores_of_any_dtype_are_compared_exactly(dtype, data):
    numbers = hnp.from_dtype(np.dtype(dtype), allow_nan=False)
    scores = data.draw(hnp.arrays(dtype, st.integers(0, 9), elements=numbers))
    count = data.draw(st.integers(0, len(scores)))
    tie, exact = np.random.default_rng(0).permutation(len(scores)), scores.tolist()
    best = sorted(range(len(exact)), key=lambda i: (-exact[i], tie[i]))[:count]
    assert choose(scores, count, seed=0).tolist() == sorted(best)


def test_unsigned_and_boolean_scores_do_not_wrap():
    for dtype in (np.uint8, np.bool_, np.uint64):
        assert choose(np.array([0, 1, 1, 1], dtype), 3, seed=0).tolist() == [1, 2, 3]
    lowest = np.array([-(2**63), 0, 2**63 - 1])
    assert choose(lowest, 2, seed=0).tolist() == [1, 2]


def test_nan_ranks_last_and_zeros_are_equal():
    assert choose(np.array([np.nan, -np.inf, 0, np.inf]), 3, seed=0).tolist() == [1, 2, 3]
    chosen = {int(choose(np.array([0.0, -0.0]), 1, seed=seed)[0]) for seed in range(20)}
    assert chosen == {0, 1}


def test_ties_are_broken_at_random_by_the_seed():
    often = np.zeros(10)
    for seed in range(300):
        often[choose(np.zeros(10), 3, seed=seed)] += 1
    assert often.sum() == 900 and often.min() > 60 and often.max() < 120


@given(st.data())
def test_classes_keep_their_proportions(data):
    labels = data.draw(hnp.arrays(int, st.integers(1, 40), elements=st.integers(0, 4)))
    count = data.draw(st.integers(0, len(labels)))
    scores = data.draw(hnp.arrays(float, len(labels), elements=st.sampled_from([0.0, 1.0, 2.0])))
    chosen = choose(scores, count, seed=0, labels=labels)
    assert len(chosen) == count
    for each in np.unique(labels):
        members = labels == each
        picked = np.intersect1d(chosen, np.flatnonzero(members))
        assert abs(len(picked) - count * members.sum() / len(labels)) < 1
        best = np.sort(scores[members])[::-1][: len(picked)]
        np.testing.assert_array_equal(np.sort(scores[picked])[::-1], best)


@given(hnp.arrays(int, st.integers(1, 9), elements=st.integers(1, 50)), st.data())
def test_quotas_have_the_exact_sum_and_are_within_one(sizes, data):
    count = data.draw(st.integers(0, int(sizes.sum())))
    quotas = apportion(sizes, count)
    assert sum(quotas) == count
    for size, quota in zip(sizes, quotas, strict=True):
        assert 0 <= quota <= size and abs(quota - count * size / sizes.sum()) < 1


@pytest.mark.parametrize("count", [-1, 1.5, True])
def test_a_count_is_a_whole_number(count):
    with pytest.raises(ArgumentError, match="^count: "):
        choose(np.zeros(3), count, seed=0)


@pytest.mark.parametrize("labels", [None, np.zeros(3, int)])
def test_no_more_are_chosen_than_there_are(labels):
    with pytest.raises(ArgumentError, match="^count: received 4; allowed: .* 0 to 3"):
        choose(np.zeros(3), 4, seed=0, labels=labels)


def test_never_learned_ranks_first_and_unseen_last():
    stats = ForgettingStats(4)
    for correct in ([1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]):
        stats.update(np.array([0, 1, 2]), np.array(correct))
    assert forgetting_scores(stats).tolist() == [2, 3, 0, -1]
    assert forgetting_scores(stats, "ignore").tolist() == [2, 0, 0, -1]
