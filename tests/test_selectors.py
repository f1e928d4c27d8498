"""Selectors other than the paper's, sets of other runs, and pruning at initialization."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
import re
import shutil
import sys
import types

import numpy as np
import pytest
from digits_search import X, Y
from halved import halved

from tf_prac import (
    Masks,
    PracConfig,
    PracSet,
    PruningConfig,
    TicketSearch,
    TrainingRecipe,
    build_model,
    config,
    load_dataset,
    prunable_weights,
    snapshot,
)
from tf_prac.cli.main import main
from tf_prac.config import PRAC_VARIANTS, SearchConfig
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.ids import split_validation
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import DataSplits, Split
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.search.context import SearchContext
from tf_prac.search.critical_samples import CriticalSamples
from tf_prac.search.selection import RoundOutcome
from tf_prac.search.selectors import SELECTORS, HighestScores, Scores
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.tasks.classification import Sparse
from tf_prac.training.trained_network import untrained
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)

RECIPE = TrainingRecipe(epochs=3, batch_size=50)
PRUNING = PruningConfig(rounds=3, rewind="4it")
NONE = PRAC_VARIANTS["none"].prac
TRAIN = ArraySamples(X[:600], Y[:600], name="digits", version="1")
VALIDATION = split_validation(600, fraction=0.1, method="seeded", seed=0)[1]


def make_model(flavor, width=24, last="linear"):
    keras = importlib.import_module(flavor)
    layers = keras.layers
    return keras.Sequential(
        [layers.Input((64,)), layers.Dense(width, activation="relu")]
        + [layers.Dense(12, activation="relu"), layers.Dense(10, activation=last)]
    )


def search(directory, prac, train=TRAIN, flavor="keras", width=24, **changes):
    options = {"recipe": RECIPE, "pruning": PRUNING, "retrain": "none", "verbose": False, **changes}
    made = TicketSearch(
        lambda: make_model(flavor, width), prac=prac, directory=directory, **options
    )
    return made.run(train)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished PrAC run, whose sets have different sizes."""
    directory = tmp_path_factory.mktemp("source") / "run"
    prac = PracConfig(early_stop_eps=0.4, early_stop_window=1, early_stop_arming="at_once")
    result = search(directory, prac)
    assert column(result, "stop") == ["early_stop"] * 3
    assert column(result, "epochs") == [2] * 3, "the first distance stops a round"
    assert len({r["train_samples"] for r in result.summary["rounds"]}) == PRUNING.rounds
    return result


def sets_of(result):
    count = len(result.summary["rounds"])
    return [PracSet.load(result.directory / f"round_{n:02d}/prac_set.npz") for n in range(count)]


def column(result, name):
    return [figures[name] for figures in result.summary["rounds"]]


# Equal size and budget


@pytest.mark.parametrize("selector", SELECTORS)
def test_every_selector_takes_the_sizes_and_steps_of_another_run(source, selector, tmp_path):
    prac = PracConfig(selector=selector, sizes_from=str(source.directory))
    result = search(tmp_path / "run", prac)
    assert column(result, "train_samples") == column(source, "train_samples")
    assert column(result, "steps") == column(source, "steps")
    assert column(result, "prac_size") == column(source, "prac_size")
    first = [Masks.load(r.directory / "round_00/masks.npz") for r in (result, source)]
    assert first[0] == first[1], "from the same initialization, over the same data order"
    for found in sets_of(result):
        assert not len(found.cet) and not len(found.cep)
        assert not np.intersect1d(found.ids, VALIDATION).size
    cost = result.summary["cost"]
    rounds = PRUNING.rounds
    assert cost["gradient_samples"] == (540 * rounds if selector == "grand" else 0)
    forward = 540 * rounds if selector in ("entropy", "margin", "el2n", "loss") else 0
    validation = 60 * sum(column(result, "epochs"))
    assert cost["forward_samples"] == forward + validation
    assert result.summary["other_runs"]["sizes_from"]["search_steps"] == sum(
        column(source, "steps")
    )


def test_full_data_can_take_as_many_steps_as_another_run(source, tmp_path):
    prac = dataclasses.replace(NONE, sizes_from=str(source.directory))
    result = search(tmp_path / "run", prac)
    assert column(result, "train_samples") == [540] * 3
    assert column(result, "steps") == column(source, "steps")
    assert result.summary["cost"]["search_steps"] == source.summary["cost"]["search_steps"]


def test_random_subsets_are_nested_and_balanced_when_asked(tmp_path):
    prac = PracConfig(selector="random", subset_size=0.25, budget="full", early_stop_eps=None)
    once = sets_of(search(tmp_path / "a", prac))
    assert [len(s) for s in once] == [135] * 3 and once[0] == once[1] == once[2]
    other = sets_of(search(tmp_path / "b", prac, seed=1))
    assert other[0] != once[0]
    balanced = dataclasses.replace(prac, class_balanced=True)
    result = search(tmp_path / "c", balanced)
    assert column(result, "steps") == [33, 29, 29], "the budget of the full data, less W_k"
    train = np.setdiff1d(np.arange(600), VALIDATION)
    shares = np.bincount(Y[train]) / 4
    assert (abs(np.bincount(Y[sets_of(result)[0].ids]) - shares) < 1).all()


@halved(
    "flavor, last, selector",
    FLAVORS,
    ["linear", "softmax"],
    ["entropy", "margin", "el2n", "loss"],
)
def test_scores_of_logits_and_of_probabilities_are_those_of_a_softmax(
    flavor, last, selector, tmp_path
):
    """The chosen samples are the highest of formulas written out, over Keras's own predictions."""
    model = make_model(flavor, last=last)
    ids = np.arange(0, 600, 3)
    masks = {name: np.ones(v.shape, bool) for name, v in prunable_weights(model).items()}
    next(iter(masks.values()))[::2] = False
    masks = Masks(masks)
    trainer = Trainer(model, RECIPE, TRAIN)
    context = SearchContext(
        config=SearchConfig(prac=PracConfig(selector=selector, subset_size=0.2)),
        seed=0,
        data=DataSplits(Split(TRAIN, ids), None, None),
        trainer=trainer,
        run=RunDirectory(tmp_path),
    )
    outcome = RoundOutcome(0, untrained(snapshot(model), 600, 0), masks, masks, ids)
    found = HighestScores(context).select(outcome)
    outputs = np.asarray(model.predict(X[ids], verbose=0), np.float64)  # masked by the selector
    p = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True) if last == "linear" else outputs
    ordered = np.sort(p)
    one_hot = np.eye(10)[Y[ids]]
    scores = {
        "entropy": -(p * np.log(p)).sum(-1),
        "margin": ordered[:, -2] - ordered[:, -1],
        "el2n": np.square(p - one_hot).sum(-1),
        "loss": -np.log((p * one_hot).sum(-1)),
    }[selector]
    assert found.sample_set.ids.tolist() == sorted(ids[np.argsort(-scores)[:40]])
    assert found.forward_samples == 200
    kernel = snapshot(model)[next(iter(masks))]
    assert not kernel[::2].any(), "the sparse network was asked"


# Registration


def loudest(context, outcome):
    """The samples with the largest mean input."""
    inputs = context.train.samples.inputs(context.train.ids)
    return Scores(inputs.reshape(len(inputs), -1).mean(axis=1))


def seldom_seen(context, outcome):
    """The samples that the round presented least often."""
    return Scores(-outcome.trained.forgetting.presentations[context.train.ids])


def test_every_registered_name_has_a_function():
    assert SELECTORS is config.SELECTORS and all(map(callable, SELECTORS.values()))
    described = dataclass_option("selector")
    assert all(f'"{name}"' in described for name in ("prac", *SELECTORS))


def dataclass_option(name):
    text = inspect.getdoc(PracConfig)  # without the indentation, which Python 3.13 removes
    return text[text.index(f"    {name}: ") :].partition("Default")[0]


@both
def test_a_function_selects_as_a_registered_one(flavor, tmp_path, monkeypatch):
    monkeypatch.setitem(SELECTORS, "loudest", loudest)
    prac = PracConfig(selector=loudest, subset_size=0.3)
    result = search(tmp_path / "run", prac, flavor=flavor)
    named = dataclasses.replace(prac, selector="loudest")
    assert sets_of(result) == sets_of(search(tmp_path / "named", named, flavor=flavor))
    ids = np.setdiff1d(np.arange(600), VALIDATION)
    chosen = sets_of(result)[0].ids
    left = np.setdiff1d(ids, chosen)
    assert len(chosen) == 162 and X[chosen].mean(1).min() >= X[left].mean(1).max()


def test_a_run_with_a_function_resumes_with_the_same_one(tmp_path):
    prac = PracConfig(selector=loudest, subset_size=0.3)
    result = search(tmp_path / "run", prac)
    stored = json.loads((tmp_path / "run/config.json").read_text())
    assert stored["prac"]["selector"] == f"{__name__}.loudest"
    (tmp_path / "run/summary.json").unlink()
    shutil.rmtree(tmp_path / "run/round_02")
    assert sets_of(search(tmp_path / "run", prac)) == sets_of(result)
    other = dataclasses.replace(prac, selector=seldom_seen)
    with pytest.raises(MismatchError, match="^selector: 'test_selectors.seldom_seen'"):
        search(tmp_path / "run", other)


def test_nothing_is_imported_from_the_name_of_a_function(tmp_path, monkeypatch, capsys):
    """Neither from Python nor by a command that opens the run."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "planted.py").write_text("raise SystemExit")

    def planted(context, outcome):
        return loudest(context, outcome)

    monkeypatch.setattr(planted, "__module__", "planted")
    monkeypatch.setattr(planted, "__qualname__", "select")
    names = {"dataset": "digits", "data_dir": None, "limit_train": 200, "model": "lenet300"}
    data, run = load_dataset("digits", limit_train=200).train, tmp_path / "run"
    TicketSearch(
        lambda: build_model("lenet300", keras="keras", input_shape=(8, 8, 1), num_classes=10),
        TrainingRecipe(epochs=1),
        PruningConfig(rounds=1),
        PracConfig(selector=planted, subset_size=0.5),
        directory=run,
        labels=names,
        verbose=False,
    ).run(data)
    stored = json.loads((run / "config.json").read_text())
    assert stored["prac"]["selector"] == "planted.select"
    message = "selector: received 'planted.select'; allowed: one of prac, random, .* from Python"
    with pytest.raises(ArgumentError, match=message):
        SearchConfig.from_json(stored)
    option = ["search", "--selector=planted.select", "--subset_size=0.5"]
    for command in (["retrain", str(run)], option):
        assert main(command) == 2
        assert re.search(message, capsys.readouterr().err)
    assert main(["info", str(run)]) == 0 and "planted" not in sys.modules


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda context, outcome: Scores(np.zeros(540)), "a function defined by def"),
        (functools.partial(loudest), "a function defined by def"),
    ],
)
def test_a_function_without_a_name_is_refused(function, message):
    with pytest.raises(ArgumentError, match=f"^selector: .*{message}"):
        PracConfig(selector=function, subset_size=0.5)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros(540), "wrong, which returned ndarray"),
        (Scores(np.zeros(600)), r"wrong, which returned \(600,\)"),
        (Scores(np.full(540, np.nan)), "without NaN"),
    ],
)
def test_a_function_has_to_score_every_training_sample(returned, message, tmp_path):
    def wrong(context, outcome):
        return returned

    with pytest.raises(ArgumentError, match=f"^selector: .*{message}"):
        search(tmp_path / "run", PracConfig(selector=wrong, subset_size=0.5))


# Forgetting


def test_forgetting_counts_in_round_0_or_in_a_proxy(source, tmp_path):
    prac = PracConfig(selector="forgetting", subset_size=0.2, early_stop_eps=None)
    own = search(tmp_path / "own", prac)
    proxied = dataclasses.replace(prac, proxy_from=str(source.directory))
    through = search(tmp_path / "proxy", proxied, width=30)
    for result, run in ((own, own), (through, source)):
        stats = ForgettingStats.load(run.directory / "round_00/forgetting.npz")
        rank = np.where(stats.never_learned, stats.events.max() + 1, stats.events)
        rank[~stats.seen] = -1
        least = np.sort(rank)[::-1][107]
        for found in sets_of(result):
            assert len(found) == 108 and rank[found.ids].min() == least
            assert set(np.flatnonzero(rank > least)) <= set(found.ids)
    with pytest.raises(MismatchError, match="proxy_from: 5\\d training samples .*same seed"):
        search(tmp_path / "other", proxied, seed=1)
    assert not (tmp_path / "other").exists()


def test_cet_at_a_fixed_rate_is_the_authors_mode(tmp_path):
    prac = PracConfig(cet_rate=0.2, use_cep=False, early_stop_eps=None)
    result = search(tmp_path / "run", prac)
    assert column(result, "cet") == [int(540 * 0.8**n) for n in (1, 2, 3)] == [432, 345, 276]
    sets = sets_of(result)
    assert set(sets[2].ids) < set(sets[1].ids) < set(sets[0].ids)
    for number, found in enumerate(sets):
        stats = ForgettingStats.load(result.directory / f"round_{number:02d}/forgetting.npz")
        rank = np.where(stats.never_learned, stats.events.max() + 1, stats.events)
        left = np.setdiff1d(np.flatnonzero(stats.seen), found.ids)
        assert rank[found.ids].min() >= rank[left].max()


def test_each_class_keeps_its_share_of_the_minimum():
    labels = np.array([0] * 80 + [1] * 19 + [2])
    train = Split(ArraySamples(np.zeros((100, 2), np.float32), labels), np.arange(100))
    for balanced, expected in ((False, 10), (True, 11)):
        config = PracConfig(use_cep=False, min_size=0.1, class_balanced=balanced)
        stats = ForgettingStats(100)
        for correct in (1, 0):  # the first three samples are forgotten, the others learned
            stats.update(np.arange(100), np.arange(100) > 2 if correct == 0 else np.ones(100))
        trained = dataclasses.replace(untrained({}, 100, 0), forgetting=stats)
        context = SearchContext(
            config=SearchConfig(prac=config),
            seed=0,
            data=DataSplits(train, None, None),
            trainer=types.SimpleNamespace(task=Sparse()),
            run=None,
        )
        outcome = RoundOutcome(0, trained, Masks({}), Masks({}), train.ids)
        found = CriticalSamples(context).select(outcome).sample_set
        assert found.cet.tolist() == [0, 1, 2] and len(found) == expected
        if balanced:
            assert np.bincount(labels[found.ids]).tolist() == [8, 2, 1]


# Sets of another run


def test_sets_of_another_run_are_used_with_another_network(source, tmp_path):
    directory = str(source.directory)
    prac = PracConfig(prac_from=directory, early_stop_eps=None)
    result = search(tmp_path / "each", prac, flavor="tf_keras", width=30)
    assert sets_of(result) == sets_of(source)
    assert column(result, "train_samples") == column(source, "train_samples")
    assert result.summary["cost"]["forward_samples"] == 60 * sum(column(result, "epochs"))
    for which, number in (("last", 2), ("1", 1)):
        chosen = dataclasses.replace(prac, prac_from_round=which)
        result = search(tmp_path / which, chosen, pruning=PruningConfig(rounds=5, rewind="0it"))
        assert sets_of(result) == [sets_of(source)[number]] * 5


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "mnist"}, "name of the data set is 'mnist' here, but 'digits'"),
        ({"version": "2"}, "version of the data set is '2' here, but '1'"),
        ({"split": "test"}, "split of the data set is 'test' here, but 'train'"),
        ({"count": 599}, "count of the data set is 599 here, but 600"),
        ({"order": 1}, "order_hash of the data set"),
        ({"seed": 1}, "5\\d samples of its sets .*same seed, split and validation_split"),
    ],
)
def test_sets_of_other_samples_are_refused_and_nothing_is_written(source, changes, field, tmp_path):
    seed = changes.pop("seed", 0)
    order = np.arange(changes.pop("count", 600))
    order[:2] = order[:2][:: -1 if changes.pop("order", 0) else 1]
    other = ArraySamples(X[order], Y[order], **{"name": "digits", "version": "1", **changes})
    field = field.replace("5\\d samples", "\\d+ samples")
    with pytest.raises(MismatchError, match=f"^prac_from: {field}"):
        search(tmp_path / "run", PracConfig(prac_from=str(source.directory)), other, seed=seed)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("prac", "changes", "message"),
    [
        ({"prac_from": "here"}, {"pruning": PruningConfig(rounds=4)}, "prac_from: .*at least 4"),
        ({"prac_from": "here", "prac_from_round": "3"}, {}, "prac_from_round: received '3'"),
        ({"prac_from": "nowhere"}, {}, "prac_from: .*the directory of a finished run"),
        ({"sizes_from": "here"}, {"pruning": PruningConfig(rounds=4)}, "sizes_from: .*at least 4"),
        (
            {"selector": "random", "sizes_from": "here"},
            {
                "train": ArraySamples(X[:150], Y[:150]),
                "recipe": dataclasses.replace(RECIPE, batch_size=10),
            },
            "sizes_from: .*no larger than the training set, 135 samples",
        ),
        (
            {"sizes_from": "here"},
            {"recipe": dataclasses.replace(RECIPE, epochs=1)},
            "sizes_from: .*Its round 0 took .* steps; here 5 to 11",
        ),
        ({"selector": "forgeting", "subset_size": 0.5}, {}, "selector: .*one of prac, random"),
        ({}, {"pruning": PruningConfig(criterion="snip")}, "criterion: .*use prac=none"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    source, prac, changes, message, tmp_path
):
    places = {"here": str(source.directory), "nowhere": str(tmp_path / "nowhere")}
    prac = {name: places.get(value, value) for name, value in prac.items()}
    with pytest.raises(ArgumentError, match=message):
        prac = PracConfig(**prac)
        search(tmp_path / "run", prac, **changes)
    assert not (tmp_path / "run").exists()


def test_the_other_run_may_be_moved_but_not_changed(source, tmp_path):
    shutil.copytree(source.directory, tmp_path / "moved")
    prac = PracConfig(prac_from=str(source.directory), early_stop_eps=None)
    pruning = PruningConfig(rounds=1, rewind="0it")
    before = search(tmp_path / "run", prac, pruning=pruning)
    moved = dataclasses.replace(prac, prac_from=str(tmp_path / "moved"))
    again = search(tmp_path / "run", moved, pruning=pruning)
    assert again.summary == before.summary
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["labels"]["prac_from"] == str(source.directory)
    other = search(tmp_path / "other", PracConfig(early_stop_eps=None, forget_threshold=1))
    changed = dataclasses.replace(prac, prac_from=str(other.directory))
    with pytest.raises(MismatchError, match="prac_from: "):
        search(tmp_path / "run", changed, pruning=pruning)


# Pruning at initialization


@halved("flavor, criterion", FLAVORS, ["magnitude_init", "snip", "grasp", "synflow"])
def test_pruning_at_initialization_does_not_train(flavor, criterion, tmp_path):
    pruning = PruningConfig(rounds=2, rewind="0it", criterion=criterion, score_samples=3)
    result = search(tmp_path / "run", NONE, flavor=flavor, pruning=pruning, retrain="last")
    size = 64 * 24 + 24 * 12
    for ticket, left in zip(result.tickets, (1824, 1459, 1167), strict=True):
        assert ticket.masks.size == size and ticket.masks.remaining == left
    assert column(result, "steps") == [0, 0]
    cost = result.summary["cost"]
    passes = {"magnitude_init": 0, "snip": 1, "grasp": 2, "synflow": 0}[criterion]
    assert cost["gradient_samples"] == 2 * passes * 30
    assert (cost["search_steps"], cost["retrain_steps"]) == (0, 33)
    assert result.summary["dense"]["steps"] == 33, "the dense network is trained beside"
    weights = result.tickets[-1].weights
    if criterion == "magnitude_init":
        dropped = [np.abs(weights[n][~m]) for n, m in result.tickets[-1].masks.items()]
        kept = [np.abs(weights[n][m]) for n, m in result.tickets[-1].masks.items()]
        assert max(d.max() for d in dropped) <= min(k.min() for k in kept)


@pytest.mark.parametrize("criterion", ["snip", "synflow"])
def test_scoring_in_steps_prunes_as_many_weights(criterion, tmp_path):
    masks = {}
    for steps in (1, 7):
        pruning = PruningConfig(
            rounds=1, prune_rate=0.9, rewind="0it", criterion=criterion, score_steps=steps
        )
        result = search(tmp_path / str(steps), NONE, pruning=pruning)
        masks[steps] = result.tickets[-1].masks
        assert masks[steps].remaining == 182
        assert result.summary["cost"]["gradient_samples"] == (
            100 * steps if criterion == "snip" else 0
        )
    assert masks[1] != masks[7]


def test_weights_can_be_scored_after_some_training(tmp_path):
    pruning = dataclasses.replace(PRUNING, criterion="snip")
    result = search(tmp_path / "run", NONE, pruning=pruning, retrain="last")
    assert column(result, "steps") == [4, 0, 0]
    assert result.summary["cost"]["search_steps"] == 4
    assert result.summary["cost"]["retrain_steps"] == 33 - 4
    reference = search(tmp_path / "reference", NONE, pruning=dataclasses.replace(PRUNING, rounds=1))
    for name, value in reference.tickets[0].weights.items():
        np.testing.assert_array_equal(result.tickets[0].weights[name], value)
    again = search(tmp_path / "run", NONE, pruning=pruning, retrain="last")
    assert again.summary == result.summary
