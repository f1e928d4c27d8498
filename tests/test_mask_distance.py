"""Mask distance by hand, and the stop rule against one that looks at the whole past."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.pruning.criteria import global_magnitude
from tf_prac.pruning.mask_distance import MaskDistanceStop, mask_distance
from tf_prac.pruning.masks import Masks

DISTANCES = st.lists(
    st.sampled_from([0.0, 0.05, 0.079, 0.08, 0.081, 0.2]) | st.floats(0, 0.4), max_size=40
)


def naive_stop(distances, eps, window):
    """Returns the index at which to stop, or None, from the list of all distances so far."""
    for end in range(1, len(distances) + 1):
        past = distances[:end]
        armed = [i for i, distance in enumerate(past) if distance > eps]
        if armed and end - armed[0] >= window and all(d < eps for d in past[-window:]):
            return end - 1
    return None


def stop_index(distances, eps, window=5):
    """The index at which the rule first says stop, or None."""
    stop = MaskDistanceStop(eps, window)
    return next((i for i, distance in enumerate(distances) if stop.update(distance)), None)


def test_a_swap_counts_twice():
    one = Masks({"a": np.array([1, 1, 1, 1, 0]), "b": np.array([0, 1])})
    swapped = Masks({"a": np.array([0, 1, 1, 1, 0]), "b": np.array([1, 1])})
    assert mask_distance(one, one, remaining=5) == 0
    assert mask_distance(one, swapped, remaining=5) == 2 / 5
    assert mask_distance(swapped, one, remaining=7) == 2 / 7


def test_it_is_normalized_by_the_weights_in_force():
    masks = Masks({"a": np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])})
    last = global_magnitude({"a": np.array([4, 3, 2, 1, 0, 0, 0, 0, 0, 0.0])}, masks, 0.5)
    now = global_magnitude({"a": np.array([1, 2, 3, 4, 0, 0, 0, 0, 0, 0.0])}, masks, 0.5)
    assert mask_distance(now, last, masks.remaining) == 1.0  # all of the half that may move


@given(st.integers(0, 1000), st.sampled_from([0.1, 0.2, 0.5]))
def test_it_is_at_most_twice_the_pruning_rate(seed, rate):
    generator = np.random.default_rng(seed)
    one, other = (global_magnitude({"a": generator.normal(size=20)}, rate=rate) for _ in "ab")
    assert 0 <= mask_distance(one, other, 20) <= 2 * rate


def test_masks_of_another_network_are_refused():
    with pytest.raises(MismatchError):
        mask_distance(Masks({"a": np.ones(2)}), Masks({"a": np.ones(3)}), 2)


@given(DISTANCES, st.sampled_from([0.05, 0.08, 0.2]), st.integers(1, 6))
def test_the_rule_is_the_one_that_looks_at_the_whole_past(distances, eps, window):
    assert stop_index(distances, eps, window) == naive_stop(distances, eps, window)


@given(st.lists(st.floats(0, 0.08), max_size=40), st.integers(1, 6))
def test_a_slow_start_is_not_taken_for_the_end(distances, window):
    stop = MaskDistanceStop(0.08, window)
    assert not any(stop.update(distance) for distance in distances)
    assert not stop.armed


@pytest.mark.parametrize("window", [1, 3, 5])
@given(
    plateau=st.lists(st.floats(0.0801, 0.12), min_size=1, max_size=95),
    settled=st.lists(st.floats(0.0, 0.0799), min_size=10, max_size=20),
)
def test_the_published_run_stops_one_window_after_the_learning_rate_drops(window, plateau, settled):
    # PrAC's code on CIFAR-10: about 0.10 at a learning rate of 0.1, then about 0.012.
    assert stop_index(plateau + settled, 0.08, window) == len(plateau) + window - 1


def test_the_epochs_of_the_published_run():
    # Learning rate drops at epochs 91 and 60; the authors' runs stopped at 96 and 65.
    for drop, plateau, stopped in ((91, 0.105, 96), (60, 0.087, 65)):
        assert stop_index([plateau] * drop + [0.012] * 60, eps=0.08) + 1 == stopped
    # By the paper's own 0.07 a round that hovers between 0.074 and 0.082 goes on.
    hovering = [0.09] * 10 + [0.074, 0.079, 0.076, 0.075, 0.078]
    assert stop_index(hovering, eps=0.08) == 14
    assert stop_index(hovering, eps=0.07) is None


def test_the_threshold_itself_neither_arms_nor_stops():
    assert stop_index([0.08] * 20, 0.08) is None
    assert stop_index([0.1] + [0.08] * 20, 0.08) is None
    assert stop_index([0.1, 0.08, *[0.079] * 5], 0.08) == 6


def test_one_high_distance_starts_the_window_again():
    assert stop_index([0.3, *[0.01] * 4, 0.3, *[0.01] * 5], 0.08) == 10


@pytest.mark.parametrize("eps", [0, -0.1, float("nan"), float("inf"), "0.1", None])
def test_the_threshold_has_bounds(eps):
    with pytest.raises(ArgumentError, match="early_stop_eps: .*allowed: a number in \\(0, inf\\)"):
        MaskDistanceStop(eps)


@pytest.mark.parametrize("window", [0, -1, 2.0, True])
def test_the_window_has_bounds(window):
    with pytest.raises(ArgumentError, match="early_stop_window: .*an integer >= 1"):
        MaskDistanceStop(0.1, window)
