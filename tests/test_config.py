"""Options: what is refused, and that what is written about them is true."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_prac import Comparison, TicketSearch, errors
from tf_prac.analysis.options import ConnectivityConfig, StabilityConfig
from tf_prac.config import (
    DEVICE_OPTIONS,
    PRAC_VARIANTS,
    CheckpointConfig,
    PracConfig,
    PruningConfig,
    RewindPoint,
    SearchConfig,
    TrainingRecipe,
)
from tf_prac.data import as_samples
from tf_prac.errors import ArgumentError
from tf_prac.pruning.criteria import CRITERIA
from tf_prac.pruning.patterns import MByN, Pattern

NAN, INF = float("nan"), float("inf")
NOT_NUMBERS = ["1", None, True, NAN, INF, -INF, [1]]
CONFIGS = [
    TrainingRecipe,
    PruningConfig,
    PracConfig,
    CheckpointConfig,
    StabilityConfig,
    ConnectivityConfig,
]

# field -> (values that are allowed, values that are not)
INTEGERS = {
    (TrainingRecipe, "epochs"): 1,
    (TrainingRecipe, "batch_size"): 1,
    (PruningConfig, "rounds"): 1,
    (PruningConfig, "score_steps"): 1,
    (PruningConfig, "score_samples"): 1,
    (PracConfig, "forget_threshold"): 0,
    (PracConfig, "cep_from_round"): 0,
    (PracConfig, "early_stop_window"): 1,
    (PruningConfig, "largest_cut"): 2,
    (ConnectivityConfig, "copies"): 2,
    (ConnectivityConfig, "points"): 2,
    (CheckpointConfig, "checkpoint_steps"): 0,
}
NUMBERS = {  # the interval, its ends included or not as in mathematics
    (TrainingRecipe, "learning_rate"): "(0, inf)",
    (TrainingRecipe, "momentum"): "[0, 1)",
    (TrainingRecipe, "weight_decay"): "[0, inf)",
    (TrainingRecipe, "decay"): "(0, 1]",
    (TrainingRecipe, "final_rate"): "[0, inf)",
    (TrainingRecipe, "validation_split"): "[0, 1)",
    (TrainingRecipe, "label_smoothing"): "[0, 1)",
    (PruningConfig, "prune_rate"): "(0, 1)",
    (PruningConfig, "min_layer_density"): "[0, 1)",
    (PruningConfig, "larger_cuts"): "[0, 1]",
    (PracConfig, "min_size"): "[0, 1]",
    (PracConfig, "early_stop_eps"): "(0, inf)",
    (CheckpointConfig, "checkpoint_seconds"): "[0, inf)",
    (PracConfig, "cet_rate"): "(0, 1)",
    (PracConfig, "coverage"): "(0, 1]",
    (PracConfig, "coverage_until"): "[0, 1]",
    (PracConfig, "hard_cutoff"): "[0, 1)",
    (PracConfig, "hard_cutoff_below"): "[0, 1]",
    (PracConfig, "early_stop_average"): "[0, 1)",
}
OFF = {(PracConfig, name) for name in ("early_stop_eps", "cet_rate", "coverage")}  # may be None
OFF |= {(PruningConfig, "larger_cuts")}
CHOICES = {
    (TrainingRecipe, "schedule"): ["constant", "step", "linear", "cosine", "exponential"],
    (TrainingRecipe, "split"): ["seeded", "last"],
    (PruningConfig, "scope"): ["global", "layerwise"],
    (PruningConfig, "retraining"): ["weight_rewinding", "lr_rewinding", "fine_tuning"],
    (PruningConfig, "policy"): ["all", "xnnpack"],
    (PracConfig, "never_learned"): ["critical", "ignore"],
    (PracConfig, "cep_network"): ["pruned", "trained"],
    (PracConfig, "cep_weights"): ["last", "best"],
    (PracConfig, "budget"): ["steps", "epochs", "epochs_truncated", "full"],
    (PracConfig, "round_schedule"): ["recipe", "annealed", "one_cycle", "constant", "swa"],
    (PracConfig, "early_stop_distance"): ["masks", "order"],
    (PracConfig, "cep_reference"): ["round_0", "round_before", "own_round"],
    (TrainingRecipe, "momentum_form"): ["keras", "pytorch"],
    (PracConfig, "early_stop_arming"): ["after_above", "at_once"],
    (ConnectivityConfig, "batch_norm"): ["recomputed", "interpolated"],
}
BOOLEANS = [
    (PruningConfig, "prune_last_dense"),
    (PruningConfig, "keep_epoch_masks"),
    (PruningConfig, "lr_rewind"),
    (PruningConfig, "rewind_statistics"),
    (PruningConfig, "rewind_optimizer"),
    (PracConfig, "use_cet"),
    (PracConfig, "use_cep"),
    (PracConfig, "class_balanced"),
    (ConnectivityConfig, "successive"),
]
AUTO_BOOLEANS = [(TrainingRecipe, name) for name in DEVICE_OPTIONS]
ELSEWHERE = {  # fields with tests of their own, and two that are checked where they are used
    (PruningConfig, "criterion"),
    (PruningConfig, "layer_rates"),
    (TrainingRecipe, "optimizer"),
    (TrainingRecipe, "steps"),
    (TrainingRecipe, "milestones"),
    (TrainingRecipe, "warmup"),
    (TrainingRecipe, "epsilon"),
    (TrainingRecipe, "augment"),
    (PruningConfig, "layers"),
    (PruningConfig, "ignore"),
    (PruningConfig, "rewind"),
    (PruningConfig, "sparsities"),
    (PruningConfig, "pattern"),
    (PruningConfig, "block_size"),
    (PruningConfig, "block_pooling_type"),
    (PruningConfig, "sparsity_m_by_n"),
    (PracConfig, "selector"),
    (PracConfig, "subset_size"),
    (PracConfig, "sizes_from"),
    (PracConfig, "prac_from"),
    (PracConfig, "prac_from_round"),
    (PracConfig, "proxy_from"),
    (PracConfig, "pretrain_on"),
    (PracConfig, "pretrain_size"),
    (PracConfig, "pretrain_from"),
    (PruningConfig, "ticket_start"),
    (PracConfig, "dense_budget"),
    (PracConfig, "round_budget"),
    (StabilityConfig, "rounds"),
    (StabilityConfig, "copies"),
    (StabilityConfig, "pruning_copies"),
    (StabilityConfig, "controls"),
    (ConnectivityConfig, "rounds"),
    (ConnectivityConfig, "controls"),
    (ConnectivityConfig, "samples"),
    (ConnectivityConfig, "every_epochs"),
}


def label(value):
    return f"{value[0].__name__}.{value[1]}" if isinstance(value, tuple) else repr(value)


def fields(config):
    return [(config, field.name) for field in dataclasses.fields(config)]


def refused(config, name, value):
    """The error of a value that is not allowed."""
    with pytest.raises(ArgumentError) as caught:
        config(**{name: value})
    assert caught.value.argument == name
    return caught.value


def test_every_field_has_a_test_of_its_bounds():
    tested = [*INTEGERS, *NUMBERS, *CHOICES, *BOOLEANS, *AUTO_BOOLEANS, *ELSEWHERE]
    assert sorted(map(label, tested)) == sorted(label(f) for c in CONFIGS for f in fields(c))


@pytest.mark.parametrize("field", INTEGERS, ids=label)
def test_integers_have_a_minimum(field):
    (config, name), minimum = field, INTEGERS[field]
    for value in (minimum, minimum + 1, 10**9):
        assert getattr(config(**{name: value}), name) == value
    for value in (minimum - 1, -5, 1.0, 2.5, *NOT_NUMBERS):
        error = refused(config, name, value)
        assert str(error) == f"{name}: received {value!r}; allowed: an integer >= {minimum}."


@pytest.mark.parametrize("field", NUMBERS, ids=label)
def test_numbers_lie_in_their_interval(field):
    (config, name), interval = field, NUMBERS[field]
    low, high = (float(end) for end in interval[1:-1].split(","))
    above, below = np.nextafter(low, INF), np.nextafter(high, 0)
    inside, outside = [above, below, 0.5], [np.nextafter(low, -INF), low - 1, -INF]
    (inside if interval[0] == "[" else outside).append(low)
    (inside if interval[-1] == "]" else outside).append(high)
    outside.append(np.nextafter(high, INF))
    for value in map(float, inside):
        assert getattr(config(**{name: value}), name) == value
    missing = [] if (config, name) in OFF else [None]
    for value in [*map(float, outside), "1", True, NAN, [1], *missing]:
        error = refused(config, name, value)
        assert str(error) == f"{name}: received {value!r}; allowed: a number in {interval}."


@pytest.mark.parametrize("field", CHOICES, ids=label)
def test_words_are_one_of_their_choices(field):
    (config, name), choices = field, CHOICES[field]
    for value in choices:
        assert getattr(config(**{name: value}), name) == value
    for value in ("", choices[0].upper(), choices[0] + " ", None, 0, [choices[0]]):
        error = refused(config, name, value)
        assert error.received == value
        assert str(error).endswith(f"allowed: one of {', '.join(choices)}.")


@pytest.mark.parametrize("field", AUTO_BOOLEANS, ids=label)
def test_options_of_the_device_are_booleans_or_auto(field):
    config, name = field
    assert getattr(config(), name) == "auto"
    for value in (True, False, "auto"):
        assert getattr(config(**{name: value}), name) == value
    for value in ("yes", 0, 1, None, np.True_):
        assert "True, False or auto" in str(refused(config, name, value))


@pytest.mark.parametrize("field", BOOLEANS, ids=label)
def test_booleans_are_booleans(field):
    config, name = field
    for value in (True, False):
        assert getattr(config(**{name: value}), name) is value
    for value in ("no", 0, 1, None, np.True_):
        assert "True or False" in str(refused(config, name, value))


def test_no_early_stop_is_no_threshold():
    assert PracConfig(early_stop_eps=None).early_stop_eps is None
    assert PracConfig(cet_rate=None).cet_rate is None


def test_a_selector_other_than_prac_has_one_size():
    for size in ({"subset_size": 0.5}, {"subset_size": 1}, {"sizes_from": "run"}):
        assert PracConfig(selector="random", **size).selects_data
    for size in ({}, {"subset_size": 0.5, "sizes_from": "run"}):
        with pytest.raises(ArgumentError, match="^subset_size: .* with selector=random"):
            PracConfig(selector="random", **size)
    for fraction in (0.0, -0.1, 1.1, NAN, "1", True):
        with pytest.raises(ArgumentError, match="^subset_size: "):
            PracConfig(selector="random", subset_size=fraction)
    with pytest.raises(ArgumentError, match="^subset_size: .*none with selector=prac"):
        PracConfig(subset_size=0.5)


def test_the_sets_of_another_run_are_those_of_no_selector():
    assert PracConfig(prac_from="run", use_cet=False, use_cep=False).selects_data
    with pytest.raises(ArgumentError, match="^prac_from: received 'run'"):
        PracConfig(prac_from="run", selector="random", subset_size=0.5)
    with pytest.raises(ArgumentError, match="^proxy_from: .*selector=forgetting"):
        PracConfig(proxy_from="run")
    for name in ("prac_from", "sizes_from"):
        for value in ("", 3, ["run"]):
            with pytest.raises(ArgumentError, match=f"^{name}: .*a finished run"):
                PracConfig(**{name: value})
    for value in ("each", "last", 3, "12"):
        assert PracConfig(prac_from_round=value).prac_from_round == str(value)
    for value in ("-1", "first", "", None, 1.5):
        with pytest.raises(ArgumentError, match="^prac_from_round: "):
            PracConfig(prac_from_round=value)


def test_other_samples_for_the_first_steps_have_a_size_and_easy_ones_a_run():
    assert not PracConfig().pretrains
    assert PracConfig(pretrain_on="random", pretrain_size=0.25).pretrains
    for on in ("easy", "hard"):
        assert PracConfig(pretrain_on=on, pretrain_size=1, pretrain_from="run").pretrains
        with pytest.raises(ArgumentError, match="^pretrain_from: .*pretrain_on=easy or hard"):
            PracConfig(pretrain_on=on, pretrain_size=0.5)
    for options in ({"pretrain_on": "random"}, {"pretrain_size": 0.5}):
        with pytest.raises(ArgumentError, match="^pretrain_size: "):
            PracConfig(**options)
    for fraction in (0.0, -0.1, 1.1, NAN, "1", True):
        with pytest.raises(ArgumentError, match="^pretrain_size: "):
            PracConfig(pretrain_on="random", pretrain_size=fraction)
    for on in ("", "Easy", None, 3):
        with pytest.raises(ArgumentError, match="^pretrain_on: .*one of all, random, easy, hard"):
            PracConfig(pretrain_on=on)
    with pytest.raises(ArgumentError, match="^pretrain_from: "):
        PracConfig(pretrain_on="random", pretrain_size=0.5, pretrain_from="run")


def test_milestones_are_increasing_fractions():
    for milestones in ((), (0.5,), [0.25, 0.5, 0.999]):
        assert TrainingRecipe(milestones=milestones).milestones == tuple(milestones)
    assert TrainingRecipe(milestones=(m / 4 for m in (1, 2))).milestones == (0.25, 0.5)
    for milestones in ((0,), (1,), (91, 136), (0.5, NAN), ("0.5",), (0.5, 0.25), (0.5, 0.5)):
        refused(TrainingRecipe, "milestones", milestones)
    for milestones in (0.5, None, "0.5"):
        assert "a list or tuple" in str(refused(TrainingRecipe, "milestones", milestones))


def test_points_of_the_schedule_are_fractions_or_have_the_unit_of_the_budget():
    recipe = TrainingRecipe(steps=30_000, milestones=("20000it", "90%"), warmup="1000it")
    assert recipe.milestone_fractions == (20_000 / 30_000, 0.9)
    assert recipe.warmup_fraction == 1_000 / 30_000
    assert recipe.milestones == ("20000it", "90%")  # as they were asked for
    shorter = dataclasses.replace(recipe, steps=40_000)
    assert shorter.milestone_fractions == (0.5, 0.9)
    recipe = TrainingRecipe(epochs=182, milestones=("91ep", "136ep"), warmup="0.5ep")
    assert recipe.milestone_fractions == (91 / 182, 136 / 182)
    assert recipe.warmup_fraction == 0.5 / 182
    for options, value in (
        ({"epochs": 20}, "20000it"),
        ({"steps": 100}, "3ep"),
        ({"steps": 100}, "100it"),
        ({"steps": 100}, "101it"),
        ({"epochs": 20}, "20ep"),
        ({}, "half"),
        ({}, "0.5"),
        ({}, "-1it"),
    ):
        for name, points in (("milestones", (value,)), ("warmup", value)):
            with pytest.raises(ArgumentError, match=f"^{name}: received "):
                TrainingRecipe(**options, **{name: points})
    for value in (-0.1, 1, 1.5, NAN, None, True, [0.1]):
        refused(TrainingRecipe, "warmup", value)
    assert TrainingRecipe(warmup=0).warmup_fraction == 0
    assert TrainingRecipe(warmup=0.99).warmup_fraction == 0.99


def test_an_epsilon_is_positive_or_that_of_keras():
    assert TrainingRecipe(epsilon=1.0).epsilon == 1 and TrainingRecipe().epsilon is None
    for value in (0, -1e-7, NAN, "1", True):
        assert "a number in (0, inf)" in str(refused(TrainingRecipe, "epsilon", value))


def test_an_optimizer_is_a_name():
    assert TrainingRecipe(optimizer="lion").optimizer == "lion"  # which ones exist, Keras knows
    for value in ("", None, 3, object):
        refused(TrainingRecipe, "optimizer", value)


def test_a_budget_in_steps_is_a_number_of_them_or_none():
    assert TrainingRecipe(steps=50_000).steps == 50_000 and TrainingRecipe().steps is None
    for value in (0, -1, 1.0, "5", True, NAN):
        assert "an integer >= 1" in str(refused(TrainingRecipe, "steps", value))


def test_rates_of_layers_are_rules_in_order():
    config = PruningConfig(layer_rates=["output=0.1", "conv* = 0.15"])
    assert config.rate_rules == (("output", 0.1), ("conv*", 0.15))
    assert PruningConfig(layer_rates=["dense=0"]).rate_rules == (("dense", 0.0),)
    for text in ("conv", "=0.1", "conv=", "conv=x", "conv=1", "conv=-0.1", "conv=nan", 3, None):
        error = refused(PruningConfig, "layer_rates", [text])
        assert "PATTERN=RATE" in str(error) and error.received == text
    for value in ("conv=0.1", {"conv": 0.1}):
        error = refused(PruningConfig, "layer_rates", value)
        assert str(error).endswith("allowed: a list or tuple. Pass ['conv=0.1'].")


def test_parts_of_the_rewind_point_can_be_chosen_only_if_weights_are_rewound():
    for retraining in ("lr_rewinding", "fine_tuning"):
        for changes in ({"rewind_statistics": False}, {"rewind_optimizer": True}):
            with pytest.raises(ArgumentError, match=f"{retraining} no weights are rewound"):
                PruningConfig(retraining=retraining, **changes)
    PruningConfig(rewind_statistics=False, rewind_optimizer=True)


def test_layers_are_some_of_the_groups():
    groups = ["conv", "dense", "depthwise", "embedding", "recurrent"]
    assert PruningConfig(layers=groups).layers == tuple(groups)
    for value in ((), ["conv", "pool"], ["Conv"], [None], "conv", None):
        refused(PruningConfig, "layers", value)


def test_sparsities_are_increasing_fractions_one_for_each_round():
    assert PruningConfig(rounds=2, sparsities=[0.5, 0.75]).sparsities == (0.5, 0.75)
    for value in ((0.5,), (0.75, 0.5), (0.5, 0.5), (0, 0.5), (0.5, 1.0), ("a", "b"), 0.5):
        with pytest.raises(ArgumentError, match="^sparsities: received"):
            PruningConfig(rounds=2, sparsities=value)


def test_patterns_are_two_sizes():
    assert PruningConfig(block_size=[2, 3]).block_size == (2, 3)
    assert PruningConfig(sparsity_m_by_n=[2, 4]).sparsity_m_by_n == (2, 4)
    for value in ((0, 1), (2,), (1, 2, 3), (1.0, 2), ("2", "4"), (True, 2), 2):
        refused(PruningConfig, "block_size", value)
        refused(PruningConfig, "sparsity_m_by_n", value)
    for value in ("avg", "", None):
        refused(PruningConfig, "block_pooling_type", value)
    for value in ((4, 2), (2, 2)):
        refused(PruningConfig, "sparsity_m_by_n", value)
    with pytest.raises(ArgumentError, match="sparsity_m_by_n.*together with block_size"):
        PruningConfig(block_size=(2, 2), sparsity_m_by_n=(2, 4))


@dataclasses.dataclass(frozen=True)
class Whole(Pattern):
    """A pattern of a user that determines how many weights are pruned."""

    sets_sparsity = True

    def prune(self, scores, masks, prune):
        return masks


HALF = {"rounds": 1, "sparsities": (0.5,)}
M_BY_N = {"rounds": 1, "sparsity_m_by_n": (2, 4)}
WITHOUT_EFFECT = [
    # group, options, the option that another leaves without effect
    (PruningConfig, {**HALF, "layer_rates": ("a=0",)}, r"layer_rates: .*\(\) with sparsities"),
    (PruningConfig, {**M_BY_N, **HALF}, r"sparsities: .*\(\) with sparsity_m_by_n"),
    (PruningConfig, {**M_BY_N, "layer_rates": ("a=0.1",)}, "layer_rates: .* with sparsity_m_by_n"),
    (PruningConfig, {**M_BY_N, "min_layer_density": 0.9}, "min_layer_density: .*0.0 with sparsity"),
    (PruningConfig, {"pattern": MByN(2, 4), **HALF}, "sparsities: .* with sparsity_m_by_n"),
    (PruningConfig, {"pattern": Whole(), **HALF}, r"sparsities: .* with pattern=Whole\(\)"),
    (PracConfig, {"cet_rate": 0.2, "hard_cutoff": 0.1}, "hard_cutoff: .*0 with a cet_rate"),
    (PracConfig, {"cet_rate": 0.2, "forget_threshold": 1}, "forget_threshold: .*0 with a cet_rate"),
]


@pytest.mark.parametrize(("group", "options", "message"), WITHOUT_EFFECT)
def test_an_option_that_another_leaves_without_effect_is_refused(group, options, message):
    with pytest.raises(ArgumentError, match=message):
        group(**options)
    with pytest.raises(ArgumentError, match=message):
        SearchConfig().replace(**options)


def test_a_criterion_is_a_registered_name_or_a_function():
    with pytest.raises(ArgumentError, match="criterion: .*'snap'.*magnitude, .*synflow"):
        PruningConfig(criterion="snap")
    for value in (None, 3, ["magnitude"], lambda weights: weights):
        refused(PruningConfig, "criterion", value)
    config = PruningConfig(criterion=signs)
    assert config.criterion is signs
    assert config.to_json()["criterion"] == "test_config.signs"
    assert (
        PruningConfig(criterion=CRITERIA["snip"]).to_json()
        == PruningConfig(criterion="snip").to_json()
    )


def signs(weights):
    return {name: np.sign(w) for name, w in weights.items()}


def test_a_name_of_a_function_is_not_imported():
    options = SearchConfig(pruning=PruningConfig(criterion=signs)).to_json()
    with pytest.raises(ArgumentError, match="test_config.signs.*pass the object"):
        SearchConfig.from_json(options)


def test_options_that_are_not_used_are_not_in_files():
    assert "pattern" not in SearchConfig().to_json()["pruning"]
    assert PruningConfig(**PruningConfig().to_json()) == PruningConfig()


def test_one_name_to_ignore_is_not_a_list_of_letters():
    assert PruningConfig(ignore=["head", "conv*"]).ignore == ("head", "conv*")
    for value in ("head", None, 3, [3], [None]):
        refused(PruningConfig, "ignore", value)


@pytest.mark.parametrize("config", CONFIGS)
def test_options_are_values(config):
    one, other = config(), config()
    assert one == other and hash(one) == hash(other)
    name = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(one, name, 3)
    with pytest.raises(TypeError):
        config(3)  # by name only
    assert config(**dataclasses.asdict(one)) == one


# The rewind point


def test_a_rewind_point_is_an_amount_and_a_unit():
    for text, amount, unit in [
        ("0it", 0, "it"),
        ("500it", 500, "it"),
        ("500.0it", 500, "it"),
        (" 3 ep ", 3, "ep"),
        ("0.25ep", 0.25, "ep"),
        ("1%", 1, "%"),
        ("1.5 %", 1.5, "%"),
    ]:
        assert RewindPoint.parse(text) == RewindPoint(amount, unit)


@pytest.mark.parametrize(
    "text",
    ["", "500", "it", "-1it", "+1it", "1e3it", "0.5it", ".5ep", "3 epochs", "1,5%", "3ep5it"]
    + ["nanit", "infep", "9" * 400 + "ep", "3EP", 500, None, 0.5],
)
def test_anything_else_is_refused_as_the_option_rewind(text):
    for use in (lambda: RewindPoint.parse(text), lambda: PruningConfig(rewind=text)):
        with pytest.raises(ArgumentError, match="^rewind: received .*allowed: "):
            use()


@pytest.mark.parametrize("point", [(-1, "it"), (0.5, "it"), (1, "s"), (NAN, "ep"), ("1", "it")])
def test_a_rewind_point_is_checked_when_built(point):
    with pytest.raises(ArgumentError, match="^rewind: "):
        RewindPoint(*point)


@given(st.floats(0, 1e18) | st.integers(0, 10**15), st.sampled_from(["ep", "%"]))
def test_a_rewind_point_survives_being_written(amount, unit):
    point = RewindPoint(float(amount), unit)
    assert RewindPoint.parse(str(point)) == point
    assert PruningConfig(rewind=str(point)).rewind_point == point


@given(st.integers(0, 10**15))
def test_a_number_of_steps_is_written_with_every_digit(steps):
    config = PruningConfig(rewind=f"{steps}it")
    assert config.rewind == f"{steps}it"
    assert config.rewind_point.steps(1, steps + 1) == steps


def test_writing_a_point_in_another_way_is_the_same_option():
    assert PruningConfig(rewind=" 500.0 it") == PruningConfig(rewind="500it")
    assert PruningConfig(rewind="2.50%").rewind == "2.5%"


@given(st.integers(1, 500), st.integers(1, 300), st.integers(0, 400), st.sampled_from(["it", "ep"]))
def test_units_are_steps_and_epochs(steps_per_epoch, epochs, amount, unit):
    total = steps_per_epoch * epochs
    k = sum(1 if unit == "it" else steps_per_epoch for _ in range(amount))
    point = RewindPoint(amount, unit)
    if k < total:
        assert point.steps(steps_per_epoch, total) == k
    else:
        with pytest.raises(ArgumentError, match=f"{total} steps.*at step {k}"):
            point.steps(steps_per_epoch, total)


@given(st.integers(100, 10**6), st.floats(0, 99))
def test_hundredths_are_of_all_steps(total, amount):
    k = RewindPoint(amount, "%").steps(steps_per_epoch=7, total_steps=total)
    assert abs(k - total * amount / 100) <= 0.5 + 1e-6


def test_the_published_points_are_the_published_steps():
    place = {"steps_per_epoch": 352, "total_steps": 182 * 352}
    assert RewindPoint.parse("3ep").steps(**place) == 1056  # PrAC: weights after 3 epochs
    assert RewindPoint.parse("500it").steps(**place) == 500
    assert RewindPoint.parse("2%").steps(**place) == 1281


@pytest.mark.parametrize("text", ["100%", "182ep", "64064it", "250%"])
def test_a_point_must_lie_before_the_end(text):
    point = RewindPoint.parse(text)
    with pytest.raises(ArgumentError) as caught:
        point.steps(352, 182 * 352)
    assert caught.value.received == text
    assert "before the end of training (64064 steps, 352 an epoch)" in str(caught.value)


# Presets


def test_the_presets_are_the_paper_the_authors_code_and_neither():
    assert set(PRAC_VARIANTS) == {"paper", "official", "fast", "none"}
    for preset in PRAC_VARIANTS.values():
        PruningConfig(**preset.pruning)
    paper, official, none = (PRAC_VARIANTS[name].prac for name in ("paper", "official", "none"))
    assert (paper.early_stop_eps, official.early_stop_eps, none.early_stop_eps) == (
        0.07,
        0.08,
        None,
    )
    assert (paper.budget, official.budget) == ("steps", "epochs_truncated")
    assert (paper.cep_network, official.cep_network) == ("pruned", "trained")
    assert (paper.cep_weights, official.cep_weights) == ("last", "best")
    assert (paper.cep_from_round, official.cep_from_round) == (0, 1)
    assert PRAC_VARIANTS["official"].pruning == {"layers": ("conv",), "lr_rewind": False}
    assert PRAC_VARIANTS["official"].recipe == {"split": "last"}
    assert [p.selects_data for p in (paper, official, none)] == [True, True, False]


def test_a_search_selects_data_by_either_kind_of_critical_example():
    for cet in (True, False):
        for cep in (True, False):
            assert PracConfig(use_cet=cet, use_cep=cep).selects_data == (cet or cep)


# What is written about them


def described(config):
    """The "Args:" of a docstring, read line by line: name to text."""
    found, name = {}, None
    lines = iter(inspect.getdoc(config).splitlines())
    for line in lines:
        if line == "Args:":
            break
    for line in lines:
        if line and not line.startswith("    "):
            break
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name = start[1]
            found[name] = start[2]
        elif line.strip():
            found[name] += " " + line.strip()
    return found


@pytest.mark.parametrize("config", [*CONFIGS, RewindPoint])
def test_every_field_has_its_line_in_the_docstring(config):
    assert list(described(config)) == [field.name for field in dataclasses.fields(config)]


@pytest.mark.parametrize("field", [f for c in CONFIGS for f in fields(c)], ids=label)
def test_the_default_in_the_docstring_is_the_default(field):
    config, name = field
    match = re.search(r"Default (\(.*?\)|\".*?\"|[\w.]*\w)", described(config)[name])
    assert match, "the docstring names no default"
    assert ast.literal_eval(match[1]) == getattr(config(), name)


@pytest.mark.parametrize("field", CHOICES, ids=label)
def test_the_docstring_names_every_choice(field):
    config, name = field
    text = described(config)[name]
    assert all(f'"{choice}"' in text for choice in CHOICES[field])


# Errors


def test_an_error_says_what_was_wrong_received_and_allowed():
    error = ArgumentError("prune_rate", 1.5, "a number in (0, 1)")
    assert str(error) == "prune_rate: received 1.5; allowed: a number in (0, 1)."
    error = ArgumentError("model", "vgg", "one of a, b", "Try a.")
    assert str(error) == "model: received 'vgg'; allowed: one of a, b. Try a."
    assert (error.argument, error.received) == ("model", "vgg")
    assert (error.allowed, error.remedy) == ("one of a, b", "Try a.")


def test_every_error_is_one_of_ours_and_one_of_pythons():
    ours = [e for e in vars(errors).values() if isinstance(e, type)]
    assert len(ours) >= 6
    for error in ours:
        assert issubclass(error, errors.TfPracError)
        if error is not errors.TfPracError:
            assert len(error.__mro__) > len(errors.TfPracError.__mro__) + 1


@pytest.mark.parametrize("config", [StabilityConfig, ConnectivityConfig])
def test_what_an_analysis_measures(config):
    assert config(rounds=[5, 0, 5]).rounds == (0, 5)
    assert config(controls=["random_mask"] * 2).controls == ("random_mask",)
    for bad in (3, "3", (-1,), (1.5,), (True,)):
        refused(config, "rounds", bad)
    for bad in ("random_mask", ("shuffled",), None):
        refused(config, "controls", bad)
    for bad in (1, 0, 2.5, None):
        refused(config, "copies", bad)


def test_orders_of_the_full_network_are_among_the_copies():
    assert StabilityConfig(copies=3, pruning_copies=3).pruning_copies == 3
    for bad in (4, -1, 1.5):
        with pytest.raises(ArgumentError, match="pruning_copies"):
            StabilityConfig(copies=3, pruning_copies=bad)
    assert ConnectivityConfig().samples is None
    for bad in (0, -1, 1.5):
        refused(ConnectivityConfig, "samples", bad)


def test_a_whole_configuration_comes_alone_and_knows_its_options():
    recipe = TrainingRecipe(epochs=3)
    recipe = dataclasses.replace(recipe, **dict.fromkeys(DEVICE_OPTIONS, False))
    config = SearchConfig(recipe=recipe).replace(layers=("conv",))
    assert SearchConfig.of(config) is config
    assert (config.recipe, config.prac) == (recipe, PracConfig())
    for experiment in (
        TicketSearch(lambda: None, config, directory="unused"),
        Comparison(lambda: None, ("prac",), config, directory="unused"),
    ):
        assert experiment.config == config
    with pytest.raises(ArgumentError, match="recipe: received 'a SearchConfig'"):
        SearchConfig.of(config, PruningConfig())
    with pytest.raises(ArgumentError, match="options: received 'epoch'"):
        config.replace(epoch=3)
    with pytest.raises(ArgumentError, match="pruning: received 'TrainingRecipe'"):
        SearchConfig(pruning=recipe)
    assert SearchConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_numbers_of_numpy_are_numbers(tmp_path):
    recipe = TrainingRecipe(
        epochs=np.int64(2), learning_rate=np.float32(0.5), weight_decay=np.float64(0.25)
    )
    pruning = PruningConfig(rounds=np.int32(2), prune_rate=np.float64(0.5))
    prac = PracConfig(forget_threshold=np.uint8(3))
    config = SearchConfig(recipe=recipe, pruning=pruning, prac=prac)
    assert SearchConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config == SearchConfig(
        recipe=TrainingRecipe(epochs=2, learning_rate=0.5, weight_decay=0.25),
        pruning=PruningConfig(rounds=2, prune_rate=0.5),
        prac=PracConfig(forget_threshold=3),
    )
    assert type(recipe.epochs) is int and type(recipe.learning_rate) is float
    y = np.arange(6) % 3
    samples = as_samples((np.eye(6), y), num_classes=y.max() + 1)
    assert samples.num_classes == 3 and type(samples.num_classes) is int
    search = TicketSearch(lambda: None, recipe, directory=tmp_path, seed=np.int64(1))
    assert type(search.seed) is int
    for value in (np.float64("nan"), np.bool_(True), np.array([0.1]), "0.1"):
        with pytest.raises(ArgumentError, match="learning_rate"):
            TrainingRecipe(learning_rate=value)
    for value in (np.float64(2), np.bool_(True), np.int64(0), 2.0):
        with pytest.raises(ArgumentError, match="epochs"):
            TrainingRecipe(epochs=value)
