"""What is rewound: weights, statistics, learning rate, optimizer; over both flavors."""

from __future__ import annotations

import csv
import dataclasses
import functools

import digits_search
import numpy as np
import pytest
from digits_search import X, Y
from halved import halved

from tf_prac import (
    Masks,
    PracConfig,
    PruningConfig,
    Ticket,
    TicketSearch,
    TrainingRecipe,
    prunable_weights,
    snapshot,
)
from tf_prac.data.source import ArraySamples
from tf_prac.errors import MismatchError
from tf_prac.keras_api import FLAVORS, seed_everything
from tf_prac.pruning.weights import OPTIMIZER
from tf_prac.storage.files import read_npz
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.schedules import Budget
from tf_prac.training.trainer import Trainer

both = pytest.mark.parametrize("flavor", FLAVORS)
RECIPE = TrainingRecipe(epochs=4, batch_size=64)  # 13 steps an epoch; /10 at steps 26 and 39 of 52
PLAIN = PracConfig(use_cet=False, use_cep=False, early_stop_eps=None)


make_model_fn = functools.partial(digits_search.make_model_fn, widths=(24,), norm=True)


def search(flavor, directory, **pruning):
    options = PruningConfig(**{"rounds": 2, "prune_rate": 0.5, "rewind": "5it", **pruning})
    made = TicketSearch(
        make_model_fn(flavor), RECIPE, options, PLAIN, directory=directory, verbose=False
    )
    return made.run((X[:900], Y[:900]), test=(X[900:], Y[900:]))


def learning_rates(path):
    with open(path / "history.csv", encoding="utf-8") as file:
        return [float(row["learning_rate"]) for row in csv.DictReader(file)]


def trained_in(result, number):
    return read_npz(result.directory / f"round_{number:02d}/weights.npz", "weights")


def equal(ours, theirs, names):
    return all(np.array_equal(ours[name], theirs[name]) for name in names)


@halved("flavor, retraining", FLAVORS, ["lr_rewinding", "fine_tuning"])
def test_weights_stay_as_trained_and_the_learning_rate_is_rewound_or_the_last(
    flavor, retraining, tmp_path
):
    result = search(flavor, tmp_path / "run", retraining=retraining)
    rounds = result.summary["rounds"]
    assert [figures["steps"] for figures in rounds] == [52, 47]
    w_k = RunDirectory(result.directory).load_rewind(rounds[0]["rewind_sha256"])
    assert equal(result.tickets[0].weights, w_k, w_k)
    for ticket in result.tickets[1:]:
        trained = trained_in(result, ticket.round - 1)
        assert equal(ticket.weights, trained, w_k) and ticket.retraining == retraining
        loaded = Ticket.load(result.directory / f"tickets/round_{ticket.round:02d}")
        assert loaded.retraining == retraining and equal(loaded.weights, trained, w_k)
    pruned = trained_in(result, 1)  # trained under the mask of round 0
    for name, mask in result.tickets[1].masks.items():
        assert not pruned[name][~mask].any() and pruned[name][mask].any()
    expected = [0.1, 0.01, 0.001, 0.001] if retraining == "lr_rewinding" else [0.001] * 4
    for path in ("round_01", "tickets/round_02"):
        assert learning_rates(result.directory / path) == pytest.approx(expected)
    assert result.summary["tickets"][-1]["retrain_steps"] == 47
    again = search(flavor, tmp_path / "run", retraining=retraining)
    assert again.summary == result.summary


def test_the_three_modes_share_the_dense_network_and_part_from_there(tmp_path):
    results = {
        mode: search("keras", tmp_path / mode, retraining=mode, rounds=1)
        for mode in ("weight_rewinding", "lr_rewinding", "fine_tuning")
    }
    masks = {mode: result.tickets[1].masks for mode, result in results.items()}
    assert len(set(masks.values())) == 1
    accuracies = [r.summary["tickets"][1]["test_accuracy"] for r in results.values()]
    assert min(accuracies) > 0.8
    assert not (results["weight_rewinding"].directory / "round_00/weights.npz").exists()


@both
def test_statistics_are_rewound_or_stay_as_trained(flavor, tmp_path):
    result = search(flavor, tmp_path / "run", rewind_statistics=False)
    digest = result.summary["rounds"][0]["rewind_sha256"]
    w_k = RunDirectory(result.directory).load_rewind(digest)
    statistics = {name for name in w_k if name.rpartition("/")[2].startswith("moving_")}
    assert len(statistics) == 2
    for ticket in result.tickets[1:]:
        trained = trained_in(result, ticket.round - 1)
        assert equal(ticket.weights, trained, statistics)
        assert equal(ticket.weights, w_k, set(w_k) - statistics)
        assert not equal(trained, w_k, statistics)


@halved("flavor, optimizer", FLAVORS, ["sgd", "adam"])
def test_a_rewound_optimizer_goes_on_as_if_nothing_had_been(flavor, optimizer):
    """All samples in one batch: the order of the data cannot matter."""
    recipe = TrainingRecipe(
        steps=12, batch_size=90, optimizer=optimizer, learning_rate=0.02, schedule="cosine"
    )
    seed_everything(0)
    network = make_model_fn(flavor)()
    pruning = PruningConfig(rewind_optimizer=True)
    trainer = Trainer(network, recipe, ArraySamples(X[:90], Y[:90]), None, pruning)
    start, masks = snapshot(network), Masks.ones_like(prunable_weights(network))
    full, ids = Budget.full(recipe, 90), np.arange(90)
    whole = trainer.train(start, masks, ids, full, (0,), snapshot_at=(5,))
    rest = dataclasses.replace(full, first_step=5)
    w_k = whole.snapshots[5]
    goes_on = trainer.train(w_k, masks, ids, rest, (0,))
    fresh = {name: value for name, value in w_k.items() if not name.startswith(OPTIMIZER)}
    without = trainer.train(fresh, masks, ids, rest, (0,))
    assert len(fresh) < len(w_k)
    rates = [row["learning_rate"] for row in whole.history]
    for part in (goes_on, without):
        assert [row["learning_rate"] for row in part.history] == pytest.approx(rates[5:])
    for name, value in whole.weights.items():
        np.testing.assert_allclose(goes_on.weights[name], value, rtol=2e-3, atol=2e-4)
    kernel = next(iter(masks))
    assert np.abs(without.weights[kernel] - whole.weights[kernel]).max() > 1e-3
    other = Trainer(network, RECIPE, ArraySamples(X[:90], Y[:90]), None, pruning)
    wrong = {**fresh, f"{OPTIMIZER}0000": np.zeros(3)}
    with pytest.raises(MismatchError, match="another optimizer"):
        other.train(wrong, masks, ids, rest, (0,))


def test_the_optimizer_of_a_search_is_kept_with_its_rewind_point(tmp_path):
    result = search("keras", tmp_path / "run", rewind_optimizer=True)
    for ticket in result.tickets:
        slots = [name for name in ticket.weights if name.startswith(OPTIMIZER)]
        assert len(slots) >= 1 + 6  # iterations, and the momentum of each trainable weight
    model = make_model_fn("keras")()
    result.tickets[-1].apply(model)
    assert set(snapshot(model)) == {n for n in ticket.weights if not n.startswith(OPTIMIZER)}
    plain = search("keras", tmp_path / "plain")
    assert result.tickets[1].masks == plain.tickets[1].masks  # round 0 is the same
    assert result.tickets[2].masks != plain.tickets[2].masks


def test_a_round_whose_weights_are_gone_is_trained_again(tmp_path):
    result = search("keras", tmp_path / "run", retraining="lr_rewinding")
    before = trained_in(result, 0)
    (result.directory / "round_00/weights.npz").unlink()
    again = search("keras", tmp_path / "run", retraining="lr_rewinding")
    assert equal(trained_in(again, 0), before, before)
    for ours, theirs in zip(again.tickets, result.tickets, strict=True):
        assert ours.masks == theirs.masks and equal(ours.weights, theirs.weights, before)
