"""Searches that continue a finished one with more rounds."""

from __future__ import annotations

import functools
import json

import digits_search
import pytest
from digits_search import TEST, TRAIN
from fault_harness import content, differences

from tf_prac import TrainingRecipe
from tf_prac.cli import info
from tf_prac.config import PRAC_VARIANTS
from tf_prac.errors import DamagedFileError, FileError, MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.search.callbacks import SearchCallback
from tf_prac.storage import run_directory
from tf_prac.storage.config_check import is_longer
from tf_prac.storage.run_directory import RunDirectory

RECIPE = TrainingRecipe(epochs=2, batch_size=64)
make_search = functools.partial(digits_search.make_search, recipe=RECIPE)
FAST = {**PRAC_VARIANTS["fast"].pruning, **PRAC_VARIANTS["fast"].prac.to_json()}


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
    """What a search has found; tickets name the number of rounds when they were written."""
    found = content(directory)
    for name, value in found.items():
        if name.endswith("ticket.json") and "pruning" in value:
            del value["pruning"]["rounds"]
    return found


class Messages(SearchCallback):
    """Keeps the messages of a search."""

    def __init__(self):
        self.text = ""

    def on_message(self, message):
        self.text += message + "\n"


OPTIONS = {
    "prac": {},
    "full data": {"use_cet": False, "use_cep": False},
    "fast": FAST,
    "larger cuts": {"larger_cuts": 0.0, "largest_cut": 3},
    "fine-tuning": {"retraining": "fine_tuning"},
    "statistics": {"rewind_statistics": False},
    "CEP of the round before": {"cep_reference": "round_before"},
    "coverage": {"coverage": 0.5},
    "random subset": {"selector": "random", "subset_size": 0.5},
    "snip": {"criterion": "snip", "rewind": "0it", "use_cet": False, "use_cep": False},
}


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_it_finds_what_one_search_of_all_rounds_finds(flavor, options, tmp_path):
    for rounds in (1, 3):
        run(flavor, tmp_path / "continued", rounds, **options)
    run(flavor, tmp_path / "at_once", 3, **options)
    found, expected = results(tmp_path / "continued"), results(tmp_path / "at_once")
    assert "round_02/masks.npz" in expected
    assert differences(found, expected) == ["config_01_rounds.json"]


def test_target_sparsities_are_continued(tmp_path):
    for sparsities in ((0.3,), (0.3, 0.5)):
        run("keras", tmp_path / "continued", len(sparsities), sparsities=sparsities)
    run("keras", tmp_path / "at_once", 2, sparsities=(0.3, 0.5))
    found, expected = results(tmp_path / "continued"), results(tmp_path / "at_once")
    assert differences(found, expected) == ["config_01_rounds.json"]
    before = files(tmp_path / "continued")
    with pytest.raises(MismatchError, match="rounds: 3 requested"):
        run("keras", tmp_path / "continued", 3, sparsities=(0.3, 0.6, 0.7))
    assert files(tmp_path / "continued") == before


def test_finished_rounds_and_retrained_tickets_are_kept(tmp_path):
    first = run("keras", tmp_path, 2, retrain="last")
    before, messages = files(tmp_path), Messages()
    result = run("keras", tmp_path, 3, retrain=(1, 3), callbacks=[messages])
    after = files(tmp_path)
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {"config.json", "summary.json"}
    assert after["config_02_rounds.json"] == before["config.json"]
    assert result.summary["rounds"][:2] == first.summary["rounds"]
    assert result.summary["tickets"][2] == first.summary["tickets"][2]
    assert [bool(each["retrain_steps"]) for each in result.summary["tickets"]][1:] == [True] * 3
    assert "continues a search of 2 rounds" in messages.text
    again = Messages()
    assert run("keras", tmp_path, 3, retrain=(1, 3), callbacks=[again]).summary == result.summary
    assert "continues a search" not in again.text


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (
            {},
            {"rounds": 1},
            "rounds: 1 requested, but the run in .* has 2. Request as many",
        ),
        ({}, {"rounds": 3, "prune_rate": 0.3}, "prune_rate: 0.3 requested"),
        ({}, {"rounds": 3, "use_cep": False}, "use_cep: False requested"),
        ({}, {"rounds": 2, "retrain": "all"}, "retrain: 'all' requested"),
        (
            {"round_schedule": "one_cycle", "round_budget": "4it"},
            {"rounds": 3},
            "rounds: 3 requested.*The learning rate depends on the number of rounds",
        ),
    ],
)
def test_other_options_are_refused_and_nothing_changes(first, then, message, tmp_path):
    if "round_schedule" in first:
        first = {**FAST, **first, "round_budget": "4it"}
    run("keras", tmp_path, 2, **first)
    before = files(tmp_path)
    with pytest.raises(MismatchError, match=message):
        run("keras", tmp_path, **{**first, **then})
    assert files(tmp_path) == before


@pytest.mark.parametrize("interrupted", ["write_json", "atomic_write", "remove"])
def test_a_search_that_fails_while_it_is_continued_can_still_be_finished(
    interrupted, tmp_path, monkeypatch
):
    summary = run("keras", tmp_path, 1).summary

    def fail(*args, **kwargs):
        raise FileError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(run_directory, interrupted, fail)
        with pytest.raises(FileError, match="disk full"):
            run("keras", tmp_path, 2)
    assert run("keras", tmp_path, 1).summary["rounds"] == summary["rounds"]
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
    with pytest.raises(FileError, match="the search is not finished"):
        RunDirectory(tmp_path).summary()
    assert len(run("keras", tmp_path, 2).summary["rounds"]) == 2


def test_a_damaged_earlier_configuration_is_refused_and_a_missing_one_retrains(tmp_path):
    run("keras", tmp_path, 1)
    masks = content(run("keras", tmp_path, 2).directory)["round_01/masks.npz"]
    earlier = tmp_path / "config_01_rounds.json"
    kept = earlier.read_bytes()
    for text in (b"{", json.dumps({**json.loads(kept), "train_samples": 7}).encode()):
        earlier.write_bytes(text)
        before = files(tmp_path)
        with pytest.raises(DamagedFileError, match="config_01_rounds.json: damaged"):
            run("keras", tmp_path, 2)
        assert files(tmp_path) == before
    earlier.unlink()
    messages = Messages()
    run("keras", tmp_path, 2, callbacks=[messages])
    assert "Round 0 is trained again" in messages.text
    assert content(tmp_path)["round_01/masks.npz"] == masks


@pytest.mark.parametrize(
    ("requested", "existing", "longer"),
    [
        ({"rounds": 3}, {"rounds": 2}, True),
        ({"rounds": 2}, {"rounds": 2}, False),
        ({"rounds": 1}, {"rounds": 2}, False),
        ({"rounds": 2, "sparsities": [0.2, 0.4]}, {"rounds": 1, "sparsities": [0.2]}, True),
        ({"rounds": 2, "sparsities": [0.2, 0.4]}, {"rounds": 1, "sparsities": [0.3]}, False),
        ({"rounds": 2, "sparsities": [0.2, 0.4]}, {"rounds": 1}, False),
        ({"rounds": 2}, {"rounds": 1, "sparsities": [0.2]}, False),
    ],
)
def test_a_longer_search_has_the_rounds_of_the_shorter_one(requested, existing, longer):
    assert is_longer({"pruning": requested}, {"pruning": existing}) is longer
    one_cycle = {"prac": {"round_schedule": "one_cycle"}, "pruning": requested}
    assert not is_longer(one_cycle, {**one_cycle, "pruning": existing})
