"""Presets: each is buildable, says what it is, and gives way to flags."""

from __future__ import annotations

import dataclasses

import pytest

from tf_prac.cli.search import define_flags
from tf_prac.cli.settings import read_settings
from tf_prac.config import PRAC_VARIANTS, PracConfig, PruningConfig, TrainingRecipe
from tf_prac.errors import ArgumentError
from tf_prac.models import MODELS
from tf_prac.presets import PRESETS


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
