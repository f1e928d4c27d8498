"""Distances, angles and barriers: hand-computed values and general properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_prac import Masks
from tf_prac.analysis.weight_space import angle, barrier, distance, interpolate
from tf_prac.errors import ArgumentError, MismatchError

ALL = Masks({"a": np.ones((2, 2)), "b": np.ones(2)})
floats = st.floats(-100, 100, width=32)
vectors = hnp.arrays(np.float32, 6, elements=floats)


def network(values):
    """Returns two tensors with six numbers, and a bias, which is ignored."""
    values = np.asarray(values, np.float32)
    bias = np.array([values.sum()], np.float32)
    return {"a": values[:4].reshape(2, 2), "bias": bias, "b": values[4:]}


def test_distance_of_3_and_4_is_5():
    zero, far = network([0] * 6), network([3, 0, 0, 0, 0, 4])
    assert distance(zero, far, ALL) == 5
    assert distance(far, far, ALL) == 0


def test_pruned_weights_and_biases_are_ignored():
    masks = Masks({"a": np.array([[1, 0], [1, 1]]), "b": np.array([1, 0])})
    first, second = network([1, 50, 2, 2, 1, 60]), network([0, -50, 0, 0, 0, -9])
    assert distance(first, second, masks) == pytest.approx(math.sqrt(1 + 4 + 4 + 1))
    assert angle(network([1, 50, 0, 0, 0, 9]), network([0, 50, 1, 0, 0, 9]), masks) == (
        pytest.approx(90)
    )


@pytest.mark.parametrize(
    ("first", "second", "degrees"),
    [
        ([1, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0], 0),
        ([1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], 45),
        ([1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 5, 0], 90),
        ([0, 0, 1, 0, 0, 0], [0, 0, -1, 0, 0, math.sqrt(3)], 120),
        ([0, 0, 1, 0, 0, 0], [0, 0, -7, 0, 0, 0], 180),
        ([3, 0, 0, 0, 0, 0], [math.sqrt(3), 1, 0, 0, 0, 0], 30),
    ],
)
def test_angles_known_from_geometry(first, second, degrees):
    assert angle(network(first), network(second), ALL) == pytest.approx(degrees, abs=1e-5)


def test_small_angles_are_exact():
    tiny = 1e-6
    found = angle(network([1, 0, 0, 0, 0, 0]), network([1, tiny, 0, 0, 0, 0]), ALL)
    assert found == pytest.approx(math.degrees(np.float32(tiny)), rel=1e-6)


@given(vectors, vectors)
def test_distance_and_angle_against_their_definitions(x, y):
    first, second = network(x), network(y)
    assert distance(first, second, ALL) == pytest.approx(math.dist(x.tolist(), y.tolist()))
    assert distance(first, second, ALL) == distance(second, first, ALL)
    if not (x.any() and y.any()):
        return
    x, y = x.astype(float), y.astype(float)
    cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    expected = math.degrees(math.acos(min(1, max(-1, cosine))))
    assert angle(first, second, ALL) == pytest.approx(expected, abs=1e-5)
    assert angle(network(3 * x), second, ALL) == pytest.approx(angle(first, second, ALL), abs=1e-4)


@given(vectors, vectors, st.floats(0, 1))
def test_interpolation_is_the_line_and_its_ends_are_exact(x, y, alpha):
    first, second = network(x), network(y)
    found = interpolate(first, second, alpha)
    assert list(found) == list(first)
    for name in first:
        assert found[name].dtype == np.float32
        expected = alpha * first[name].astype(float) + (1 - alpha) * second[name].astype(float)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-30)
        np.testing.assert_array_equal(interpolate(first, second, 1)[name], first[name])
        np.testing.assert_array_equal(interpolate(first, second, 0)[name], second[name])


def test_the_barrier_is_the_highest_point_above_the_mean_of_the_ends():
    assert barrier([0.1, 0.2, 0.6, 0.2, 0.3]) == pytest.approx(0.6 - 0.2)
    assert barrier([0.5, 0.5]) == 0
    assert barrier([0.2, 0.1, 0.4]) == pytest.approx(0.1)  # an end is the highest


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_barriers_are_never_negative_and_the_same_both_ways(along):
    assert barrier(along) >= 0
    assert barrier(along) == pytest.approx(barrier(along[::-1]))


def test_bad_input():
    good = network([1, 2, 3, 4, 5, 6])
    zero = {name: 0 * w for name, w in good.items()}
    other = {**good, "a": np.ones((2, 3), np.float32)}
    missing = {name: w for name, w in good.items() if name != "a"}
    with pytest.raises(ArgumentError, match="weights: received 'all zero'"):
        angle(good, zero, ALL)
    with pytest.raises(ArgumentError, match="not finite"):
        angle({**good, "b": np.array([np.nan, 1])}, good, ALL)
    for measure in (distance, angle):
        with pytest.raises(MismatchError, match=r"a has shape \(2, 3\)"):
            measure(good, other, ALL)
        with pytest.raises(MismatchError, match="'a'"):
            measure(missing, good, ALL)
    with pytest.raises(MismatchError, match=r"a has shape \(2, 2\) in one network and \(2, 3\)"):
        interpolate(good, other, 0.5)
    with pytest.raises(MismatchError, match="None in the other"):
        interpolate(good, missing, 0.5)
    with pytest.raises(ArgumentError, match="alpha: received 1.5"):
        interpolate(good, good, 1.5)
    with pytest.raises(ArgumentError, match="points: received 1"):
        barrier([0.5])
