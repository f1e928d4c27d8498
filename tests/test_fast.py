"""Short searches: coverage, CEP and early stop without confounding, ticket starts, `fast`."""

from __future__ import annotations

import functools
import importlib
import json
from types import SimpleNamespace

import digits_search
import numpy as np
import pytest
from digits_search import TEST, TRAIN, Y, make_model_fn
from interruption import resumed

from tf_prac import PracConfig, PruningConfig, TicketSearch, TrainingRecipe, fast
from tf_prac.analysis.arms import ARMS
from tf_prac.config import FAST_ROUNDS, PRAC_VARIANTS, SearchConfig
from tf_prac.data.coverage import Coverage
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.source import ArraySamples
from tf_prac.errors import MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning.criteria import CRITERIA, global_magnitude
from tf_prac.pruning.mask_distance import mask_distance
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import prunable_weights, snapshot
from tf_prac.search.callbacks import SearchCallback
from tf_prac.search.critical_samples import CriticalSamples
from tf_prac.storage.files import read_npz
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.callbacks.mask_distance import MaskDistance
from tf_prac.training.schedules import Budget
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)
RECIPE = TrainingRecipe(epochs=4, batch_size=64)


make_search = functools.partial(digits_search.make_search, recipe=RECIPE, rounds=2)


def run(flavor, directory, **options):
    return make_search(flavor, directory, **options).run(TRAIN, test=TEST)


# --- Coverage --------------------------------------------------------------------------------


def test_each_epoch_has_the_set_and_other_samples_in_their_proportion():
    coverage = Coverage(
        np.arange(0, 40, 4), np.setdiff1d(np.arange(40), np.arange(0, 40, 4)), 0.2, 500
    )
    counts = np.zeros(40)
    for epoch in range(500):
        ids = coverage.epoch_ids((7,), epoch)
        assert len(ids) == len(set(ids.tolist())) == len(coverage) == 10 + 6
        np.testing.assert_array_equal(ids, coverage.epoch_ids((7,), epoch))
        counts[ids] += 1
    assert (counts[coverage.always] == 500).all()
    assert np.abs(counts[coverage.others] / 500 - 0.2).max() < 0.08
    last = coverage.epoch_ids((7,), 500)
    assert len(set(last.tolist())) == 16 and not set(coverage.always) <= set(last)


def test_weights_make_the_expected_gradient_that_of_the_full_data():
    """The mean over epochs of the weighted sum of anything is the sum over all samples."""
    generator = np.random.default_rng(0)
    values, always = generator.normal(size=30), np.arange(5)
    coverage = Coverage(always, np.arange(5, 30), 0.4, 10**6)
    weights = coverage.weights(0, 30)
    means = [np.mean((weights * values)[coverage.epoch_ids((0,), e)]) for e in range(4000)]
    assert np.mean(means) == pytest.approx(values.mean(), abs=0.01)
    assert weights[always].max() / weights[5] == pytest.approx(0.4)
    assert (coverage.weights(10**6, 30) == 1).all()


def make_trainer(flavor, placement="auto"):
    network = make_model_fn(flavor)()
    network.set_weights([np.full(w.shape, 0.01, np.float32) for w in network.get_weights()])
    recipe = TrainingRecipe(batch_size=64, learning_rate=0.5, momentum=0.0, schedule="constant")
    trainer = Trainer(network, recipe, ArraySamples(*TRAIN), data_placement=placement)
    trainer.prepare_coverage()
    return trainer


def start_of(trainer):
    return snapshot(trainer.network), Masks.ones_like(prunable_weights(trainer.network))


def softmax_gradient_of_bias(ids, weights):
    """Gradient of the output bias at equal logits: the weighted mean of probabilities - labels."""
    errors = 0.1 - np.eye(10)[Y[ids]]
    return (weights[ids, None] * errors).sum(0) / len(ids)


@both
def test_a_step_has_the_weights_of_its_samples_on_the_device_and_streamed(flavor):
    coverage = Coverage(np.arange(20), np.arange(20, 500), 0.0625, 1)  # 50 samples in one batch
    trained = {}
    for placement in ("device", "stream"):
        trainer = make_trainer(flavor, placement)
        weights, masks = (
            snapshot(trainer.network),
            Masks.ones_like(prunable_weights(trainer.network)),
        )
        before = list(weights.values())[-1]
        result = trainer.train(weights, masks, coverage, Budget(1, 1), (3,))
        trained[placement] = list(result.weights.values())
        ids = coverage.epoch_ids((3,), 0)
        expected = before - 0.5 * softmax_gradient_of_bias(ids, coverage.weights(0, 500))
        np.testing.assert_allclose(trained[placement][-1], expected, atol=1e-5)
        assert result.forgetting.seen.sum() == 50 and result.samples_seen == 50
        plain = trainer.train(weights, masks, np.arange(50), Budget(1, 1), (3,))
        expected = before - 0.5 * softmax_gradient_of_bias(np.arange(50), np.ones(500))
        np.testing.assert_allclose(list(plain.weights.values())[-1], expected, atol=1e-5)
    for one, other in zip(trained["device"], trained["stream"], strict=True):
        np.testing.assert_array_equal(one, other)


@both
def test_an_interrupted_round_with_coverage_resumes_to_the_same_weights(flavor, tmp_path):
    coverage, budget = Coverage(np.arange(50), np.arange(50, 500), 0.3, 2), Budget(3, 9)
    trainer = make_trainer(flavor)
    weights, masks = start_of(trainer)
    train = functools.partial(trainer.train, weights, masks, coverage, budget, (3,))
    whole = train()
    rest, step = resumed(train, tmp_path, after=5, every=2)
    assert step >= 2, "it did not resume"
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(rest.weights[name], value)
    np.testing.assert_array_equal(rest.forgetting.table, whole.forgetting.table)


# --- Sets ------------------------------------------------------------------------------------


def outcome_of(histories):
    """A round in which sample i was correct at each presentation as `histories[i]` has it."""
    stats = ForgettingStats(len(histories))
    for correct in zip(*histories, strict=True):
        stats.update(np.arange(len(histories)), np.array(correct, bool))
    return SimpleNamespace(
        number=0, ids=np.arange(len(histories)), trained=SimpleNamespace(forgetting=stats)
    )


@pytest.mark.parametrize(
    ("cutoff", "below", "left"),
    [(0.0, 1.0, [0, 1, 2, 3]), (0.2, 0.5, [1, 2]), (0.2, 0.4, [0, 1, 2, 3]), (0.9, 0.5, [])],
)
def test_the_hardest_samples_are_cut_off_from_a_small_set(cutoff, below, left):
    """CET is 4 of 10 samples: 3 was never learned, 0 forgotten three times, 1 and 2 once."""
    outcome = outcome_of(
        [[1, 0, 1, 0, 1, 0], [1, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0], [0] * 6, *[[1] * 6] * 6]
    )
    prac = PracConfig(hard_cutoff=cutoff, hard_cutoff_below=below)
    context = SimpleNamespace(
        config=SimpleNamespace(prac=prac), train=SimpleNamespace(ids=np.arange(10)), seed=0
    )
    assert sorted(CriticalSamples(context)._cet(outcome)) == left


# --- Early stop ------------------------------------------------------------------------------


def test_the_average_of_the_weights_is_pruned_if_requested():
    generator = np.random.default_rng(0)
    epochs = [{"w": generator.normal(size=50).astype(np.float32)} for _ in range(4)]
    average, previous, expected = None, None, []
    for weights in epochs:
        average = weights["w"] if average is None else 0.75 * average + 0.25 * weights["w"]
        masks = global_magnitude({"w": average}, rate=0.2)
        if previous is not None:
            expected.append(mask_distance(masks, previous, 50))
        previous = masks
    keras = importlib.import_module("keras")
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dense(1, name="d", use_bias=False)])

    def watch(epoch_weights, callback):
        for number, weights in enumerate(epoch_weights):
            model.set_weights([weights["w"].reshape(50, 1)])
            callback.on_epoch_end(number, {})

    pruning = PruningConfig(prune_last_dense=True)
    callback = MaskDistance(0.2, average=0.75, pruning=pruning)
    callback.set_model(model)
    callback.on_train_begin()
    watch(epochs, callback)
    assert callback.distances == pytest.approx(expected)
    again = MaskDistance(0.2, average=0.75, pruning=pruning)
    again.set_model(model)
    again.on_train_begin()
    watch(epochs[:2], again)
    restored = MaskDistance(0.2, average=0.75, pruning=pruning)
    restored.set_model(model)
    restored.restore(again.distances, again.tentative, False, again.averaged)
    watch(epochs[2:], restored)
    assert restored.distances == pytest.approx(expected)


# --- Searches --------------------------------------------------------------------------------


@both
def test_cep_compares_with_the_network_that_the_option_names(flavor, tmp_path):
    """Also counts the predictions that each option needs."""
    found = {}
    for reference in ("round_0", "round_before", "own_round"):
        result = run(flavor, tmp_path / reference, cep_reference=reference, rounds=3)
        found[reference] = [r["cep"] for r in result.summary["rounds"]]
        forward = [r["forward_samples"] for r in result.summary["rounds"]]
        predicted = {"round_0": 450, "round_before": 900, "own_round": 900}[reference]
        validated = [50 * r["epochs"] for r in result.summary["rounds"]]
        assert forward[1] - validated[1] == forward[2] - validated[2] == predicted
    assert found["round_0"][:1] == found["own_round"][:1] == found["round_before"][:1]
    stored = tmp_path / "round_before"
    first, second = (RunDirectory(stored).load_predictions(number) for number in (0, 1))
    assert first.shape == second.shape == (450,) and (first != second).any()
    assert not (tmp_path / "own_round/round_01/predictions.npz").exists()


@both
def test_a_mask_found_without_rewinding_is_put_on_w_k(flavor, tmp_path):
    options = {"retraining": "lr_rewinding", "ticket_start": "rewind_point", "use_cet": False}
    result = run(flavor, tmp_path / "run", use_cep=False, early_stop_eps=None, **options)
    w_k = read_npz(tmp_path / "run/rewind.npz", "rewind")
    ticket = result.tickets[-1]
    assert ticket.retraining == "weight_rewinding"
    for name, weight in w_k.items():
        np.testing.assert_array_equal(ticket.weights[name], weight)
    assert (tmp_path / "run/round_00/weights.npz").exists(), "round 1 starts from these"


@both
def test_a_round_on_full_data_is_the_retraining_of_its_ticket(flavor, tmp_path, monkeypatch):
    calls, train = [], Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda *a, **k: calls.append(1) or train(*a, **k))
    plain = {"use_cet": False, "use_cep": False, "early_stop_eps": None, "rounds": 3}
    result = run(flavor, tmp_path / "run", retrain="all", **plain)
    assert len(calls) == 3 + 1, "three rounds, and the last ticket"
    tickets, rounds = result.summary["tickets"], result.summary["rounds"]
    assert [t.get("in_round", False) for t in tickets] == [False, True, True, False]
    for number in (1, 2):
        assert tickets[number]["retrain_steps"] == rounds[number]["steps"]
        assert tickets[number]["val_accuracy"] == rounds[number]["val_accuracy"]
        assert tickets[number]["test_accuracy"] is not None
        trained = read_npz(tmp_path / f"run/tickets/round_0{number}/trained.npz", "weights")
        for name, mask in result.tickets[number].masks.items():
            assert not trained[name][~mask].any() and trained[name][mask].any()
    assert result.summary["cost"]["reference_steps"] == 0
    assert result.best.metrics in tickets
    again = run(flavor, tmp_path / "run", retrain="all", **plain)
    assert len(calls) == 4 and again.summary == result.summary
    run(
        flavor,
        tmp_path / "stopped",
        retrain="all",
        **{**plain, "sizes_from": str(tmp_path / "run")},
    )
    assert len(calls) == 4 + 3 + 3, "a limited round is not the full retraining"


def test_fast_is_the_variant_and_arms_take_its_steps(tmp_path):
    config = fast(RECIPE, rounds=3, rewind="2it")
    assert config.prac == PRAC_VARIANTS["fast"].prac and not config.prac.selects_data
    assert (config.pruning.retraining, config.pruning.rounds) == ("lr_rewinding", 3)
    assert ARMS["fast"].options(SearchConfig().replace(rounds=3, rewind="2it")).prac == config.prac
    sets = ARMS["fast+sets"].options(SearchConfig()).prac
    assert (sets.coverage, sets.dense_budget) == (0.5, FAST_ROUNDS["dense_budget"])
    annealed = SearchConfig().replace(round_schedule="annealed", dense_budget="20%")
    for arm in ("fast", "fast+sets", "fast+weight_rewinding"):
        chosen = ARMS[arm].options(annealed).prac
        assert (chosen.round_schedule, chosen.dense_budget) == ("annealed", "20%")
        assert chosen.round_budget == FAST_ROUNDS["round_budget"]
    assert ARMS["imp"].options(annealed).prac.round_schedule == "recipe"
    assert ARMS["fast+annealed"].options(SearchConfig()).prac.round_schedule == "annealed"
    base, rounds = config.replace(dense_budget="2ep", round_budget="2ep"), {}
    for arm in ("fast+sets", "fast+same_steps"):
        chosen = ARMS[arm].options(base, {"fast+sets": tmp_path / "fast+sets"})
        assert chosen.prac.dense_budget == "2ep"
        search = TicketSearch(
            make_model_fn("keras"), chosen, directory=tmp_path / arm, retrain="none", verbose=False
        )
        rounds[arm] = search.run(TRAIN, test=TEST).summary["rounds"]
    assert [r["steps"] for r in rounds["fast+sets"]] == [
        r["steps"] for r in rounds["fast+same_steps"]
    ]
    assert rounds["fast+sets"][1]["train_samples"] < 450
    assert rounds["fast+same_steps"][1]["train_samples"] == 450


class Messages(SearchCallback):
    def __init__(self):
        self.text = ""

    def on_message(self, text):
        self.text += " ".join(text.split())


@both
@pytest.mark.parametrize("budget, warns", [("5it", True), ("100%", False)])
def test_a_dense_round_that_is_not_trained_is_reported(budget, warns, flavor, tmp_path):
    config = fast(RECIPE, rounds=1, rewind="2it", dense_budget=budget, round_schedule="annealed")
    search = TicketSearch(
        make_model_fn(flavor), config, directory=tmp_path, retrain="last", verbose=False
    )
    result = search.run(TRAIN, test=TEST, callbacks=[messages := Messages()])
    round_0, dense = result.summary["rounds"][0], result.summary["tickets"][0]
    assert (dense["val_accuracy"] - round_0["val_accuracy"] > 0.01) == warns
    text = f"warning: round 0 ended with {round_0['val_accuracy']:.2%} validation accuracy"
    assert (text in messages.text) == warns
    assert ("larger dense_budget" in messages.text) == warns


def test_options_with_their_default_are_not_written(tmp_path):
    """Runs of 0.1.0 lack them; a preset that sets one is refused on such a run by name."""
    written = SearchConfig().to_json()
    for group, names in {
        "recipe": ["momentum_form"],
        "pruning": ["ticket_start"],
        "prac": ["coverage", "cep_reference", "dense_budget", "round_schedule"],
    }.items():
        assert not set(names) & set(written[group])
    changed = SearchConfig().replace(momentum_form="pytorch", coverage=0.5)
    assert SearchConfig.from_json(json.loads(json.dumps(changed.to_json()))) == changed
    run("keras", tmp_path / "run", rounds=1)
    with pytest.raises(MismatchError, match="momentum_form: 'pytorch' requested.*has its default"):
        run("keras", tmp_path / "run", rounds=1, momentum_form="pytorch")
    with pytest.raises(MismatchError, match="budget: 'epochs_truncated' requested"):
        run("keras", tmp_path / "run", rounds=1, budget="epochs_truncated")


# --- Criteria --------------------------------------------------------------------------------


def test_random_scores_depend_on_the_weights_alone():
    weights = {name: np.linspace(0, seed, 2000) for seed, name in enumerate("ab", 1)}
    scores = CRITERIA["random"].score(weights)
    again = CRITERIA["random"].score({name: weights[name].copy() for name in weights})
    other = CRITERIA["random"].score({"a": weights["b"], "b": weights["a"]})
    for name in weights:
        np.testing.assert_array_equal(scores[name], again[name])
        assert abs(np.corrcoef(scores[name], weights[name])[0, 1]) < 0.1
        assert abs(np.corrcoef(scores[name], other[name])[0, 1]) < 0.1
        assert 0 <= scores[name].min() < 0.01 < 0.99 < scores[name].max() < 1
