"""Presets: each is buildable, says what it is, and gives way to flags."""

from __future__ import annotations

import dataclasses

import pytest

from tf_prac.cli.search import define_flags
from tf_prac.cli.settings import read_settings
from tf_prac.config import PRAC_VARIANTS, PracConfig, PruningConfig, TrainingRecipe
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import Flavour
from tf_prac.models import MODELS, build_model
from tf_prac.presets import PRESETS
from tf_prac.pruning.criteria import random_mask
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import prunable_weights, prune_rates
from tf_prac.training.schedules import Budget, make_schedule


def settings(*arguments):
    flags = define_flags()
    flags.parse(list(arguments))
    return read_settings(flags)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_made_of_known_things(name):
    preset = PRESETS[name]
    assert preset.model in MODELS and preset.prac in PRAC_VARIANTS
    assert preset.about and "\n" not in preset.about
    found = settings(f"--preset={name}")
    assert found.labels["dataset"] == preset.dataset and found.labels["model"] == preset.model
    for given, config in (
        (preset.recipe, found.recipe),
        (preset.pruning, found.pruning),
        (preset.options, found.prac),
    ):
        for field, value in given.items():
            assert getattr(config, field) == value


def test_flags_override_a_preset():
    found = settings(
        "--preset=cifar10_resnet20", "--epochs=3", "--rounds=2", "--model=conv2", "--budget=full"
    )
    assert (found.recipe.epochs, found.pruning.rounds, found.prac.budget) == (3, 2, "full")
    assert found.recipe.weight_decay == 1e-4 and found.labels["model"] == "conv2"


def test_epochs_given_by_hand_take_the_place_of_the_steps_of_a_preset():
    assert settings("--preset=lenet_mnist").recipe.steps == 50_000
    found = settings("--preset=lenet_mnist", "--epochs=3").recipe
    assert (found.epochs, found.steps) == (3, None)
    assert settings("--preset=lenet_mnist", "--epochs=3", "--steps=9").recipe.steps == 9


def test_lenet_mnist_is_that_of_the_paper():
    """50,000 iterations at batch 60 on 55,000 samples; 10.7% remain after ten rounds."""
    found = settings("--preset=lenet_mnist")
    budget = Budget.full(found.recipe, 55_000)
    assert (budget.total_steps, budget.steps_per_epoch) == (50_000, 917)
    rate = make_schedule(Flavour("keras"), found.recipe)
    rate.set_budget(budget)
    assert [float(rate(step)) for step in (0, 49_999)] == pytest.approx([1.2e-3, 1.2e-3])
    assert found.pruning.rewind_point.steps(917, 50_000) == 0
    assert not found.prac.selects_data and found.prac.early_stop_eps is None
    network = build_model("lenet300", keras="keras", input_shape=(28, 28, 1), num_classes=10)
    rates = prune_rates(network, found.pruning)
    assert rates == {"dense/kernel": 0.2, "dense_1/kernel": 0.2, "logits/kernel": 0.1}
    masks = Masks.ones_like(prunable_weights(network, found.pruning))
    for _ in range(found.pruning.rounds):
        masks = random_mask(masks, rates, seed=0)
    assert masks.remaining / masks.size == pytest.approx(0.107, abs=0.002)
    assert masks["logits/kernel"].mean() == pytest.approx(0.9**10, abs=0.002)


def test_a_variant_given_by_hand_overrides_what_it_names():
    found = settings("--preset=cifar10_resnet20", "--prac=official")
    assert found.pruning.layers == ("conv",) and not found.pruning.lr_rewind
    assert found.prac.early_stop_eps == 0.08 and found.pruning.rounds == 15


def test_without_a_preset_the_defaults_of_the_options_hold():
    found = settings()
    assert found.recipe == TrainingRecipe() and found.pruning == PruningConfig()
    assert dataclasses.asdict(found.prac) == dataclasses.asdict(PracConfig())
    assert (found.labels["dataset"], found.labels["model"]) == ("digits", "lenet300")


def test_an_unknown_preset_is_refused_with_those_that_are_known():
    with pytest.raises(ArgumentError, match="preset: received 'x'.*cifar10_resnet20"):
        settings("--preset=x")
