"""Searches with more or fewer rounds than the run in their directory."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json

import digits_search
import pytest
from digits_search import TEST, TRAIN
from fault_harness import content, differences, untimed
from halved import halved

from tf_prac import Comparison, RewindSweep, TrainingRecipe
from tf_prac.analysis.comparison import finished_runs
from tf_prac.cli import evaluate, export, info
from tf_prac.config import PRAC_VARIANTS, SearchConfig
from tf_prac.errors import ArgumentError, DamagedFileError, FileError, MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.search.callbacks import SearchCallback
from tf_prac.storage import run_directory
from tf_prac.storage.config_check import has_other_rounds
from tf_prac.storage.files import read_json
from tf_prac.storage.run_directory import RunDirectory

RECIPE = TrainingRecipe(epochs=2, batch_size=64)
EARLIER = "config_????????.json"
make_search = functools.partial(digits_search.make_search, recipe=RECIPE)
FAST = {**PRAC_VARIANTS["fast"].pruning, **PRAC_VARIANTS["fast"].prac.to_json()}
FULL_DATA = {"use_cet": False, "use_cep": False}


def run(flavor, directory, rounds, *, callbacks=(), **options):
    search = make_search(flavor, directory, rounds=rounds, **options)
    return search.run(TRAIN, test=TEST, callbacks=callbacks)


def files(directory):
    """Every file of a directory, with its bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def results(directory):
    """What a search has found; tickets name the rounds of the run when they were written."""
    found = content(directory)
    for name, value in found.items():
        if name.endswith("ticket.json") and "pruning" in value:
            del value["pruning"]["rounds"], value["pruning"]["sparsities"]
    earlier = [path.name for path in directory.glob(EARLIER)]
    return {name: value for name, value in found.items() if name not in earlier}


class Messages(SearchCallback):
    """Keeps the messages of a search."""

    def __init__(self):
        self.text = ""

    def on_message(self, message):
        self.text += message + "\n"


# More rounds

OPTIONS = {
    "prac": {},
    "full data": FULL_DATA,
    "fast": FAST,
    "larger cuts": {"larger_cuts": 0.0, "largest_cut": 3},
    "fine-tuning": {"retraining": "fine_tuning"},
    "CEP of the round before": {"cep_reference": "round_before"},
    "coverage": {"coverage": 0.5},
    "random subset": {"selector": "random", "subset_size": 0.5},
    "snip": {"criterion": "snip", "rewind": "0it", **FULL_DATA},
}


@halved("options, flavor", list(OPTIONS), FLAVORS)
def test_it_finds_what_one_search_of_all_rounds_finds(options, flavor, tmp_path):
    check_continued(flavor, tmp_path, **OPTIONS[options])


@pytest.mark.slow
@pytest.mark.parametrize("flavor", FLAVORS)
def test_so_does_one_that_xla_compiles(flavor, tmp_path):
    check_continued(flavor, tmp_path, recipe=dataclasses.replace(RECIPE, jit_compile=True))


def check_continued(flavor, tmp_path, **options):
    for rounds in (1, 3):
        run(flavor, tmp_path / "continued", rounds, **options)
    run(flavor, tmp_path / "at_once", 3, **options)
    found, expected = results(tmp_path / "continued"), results(tmp_path / "at_once")
    assert "round_02/masks.npz" in expected
    assert differences(found, expected) == []


@pytest.mark.parametrize("flavor", FLAVORS)
def test_statistics_that_are_not_rewound_are_continued(flavor, tmp_path, monkeypatch):
    model_fn = digits_search.make_model_fn(flavor, norm=True)
    monkeypatch.setattr(digits_search, "make_model_fn", lambda flavor: model_fn)
    for directory, numbers in (("continued", (1, 2)), ("at_once", (2,))):
        for rounds in numbers:
            run(flavor, tmp_path / directory, rounds, rewind_statistics=False)
    found, expected = results(tmp_path / "continued"), results(tmp_path / "at_once")
    assert "tickets/round_02/weights.npz" in expected
    assert differences(found, expected) == []


def test_target_sparsities_are_continued(tmp_path):
    for sparsities in ((0.3,), (0.3, 0.5)):
        run("keras", tmp_path / "continued", len(sparsities), sparsities=sparsities)
    run("keras", tmp_path / "at_once", 2, sparsities=(0.3, 0.5))
    assert differences(results(tmp_path / "continued"), results(tmp_path / "at_once")) == []
    before = files(tmp_path / "continued")
    for sparsities in ((0.3, 0.6, 0.7), ()):
        with pytest.raises(MismatchError, match="rounds: 3 requested.*sparsities of its rounds"):
            run("keras", tmp_path / "continued", 3, sparsities=sparsities)
    assert files(tmp_path / "continued") == before


def test_finished_rounds_and_retrained_tickets_are_kept(tmp_path):
    first = run("keras", tmp_path, 2, retrain="last")
    before, messages = files(tmp_path), Messages()
    result = run("keras", tmp_path, 3, retrain=(1, 3), callbacks=[messages])
    after = files(tmp_path)
    changed = {name for name, written in before.items() if after.get(name) != written}
    assert changed == {"config.json", "summary.json"}
    assert [path.read_bytes() for path in tmp_path.glob(EARLIER)] == [before["config.json"]]
    assert result.summary["rounds"][:2] == first.summary["rounds"]
    assert result.summary["tickets"][2] == first.summary["tickets"][2]
    assert [bool(each["retrain_steps"]) for each in result.summary["tickets"]][1:] == [True] * 3
    assert "rounds: 3, before 2" in messages.text
    again = Messages()
    assert run("keras", tmp_path, 3, retrain=(1, 3), callbacks=[again]).summary == result.summary
    assert "before 2" not in again.text


# Fewer rounds


def test_fewer_rounds_leave_out_the_last_ones_and_more_bring_them_back(tmp_path, monkeypatch):
    run("keras", tmp_path, 1, retrain="last")
    long = run("keras", tmp_path, 3, retrain="last").summary
    monkeypatch.setattr("tf_prac.training.trainer.Trainer.train", None)
    for rounds in (1, 3, 2, 3, 1):
        retrain = "none" if rounds == 2 else "last"
        again = run("keras", tmp_path, rounds, retrain=retrain).summary
        assert again["rounds"] == long["rounds"][:rounds]
        assert again["tickets"] == long["tickets"][: rounds + 1]
        assert RunDirectory(tmp_path).summary() == again


def test_the_steps_of_fewer_rounds_are_those_of_a_search_of_fewer_rounds(tmp_path):
    """The round that trained the last ticket is left out; its steps are those of retraining."""
    run("keras", tmp_path / "run", 3, retrain="all", **FULL_DATA)
    fewer = run("keras", tmp_path / "run", 2, retrain="all", **FULL_DATA).summary
    whole = run("keras", tmp_path / "whole", 2, retrain="all", **FULL_DATA).summary
    assert [t.get("in_round", False) for t in fewer["tickets"]] == [False, True, True]
    assert [t.get("in_round", False) for t in whole["tickets"]] == [False, True, False]
    for cost in (fewer["cost"], whole["cost"]):
        del cost["forward_samples"]  # the round, not its ticket, counts validation
    assert fewer["cost"] == whole["cost"] and whole["cost"]["retrain_steps"] > 0


def test_a_search_that_cannot_have_more_rounds_keeps_those_it_has(tmp_path):
    options = {"min_layer_density": 0.6, "retrain": "last"}
    summary = run("keras", tmp_path, 2, **options).summary
    with pytest.raises(ArgumentError, match="min_layer_density"):
        run("keras", tmp_path, 4, **options)
    again = run("keras", tmp_path, 2, **options).summary
    assert (again["rounds"], again["tickets"]) == (summary["rounds"], summary["tickets"])


# Refusals and faults


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({}, {"rounds": 3, "prune_rate": 0.3}, "prune_rate: 0.3 requested"),
        ({}, {"rounds": 1, "use_cep": False}, "use_cep: False requested"),
        ({}, {"rounds": 2, "retrain": "all"}, "retrain: 'all' requested"),
        (
            {**FAST, "round_schedule": "one_cycle", "round_budget": "4it"},
            {"rounds": 3},
            "rounds: 3 requested, but the run in .* has 2, and its learning rate depends",
        ),
    ],
)
def test_other_options_are_refused_and_nothing_changes(first, then, message, tmp_path):
    run("keras", tmp_path, 2, **first)
    before = files(tmp_path)
    with pytest.raises(MismatchError, match=message):
        run("keras", tmp_path, **{**first, **then})
    assert files(tmp_path) == before


@pytest.mark.parametrize("interrupted", ["write_json", "atomic_write"])
def test_a_change_that_fails_leaves_the_run_as_it_was(interrupted, tmp_path, monkeypatch):
    summary = run("keras", tmp_path, 1).summary

    def fail(*args, **kwargs):
        raise FileError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(run_directory, interrupted, fail)
        with pytest.raises(FileError, match="disk full"):
            run("keras", tmp_path, 2)
    assert RunDirectory(tmp_path).summary() == summary
    assert len(run("keras", tmp_path, 2).summary["rounds"]) == 2


def test_a_continued_search_is_unfinished_until_its_end(tmp_path, capsys):
    run("keras", tmp_path, 1)

    class Stop(SearchCallback):
        def on_message(self, message):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("keras", tmp_path, 2, callbacks=[Stop()])
    flags = info.define_flags()
    flags.parse([])
    info.main(flags, [str(tmp_path)])
    assert "round 1 of 2 is not finished" in capsys.readouterr().out
    with pytest.raises(FileError, match="not finished.*To resume it, run the same search again"):
        RunDirectory(tmp_path).summary()
    for command in (evaluate, export):
        flags = command.define_flags()
        flags.parse(["--output=new"] if command is export else [])
        with pytest.raises(FileError, match="not finished. To resume it, run: tf-prac search"):
            command.main(flags, [str(tmp_path)])
    assert len(run("keras", tmp_path, 2).summary["rounds"]) == 2


def test_a_damaged_earlier_configuration_is_refused_and_a_missing_one_retrains(tmp_path):
    run("keras", tmp_path, 1)
    masks = content(run("keras", tmp_path, 2).directory)["round_01/masks.npz"]
    (earlier,) = tmp_path.glob(EARLIER)
    kept = earlier.read_bytes()
    for text in (b"{", json.dumps({**json.loads(kept), "train_samples": 7}).encode()):
        earlier.write_bytes(text)
        before = files(tmp_path)
        with pytest.raises(DamagedFileError, match=f"{earlier.name}: damaged"):
            run("keras", tmp_path, 2)
        assert files(tmp_path) == before
    earlier.unlink()
    messages = Messages()
    run("keras", tmp_path, 2, callbacks=[messages])
    assert "Round 0 is trained again" in messages.text
    assert content(tmp_path)["round_01/masks.npz"] == masks


def test_labels_are_those_of_the_start(tmp_path):
    for rounds, labels in ((1, {"dataset": "digits"}), (2, {})):
        search = make_search("keras", tmp_path, rounds=rounds)
        search.labels = labels
        search.run(TRAIN, test=TEST)
    assert RunDirectory(tmp_path).config()["labels"] == {"dataset": "digits"}


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ({"rounds": 3}, {"rounds": 2}, True),
        ({"rounds": 2, "sparsities": [0.2, 0.4]}, {"rounds": 1, "sparsities": [0.2]}, True),
        ({"rounds": 2, "sparsities": [0.2, 0.4]}, {"rounds": 1, "sparsities": [0.3]}, False),
        ({"rounds": 2, "sparsities": [0.2, 0.4]}, {"rounds": 1}, False),
        ({"rounds": 2}, {"rounds": 1, "sparsities": [0.2]}, False),
    ],
)
def test_two_searches_share_the_rounds_of_the_shorter_one(one, other, share):
    for requested, existing in ((one, other), (other, one)):
        configs = {"pruning": requested}, {"pruning": existing}
        refused = pytest.raises(MismatchError, match="sparsities")
        assert not has_other_rounds("run", configs[0], configs[0])
        with contextlib.nullcontext() if share else refused:
            assert has_other_rounds("run", *configs)
        with pytest.raises(MismatchError, match="learning rate"):
            has_other_rounds(
                "run", {"prac": {"round_schedule": "one_cycle"}, **configs[0]}, configs[1]
            )


# Runs that others use, and comparisons


@pytest.mark.parametrize(
    "uses",
    [{"prac_from": "other"}, {"sizes_from": "other", "selector": "random"}],
    ids=["sets", "sizes"],
)
def test_a_run_that_others_use_may_get_more_rounds(uses, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("keras", "other", 2)
    first = run("keras", "run", 2, **uses).summary
    run("keras", "other", 3)
    assert run("keras", "run", 2, **uses).summary["rounds"] == first["rounds"]
    continued = run("keras", "run", 3, **uses).summary
    assert continued["rounds"][:2] == first["rounds"]
    at_once = run("keras", "at_once", 3, **uses).summary
    assert untimed(continued["rounds"]) == untimed(at_once["rounds"])


def test_a_run_whose_last_set_others_use_may_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("keras", "other", 1)
    uses = {"prac_from": "other", "prac_from_round": "last"}
    summary = run("keras", "run", 2, **uses).summary
    run("keras", "other", 2)
    before = files(tmp_path / "run")
    for rounds in (2, 3):
        with pytest.raises(MismatchError, match="other has changed.*Restore its number of rounds"):
            run("keras", "run", rounds, **uses)
    assert files(tmp_path / "run") == before
    run("keras", "other", 1)
    assert run("keras", "run", 2, **uses).summary["rounds"] == summary["rounds"]


def make_comparison(directory, arms, rounds, **options):
    config = SearchConfig(recipe=RECIPE).replace(rewind="3it", rounds=rounds, **options)
    model_fn = digits_search.make_model_fn("keras")
    return Comparison(
        model_fn,
        arms,
        config.recipe,
        config.pruning,
        config.prac,
        seeds=(0,),
        directory=directory,
        retrain="last",
        verbose=False,
    )


def test_a_comparison_gets_more_rounds_and_not_fewer(tmp_path):
    arms = ["prac", "random_subset", "imp"]
    make_comparison(tmp_path, arms, 1).run(TRAIN, test=TEST)
    found = make_comparison(tmp_path, arms[:2], 2).run(TRAIN, test=TEST)
    assert {row["arm"] for row in found["table"] if row["round"] == 2} == {"prac", "random_subset"}
    assert {row["round"] for row in found["table"] if row["arm"] == "imp"} == {0, 1}
    assert read_json(tmp_path / "comparison.json", "comparison")["pruning"]["rounds"] == 2
    (tmp_path / "imp/seed_1").mkdir()  # another process has just begun
    assert set(finished_runs(tmp_path)) == set(arms)
    before = files(tmp_path)
    with pytest.raises(MismatchError, match="rounds: 1 requested"):
        make_comparison(tmp_path, arms, 1).run(TRAIN, test=TEST)
    with pytest.raises(MismatchError, match="prune_rate"):
        make_comparison(tmp_path, arms, 3, prune_rate=0.5).run(TRAIN, test=TEST)
    assert files(tmp_path) == before
    found = make_comparison(tmp_path, arms, 2).run(TRAIN, test=TEST)
    assert {row["arm"] for row in found["table"] if row["round"] == 2} == set(arms)
    make_comparison(tmp_path / "at_once", arms, 2).run(TRAIN, test=TEST)
    for arm in arms:
        path = f"{arm}/seed_0/round_01/masks.npz"
        assert content(tmp_path)[path] == content(tmp_path / "at_once")[path]


def test_a_comparison_with_one_cycle_for_all_rounds_gets_no_more(tmp_path):
    arms = ["imp", "gradual"]
    make_comparison(tmp_path, arms, 1).run(TRAIN, test=TEST)
    before = files(tmp_path)
    with pytest.raises(MismatchError, match="gradual/seed_0 has 1, and its learning rate"):
        make_comparison(tmp_path, arms, 2).run(TRAIN, test=TEST)
    assert files(tmp_path) == before


def test_a_sweep_gets_more_rounds(tmp_path):
    def sweep(directory, rounds):
        config = SearchConfig(recipe=RECIPE).replace(rounds=rounds)
        model_fn = digits_search.make_model_fn("keras")
        groups = config.recipe, config.pruning, config.prac
        options = {"seeds": (0,), "retrain": "last", "verbose": False}
        rewinds = ["2it", "4it"]
        return RewindSweep(model_fn, rewinds, *groups, directory=directory, **options)

    for rounds in (1, 2):
        sweep(tmp_path / "continued", rounds).run(TRAIN, test=TEST)
    sweep(tmp_path / "at_once", 2).run(TRAIN, test=TEST)
    for rewind in ("2it", "4it"):
        path = f"rewind_{rewind}/seed_0/round_01/masks.npz"
        found = content(tmp_path / "continued")[path]
        assert found == content(tmp_path / "at_once")[path]
