"""A ticket knows how its run trained; `retrain`, `from_model` and `result.best` use that."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from tf_prac import PruningConfig, Ticket, TicketSearch, TrainingRecipe, prune, snapshot
from tf_prac.errors import ArgumentError
from tf_prac.search import ticket as ticket_module

RECIPE = TrainingRecipe(epochs=2, batch_size=8, learning_rate=0.02)
PRUNING = PruningConfig(rounds=1, prune_rate=0.5, rewind="1it", layers=("dense",))


def make_model():
    layers = [keras.Input((5,)), keras.layers.Dense(6), keras.layers.Dense(4)]
    return keras.Sequential([*layers, keras.layers.Dense(3)])


def data():
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    return x, np.arange(40) % 3


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    return TicketSearch(make_model, RECIPE, PRUNING, directory=path, verbose=False).run(data())


def test_a_ticket_keeps_the_recipe_of_its_run(result, tmp_path):
    ticket = result.tickets[-1]
    ticket.save(tmp_path / "elsewhere")
    in_run = result.directory / "tickets" / "round_01"
    for loaded in (ticket, Ticket.load(in_run), Ticket.load(tmp_path / "elsewhere")):
        assert loaded.recipe == ticket.recipe
        assert (loaded.recipe.epochs, loaded.recipe.learning_rate) == (2, 0.02)
        assert loaded.pruning == PRUNING
    assert Ticket.load(in_run).make_control(
        ticket_module.Control(1, "random_mask"), make_model
    ).recipe == ticket.recipe  # fmt: skip


def test_retrain_uses_the_recipe_unless_told_otherwise(result, monkeypatch):
    used = []

    class Stop(Exception):
        pass

    def trainer(model, recipe, samples, validation, pruning, **others):
        used.append((recipe, pruning))
        raise Stop

    monkeypatch.setattr(ticket_module, "Trainer", trainer)
    ticket, other = result.tickets[-1], dataclasses.replace(RECIPE, epochs=1)
    unknown = dataclasses.replace(ticket, recipe=None, pruning=None)
    for which, options in ((ticket, {}), (ticket, {"recipe": other}), (unknown, {})):
        with pytest.raises(Stop):
            which.retrain(make_model(), data(), **options)
    assert ticket.recipe.epochs == RECIPE.epochs
    assert used == [(ticket.recipe, PRUNING), (other, PRUNING), (TrainingRecipe(), None)]


def test_the_best_ticket_has_a_plain_model(result):
    best = result.best
    assert best.ticket is result.tickets[1]
    assert type(best.model) is keras.Sequential
    weights = snapshot(best.model)
    for name, mask in best.ticket.masks.items():
        np.testing.assert_array_equal(weights[name] != 0, mask)
    kept = {**result.summary, "tickets": []}
    with pytest.raises(ArgumentError, match="no retrained ticket"):
        _ = dataclasses.replace(result, summary=kept).best


def test_a_ticket_of_a_pruned_model():
    model = prune(make_model(), sparsity=0.5)
    ticket = Ticket.from_model(model)
    assert ticket.masks == model.masks
    assert ticket.round == 1
    again = ticket.apply(make_model())
    assert again.masks == model.masks
    assert all(np.array_equal(snapshot(again)[n], v) for n, v in snapshot(model).items())
    with pytest.raises(ArgumentError, match="which has no masks"):
        Ticket.from_model(make_model())
