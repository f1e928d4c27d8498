"""`Trainer`, `StepLoop`, `Budget` and the learning-rate schedule, over both flavors."""

import dataclasses
import importlib
import math

import numpy as np
import precision
import pytest
import tensorflow as tf
from halved import halved
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_prac import Masks, TrainingRecipe, prunable_weights, snapshot
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS, Flavor, like_optimizer, make_optimizer
from tf_prac.tasks.classification import is_probability
from tf_prac.training.schedules import Budget, make_schedule
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)


def make_trainer(flavor, recipe, count=50, validation=True, softmax=False):
    keras = importlib.import_module(flavor)
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, count)
    x = (generator.normal(size=(count, 6)) + 2 * np.eye(3, 6)[y]).astype(np.float32)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    outputs = keras.layers.Dense(3, activation="softmax" if softmax else None)(hidden)
    samples = ArraySamples(x, y)
    split = Split(samples, np.arange(40, count)) if validation else None
    return Trainer(keras.Model(inputs, outputs), recipe, samples, split)


def start_of(trainer):
    return snapshot(trainer.network), Masks.ones_like(prunable_weights(trainer.network))


@halved("flavor, cut", FLAVORS, [0, 1, 7, 10, 13, 20])
def test_a_snapshot_at_any_step_changes_nothing(flavor, cut):
    """40 samples in batches of 4: 10 steps an epoch, and W_k inside or between epochs."""
    recipe = TrainingRecipe(epochs=3, batch_size=4, schedule="constant")
    trainer = make_trainer(flavor, recipe)
    weights, masks = start_of(trainer)
    budget, ids = Budget.full(recipe, 40), np.arange(40)
    plain = trainer.train(weights, masks, ids, budget, (1,))
    taken = trainer.train(weights, masks, ids, budget, (1,), snapshot_at=(cut,))
    short = Budget(10, cut) if cut else None
    alone = trainer.train(weights, masks, ids, short, (1,)).weights if cut else weights
    for name in weights:
        np.testing.assert_allclose(
            plain.weights[name], taken.weights[name], atol=precision.rounding(1e-6)
        )
        np.testing.assert_allclose(
            taken.snapshots[cut][name], alone[name], atol=precision.rounding(1e-6)
        )
    assert list(taken.snapshots) == [cut]
    assert [r["step"] for r in plain.history] == [10, 20, 30] == [r["step"] for r in taken.history]
    for a, b in zip(plain.history, taken.history, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    assert (plain.forgetting.presentations[:40] == 3).all()
    assert np.array_equal(plain.forgetting.table, taken.forgetting.table)


@both
def test_each_training_starts_with_a_fresh_optimizer_and_metrics(flavor):
    recipe = TrainingRecipe(epochs=2, batch_size=8, optimizer="adam", learning_rate=0.01)
    trainer = make_trainer(flavor, recipe)
    weights, masks = start_of(trainer)
    budget = Budget.full(recipe, 40)
    first = trainer.train(weights, masks, np.arange(40), budget, (1,))
    traces = trainer.model.traces
    assert traces == 1
    again = trainer.train(weights, masks, np.arange(40), budget, (1,))
    other = trainer.train(weights, masks, np.arange(33), Budget.full(recipe, 33), (2,))
    assert trainer.model.traces == traces
    for name in weights:
        np.testing.assert_allclose(
            first.weights[name], again.weights[name], atol=precision.rounding(1e-6)
        )
    assert [r["loss"] for r in first.history] == pytest.approx([r["loss"] for r in again.history])
    assert other.steps == 10 and other.samples_seen == 66
    assert (other.forgetting.presentations[:33] == 2).all()
    assert not other.forgetting.seen[33:].any()


@both
def test_history_and_counts(flavor):
    recipe = TrainingRecipe(epochs=3, batch_size=16)
    trainer = make_trainer(flavor, recipe)
    weights, masks = start_of(trainer)
    advanced = []
    budget = Budget(3, 8)  # 2 epochs and 2 steps of a third
    result = trainer.train(weights, masks, np.arange(40), budget, (0,), advance=advanced.append)
    assert sum(advanced) == result.steps == 8
    assert result.samples_seen == 40 + 40 + 32 == result.forgetting.presentations.sum()
    assert result.validation_samples == 3 * 10
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    columns = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"}
    assert all(columns <= set(row) for row in result.history)
    best = max(result.history, key=lambda row: row["val_accuracy"])
    assert result.best.value == best["val_accuracy"] and result.best.epoch == best["epoch"] - 1
    trainer.load(result.best_weights)
    assert trainer.predictor.measure(trainer.validation) == pytest.approx(best["val_accuracy"])
    without = make_trainer(flavor, recipe, validation=False)
    plain = without.train(*start_of(without), np.arange(40), budget, (0,))
    assert plain.best.value is None and plain.best_weights is plain.weights


@halved("flavor, softmax", FLAVORS, [False, True])
def test_logits_and_probabilities_are_distinguished_and_train_alike(flavor, softmax):
    recipe = TrainingRecipe(epochs=5, batch_size=8)
    trainer = make_trainer(flavor, recipe, softmax=softmax)
    result = trainer.train(*start_of(trainer), np.arange(40), Budget.full(recipe, 40), (0,))
    assert result.history[-1]["loss"] < 0.5
    assert result.history[-1]["accuracy"] > 0.8


def test_is_probability():
    assert is_probability([[0.2, 0.8], [1.0, 0.0]])
    assert not is_probability([[0.2, 0.9]])
    assert not is_probability([[-0.2, 1.2]])


@given(
    size=st.integers(1, 500),
    total=st.integers(1, 500),
    epochs=st.integers(1, 30),
    batch=st.integers(1, 64),
    k=st.floats(0, 0.99),
    rule=st.sampled_from(["steps", "epochs", "full"]),
)
def test_scaled_budgets(size, total, epochs, batch, k, rule):
    size = min(size, total)
    recipe = TrainingRecipe(epochs=epochs, batch_size=batch)
    full = Budget.full(recipe, total)
    rewound = dataclasses.replace(full, first_step=int(k * full.total_steps))
    budget = rewound.scaled(recipe, size, total, rule)
    assert budget.steps_per_epoch == math.ceil(size / batch)
    assert 1 <= budget.steps <= full.total_steps
    if size == total:
        assert budget == rewound
    expected = {
        "steps": epochs * budget.steps_per_epoch,
        "epochs": max(1, int(epochs * size / total)) * budget.steps_per_epoch,
        "full": full.total_steps,
    }
    assert budget.total_steps == expected[rule]
    progress = budget.first_step / budget.total_steps
    assert abs(progress - rewound.first_step / full.total_steps) <= 1 / budget.total_steps


def test_a_budget_in_steps_need_not_end_with_an_epoch():
    recipe = TrainingRecipe(steps=50_000, batch_size=60)
    full = Budget.full(recipe, 55_000)
    assert (full.steps_per_epoch, full.steps, full.epochs) == (917, 50_000, 55)
    assert full.scaled(recipe, 55_000, 55_000, "steps") == full
    assert full.scaled(recipe, 27_500, 55_000, "steps").steps == round(50_000 * 459 / 917)
    assert full.scaled(recipe, 27_500, 55_000, "epochs").steps == 27 * 459
    assert full.scaled(recipe, 27_500, 55_000, "full").steps == 50_000
    assert (
        Budget.full(TrainingRecipe(steps=3), 55_000).scaled(recipe, 1, 55_000, "steps").steps == 1
    )


def reference_rate(recipe, step, total):
    """The schedule in plain Python, step by step."""
    progress = step / total
    rate = recipe.learning_rate
    if recipe.schedule == "step":
        for milestone in recipe.milestones:
            rate *= recipe.decay if progress >= milestone else 1
    elif recipe.schedule == "linear":
        rate += (recipe.final_rate - rate) * progress
    elif recipe.schedule == "cosine":
        rate += (recipe.final_rate - rate) * (1 - math.cos(math.pi * progress)) / 2
    elif recipe.schedule == "exponential":
        rate *= recipe.decay**progress
    warmup = recipe.warmup * total
    return rate * min(1, (step + 1) / warmup) if warmup else rate


@both
@settings(max_examples=30, deadline=None)
@given(
    schedule=st.sampled_from(["constant", "step", "linear", "cosine", "exponential"]),
    warmup=st.sampled_from([0.0, 0.1]),
    final_rate=st.sampled_from([0.0, 0.005]),
    first=st.integers(0, 300),
    total=st.integers(301, 1000),
    step=st.integers(0, 700),
)
def test_schedule_equals_a_plain_reference(
    flavor, schedule, warmup, final_rate, first, total, step
):
    recipe = TrainingRecipe(schedule=schedule, warmup=warmup, final_rate=final_rate)
    made = make_schedule(Flavor(flavor), recipe)
    made.set_budget(Budget(10, total, first))
    step = min(step, total - first - 1)
    expected = reference_rate(recipe, first + step, total)
    assert float(made(step)) == pytest.approx(expected, rel=1e-4, abs=1e-7)


@both
def test_milestones_fall_on_the_step_of_the_papers(flavor):
    """91 and 136 of 182 epochs of 352 steps, as the PrAC authors train CIFAR-10."""
    recipe = TrainingRecipe(epochs=182, milestones=(91 / 182, 136 / 182))
    made = make_schedule(Flavor(flavor), recipe)
    made.set_budget(Budget.full(recipe, 45000))
    for epoch, before, after in ((91, 0.1, 0.01), (136, 0.01, 0.001)):
        assert float(made(epoch * 352 - 1)) == pytest.approx(before)
        assert float(made(epoch * 352)) == pytest.approx(after)


@both
def test_weight_decay_is_that_of_the_papers_sgd(flavor):
    """v <- 0.9 v + (g + wd w);  w <- w - lr v."""
    keras = importlib.import_module(flavor)
    layer = keras.layers.Dense(1, use_bias=False)
    layer.build((None, 3))
    weight = layer.kernel
    w = weight.numpy()
    velocity = np.zeros_like(w)
    optimizer = make_optimizer(
        Flavor(flavor), "sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.05
    )
    optimizer.build([weight])
    for gradient in np.random.default_rng(0).normal(size=(4, 3, 1)).astype(np.float32):
        import tensorflow as tf

        optimizer.apply_gradients([(tf.constant(gradient), weight)])
        velocity = 0.9 * velocity + gradient + 0.05 * w
        w = w - 0.1 * velocity
    np.testing.assert_allclose(weight.numpy(), w, rtol=1e-5)


@both
def test_epsilon_is_that_of_the_recipe_or_of_keras(flavor):
    for epsilon, expected in ((1.0, 1.0), (None, 1e-7)):
        options = {"learning_rate": 0.1, "momentum": 0.9, "epsilon": epsilon}
        assert make_optimizer(Flavor(flavor), "rmsprop", **options).epsilon == expected
    make_optimizer(Flavor(flavor), "sgd", epsilon=1.0)  # has none


@both
def test_unknown_optimizers_are_named(flavor):
    with pytest.raises(ValueError, match="optimizer: received 'sgdx'; allowed: one of ada"):
        make_optimizer(Flavor(flavor), "sgdx")


@both
def test_an_optimizer_without_a_configuration_is_refused(flavor):
    class Own(Flavor(flavor).module.optimizers.SGD):
        def get_config(self):
            raise NotImplementedError

    with pytest.raises(ArgumentError, match=r"get_config describes\. NotImplementedError$"):
        like_optimizer(Own(0.1), 0.1)


def test_many_trainers_in_a_process_are_not_told_of_retracing(caplog):
    tf.get_logger().propagate, propagates = True, tf.get_logger().propagate
    try:
        for _ in range(6):
            trainer = make_trainer("keras", TrainingRecipe(epochs=1))
            trainer.evaluator(trainer.validation)()
            trainer.predictor.measure(trainer.validation)
    finally:
        tf.get_logger().propagate = propagates
    assert "retracing" not in caplog.text
