"""Rounds at a constant learning rate whose averaged weights are pruned (`round_schedule="swa"`)."""

from __future__ import annotations

import importlib

import digits_search
import numpy as np
import pytest
from digits_search import TEST, TRAIN, make_model_fn
from hypothesis import given
from hypothesis import strategies as st
from interruption import resumed

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe, fast
from tf_prac.config import SearchConfig
from tf_prac.data.source import ArraySamples
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS, Flavor
from tf_prac.pruning.criteria import global_magnitude
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import prunable_weights, snapshot
from tf_prac.search.plan import RoundPlan
from tf_prac.search.ticket import SEARCH_ORDER
from tf_prac.storage.files import read_npz
from tf_prac.training.schedules import Budget, make_schedule
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)
RECIPE = TrainingRecipe(epochs=4, batch_size=64)  # 32 steps
AVERAGED = fast(RECIPE, rounds=3, rewind="3it", dense_budget="20it", round_budget="5it")
SWA = {"round_schedule": "swa", "early_stop_eps": None}


def run(flavor, directory, config=AVERAGED, **options):
    search = TicketSearch(
        make_model_fn(flavor), config, directory=directory, verbose=False, **options
    )
    return search.run(TRAIN, test=TEST)


# --- Learning rates and steps ----------------------------------------------------------------


@both
@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize(
    ("schedule", "rounds"),
    [(each, "swa") for each in ("constant", "step", "linear", "cosine", "exponential")]
    + [("step", "constant")],
)
def test_the_rate_is_the_recipes_up_to_step_k_or_the_warmup_and_stays(
    flavor, schedule, warmup, rounds
):
    recipe = TrainingRecipe(steps=80, batch_size=10, schedule=schedule, warmup=warmup)
    options = {"rewind": "8it", "dense_budget": "60it", "round_budget": "7it", "rounds": 2}
    config = SearchConfig(recipe=recipe).replace(**SWA, **options)
    plan = RoundPlan(config.replace(round_schedule=rounds), 100)
    rates, rate = [], make_schedule(Flavor(flavor), recipe)
    for number in range(2):
        rate.set_budget(plan.budget(number, 100))
        rates.append([float(rate(step)) for step in range(plan.budget(number, 100).steps)])
    rate.set_budget(plan.full)
    whole = [float(rate(step)) for step in range(80)]
    held_from = max(8, round(80 * warmup))
    np.testing.assert_allclose(rates[0], [whole[min(n, held_from)] for n in range(60)])
    np.testing.assert_allclose(rates[1], [whole[min(8 + n, held_from)] for n in range(7)])


@given(steps=st.integers(1, 10_000))
def test_about_fifty_steps_of_the_last_half_are_averaged(steps):
    averaged = list(Budget(10, 20_000, limit=steps, held_from=5, averages=True).averaged_at)
    assert averaged[0] == steps and averaged[-1] > steps // 2
    assert len(averaged) <= 101 and len(averaged) >= min(50, steps - steps // 2)
    assert len(set(np.diff(averaged))) <= 1, "they are evenly spaced"


def test_the_budget_of_a_round_on_fewer_samples_is_the_same_part_of_the_recipe():
    recipe = TrainingRecipe(epochs=20, batch_size=10)
    options = {"rewind": "1ep", "dense_budget": "50%", "round_budget": "10%", "rounds": 2}
    plan = RoundPlan(SearchConfig(recipe=recipe).replace(**SWA, **options), 1000)
    dense, whole, half = plan.budget(0, 1000), plan.budget(1, 1000), plan.budget(1, 500)
    assert (dense.steps, dense.first_step, dense.end) == (1000, 0, "budget")
    assert (whole.steps, whole.first_step, whole.held_from) == (200, 100, 100)
    assert (half.steps, half.first_step, half.held_from) == (100, 50, 50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"early_stop_eps": 0.1}, "early_stop_eps.*off with swa"),
        ({"criterion": "taylor"}, "criterion.*with swa"),
        ({"criterion": "synflow"}, "criterion.*with swa"),
    ],
)
def test_options_that_have_no_average_are_refused(options, message):
    config = SearchConfig(recipe=RECIPE).replace(use_cet=False, use_cep=False, **SWA)
    with pytest.raises(ArgumentError, match=message):
        RoundPlan(config.replace(**options), 450)


# --- Averages --------------------------------------------------------------------------------


def make_trainer(flavor):
    network = make_model_fn(flavor, norm=True)()
    trainer = Trainer(network, RECIPE, ArraySamples(*TRAIN))
    return trainer, snapshot(network), Masks.ones_like(prunable_weights(network))


@both
def test_the_average_is_the_mean_of_the_weights_at_its_steps(flavor):
    trainer, weights, masks = make_trainer(flavor)
    budget = Budget(8, 32, limit=24, held_from=3, averages=True)
    steps = list(budget.averaged_at)
    trained = trainer.train(weights, masks, np.arange(500), budget, (3,), snapshot_at=steps)
    assert steps == list(range(24, 12, -1)) and set(trained.averaged) == set(masks)
    for name, average in trained.averaged.items():
        values = [trained.snapshots[step][name].astype(np.float64) for step in steps]
        np.testing.assert_allclose(average, np.mean(values, axis=0), atol=1e-6)
    last = trained.weights
    for name, value in trained.scored.items():
        assert (value is last[name]) == (name not in masks)
    plain = trainer.train(weights, masks, np.arange(500), Budget(8, 32), (3,))
    assert not plain.averaged and plain.scored == plain.weights


@both
def test_an_interrupted_training_resumes_to_the_same_average(flavor, tmp_path):
    trainer, weights, masks = make_trainer(flavor)
    budget = Budget(8, 32, limit=24, held_from=3, averages=True)

    def train(advance=None, checkpoints=None):
        arguments = (weights, masks, np.arange(500), budget, (3,))
        return trainer.train(*arguments, advance=advance, checkpoints=checkpoints)

    whole = train()
    rest, step = resumed(train, tmp_path, after=19, every=2)
    assert step >= 16, "it did not resume within the averaged steps"
    for name, value in (whole.weights | whole.averaged).items():
        np.testing.assert_array_equal((rest.weights | rest.averaged)[name], value)


# --- Searches --------------------------------------------------------------------------------


@both
def test_masks_are_those_of_an_independent_search_with_averages(flavor, tmp_path):
    """Rounds continue from the last weights, and masks are found from averages of snapshots."""
    result = run(flavor, tmp_path / "run", retrain="none")
    search = TicketSearch(
        make_model_fn(flavor), AVERAGED, directory=tmp_path / "other", verbose=False
    )
    network = search.make_network()
    weights, masks = snapshot(network), Masks.ones_like(prunable_weights(network))
    data = digits_search.splits(RECIPE)
    trainer = Trainer(network, RECIPE, data.train.samples, data.validation, PruningConfig())
    for number, (first, steps) in enumerate([(0, 20), (3, 5), (3, 5)]):
        averaged = range(steps, steps // 2, -1)
        held = Budget(8, 32, first, limit=steps, milestones=(31, 32))  # constant, as SGD steps
        order = (0, SEARCH_ORDER, number)
        trained = trainer.train(
            weights, masks, data.train.ids, held, order, snapshot_at=[*averaged, 3]
        )
        means = {
            name: np.mean([trained.snapshots[step][name] for step in averaged], axis=0)
            for name in masks
        }
        masks = global_magnitude(means, masks)
        assert result.tickets[number + 1].masks == masks
        weights = masks.apply(trained.weights)
        if number == 0:
            for name, value in trained.snapshots[3].items():
                np.testing.assert_array_equal(result.tickets[3].weights[name], value)


def test_a_constant_rate_alone_averages_nothing(tmp_path):
    """Its masks are those of the last weights, and it may stop early."""
    config = AVERAGED.replace(round_schedule="constant", rounds=1)
    result = run("keras", tmp_path / "run", config, retrain="none")
    weights = read_npz(tmp_path / "run/round_00/weights.npz", "weights")
    kernel = {name: weights[name] for name in result.tickets[1].masks}
    assert result.tickets[1].masks == global_magnitude(kernel)
    assert not (tmp_path / "run/round_00/averaged.npz").exists()
    RoundPlan(config.replace(early_stop_eps=0.1), 450)


@both
def test_one_shot_tickets_come_from_one_average_and_resume(flavor, tmp_path):
    config = AVERAGED.replace(larger_cuts=0.0, largest_cut=10)
    result = run(flavor, tmp_path / "run", config, retrain="none")
    assert [r["steps"] for r in result.summary["rounds"]] == [20, 0, 0]
    average = read_npz(tmp_path / "run/round_00/averaged.npz", "weights")
    masks = Masks.ones_like(average)
    for ticket in result.tickets[1:]:
        masks = global_magnitude(average, masks)
        assert ticket.masks == masks
    for file in ("masks.npz", "averaged.npz"):
        damaged = tmp_path / "run/round_01" / file
        damaged.write_bytes(damaged.read_bytes()[:-1])
        again = run(flavor, tmp_path / "run", config, retrain="none")
        assert [t.masks for t in again.tickets] == [t.masks for t in result.tickets]


def test_an_optimizer_with_a_schedule_of_its_own_keeps_the_rate_of_step_k(tmp_path):
    """W_k is that of plain training by the model's own schedule."""
    keras = importlib.import_module("keras")

    def model_fn():
        model = make_model_fn("keras")()
        rate = keras.optimizers.schedules.CosineDecay(0.01, 32)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss)
        return model

    weights = {}
    for name, config in {"swa": AVERAGED, "imp": SearchConfig(recipe=RECIPE)}.items():
        config = config.replace(rounds=1, rewind="3it", use_cet=False, use_cep=False)
        options = {"directory": tmp_path / name, "retrain": "none", "verbose": False}
        weights[name] = TicketSearch(model_fn, config, **options).run(TRAIN).tickets[1].weights
    for name, value in weights["imp"].items():
        np.testing.assert_array_equal(weights["swa"][name], value)
    rates = np.genfromtxt(tmp_path / "swa/round_00/history.csv", delimiter=",", names=True)
    expected = 0.01 * 0.5 * (1 + np.cos(np.pi * 3 / 32))
    np.testing.assert_allclose(rates["learning_rate"], expected, rtol=1e-5)
