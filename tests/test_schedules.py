"""Schedules of rounds against the authors' rules in plain Python, and the two forms of momentum."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from tf_prac import PracConfig, TrainingRecipe
from tf_prac.config import SearchConfig
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS, Flavor, make_optimizer
from tf_prac.presets import PRESETS
from tf_prac.pruning.masks import Masks
from tf_prac.search.plan import RoundPlan
from tf_prac.search.rounds import annealed_peak
from tf_prac.training.schedules import Budget, make_schedule

both = pytest.mark.parametrize("flavor", FLAVORS)
CIFAR = TrainingRecipe(epochs=182, milestones=("91ep", "136ep"), warmup="15ep", learning_rate=0.03)


def authors_rates(size):
    """(epochs, {step: learning rate}) of the authors' code at the ends of its phases.

    `MultiStepLR` steps after each epoch; the warmup sets the rate before each batch.
    """
    epochs, warmup = int(182 * size / 45000), int(15 * size / 45000)
    milestones = [int(epoch * size / 45000) for epoch in (91, 136)]
    per_epoch = -(-size // 128)
    rates = {}
    ends = {0, 1, warmup - 1, warmup, *milestones, *(m - 1 for m in milestones), epochs - 1}
    for epoch in ends & set(range(epochs)):
        for batch in (0, per_epoch - 1):
            rate = 0.03 * 0.1 ** sum(epoch >= milestone for milestone in milestones)
            if epoch < warmup:
                rate = 0.03 * (epoch * per_epoch + batch + 1) / (warmup * per_epoch)
            rates[epoch * per_epoch + batch] = rate
    return epochs, rates


@both
def test_the_truncated_budget_is_that_of_the_authors_code(flavor):
    schedule = make_schedule(Flavor(flavor), CIFAR)
    full = Budget.full(CIFAR, 45000)
    for size in (29703, 24667, 16751, 9001, 500):
        budget = full.scaled(CIFAR, size, 45000, "epochs_truncated")
        epochs, rates = authors_rates(size)
        assert budget.epochs == epochs
        schedule.set_budget(budget)
        for step, rate in rates.items():
            assert float(schedule(step)) == pytest.approx(rate, rel=1e-5), (size, step)


@both
def test_later_rounds_do_not_keep_the_schedule_of_a_truncated_one(flavor):
    schedule, full = make_schedule(Flavor(flavor), CIFAR), Budget.full(CIFAR, 45000)
    schedule.set_budget(full)
    steps = [0, 100, 91 * 352 - 1, 91 * 352, 136 * 352 - 1, 136 * 352]
    before = [float(schedule(step)) for step in steps]
    schedule.set_budget(full.scaled(CIFAR, 9001, 45000, "epochs_truncated"))
    schedule.set_budget(Budget(10, 500, annealed=0.5))
    schedule.set_budget(full)
    assert [float(schedule(step)) for step in steps] == before


def test_warmup_ends_after_its_epochs_despite_floating_point():
    """3 / 59 * 590 is 30.000000000000004; the early stop counts from the epoch after the third."""
    recipe = TrainingRecipe(steps=590, warmup=3 / 59, batch_size=10)
    plan = RoundPlan(SearchConfig(recipe=recipe).replace(rewind="0it"), 100)
    assert plan.full.warmup_length(recipe) == 30
    assert plan.mask_distance(1, 100, lambda weights, masks: masks).min_epochs == 3 + 1 + 5


@both
def test_an_annealed_round_rises_for_a_tenth_and_falls_to_zero(flavor):
    schedule = make_schedule(Flavor(flavor), TrainingRecipe(learning_rate=0.2))
    schedule.set_budget(Budget(10, 200, annealed=0.5))
    for step in range(200):
        expected = 0.1 * min((step + 1) / 20, 1, (200 - step) / 180)
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)


def test_budgets_of_rounds_are_their_own():
    """ResNet-20 on CIFAR-10: 30 dense epochs and 10 a round are 31,680 steps to 79%."""
    options = {"dense_budget": "30ep", "round_budget": "10ep", "round_schedule": "annealed"}
    config = SearchConfig(recipe=CIFAR).replace(rounds=7, rewind="3ep", **options)
    plan = RoundPlan(config, 45000)
    budgets = [plan.budget(number, 45000) for number in range(7)]
    assert sum(budget.steps for budget in budgets) == 31_680
    assert [budget.first_step for budget in budgets] == [0] * 7
    assert plan.imp_steps == 442_112, "full IMP keeps the budget of the recipe"
    assert plan.budget(1, 22500).steps == 1760 and plan.budget(1, 22500).annealed == 1
    assert not plan.trains_dense_fully
    with pytest.raises(ArgumentError, match="dense_budget: received '1056 steps'"):
        RoundPlan(config.replace(dense_budget="3ep"), 45000)
    with pytest.raises(ArgumentError, match="coverage"):
        RoundPlan(config.replace(coverage=0.5, use_cet=False, use_cep=False), 45000)


@pytest.mark.parametrize("budget", ["30", "0ep", "-1it", "x", 3, True, "1.5it"])
def test_a_budget_has_an_amount_and_a_unit(budget):
    for name in ("dense_budget", "round_budget"):
        with pytest.raises(ArgumentError, match=name):
            PracConfig(**{name: budget})


def test_the_peak_follows_the_drop_of_the_norm():
    weights = {"a": np.float32([3, 0, 1, 2]), "b": np.float32([2, 1])}
    masks = Masks({"a": np.array([True, False, False, True]), "b": np.array([True, False])})
    drop = np.sqrt((1 + 1) / (9 + 1 + 4 + 4 + 1))  # 2 of 5 remaining weights
    assert annealed_peak(weights, masks, 0.1) == pytest.approx(drop / np.sqrt(2 / 5))
    assert annealed_peak(weights, masks, 0.8) == 0.8
    ones = {"a": np.ones(4, np.float32), "b": np.ones(2, np.float32)}
    assert annealed_peak(ones, masks, 0.1) == pytest.approx(1)


def pytorch_sgd(weight, gradients, rates, momentum, decay):
    """`torch.optim.SGD`, one weight, as its documentation writes it."""
    velocity, weights = 0.0, []
    for gradient, rate in zip(gradients, rates, strict=True):
        velocity = momentum * velocity + gradient + decay * weight
        weight -= rate * velocity
        weights.append(weight)
    return weights


@both
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_pytorch_momentum_applies_a_drop_of_the_rate_at_once(flavor, decay):
    keras = importlib.import_module(flavor)
    rates = [0.1, 0.1, 0.1, 0.01, 0.01]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])
    options = {"learning_rate": schedule, "momentum": 0.9, "weight_decay": decay}
    optimizer = make_optimizer(Flavor(flavor), "sgd", momentum_form="pytorch", **options)
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    layer.build((None, 1))
    optimizer.build(layer.trainable_variables)
    gradients, found = [1.0, -0.5, 2.0, 0.25, 0.0], []
    for gradient in gradients:
        optimizer.apply_gradients([(np.float32([[gradient]]), layer.trainable_variables[0])])
        found.append(float(np.asarray(layer.get_weights()[0]).item()))
    assert found == pytest.approx(pytorch_sgd(1.0, gradients, rates, 0.9, decay), rel=1e-5)


def test_every_preset_with_sgd_takes_pytorch_momentum():
    """Both papers' code has it; a preset with another optimizer ignores it."""
    for name, preset in PRESETS.items():
        recipe = TrainingRecipe(**preset.recipe)
        assert recipe.optimizer != "sgd" or recipe.momentum_form == "pytorch", name
    assert TrainingRecipe().momentum_form == "keras"
