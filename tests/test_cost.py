"""Counted costs against the published run of the PrAC authors' code, and those of a run's parts."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_prac.config import SearchConfig
from tf_prac.data.order import steps_per_epoch
from tf_prac.search.cost import Cost, round_steps
from tf_prac.search.plan import RoundPlan
from tf_prac.search.summary import search_cost

# ResNet-20 on CIFAR-10, batch 128: samples and epochs of rounds 0 to 6, and the SGD steps so far.
SIZES = [45000, 29703, 24667, 21959, 19816, 18112, 16751]
EPOCHS = [96, 65, 50, 29, 23, 19, 19]
CUMULATIVE = [33792, 48937, 58587, 63575, 67140, 69838, 72327]
FULL_BUDGET = 182 * 352


def cost(search, full, retrain=0, reference=0):
    return Cost(search, full, 0, retrain, reference)


def test_steps_are_those_of_the_published_run():
    steps = [steps_per_epoch(n, 128) * epochs for n, epochs in zip(SIZES, EPOCHS, strict=True)]
    assert np.cumsum(steps).tolist() == CUMULATIVE


def test_the_saving_is_the_published_one():
    assert steps_per_epoch(45000, 128) * 182 == FULL_BUDGET
    found = cost(CUMULATIVE[-1], 7 * FULL_BUDGET, retrain=FULL_BUDGET)
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
    assert steps_per_epoch(num_samples, batch_size) == len(range(0, num_samples, batch_size))


def trained(number, steps, **metrics):
    counts = {"retrain_steps": steps, "forward_samples": 7}
    return {"round": number, "steps": steps, "gradient_samples": 0, **counts, **metrics}


T, K = 40, 10
IMP = [trained(0, T), trained(1, T - K), trained(2, T - K), trained(3, T - K), trained(4, T - K)]


@pytest.mark.parametrize("dense", [0, T])
@pytest.mark.parametrize("rounds", [1, 3, 5])
@pytest.mark.parametrize("in_round", [False, True])
def test_the_last_ticket_counts_whether_or_not_a_later_round_trained_it(dense, rounds, in_round):
    """A run of 5 rounds may get fewer: the round that trained the last ticket is left out."""
    earlier = [trained(0, dense), *(trained(i, T - K, in_round=True) for i in range(1, rounds))]
    last = trained(rounds, T - K, **({"in_round": True} if in_round else {}))
    found = search_cost(IMP[:rounds], [*earlier, last], [trained(1, 6)], imp_steps=200)
    assert found.search_steps == T + (rounds - 1) * (T - K)
    assert found.retrain_steps == T - K and found.reference_steps == dense + 6
    assert found.end_to_end_steps == T + rounds * (T - K)
    assert found.end_to_end_steps_saved == 1 - found.end_to_end_steps / (200 + T - K)


@pytest.mark.parametrize("retrained", [(), (1,), (1, 2), (1, 2, 3)])
def test_no_step_is_counted_twice_or_lost(retrained):
    """Tickets that no round trained: those before the last are references."""
    steps = {number: T - K if number in retrained else 0 for number in range(4)}
    tickets = [trained(number, each) for number, each in steps.items()]
    found = search_cost(IMP[:3], tickets, [], imp_steps=100)
    assert found.retrain_steps == steps[3]
    taken = sum(steps.values()) + sum(map(round_steps, IMP[:3]))
    assert found.end_to_end_steps + found.reference_steps == taken


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
