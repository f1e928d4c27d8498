"""Comparisons: the same start for all arms, one table, nothing trained twice."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from documents import HEAD, documented_entries
from hypothesis import given
from hypothesis import strategies as st

from tf_prac import PracConfig, PracSet, PruningConfig, Ticket, TrainingRecipe
from tf_prac.analysis.arms import ARMS, chosen_arms
from tf_prac.analysis.comparison import Comparison
from tf_prac.analysis.results import cost_table, results_text, run_rows, table, write_results
from tf_prac.cli.main import main
from tf_prac.config import SearchConfig
from tf_prac.errors import ArgumentError, FileError, MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.search.callbacks import SearchCallback, SearchCallbackList
from tf_prac.search.dense_round import NOT_OF_RETRAINING
from tf_prac.storage.config_check import flatten
from tf_prac.storage.files import read_json, read_npz, write_json
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.trainer import Trainer

TWO_BY_TWO = ("prac", "prac-early_stop", "imp", "imp+early_stop")
QUICK = ["--epochs=2", "--rounds=2", "--limit_train=300", "--batch_size=64", "--rewind=1it"]


def summary_of(seed, accuracies, steps, test=True):
    """Returns a summary like that of a search, with tickets of the given accuracies."""
    tickets = [
        {
            "round": number,
            "sparsity": 1 - 0.8**number,
            "test_accuracy": accuracy if test else None,
            "test_accuracy_last": accuracy - 0.01 if test else None,
            "val_accuracy": accuracy,
            "retrain_steps": 90 if number else 0,
        }
        for number, accuracy in enumerate(accuracies)
    ]
    dense = {"test_accuracy": accuracies[0] if test else None, "val_accuracy": 1.0, "steps": 100}
    cost = {
        "search_steps": sum(steps),
        "full_imp_steps": 1000,
        "steps_saved": 1 - sum(steps) / 1000,
        "end_to_end_steps": sum(steps) + 90,
        "end_to_end_steps_saved": 0.5,
        "forward_samples": 7,
    }
    rounds = [{"steps": count, "seconds": 0.5} for count in steps]
    return {"seed": seed, "dense": dense, "tickets": tickets, "rounds": rounds, "cost": cost}


@given(
    st.lists(st.lists(st.floats(0, 1, width=16), min_size=3, max_size=3), min_size=1, max_size=4),
    st.lists(st.lists(st.floats(0, 1, width=16), min_size=3, max_size=3), min_size=1, max_size=4),
)
def test_mean_spread_and_difference_are_those_of_numpy(mine, reference):
    rows = [
        row
        for arm, runs in (("prac", mine), ("imp", reference))
        for seed, accuracies in enumerate(runs)
        for row in run_rows(arm, seed, summary_of(seed, accuracies, [100, 20]))
    ]
    found = {(row["arm"], row["round"]): row for row in table(rows)}
    assert len(found) == 6
    for number in range(3):
        row, values = found["prac", number], np.array(mine)[:, number]
        assert row["seeds"] == len(mine)
        assert row["test_accuracy"] == pytest.approx(values.mean())
        assert (row["test_accuracy_min"], row["test_accuracy_max"]) == (values.min(), values.max())
        if len(mine) == 1:
            assert row["test_accuracy_std"] is None
        else:
            assert row["test_accuracy_std"] == pytest.approx(values.std(ddof=1))
        both = min(len(mine), len(reference))
        paired = values[:both] - np.array(reference)[:both, number]
        assert row["difference"] == pytest.approx(paired.mean())
        assert found["imp", number]["difference"] == 0


def test_steps_are_those_of_the_rounds_before_and_of_retraining():
    rows = run_rows("prac", 0, summary_of(0, [0.9, 0.8, 0.7], [100, 20]))
    assert [row["search_steps"] for row in rows] == [0, 100, 120]
    assert [row["end_to_end_steps"] for row in rows] == [100, 190, 210]
    assert [row["sparsity"] for row in rows] == pytest.approx([0, 0.2, 0.36])


def test_steps_of_a_pretraining_are_counted():
    summary = summary_of(0, [0.9, 0.8, 0.7], [100, 20])
    summary["rounds"][0]["pretrain_steps"] = 7
    rows = run_rows("prac", 0, summary)
    assert [row["search_steps"] for row in rows] == [0, 107, 127]


def test_cost_is_a_mean_over_seeds():
    found = cost_table({"prac": [summary_of(0, [1.0], [100]), summary_of(1, [1.0], [300])]})
    assert [(row["arm"], row["search_steps"], row["steps_saved"]) for row in found] == [
        ("prac", 200, pytest.approx(0.8))
    ]


@pytest.mark.parametrize("test", [True, False])
def test_results_are_json_csv_and_text(tmp_path, test):
    summaries = {
        "prac": {0: summary_of(0, [0.9, 0.85, 0.8], [100, 20], test)},
        "imp": {s: summary_of(s, [0.9, 0.9, 0.9], [100, 90], test) for s in (0, 1)},
    }
    results = write_results(tmp_path, summaries)
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["table"] == results["table"] and document["kind"] == "comparison_results"
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["round"], row["seeds"]) for row in rows] == [
        (arm, str(n), seeds) for arm, seeds in (("prac", "1"), ("imp", "2")) for n in range(3)
    ]
    assert (tmp_path / "accuracy_steps.png").exists() == test
    text = results_text(results)
    assert ("80.00%" in text and "90.00 ± 0.00" in text) == test
    assert text.splitlines()[0].split() == ["sparsity", "prac", "imp"]


def test_a_dense_network_without_error_is_drawn(tmp_path):
    metric = {"name": "mean_absolute_error", "higher_is_better": False}
    summary = {**summary_of(0, [0.0, 0.1, 0.2], [100, 20]), "metric": metric}
    write_results(tmp_path, {"imp": {0: summary}})
    assert (tmp_path / "accuracy_steps.png").exists()


def test_every_arm_has_options_of_its_own():
    runs = {name: name for name in ARMS}
    config = SearchConfig().replace(prac_from="elsewhere")
    options = [(arm.options(config, runs), arm.controls, arm.control) for arm in ARMS.values()]
    assert len({repr(each) for each in options}) == len(ARMS)


def test_only_the_transferring_arm_takes_the_sets_of_another_run():
    config = SearchConfig().replace(prac_from="elsewhere")
    runs = {name: name for name in ARMS}
    taken = [n for n, a in ARMS.items() if a.options(config, runs).prac.prac_from]
    assert taken == ["transfer"]
    with pytest.raises(ArgumentError, match="prac_from: received None"):
        ARMS["transfer"].options(SearchConfig())


def test_an_arm_comes_after_the_one_it_needs():
    for name, arm in ARMS.items():
        chosen = list(chosen_arms([name]))
        assert chosen == ([name] if arm.needs is None else [arm.needs, name])


@pytest.mark.parametrize("names", [["prac", "imp+early stop"], [""], []])
def test_an_unknown_arm_is_refused_with_a_list_of_all(names):
    with pytest.raises(ArgumentError, match="arms: received .*; allowed: some of prac, ") as error:
        chosen_arms(names)
    assert all(name in str(error.value) for name in ARMS)


def make_comparison(flavor, directory, arms=TWO_BY_TWO, kind=Comparison, **changes):
    keras = importlib.import_module(flavor)

    def model_fn():
        layers = [keras.layers.Dense(30, activation="relu"), keras.layers.Dense(4)]
        return keras.Sequential([keras.layers.InputLayer((20,)), *layers])

    options = {"seeds": (0,), "verbose": False, "recipe": RECIPE, **changes}
    pruning, prac = PruningConfig(rounds=2, rewind="2it"), PracConfig(early_stop_eps=0.3)
    options = {"pruning": pruning, "prac": prac, **options}
    return kind(model_fn, arms, directory=directory, **options)


RECIPE = TrainingRecipe(epochs=3, batch_size=32)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(300, 20)).astype(np.float32)
Y = np.argmax(X[:, :4] + GENERATOR.normal(size=(300, 4)) / 2, axis=1)
TRAIN, TEST = (X[:200], Y[:200]), (X[200:], Y[200:])


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory):
    """Finished comparisons by flavor: directory and results."""
    found = {}
    for flavor in FLAVORS:
        directory = tmp_path_factory.mktemp("compare") / flavor
        found[flavor] = directory, make_comparison(flavor, directory).run(TRAIN, test=TEST)
    return found


@pytest.fixture(params=FLAVORS)
def compared(request, comparisons):
    """A finished comparison: its flavor, directory and results."""
    return request.param, *comparisons[request.param]


def test_arms_start_alike_and_are_ordinary_runs(compared):
    _, directory, _ = compared
    first = {}
    for arm in TWO_BY_TWO:
        run = RunDirectory(directory / arm / "seed_0")
        assert run.config()["search"]["seed"] == run.summary()["seed"] == 0
        first[arm] = read_npz(run.path / "rewind.npz", "rewind")
    for weights in first.values():
        for name, array in weights.items():
            np.testing.assert_array_equal(array, first["imp"][name])


def test_arms_train_on_the_samples_of_their_definition(compared):
    _, directory, results = compared
    rounds = {
        arm: json.loads((directory / arm / "seed_0/summary.json").read_text())["rounds"]
        for arm in TWO_BY_TWO
    }
    assert [r["train_samples"] for r in rounds["imp"]] == [180, 180]
    assert [r["train_samples"] for r in rounds["imp+early_stop"]] == [180, 180]
    assert rounds["prac"][1]["train_samples"] == rounds["prac"][0]["prac_size"] < 180
    assert all(r["stop"] == "budget" for arm in ("imp", "prac-early_stop") for r in rounds[arm])
    cost = {row["arm"]: row for row in results["cost"]}
    assert cost["imp"]["steps_saved"] == 0 < cost["prac"]["steps_saved"]


def test_the_same_call_trains_nothing_and_returns_the_same_results(compared, monkeypatch):
    flavor, directory, results = compared
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    monkeypatch.setattr(Trainer, "train", lambda *a, **k: pytest.fail("trained again"))
    assert make_comparison(flavor, directory).run(TRAIN, test=TEST) == results
    fewer = make_comparison(flavor, directory, ["imp"]).run(TRAIN, test=TEST)
    assert fewer == results, "the table includes the runs of earlier calls"
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before


def test_further_seeds_join_the_table(tmp_path):
    first = make_comparison("keras", tmp_path / "c", ["imp"], seeds=[3]).run(TRAIN, test=TEST)
    later = make_comparison("keras", tmp_path / "c", ["imp"], seeds=[1]).run(TRAIN, test=TEST)
    assert [row["seed"] for row in first["runs"]] == [3] * 3
    assert [row["seed"] for row in later["runs"]] == [1] * 3 + [3] * 3
    assert later["runs"][3:] == first["runs"]
    weights = [read_npz(p, "rewind") for p in sorted((tmp_path / "c").rglob("rewind.npz"))]
    assert not np.array_equal(*(next(iter(each.values())) for each in weights))


class Beside(Comparison):
    """A comparison that calls `other` when its first training begins."""

    def search(self, arm, seed):
        search = super().search(arm, seed)
        search.callbacks = SearchCallbackList([*search.callbacks, Once(lambda: self.other())])
        return search


class Once(SearchCallback):
    def __init__(self, function):
        self.function, self.called = function, False

    def on_training_begin(self, title, steps):
        if not self.called:
            self.called = True
            self.function()


def beside(flavor, directory, other, **options):
    """Runs seed 0 of `imp`, and calls `other` while it trains; returns the results."""
    comparison = make_comparison(flavor, directory, ["imp"], kind=Beside, **options)
    comparison.other = other
    return comparison.run(TRAIN, test=TEST)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_seeds_of_one_comparison_run_at_the_same_time(flavor, tmp_path):
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    found = []

    def second():
        comparison = make_comparison(flavor, shared, ["imp"], seeds=[1])
        found.append(comparison.run(TRAIN, test=TEST))

    results = beside(flavor, shared, second)
    assert [row["seed"] for row in found[0]["runs"]] == [1] * 3, "seed 0 is not finished"
    expected = make_comparison(flavor, alone, ["imp"], seeds=[0, 1]).run(TRAIN, test=TEST)
    assert results["table"] == expected["table"]


def test_arms_of_one_seed_run_at_the_same_time(tmp_path):
    shared, alone = tmp_path / "shared", tmp_path / "alone"

    def second():
        make_comparison("keras", shared, ["imp+early_stop"]).run(TRAIN, test=TEST)

    results = beside("keras", shared, second)
    expected = make_comparison("keras", alone, ["imp", "imp+early_stop"]).run(TRAIN, test=TEST)
    assert results["table"] == expected["table"]


def test_a_run_that_another_process_searches_is_refused(tmp_path):
    def same():
        with pytest.raises(FileError, match="imp/seed_0: another search works in it"):
            make_comparison("keras", tmp_path, ["imp"], seeds=[0]).run(TRAIN, test=TEST)

    assert beside("keras", tmp_path, same)["cost"]


def test_other_options_are_refused_while_a_comparison_runs(tmp_path):
    def other():
        recipe = dataclasses.replace(RECIPE, batch_size=50)
        with pytest.raises(MismatchError, match="batch_size"):
            make_comparison("keras", tmp_path, ["imp"], seeds=[1], recipe=recipe).run(TRAIN)
        assert not (tmp_path / "imp/seed_1").exists()

    assert beside("keras", tmp_path, other)["cost"]


def test_numbers_of_tickets_in_any_order_and_collection_are_the_same_option(tmp_path):
    def record(retrain):
        make_comparison("keras", tmp_path, ["imp"], retrain=retrain).record_options()

    path = tmp_path / "comparison.json"
    record(range(1, 3))
    stored = read_json(path, "comparison")
    assert stored["search"]["retrain"] == [1, 2]
    record([2, 1])
    stored["search"]["retrain"] = [2, 1]  # as before numbers were sorted
    write_json(path, "comparison", stored)
    record((1, 2, 2))
    with pytest.raises(MismatchError, match="retrain"):
        record([2])


SAME_DENSE = ("fast", "fast+constant", "fast+weight_rewinding")


def retrained_dense(directory, arm):
    """Returns the metrics and trained weights of the retrained dense network of an arm."""
    run = RunDirectory(directory / arm / "seed_0")
    return run.finished_ticket(0), read_npz(run.ticket_path(0) / "trained.npz", "weights")


@pytest.fixture(scope="module")
def dense_runs(tmp_path_factory):
    """A comparison of `fast` alone, whose dense network is retrained."""
    directory = tmp_path_factory.mktemp("dense")
    make_comparison("keras", directory, ["fast"]).run(TRAIN, test=TEST)
    return directory


def damage(run):
    path = run / "tickets/round_00/trained.npz"
    path.write_bytes(path.read_bytes()[:-9])


def unfinish(run):
    (run / "tickets/round_00/retrained.json").unlink()


def nothing(run):
    pass


@pytest.mark.parametrize(
    "change, options",
    [
        (damage, {}),
        (unfinish, {}),
        (shutil.rmtree, {}),
        (nothing, {"recipe": TrainingRecipe(epochs=4, batch_size=32)}),
        (nothing, {"recipe": TrainingRecipe(epochs=3, batch_size=32, learning_rate=0.05)}),
        (nothing, {"seeds": (1,)}),
    ],
)
def test_another_dense_network_is_not_copied(change, options, dense_runs, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(dense_runs / "fast/seed_0", source)
    change(source)
    comparison = make_comparison("keras", tmp_path / "c", ["fast+constant"], **options)
    search = comparison.search("fast+constant", comparison.seeds[0])
    search.dense_tickets, messages = (source,), []
    search.callbacks = SearchCallbackList([Messages(messages)])
    dense, *_ = search.run(TRAIN, test=TEST).summary["tickets"]
    assert not dense.get("dense_from") and dense["retrain_steps"] > 0
    assert any("is not copied" in line for line in messages) == (change is damage)


def test_the_dense_network_of_a_search_of_other_rounds_is_copied(dense_runs, tmp_path):
    pruning = PruningConfig(rounds=3, rewind="2it")
    search = make_comparison("keras", tmp_path, ["fast"], pruning=pruning).search("fast", 0)
    search.dense_tickets = (dense_runs / "fast/seed_0",)
    assert search.run(TRAIN, test=TEST).summary["tickets"][0]["dense_from"]


class Messages(SearchCallback):
    def __init__(self, messages):
        self.messages = messages

    def on_message(self, message):
        self.messages.append(message)


def test_every_option_of_an_arm_is_compared_or_does_not_affect_the_dense_network():
    config = SearchConfig()
    runs = dict.fromkeys(ARMS, "run")
    for arm in ARMS.values():
        if arm.controls is not None or arm.transfers:
            continue
        ours, theirs = (flatten(each.to_json()) for each in (config, arm.options(config, runs)))
        changed = {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
        compared = {name for name in changed if not name.startswith(NOT_OF_RETRAINING)}
        assert compared <= {"pruning.rewind"}, "the dense network is not shared with other arms"


@pytest.mark.parametrize("flavor", FLAVORS)
def test_the_dense_network_of_a_seed_is_retrained_once(flavor, tmp_path, monkeypatch):
    trained = []
    retrain = Ticket.train_with

    def count(ticket, *args, **kwargs):
        trained.append(ticket.round)
        return retrain(ticket, *args, **kwargs)

    monkeypatch.setattr(Ticket, "train_with", count)
    arms = (*SAME_DENSE, "fast+annealed")  # its W_k is of another learning rate
    results = make_comparison(flavor, tmp_path / "c", arms).run(TRAIN, test=TEST)
    assert trained == [0, 1, 2, 1, 2, 1, 2, 0, 1, 2]
    copied = [arm for arm in arms if retrained_dense(tmp_path / "c", arm)[0].get("dense_from")]
    assert copied == list(SAME_DENSE[1:])
    alone = make_comparison(flavor, tmp_path / "a", SAME_DENSE[1:2]).run(TRAIN, test=TEST)
    assert [row for row in results["runs"] if row["arm"] == SAME_DENSE[1]] == alone["runs"]
    metrics, weights = retrained_dense(tmp_path / "c", SAME_DENSE[1])
    expected, expected_weights = retrained_dense(tmp_path / "a", SAME_DENSE[1])
    assert {**metrics, "seconds": 0} == {**expected, "seconds": 0, "dense_from": True}
    for name, weight in expected_weights.items():
        np.testing.assert_array_equal(weights[name], weight)


def test_controls_of_tickets_are_arms(comparisons):
    flavor, (directory, _) = "tf_keras", comparisons["tf_keras"]
    arms = ["random_ticket", "reinit"]
    table = make_comparison(flavor, directory, arms).run(TRAIN, test=TEST)["table"]
    found = {(row["arm"], row["round"]): row for row in table}
    for arm in arms:
        assert found[arm, 0]["test_accuracy"] == found["prac", 0]["test_accuracy"]
        for number in (1, 2):
            mine, of_ticket = found[arm, number], found["prac", number]
            assert mine["sparsity"] == pytest.approx(of_ticket["sparsity"])
            assert mine["search_steps"] == of_ticket["search_steps"]
            path = directory / "prac/seed_0/tickets" / f"round_{number:02d}/controls"
            assert (path / f"{ARMS[arm].control}_0/retrained.json").exists()


def test_selectors_take_the_sizes_and_steps_of_prac(comparisons):
    flavor, (directory, _) = "keras", comparisons["keras"]
    arms = ["random_subset", "entropy", "imp+same_steps", "snip"]
    make_comparison(flavor, directory, arms).run(TRAIN, test=TEST)
    rounds = {
        arm: RunDirectory(directory / arm / "seed_0").summary()["rounds"] for arm in ["prac", *arms]
    }
    steps = [figures["steps"] for figures in rounds["prac"]]
    for arm in arms[:3]:
        assert [figures["steps"] for figures in rounds[arm]] == steps
    for arm in arms[:2]:
        assert [f["prac_size"] for f in rounds[arm]] == [f["prac_size"] for f in rounds["prac"]]
    assert all(figures["train_samples"] == 180 for figures in rounds["imp+same_steps"])
    assert [figures["steps"] for figures in rounds["snip"]] == [0, 0]


def test_sets_go_from_one_comparison_to_another(comparisons, tmp_path):
    flavor, (directory, _) = "tf_keras", comparisons["tf_keras"]
    prac = PracConfig(early_stop_eps=0.3, prac_from=str(directory / "prac"))
    comparison = make_comparison(flavor, tmp_path / "c", ["random_transfer"], prac=prac)
    comparison.run(TRAIN, test=TEST)
    theirs, mine, random = (
        PracSet.load(path / "seed_0/round_00/prac_set.npz")
        for path in (directory / "prac", tmp_path / "c/transfer", tmp_path / "c/random_transfer")
    )
    np.testing.assert_array_equal(mine.ids, theirs.ids)
    assert len(random) == len(theirs) and not np.array_equal(random.ids, theirs.ids)


def test_other_options_in_the_same_directory_are_refused(compared):
    flavor, directory, _ = compared
    changed = make_comparison(flavor, directory, ["cet"], recipe=TrainingRecipe(epochs=4))
    with pytest.raises(MismatchError, match="epochs: 4 requested"):
        changed.run(TRAIN, test=TEST)
    assert not (directory / "cet").exists()


def test_a_directory_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for directory in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(FileError, match="not empty and not a comparison"):
            make_comparison("keras", directory).run(TRAIN, test=TEST)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_arms_that_are_the_same_with_these_options_are_refused(tmp_path):
    prac = PracConfig(early_stop_eps=None)
    with pytest.raises(ArgumentError, match=r"imp\+early_stop is the same as imp"):
        make_comparison("keras", tmp_path / "c", ["imp", "imp+early_stop"], prac=prac)


BAD_FLAGS = [
    ("--arms=prac,imp+earlystop", "allowed: some of prac, prac-early_stop, imp,"),
    ("--arms=", "--arms"),
    ("--arms=prac,prac-early_stop --early_stop_eps=off", "prac-early_stop is the same as prac"),
    ("--arms=transfer", "--prac_from: received None; allowed: the run whose sets"),
    ("--selector=random --subset_size=0.5", "--selector: received 'random'"),
    ("--sizes_from=runs/a", "--sizes_from"),
    ("--seeds=a", "--seeds"),
    ("--seeds=0,-1", "--seeds"),
    ("--seeds=", "--seeds"),
    ("--retrain=9", "--retrain: received 9; allowed: one of last, all, none, or numbers"),
    ("--retrain=1,x", "--retrain"),
    ("--rewind=100%", "--rewind"),
    ("--limit_train=0", "--limit_train"),
    ("stray", "stray"),
]


@pytest.mark.parametrize(("text", "named"), BAD_FLAGS, ids=[row[0] for row in BAD_FLAGS])
def test_bad_input_is_one_line_with_status_2_and_writes_nothing(text, named, tmp_path, capfd):
    output = tmp_path / "out"
    assert main(["compare", *QUICK, f"--output_dir={output}", *text.split()]) == 2
    errors = capfd.readouterr().err
    assert len(errors.splitlines()) == 1 and errors.startswith("tf-prac compare: error: ")
    assert named in errors and not output.exists()


def test_the_command_compares(tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["compare", *QUICK, "--arms=imp,prac", "--seeds=0", f"--output_dir={output}"]
    assert main([*arguments, "--retrain=2"]) == 0
    printed = capsys.readouterr().out
    assert f"{output}/results.csv" in printed and "36.00%" in printed
    rows = json.loads((output / "results.json").read_text())["runs"]
    assert [(row["arm"], row["round"]) for row in rows] == [
        ("prac", 0),
        ("prac", 2),
        ("imp", 0),
        ("imp", 2),
    ]
    assert all(math.isfinite(row["test_accuracy"]) for row in rows)
    assert main(["info", str(output / "imp/seed_0")]) == 0
    assert "ticket 2" in capsys.readouterr().out
    assert main([*arguments, "--retrain=2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == [*HEAD, *documented_entries("compare")]
    stored = json.loads((output / "results.json").read_text())
    assert all(printed[name] == stored[name] for name in ("table", "cost", "runs"))


def test_arms_are_listed_without_tensorflow():
    code = (
        "import sys; from tf_prac.cli.main import main; main(['compare', '--help']);"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "imp+early_stop" in done.stdout
