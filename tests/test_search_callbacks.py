"""Callbacks of a search: each hook is called once and in order, also when a search resumes."""

from __future__ import annotations

import importlib
import shutil

import numpy as np
import pytest
from digits_search import X, Y

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe
from tf_prac.callbacks import SearchCallback
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.search.summary import chance_warning
from tf_prac.search.ticket import Control

TRAIN, TEST = (X[:400], Y[:400]), (X[400:600], Y[400:600])


class Record(SearchCallback):
    """Writes down every call."""

    def __init__(self):
        self.calls, self.steps, self.content = [], [], {}

    def on_search_begin(self, config):
        self.calls.append("search")
        self.content["config"] = config

    def on_message(self, text):
        self.calls.append(f"message {text.split()[0]}")

    def on_training_begin(self, title, steps):
        self.calls.append(f"train {title}")
        self.steps.append([0, steps])

    def on_training_steps(self, count):
        self.steps[-1][0] += count

    def on_training_end(self):
        self.calls.append("trained")

    def on_round_end(self, metrics):
        self.calls.append(f"round {metrics['round']}")
        self.content[f"round {metrics['round']}"] = metrics

    def on_ticket_end(self, metrics):
        self.calls.append(f"ticket {metrics['round']} {metrics['control']}".strip())
        self.content[self.calls[-1]] = metrics

    def on_search_end(self, summary):
        self.calls.append("end")
        self.content["summary"] = summary


def make_search(flavor, directory, **options):
    keras = importlib.import_module(flavor)
    layers = keras.layers
    return TicketSearch(
        lambda: keras.Sequential(
            [layers.Input((64,)), layers.Dense(12, activation="relu"), layers.Dense(10)]
        ),
        options.pop("recipe", None) or TrainingRecipe(epochs=2, batch_size=50),
        PruningConfig(rounds=2, rewind="3it"),
        directory=directory,
        **{"retrain": "all", "verbose": False, **options},
    )


def run(search, callbacks):
    return search.run(TRAIN, test=TEST, controls=[Control(2, "reinit")], callbacks=callbacks)


@pytest.fixture(scope="module", params=FLAVORS)
def finished(request, tmp_path_factory):
    """A finished search, what two callbacks saw of it, and how to make the search again."""
    directory = tmp_path_factory.mktemp("callbacks") / "run"
    records = Record(), Record()
    result = run(make_search(request.param, directory), records)
    return result, records, lambda path, **options: make_search(request.param, path, **options)


OPENING = ["search", "message sequential"]
ROUNDS = ["train round 0", "trained", "round 0", "train round 1", "trained", "round 1"]
TICKETS = [
    *("train retrain ticket 1", "trained", "ticket 1"),
    *("train retrain ticket 2", "trained", "ticket 2"),
    *("train retrain ticket 2 reinit_0", "trained", "ticket 2 reinit_0"),
]


def without_trainings(calls):
    return [call for call in calls if not call.startswith("train")]


def test_each_hook_is_called_once_and_in_order(finished):
    result, (first, second), _ = finished
    assert first.calls == second.calls == [*OPENING, *ROUNDS, *TICKETS, "end"]
    summary, content = result.summary, first.content
    assert content["summary"] == summary
    assert content["config"]["recipe"]["batch_size"] == 50
    assert [content["round 0"], content["round 1"]] == summary["rounds"]
    assert [content["ticket 1"], content["ticket 2"]] == summary["tickets"][1:]
    assert content["ticket 2 reinit_0"] == summary["controls"][0]
    taken = [r["steps"] for r in summary["rounds"]]
    taken += [t["retrain_steps"] for t in [*summary["tickets"][1:], *summary["controls"]]]
    assert [steps for steps, _ in first.steps] == taken
    assert all(steps <= budget for steps, budget in first.steps)


def test_a_search_that_resumes_reports_what_is_finished_too(finished, tmp_path):
    result, (first, _), make = finished
    shutil.copytree(result.directory, tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    shutil.rmtree(tmp_path / "run/round_01")
    shutil.rmtree(tmp_path / "run/tickets/round_01")
    record = Record()
    run(make(tmp_path / "run"), [record])
    assert record.calls == [
        *OPENING,
        *("round 0", "train round 1", "trained", "round 1"),
        *("train retrain ticket 1", "trained", "ticket 1", "ticket 2", "ticket 2 reinit_0", "end"),
    ]
    again = Record()
    run(make(tmp_path / "run"), [again])
    assert again.calls == without_trainings(first.calls)
    assert again.content["summary"] == record.content["summary"]


def test_an_exception_ends_the_search_which_resumes(finished, tmp_path):
    _, (first, _), make = finished

    class Stop(SearchCallback):
        def on_round_end(self, metrics):
            raise KeyError("mine")

    record, late = Record(), Record()
    with pytest.raises(KeyError, match="mine"):
        run(make(tmp_path / "run"), [record, Stop(), late])
    assert record.calls[-1] == "round 0" and late.calls[-1] == "trained"
    resumed = Record()
    run(make(tmp_path / "run"), [resumed])
    assert "train round 0" not in resumed.calls
    assert without_trainings(resumed.calls) == without_trainings(first.calls)


def test_a_training_that_fails_ends_for_its_callbacks(finished, tmp_path, monkeypatch):
    _, _, make = finished

    class Stop(Record):
        def on_training_steps(self, count):
            raise KeyboardInterrupt

    record = Stop()
    with pytest.raises(KeyboardInterrupt):
        run(make(tmp_path / "run"), [record])
    assert record.calls == [*OPENING, "train round 0", "trained"]


def first_lines(text):
    """Lines that do not continue the one before, without those about weights."""
    return [line for line in text.splitlines() if not line.startswith("  ")]


def test_verbose_shows_the_search_on_the_terminal(finished, capsys):
    result, _, make = finished
    run(make(result.directory), [])
    assert capsys.readouterr().out == ""
    run(make(result.directory, verbose=True), [])
    lines = first_lines(capsys.readouterr().out)
    starts = ["sequential", "", "data: on the device ", "round  0", "round  1"]
    starts += ["ticket  1", "ticket  2", "ticket  2  reinit_0"]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts
    record = Record()
    run(make(result.directory, verbose=record), [])
    shown = first_lines(capsys.readouterr().out)
    assert shown[1:] == lines[1:], "in addition to the terminal"
    assert record.calls[-1] == "end"


@pytest.mark.parametrize("numbers", ["all", (9,), (True,), (-1,)])
def test_tickets_that_do_not_exist_are_not_retrained_silently(finished, numbers):
    result, _, make = finished
    with pytest.raises(ArgumentError, match="retrain"):
        make(result.directory).run(TRAIN, test=TEST, also_retrain=numbers)


CHANCE = [  # validation accuracy, classes, largest input, what the warning says
    (0.10, np.arange(100) % 10, 255.0, "Inputs are up to 255: scale them"),
    (0.13, np.arange(100) % 10, 1.0, "Check the learning rate"),
    (0.14, np.arange(100) % 10, 255.0, None),
    (0.90, np.arange(100) // 90, 1.0, "most frequent class gives 90.00%"),
    (0.94, np.arange(100) // 90, 1.0, None),
    (0.10, None, 255.0, None),
    (None, np.arange(100) % 10, 255.0, None),
]


@pytest.mark.parametrize(("accuracy", "classes", "largest", "says"), CHANCE)
def test_a_dense_round_at_chance_is_told(accuracy, classes, largest, says):
    text = chance_warning({"val_accuracy": accuracy}, classes, largest)
    assert text == "" if says is None else says in text
    other = {"val_accuracy": accuracy, "metric": {"name": "mean_absolute_error"}}
    assert chance_warning(other, classes, largest) == ""


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_search_on_unscaled_pixels_is_told(flavor, tmp_path):
    messages = []

    class Messages(SearchCallback):
        def on_message(self, text):
            messages.append(" ".join(text.split()))

    recipe = TrainingRecipe(epochs=1, batch_size=50, learning_rate=9.0)
    search = make_search(flavor, tmp_path, recipe=recipe, retrain="none")
    search.run((X[:400] * 255, Y[:400]), callbacks=[Messages()])
    warning = [each for each in messages if "always predicting" in each]
    assert len(warning) == 1 and "Inputs are up to 255: scale them" in warning[0]


def test_only_callbacks_of_a_search_are_taken(finished):
    result, _, make = finished
    with pytest.raises(ArgumentError, match="^callbacks: .*int'; .*SearchCallback"):
        run(make(result.directory), [1])
