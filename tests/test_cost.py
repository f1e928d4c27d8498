"""Counted costs against the published run of the PrAC authors' code, and against a loop."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_prac.config import SearchConfig
from tf_prac.search.cost import Cost, epoch_steps, round_steps, search_steps
from tf_prac.search.plan import RoundPlan

# ResNet-20 on CIFAR-10, batch 128: samples and epochs of rounds 0 to 6, and the SGD steps so far.
SIZES = [45000, 29703, 24667, 21959, 19816, 18112, 16751]
EPOCHS = [96, 65, 50, 29, 23, 19, 19]
CUMULATIVE = [33792, 48937, 58587, 63575, 67140, 69838, 72327]
FULL_BUDGET = 182 * 352


def cost(search, full, retrain=0, reference=0):
    return Cost(search, full, 0, retrain, reference)


def test_steps_are_those_of_the_published_run():
    for rounds, steps in enumerate(CUMULATIVE, start=1):
        assert search_steps(SIZES[:rounds], EPOCHS[:rounds], batch_size=128) == steps


def test_the_saving_is_the_published_one():
    assert epoch_steps(45000, 128) * 182 == FULL_BUDGET
    found = cost(search_steps(SIZES, EPOCHS, 128), 7 * FULL_BUDGET, retrain=FULL_BUDGET)
    assert round(100 * found.steps_saved, 2) == 83.87
    assert found.end_to_end_steps == 136391
    assert round(100 * found.end_to_end_steps_saved, 1) == 73.4


def test_full_imp_is_counted_with_and_without_learning_rate_rewinding():
    """Seven rounds of ResNet-20 on CIFAR-10, W_k after three epochs; the paper says 448k."""
    config = SearchConfig().replace(epochs=182, batch_size=128, rounds=7, rewind="3ep")
    plan = RoundPlan(config, 45000)
    assert (plan.imp_steps, plan.paper_imp_steps) == (442_112, 448_448)
    found = dataclasses.replace(cost(72327, plan.imp_steps), paper_imp_steps=plan.paper_imp_steps)
    assert found.to_json()["paper_steps_saved"] == 1 - 72327 / 448_448
    assert found.to_json()["steps_saved"] == 1 - 72327 / 442_112
    authors = RoundPlan(config.replace(lr_rewind=False), 45000)
    assert authors.imp_steps == authors.paper_imp_steps == 448_448


def test_a_round_has_the_steps_of_its_pretraining():
    assert round_steps({"steps": 5}) == 5 and round_steps({"steps": 5, "pretrain_steps": 2}) == 7


@given(st.integers(1, 500), st.integers(1, 200))
def test_an_epoch_has_as_many_steps_as_batches_can_be_taken(num_samples, batch_size):
    assert epoch_steps(num_samples, batch_size) == len(range(0, num_samples, batch_size))


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 5)), max_size=6), st.integers(1, 100))
def test_a_search_takes_the_steps_that_its_loops_take(rounds, batch_size):
    steps = 0
    for size, epochs in rounds:
        for _ in range(epochs):
            left = size
            while left > 0:
                left -= batch_size
                steps += 1
    assert search_steps([s for s, _ in rounds], [e for _, e in rounds], batch_size) == steps


def test_each_round_needs_its_epochs():
    with pytest.raises(ValueError, match="shorter"):
        search_steps([100, 50], [3], 10)


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_fractions_follow_from_the_counts(search, full, retrain, reference):
    found = cost(search, full, retrain, reference)
    assert found.steps_saved == pytest.approx((full - search) / full)
    assert found.end_to_end_steps == search + retrain
    assert found.end_to_end_steps_saved == pytest.approx((full - search) / (full + retrain))
    assert abs(found.end_to_end_steps_saved) <= abs(found.steps_saved) + 1e-9
    assert cost(full, full, retrain).end_to_end_steps_saved == 0, "nothing saved, nothing claimed"
    # The dense reference is not part of finding a ticket.
    assert dataclasses.replace(found, reference_steps=0).steps_saved == found.steps_saved


def test_json_holds_every_count_and_every_fraction():
    found = Cost(30, 120, forward_samples=5, retrain_steps=40, reference_steps=7)
    assert json.loads(json.dumps(found.to_json())) == {
        "search_steps": 30,
        "full_imp_steps": 120,
        "forward_samples": 5,
        "retrain_steps": 40,
        "reference_steps": 7,
        "gradient_samples": 0,
        "steps_saved": 0.75,
        "paper_imp_steps": 120,
        "paper_steps_saved": 0.75,
        "end_to_end_steps": 70,
        "end_to_end_steps_saved": 1 - 70 / 160,
    }
