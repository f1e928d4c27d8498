"""Larger cuts, one cycle for all rounds, and the early stop by the order of scores."""

import functools
import importlib

import digits_search
import numpy as np
import pytest
import scipy.stats
from digits_search import TEST, TRAIN, make_model_fn
from interruption import resumed

from tf_prac import (
    MaskDistance,
    PruningConfig,
    TicketSearch,
    TrainingRecipe,
)
from tf_prac.analysis.arms import ARMS
from tf_prac.analysis.report.page import page
from tf_prac.analysis.report.run_data import read_run_data
from tf_prac.config import PRAC_VARIANTS, SearchConfig
from tf_prac.data.source import ArraySamples
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS, Flavor
from tf_prac.pruning.criteria import PruneRule
from tf_prac.pruning.mask_distance import mask_agreement, order_distance
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import prunable_weights, snapshot
from tf_prac.search.larger_cuts import next_round_trains
from tf_prac.search.plan import RoundPlan
from tf_prac.storage.files import read_json, read_npz
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.schedules import Budget, make_schedule
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)
both_slowly = pytest.mark.parametrize(
    "flavor", ["keras", pytest.param("tf_keras", marks=pytest.mark.slow)]
)
RECIPE = TrainingRecipe(epochs=2, batch_size=64)
FAST = {**PRAC_VARIANTS["fast"].pruning, "rewind": "3it"}
FAST |= {name: getattr(PRAC_VARIANTS["fast"].prac, name) for name in ("use_cet", "use_cep")}
FAST |= {"early_stop_eps": None, "round_schedule": "annealed", "round_budget": "4it"}


make_search = functools.partial(digits_search.make_search, recipe=RECIPE, rounds=3)


def run(flavor, directory, **options):
    return make_search(flavor, directory, **options).run(TRAIN, test=TEST)


def weights_of(run_path, number):
    return read_npz(run_path / f"round_{number:02d}/weights.npz", "weights")


# --- Larger cuts -----------------------------------------------------------------------------


def rounds_of(*agreements):
    return [{} if each is None else {"mask_agreement": each} for each in agreements]


@pytest.mark.parametrize(
    ("threshold", "largest", "rounds", "trains"),
    [
        (None, 2, [], True),
        (None, 2, [{}, {}], True),
        (0.8, 2, [], True),
        (0.8, 2, rounds_of(0.79), True),
        (0.8, 2, rounds_of(0.8), False),
        (0.8, 2, rounds_of(0.9, None), True),
        (0.8, 3, rounds_of(0.9, None), False),
        (0.8, 3, rounds_of(0.9, None, None), True),
        (0.8, 3, rounds_of(0.9, None, 0.5), True),
        (0.0, 99, rounds_of(0.0, None, None), False),
    ],
)
def test_a_round_trains_unless_the_last_training_changed_little(threshold, largest, rounds, trains):
    pruning = PruningConfig(larger_cuts=threshold, largest_cut=largest)
    assert next_round_trains(pruning, rounds) is trains


def test_the_agreement_is_the_shared_fraction_of_the_pruned_weights():
    generator = np.random.default_rng(0)
    shapes = {"a": (5, 4), "b": (30,)}
    current = Masks({n: generator.random(s) < 0.8 for n, s in shapes.items()})
    one, other = (
        Masks({n: current[n] & (generator.random(current[n].shape) < keep) for n in shapes})
        for keep in (0.7, 0.6)
    )
    pruned = [
        {(n, *map(int, i)) for n in shapes for i in np.argwhere(current[n] & ~each[n])}
        for each in (one, other)
    ]
    expected = 2 * len(pruned[0] & pruned[1]) / (len(pruned[0]) + len(pruned[1]))
    assert 0 < expected < 1
    assert mask_agreement(one, other, current) == pytest.approx(expected)
    assert mask_agreement(one, one, current) == mask_agreement(current, current, current) == 1


def slow_pruning(weights, masks, rate):
    """The smallest remaining weights are pruned, one after another."""
    kept = [(abs(float(weights[n][i])), p, n, i) for p, (n, i) in enumerate(remaining(masks))]
    pruned = sorted(kept, key=lambda entry: entry[:2])[: round(rate * len(kept))]
    arrays = {name: mask.copy() for name, mask in masks.items()}
    for _, _, name, index in pruned:
        arrays[name][index] = False
    return arrays


def remaining(masks):
    return [(name, tuple(i)) for name, mask in masks.items() for i in np.argwhere(mask)]


def slow_search(path, initial, rounds, threshold, largest, rate):
    """Which rounds train, and the masks of each, from the trained weights that the run stored."""
    masks, before, trained, results = None, initial, None, []
    cut, agreement = 0, None
    for number in range(rounds):
        stored = weights_of(path, number)
        if masks is None:
            names = [n for n in read_npz(path / "round_00/masks.npz", "masks")]
            masks = {name: np.ones(stored[name].shape, bool) for name in names}
        trains = agreement is None or cut >= largest or agreement < threshold
        if trains:
            trained, cut = stored, 0
            ours, theirs = (
                {x for x in remaining(masks)} - {x for x in remaining(slow_pruning(w, masks, rate))}
                for w in (trained, before)
            )
            agreement = len(ours & theirs) / len(ours)
        masks, cut, before = slow_pruning(trained, masks, rate), cut + 1, trained
        results.append((trains, agreement if trains else None, masks))
    return results


@both
@pytest.mark.parametrize(
    "options",
    [
        {**FAST, "larger_cuts": 0.75, "largest_cut": 3},
        {"larger_cuts": 0.4, "use_cep": False, "early_stop_eps": None},
    ],
    ids=["fast", "weight_rewinding_on_sets"],
)
def test_rounds_masks_and_steps_are_those_of_a_slow_search(flavor, tmp_path, options):
    search = make_search(flavor, tmp_path / "run", rounds=7, **options)
    initial = snapshot(search.make_network())
    result = search.run(TRAIN, test=TEST)
    rounds = result.summary["rounds"]
    threshold, largest = options["larger_cuts"], options.get("largest_cut", 2)
    slow = slow_search(tmp_path / "run", initial, 7, threshold, largest, 0.2)
    trains = [each[0] for each in slow]
    assert True in trains[1:] and False in trains, "the threshold tests nothing"
    for metrics, ticket, (trained, agreement, masks) in zip(
        rounds, result.tickets[1:], slow, strict=True
    ):
        assert (metrics["stop"] != "larger_cut") is trained
        assert (metrics["steps"] > 0) is trained and ("mask_agreement" in metrics) is trained
        if trained:
            assert metrics["mask_agreement"] == pytest.approx(agreement)
        for name, mask in masks.items():
            np.testing.assert_array_equal(ticket.masks[name], mask)
    cost = result.summary["cost"]
    assert cost["search_steps"] == sum(r["steps"] for r in rounds)
    assert cost["full_imp_steps"] == RoundPlan(search.config, 450).imp_steps
    skipped = trains.index(False)
    before, after = (rounds[n]["prac_size"] for n in (skipped - 1, skipped))
    assert before == after


@both_slowly
def test_a_search_with_larger_cuts_resumes_to_the_same_files(flavor, tmp_path, monkeypatch):
    options = {**FAST, "larger_cuts": 0.0, "rounds": 4}
    whole = run(flavor, tmp_path / "whole", **options)

    class Stop(Exception):
        pass

    for number in (1, 2):  # killed before each round is finished
        finish = TicketSearch.run.__globals__["RunDirectory"].finish_round

        def interrupted(self, n, metrics, number=number, finish=finish):
            if n == number:
                raise Stop
            finish(self, n, metrics)

        with monkeypatch.context() as patch:
            patch.setattr("tf_prac.storage.run_directory.RunDirectory.finish_round", interrupted)
            with pytest.raises(Stop):
                run(flavor, tmp_path / "resumed", **options)
    resumed = run(flavor, tmp_path / "resumed", **options)
    assert [r["stop"] for r in whole.summary["rounds"]] == [
        "budget",
        "larger_cut",
        "budget",
        "larger_cut",
    ]
    for one, other in zip(whole.summary["rounds"], resumed.summary["rounds"], strict=True):
        changing = ("seconds", "rewind_sha256")
        assert {n: v for n, v in one.items() if n not in changing} == {
            n: v for n, v in other.items() if n not in changing
        }
    for one, other in zip(whole.tickets, resumed.tickets, strict=True):
        assert one.masks == other.masks
    damaged = tmp_path / "resumed/round_01/masks.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again = run(flavor, tmp_path / "resumed", **options)
    assert again.tickets[-1].masks == whole.tickets[-1].masks


def test_larger_cuts_that_never_happen_change_nothing_but_the_agreement(tmp_path):
    plain = run("keras", tmp_path / "plain", **FAST)
    never = run("keras", tmp_path / "never", **FAST, larger_cuts=1.0)
    for one, other in zip(plain.tickets, never.tickets, strict=True):
        assert one.masks == other.masks
    for one, other in zip(plain.summary["rounds"], never.summary["rounds"], strict=True):
        assert set(other) - set(one) == {"mask_agreement"}
        assert one["steps"] == other["steps"] and one["val_accuracy"] == other["val_accuracy"]
    written = read_json(tmp_path / "plain/config.json", "config")
    assert not {"larger_cuts", "largest_cut"} & set(written["pruning"])
    assert "early_stop_distance" not in written["prac"]


def test_cep_of_the_round_before_is_that_of_the_last_training(tmp_path):
    options = {"larger_cuts": 0.0, "cep_reference": "round_before", "rounds": 4}
    result = run("keras", tmp_path / "run", **options)
    assert [r["steps"] > 0 for r in result.summary["rounds"]] == [True, False, True, False]


def test_a_control_of_equal_steps_makes_the_larger_cuts_of_the_other_run(tmp_path):
    base = SearchConfig(recipe=RECIPE).replace(rounds=4, rewind="3it", larger_cuts=0.0)
    base, steps = base.replace(early_stop_eps=None), []
    for arm in ("prac", "random_subset", "imp+same_steps"):
        options = ARMS[arm].options(base, {"prac": tmp_path / "prac"})
        search = TicketSearch(
            make_model_fn("keras"), options, directory=tmp_path / arm, retrain="none", verbose=False
        )
        rounds = search.run(TRAIN, test=TEST).summary["rounds"]
        assert [r["stop"] == "larger_cut" for r in rounds] == [False, True, False, True]
        steps.append([r["steps"] for r in rounds])
    assert steps[0] == steps[1] == steps[2] and steps[0][1::2] == [0, 0]
    with pytest.raises(ArgumentError, match="larger_cuts.*off with sizes_from"):
        sizes = {"sizes_from": str(tmp_path / "prac"), "rounds": 4}
        run("keras", tmp_path / "both", larger_cuts=0.5, **sizes)
    assert ARMS["imp"].options(base).pruning.larger_cuts is None


def test_one_shot_and_early_bird_train_the_dense_network_alone(tmp_path):
    base = SearchConfig(recipe=RECIPE).replace(rounds=4, rewind="3it")
    steps = {}
    for arm in ("one_shot", "early_bird"):
        search = TicketSearch(
            make_model_fn("keras"),
            ARMS[arm].options(base.replace(early_stop_window=1)),
            directory=tmp_path / arm,
            retrain="none",
            verbose=False,
        )
        result = search.run(TRAIN, test=TEST)
        steps[arm] = [r["steps"] for r in result.summary["rounds"]]
        assert steps[arm][0] > 0 and steps[arm][1:] == [0, 0, 0]
        one_shot = slow_pruning(weights_of(tmp_path / arm, 0), result.tickets[0].masks, 1 - 0.8**2)
        two_rounds = result.tickets[2].masks
        assert sum(np.sum(one_shot[n] != two_rounds[n]) for n in two_rounds) <= 2  # of rounding
    assert steps["one_shot"][0] == Budget.full(RECIPE, 450).total_steps


# --- One cycle -------------------------------------------------------------------------------


@both
def test_the_rounds_of_one_cycle_have_the_learning_rates_of_one_training(flavor):
    options = {**FAST, "round_schedule": "one_cycle", "dense_budget": "9it", "rounds": 4}
    plan = RoundPlan(SearchConfig(recipe=RECIPE).replace(**options), 450)
    schedule, rates = make_schedule(Flavor(flavor), RECIPE), []
    for number in range(4):
        budget = plan.budget(number, 450)
        schedule.set_budget(budget)
        rates += [float(schedule(step)) for step in range(budget.steps)]
    schedule.set_budget(Budget(8, 9 + 3 * 4, annealed=1.0))
    whole = [float(schedule(step)) for step in range(21)]
    np.testing.assert_allclose(rates, whole, rtol=1e-6)
    assert max(whole) == whole[2] and whole[-1] < 0.01 < whole[0]


def test_the_arm_gradual_has_the_steps_of_fast(tmp_path):
    base = SearchConfig(recipe=RECIPE).replace(rounds=3, rewind="3it")
    base = base.replace(dense_budget="6it", round_budget="3it")
    steps = {}
    for arm in ("fast", "gradual"):
        options = ARMS[arm].options(base, {"fast": tmp_path / "fast"})
        search = TicketSearch(
            make_model_fn("keras"), options, directory=tmp_path / arm, retrain="last", verbose=False
        )
        steps[arm] = [r["steps"] for r in search.run(TRAIN, test=TEST).summary["rounds"]]
    assert steps["fast"] == steps["gradual"] == [6, 3, 3]
    rates = [
        np.genfromtxt(tmp_path / f"gradual/round_0{n}/history.csv", delimiter=",", names=True)
        for n in range(3)
    ]
    assert rates[0]["learning_rate"].ravel()[-1] > rates[1]["learning_rate"].ravel()[-1]


# --- The order of the scores -----------------------------------------------------------------


def test_the_order_distance_is_one_minus_spearmans_correlation():
    generator = np.random.default_rng(0)
    one = {"a": generator.normal(size=(6, 5)), "b": generator.normal(size=40)}
    other = {n: v + 0.5 * generator.normal(size=v.shape) for n, v in one.items()}
    near = Masks({n: generator.random(v.shape) < 0.5 for n, v in one.items()})
    values = [np.concatenate([s[n][near[n]] for n in near]) for s in (one, other)]
    expected = 1 - scipy.stats.spearmanr(*values).statistic
    assert order_distance(one, other, near) == pytest.approx(expected)
    assert order_distance(one, one, near) == 0
    nothing = Masks({n: np.zeros(v.shape, bool) for n, v in one.items()})
    assert order_distance(one, other, nothing) == 0


@pytest.mark.parametrize(
    "rule",
    [
        PruneRule(0.2),
        PruneRule(0.2, scope="layerwise"),
        PruneRule({"a": 0.3, "b": 0.1}),
        PruneRule(sparsity=0.5),
        PruneRule(0.4, min_layer_density=0.5),
    ],
    ids=["rate", "layerwise", "rates", "sparsity", "floor"],
)
def test_the_weights_near_the_threshold_are_between_half_and_more_of_the_pruning(rule):
    generator = np.random.default_rng(0)
    scores = {n: generator.random(200).astype(np.float32) for n in ("a", "b")}
    masks = Masks({n: generator.random(200) < 0.9 for n in scores})
    near, after = rule.near_threshold(scores, masks), rule.by_scores(scores, masks)
    apart = rule.scope == "layerwise" or isinstance(rule.rate, dict)
    groups = [["a"], ["b"]] if apart else [["a", "b"]]
    for names in groups:
        values = {n: scores[n][masks[n]] for n in names}
        pruned = max(scores[n][masks[n] & ~after[n]].max() for n in names)
        chosen = np.concatenate([scores[n][near[n]] for n in names])
        every = np.concatenate(list(values.values()))
        between = (every >= chosen.min()) & (every <= chosen.max())
        assert between.sum() == len(chosen) > 10, "a band of scores without gaps"
        if not rule.min_layer_density:
            assert chosen.min() < pruned < chosen.max()
            count = sum(np.count_nonzero(masks[n] & ~after[n]) for n in names)
            below = np.count_nonzero(every < chosen.min())
            assert 0.4 * count < below < 0.6 * count


def watched(flavor, epochs, **options):
    """Returns the callback after epochs with these weights."""
    keras = importlib.import_module(flavor)
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dense(1, name="d", use_bias=False)])
    callback = MaskDistance(0.2, pruning=PruningConfig(prune_last_dense=True), **options)
    callback.set_model(model)
    callback.on_train_begin()
    for number, weights in enumerate(epochs):
        model.set_weights([weights.reshape(50, 1)])
        callback.on_epoch_end(number, logs := {})
        in_logs = callback.order_distances[-1] if number else np.inf
        assert logs["order_distance"] == in_logs
    return callback


@both
def test_the_order_of_the_scores_stops_training_if_requested(flavor):
    generator = np.random.default_rng(0)
    start = generator.normal(size=50).astype(np.float32)
    noise = [generator.normal(size=50).astype(np.float32) for _ in range(2)]
    # The same order from the third epoch on, while all weights grow.
    epochs = [start + noise[0], start + noise[1], start, 2 * start, 3 * start]
    callback = watched(flavor, epochs, distance="order", eps=0.1, window=2)
    assert callback.stopped and callback.order_distances[-2:] == [0, 0]
    assert min(callback.order_distances[:2]) > 0.1
    assert not watched(flavor, epochs[:4], distance="order", eps=0.1, window=2).stopped
    with pytest.raises(ArgumentError, match="rule"):
        MaskDistance(distance="order", rule=lambda weights, masks: masks)


@both
@pytest.mark.parametrize("average", [0.0, 0.5])
def test_an_interrupted_training_stops_by_order_at_the_same_epoch(flavor, tmp_path, average):
    network = make_model_fn(flavor)()
    trainer = Trainer(network, RECIPE, ArraySamples(*TRAIN))
    weights, masks = snapshot(network), Masks.ones_like(prunable_weights(network))
    budget = Budget(8, 64)

    def train(advance=None, checkpoints=None):
        stop = MaskDistance(
            0.2, eps=0.05, window=2, distance="order", average=average, armed=True, first=None
        )
        return trainer.train(
            weights,
            masks,
            np.arange(500),
            budget,
            (3,),
            mask_distance=stop,
            advance=advance,
            checkpoints=checkpoints,
        )

    whole = train()

    rest, step = resumed(train, tmp_path, after=20, every=4)
    assert step >= 16, "it did not resume"
    assert whole.values_of("order_distance") == rest.values_of("order_distance")
    assert (whole.steps, whole.stop) == (rest.steps, rest.stop)
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(rest.weights[name], value)


def test_the_report_has_the_order_distances_and_the_larger_cuts(tmp_path):
    options = {"early_stop_distance": "order", "larger_cuts": 0.0, "rounds": 2}
    result = run("keras", tmp_path / "run", **options)
    metrics = result.summary["rounds"][0]
    assert len(metrics["order_distances"]) == len(metrics["mask_distances"]) == 1
    text = str(page([read_run_data(RunDirectory(tmp_path / "run"), "run")]))
    assert "Order distance" in text and "Mask distance" not in text
    assert "larger cut" in text and f"{metrics['mask_agreement']:.1%}" in text


# --- Options that exclude each other ---------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"larger_cuts": 1.5}, "larger_cuts"),
        ({"largest_cut": 1}, "largest_cut"),
        ({"larger_cuts": 0.5, "criterion": "taylor"}, "larger_cuts.*criterion=taylor"),
        ({**FAST, "round_schedule": "one_cycle", "larger_cuts": 0.5}, "one_cycle.*larger_cuts"),
        ({**FAST, "round_schedule": "one_cycle", "early_stop_eps": 0.1}, "one_cycle.*early_stop"),
        ({**FAST, "round_schedule": "one_cycle", "use_cet": True}, "one_cycle.*full data"),
        ({"round_schedule": "one_cycle"}, "one_cycle.*retraining"),
        ({"early_stop_distance": "both"}, "early_stop_distance"),
        ({"early_stop_distance": "order", "criterion": "taylor"}, "early_stop_distance.*taylor"),
        ({"early_stop_distance": "order", "sparsity_m_by_n": (2, 4), "rounds": 1}, "m_by_n"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        RoundPlan(SearchConfig(recipe=RECIPE).replace(**options), 450)
