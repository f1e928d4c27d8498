"""Searches by criteria that take gradients of the trained network, and by functions of a user."""

from __future__ import annotations

import importlib
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from digits_search import X, Y
from test_criteria import slow_prune

from tf_prac import (
    Masks,
    PracConfig,
    PruningConfig,
    TicketSearch,
    TrainingRecipe,
    build_model,
    load_dataset,
    prunable_weights,
    rewind,
    snapshot,
)
from tf_prac.cli.main import main
from tf_prac.config import PRAC_VARIANTS
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning import Criterion
from tf_prac.pruning.gradient_criteria import snip, taylor
from tf_prac.search.scoring import few_of_each_class

both = pytest.mark.parametrize("flavor", FLAVORS)
RECIPE = TrainingRecipe(epochs=3, batch_size=50, validation_split=0)
PRUNING = PruningConfig(rounds=2, rewind="4it", prune_rate=0.5, score_samples=3)
NONE = PRAC_VARIANTS["none"].prac
TRAIN = ArraySamples(X[:400], Y[:400], name="digits", version="1")


def make_model(flavor):
    """A network whose training depends on random numbers and batch statistics."""
    layers = importlib.import_module(flavor).layers
    return importlib.import_module(flavor).Sequential(
        [layers.Input((64,)), layers.Dense(24, use_bias=False), layers.BatchNormalization()]
        + [layers.Activation("relu"), layers.Dropout(0.3), layers.Dense(12, activation="relu")]
        + [layers.Dense(10)]
    )


def search(directory, criterion, flavor="keras", prac=NONE, train=TRAIN, **changes):
    options = {field: getattr(PRUNING, field) for field in PRUNING.__dataclass_fields__}
    pruning = PruningConfig(**{**options, "criterion": criterion, **changes})
    return TicketSearch(
        lambda: make_model(flavor),
        RECIPE,
        pruning,
        prac,
        directory=directory,
        retrain="none",
        verbose=False,
    ).run(train)


def recorded_weights(calls):
    def by_magnitude(weights):
        calls.append(dict(weights))
        return {name: np.abs(w) for name, w in weights.items()}

    return by_magnitude


def recorded_network(score, calls):
    """A criterion that needs the network, and disturbs it as much as it may."""

    def recording(inputs):
        before = snapshot(inputs.network)
        snip(inputs)  # in training mode: moves the statistics and draws random numbers
        moved = snapshot(inputs.network)
        rewind(inputs.network, before)
        scores = score(inputs)
        calls.append((before, scores))
        rewind(inputs.network, moved)
        return scores

    return Criterion(recording, needs_network=True, passes=1)


@both
def test_samples_of_weight_0_do_not_matter_and_weights_do(flavor, tmp_path):
    weights = np.where(np.arange(400) < 200, 1.0, 0.0)
    others = np.where(weights > 0, Y[:400], (Y[:400] + 1) % 10)  # other labels of weight 0
    runs = {"weights": (Y[:400], weights), "labels": (others, weights)}
    runs["twice"] = Y[:400], np.where(Y[:400] == 3, 9.0, weights)
    masks = {}
    for name, (labels, weight) in runs.items():
        samples = ArraySamples(X[:400], labels, weights=weight)
        result = search(tmp_path / name, "snip", flavor, rounds=1, rewind="0it", train=samples)
        masks[name] = result.tickets[-1].masks
    assert masks["labels"] == masks["weights"] != masks["twice"]


@both
def test_a_criterion_of_gradients_scores_the_trained_network(flavor, tmp_path):
    trained, scored = [], []
    reference = search(tmp_path / "reference", recorded_weights(trained), flavor, rounds=1)
    result = search(tmp_path / "run", recorded_network(taylor, scored), flavor)
    # After each epoch for the mask distance, and once to prune; training is not disturbed.
    assert len(trained) == 4 and len(scored) == 8
    for weights, (before, _) in zip(trained, scored, strict=False):
        for name, value in weights.items():
            np.testing.assert_array_equal(value, before[name])
    assert result.summary["cost"]["gradient_samples"] == 8 * 3 * 10
    assert reference.summary["cost"]["gradient_samples"] == 0
    assert len(result.summary["rounds"][0]["mask_distances"]) == 2
    kept = {name: [True] * mask.size for name, mask in result.tickets[0].masks.items()}
    for number, call in ((1, 3), (2, 7)):
        before, scores = scored[call]
        expected = slow_taylor(flavor, before)
        for name, score in scores.items():
            np.testing.assert_allclose(score, expected[name], rtol=1e-3, atol=1e-7)
        kept = slow_prune(scores, kept, 0.5, "global")
        masks = result.tickets[number].masks
        assert {name: mask.ravel().tolist() for name, mask in masks.items()} == kept
    for name, mask in result.tickets[1].masks.items():  # round 1 trained under these masks
        assert not scored[7][0][name][~mask].any()
    shipped = search(tmp_path / "shipped", "taylor", flavor)
    assert [t.masks for t in shipped.tickets] == [t.masks for t in result.tickets]


def slow_taylor(flavor, weights):
    """Scores by one batch at inference, of a network of its own."""
    model = make_model(flavor)
    rewind(model, weights)
    ids = few_of_each_class(Split(TRAIN, np.arange(400)), TRAIN.labels[:400], 3, seed=0)
    with tf.GradientTape() as tape:
        logits = model(X[ids], training=False)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(Y[ids], logits))
    variables = prunable_weights(model)
    gradients = tape.gradient(loss, list(variables.values()))
    return {
        name: np.abs(g.numpy() * np.asarray(v))
        for (name, v), g in zip(variables.items(), gradients, strict=True)
    }


def test_a_search_by_taylor_selects_data_stops_early_and_resumes(tmp_path):
    prac = PracConfig(early_stop_eps=0.6, early_stop_window=1, early_stop_arming="at_once")
    result = search(tmp_path, "taylor", prac=prac, score_steps=2)
    rounds = result.summary["rounds"]
    assert any(each["stop"] == "early_stop" for each in rounds)
    epochs = sum(each["epochs"] for each in rounds)
    assert sum(each["gradient_samples"] for each in rounds) == 2 * 30 * (epochs + 2)
    shutil.rmtree(tmp_path / "round_01")
    again = search(tmp_path, "taylor", prac=prac, score_steps=2)
    assert [t.masks for t in again.tickets] == [t.masks for t in result.tickets]
    assert again.summary["cost"] == result.summary["cost"]


def signed(weights):
    return {name: np.asarray(w) for name, w in weights.items()}


def test_a_function_of_weights_prunes_a_search(tmp_path):
    tickets = search(tmp_path, signed, rounds=1, rewind="0it").tickets
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["pruning"]["criterion"] == f"{__name__}.signed"
    assert tickets[1].masks != Masks.ones_like(tickets[1].masks)
    search(tmp_path, signed, rounds=1, rewind="0it")  # resumes
    with pytest.raises(MismatchError, match="^criterion: 'magnitude'"):
        search(tmp_path, "magnitude", rounds=1, rewind="0it")
    at_w_k = search(tmp_path / "w_k", Criterion(signed, "rewind_point"), rounds=1, rewind="0it")
    w_k = {name: at_w_k.tickets[0].weights[name] for name in at_w_k.tickets[1].masks}
    dense = {name: [True] * w.size for name, w in w_k.items()}
    expected = slow_prune(w_k, dense, 0.5, "global")
    masks = at_w_k.tickets[1].masks
    assert {name: mask.ravel().tolist() for name, mask in masks.items()} == expected
    assert at_w_k.summary["cost"]["search_steps"] == 0


def test_a_run_by_a_function_is_reopened_from_python_only(tmp_path, capsys):
    names = {"dataset": "digits", "data_dir": None, "limit_train": 200, "model": "lenet300"}
    data = load_dataset("digits", limit_train=200).train
    shape = {"input_shape": data.input_shape, "num_classes": data.num_classes}
    TicketSearch(
        lambda: build_model("lenet300", keras="keras", **shape),
        TrainingRecipe(epochs=1),
        PruningConfig(rounds=1, criterion=signed),
        NONE,
        directory=tmp_path / "run",
        labels=names,
        verbose=False,
    ).run(data)
    assert main(["retrain", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert re.search(r"criterion: received '\w+\.signed'; .* from Python and pass the", error)
    with pytest.raises(ArgumentError, match="criterion: .*pass the object"):
        PruningConfig(criterion=f"{__name__}.signed")


def test_the_rule_of_a_search_looks_the_same_in_each_process(tmp_path):
    rules = []

    def noted(inputs):
        return taylor(inputs)

    from tf_prac.search import scoring

    class Noted(scoring.NetworkPruner):
        def tentative(self, rule):
            rules.append(repr(super().tentative(rule)))
            return super().tentative(rule)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tf_prac.search.rounds.NetworkPruner", Noted)
        search(tmp_path / "1", Criterion(noted, needs_network=True), rounds=1)
        search(tmp_path / "2", signed, rounds=1)
    assert len(rules) == 2 and not any(" 0x" in rule or "at 0x" in rule for rule in rules)
