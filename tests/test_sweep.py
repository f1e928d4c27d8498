"""Sweeps over the rewind point: ordinary runs that share the dense round."""

from __future__ import annotations

import csv
import functools
import json
import shutil

import digits_search
import numpy as np
import pytest
from digits_search import X, Y, counted

from tf_prac import PracConfig, PruningConfig, RewindSweep, Ticket, TicketSearch, TrainingRecipe
from tf_prac.analysis.reproduce.parts import Runs
from tf_prac.cli.main import main
from tf_prac.errors import ArgumentError, FileError, MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.storage.files import read_npz
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.trainer import Trainer

PLAIN = PracConfig(use_cet=False, use_cep=False, early_stop_eps=None)
RECIPE = TrainingRecipe(epochs=3, batch_size=64, validation_split=0.1)
DATA = {"train": (X[:900], Y[:900]), "test": (X[900:], Y[900:])}  # 13 steps an epoch, 39 in all
REWINDS = ("0it", "5it", "1ep")


make_model_fn = functools.partial(digits_search.make_model_fn, widths=(24,), norm=True)


def make_sweep(flavor, directory, rewinds=REWINDS, **changes):
    options = {
        "recipe": RECIPE,
        "pruning": PruningConfig(rounds=2, prune_rate=0.6),
        "prac": PLAIN,
        "controls": ("random_mask",),
        "verbose": False,
        **changes,
    }
    return RewindSweep(make_model_fn(flavor), rewinds, directory=directory, **options)


def make_search(flavor, directory, **changes):
    rewind = changes.pop("rewind", "5it")
    pruning = PruningConfig(**{"rounds": 2, "prune_rate": 0.6, "rewind": rewind})
    options = {"recipe": RECIPE, "pruning": pruning, "prac": PLAIN, "retrain": "all", **changes}
    return TicketSearch(make_model_fn(flavor), directory=directory, verbose=False, **options)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """Finished sweeps by flavor: flavor, directory, results and steps of each training."""
    found = {}
    for flavor in FLAVORS:
        directory = tmp_path_factory.mktemp("sweep") / flavor
        with pytest.MonkeyPatch.context() as patch:
            steps = counted(patch)
            results = make_sweep(flavor, directory).run(**DATA)
        found[flavor] = (flavor, directory, results, steps)
    return found


@pytest.fixture(params=FLAVORS)
def swept(request, sweeps):
    return sweeps[request.param]


def test_a_shared_dense_round_has_the_results_of_a_separate_search(swept, tmp_path):
    flavor, directory, _, _ = swept
    alone = make_search(flavor, tmp_path / "run", rewind="1ep").run(**DATA)
    path = directory / "rewind_1ep/seed_0"
    shared = RunDirectory(path).summary()
    for ours, theirs in zip(shared["rounds"], alone.summary["rounds"], strict=True):
        same = set(theirs) - {"seconds", "rewind_sha256"}
        assert {n: ours[n] for n in same} == {n: theirs[n] for n in same}
    for ticket in alone.tickets:
        ours = Ticket.load(path / f"tickets/round_{ticket.round:02d}")
        assert ours.masks == ticket.masks and ours.rewind_step == 13
        for name, value in ticket.weights.items():
            np.testing.assert_array_equal(ours.weights[name], value)
    for name in ("test_accuracy", "val_accuracy"):
        assert [t[name] for t in shared["tickets"]] == [t[name] for t in alone.summary["tickets"]]


def test_a_shared_dense_round_is_shared_again_with_the_points_it_keeps(swept, tmp_path):
    flavor, directory, _, _ = swept
    source = directory / "rewind_0it/seed_0"
    options = {"rewind": "1ep", "dense_from": source}
    make_search(flavor, tmp_path / "one", also_keep=("1ep",), **options).run(**DATA)
    stored = "round_00/rewind_step_13.npz"
    assert (tmp_path / "one" / stored).read_bytes() == (source / stored).read_bytes()
    make_search(flavor, tmp_path / "two", rewind="1ep", dense_from=tmp_path / "one").run(**DATA)
    with pytest.raises(FileError, match="did not store the weights after step 6"):
        make_search(flavor, tmp_path / "three", also_keep=("6it",), **options).run(**DATA)


def test_each_rewind_point_has_its_own_weights(swept):
    _, directory, _, _ = swept
    weights = [
        Ticket.load(directory / f"rewind_{rewind}/seed_0/tickets/round_01").weights
        for rewind in REWINDS
    ]
    for name, value in weights[0].items():
        if name.endswith("kernel"):
            assert not np.array_equal(value, weights[1][name])
            assert not np.array_equal(value, weights[2][name])


def test_counted_steps_are_the_trained_steps(swept):
    _, directory, results, steps = swept
    assert results["steps"]["trained"] == sum(steps)
    paths = {rewind: directory / f"rewind_{rewind}/seed_0" for rewind in REWINDS}
    summaries = {rewind: {0: RunDirectory(path).summary()} for rewind, path in paths.items()}
    assert Runs(None, summaries, None, None).steps == sum(steps)
    assert results["steps"]["shared"] == 2 * 39
    ks = (0, 5, 13)
    searched = sum(39 + (39 - k) for k in ks)
    # The last ticket, and a control of each; a round trained the first ticket.
    retrained = sum(3 * (39 - k) for k in ks)
    assert results["steps"]["alone"] == searched + retrained


def test_the_table_has_a_row_for_each_rewind_point_control_and_sparsity(swept):
    _, directory, results, _ = swept
    found = [(row["arm"], row["round"]) for row in results["table"]]
    expected = [
        (f"k={rewind}{kind}", number)
        for rewind in REWINDS
        for kind, numbers in (("", (0, 1, 2)), (" random_mask", (1, 2)))
        for number in numbers
    ]
    assert found == expected
    for row in results["table"]:
        rewind, _, kind = row["arm"].removeprefix("k=").partition(" ")
        summary = RunDirectory(directory / f"rewind_{rewind}/seed_0").summary()
        tickets = summary["controls" if kind else "tickets"]
        if row["round"]:
            (figures,) = [t for t in tickets if t["round"] == row["round"]]
            assert row["test_accuracy"] == figures["test_accuracy"]
            assert row["sparsity"] == figures["sparsity"]
        else:
            assert row["test_accuracy"] == summary["dense"]["test_accuracy"]
    names = {path.name for path in directory.iterdir()}
    for stem in ("accuracy_remaining", "accuracy_rewind"):
        assert {f"{stem}{suffix}" for suffix in (".csv", ".png", ".svg")} <= names
    with open(directory / "accuracy_rewind.csv", encoding="utf-8") as file:
        points = list(csv.DictReader(file))
    assert {float(point["x"]) for point in points} == {0, 5, 13}
    assert len({point["line"] for point in points}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("flavor", FLAVORS)
def test_one_shot_tickets_are_pruned_from_the_dense_network(flavor, tmp_path, monkeypatch):
    """Only round 0 trains; each ticket keeps the largest of its trained weights."""
    pruning = PruningConfig(rounds=3, prune_rate=0.5, larger_cuts=0, largest_cut=3)
    options = {"pruning": pruning, "controls": ()}
    with monkeypatch.context() as patch:
        steps = counted(patch)
        results = make_sweep(flavor, tmp_path, ("0it", "5it"), **options).run(**DATA)
    assert steps == [39] + 3 * [39] + 3 * [34]  # both k have one dense network
    assert [row["search_steps"] for row in results["table"] if row["round"]] == 6 * [39]
    for rewind in ("0it", "5it"):
        run = RunDirectory(tmp_path / f"rewind_{rewind}/seed_0")
        weights = read_npz(run.round_path(0) / "weights.npz", "weights")
        before = None
        for number in (1, 2, 3):
            masks = Ticket.load(run.ticket_path(number)).masks
            assert masks.density == pytest.approx(0.5**number, abs=0.01)
            kept, pruned = (
                np.concatenate([np.abs(weights[n][m == keep]) for n, m in masks.items()])
                for keep in (True, False)
            )
            assert kept.min() >= pruned.max()
            assert before is None or all((before[n] | ~m).all() for n, m in masks.items())
            before = masks
        with monkeypatch.context() as patch:  # a finished search trains nothing
            patch.setattr(Trainer, "train", lambda *a, **k: pytest.fail("trained again"))
            make_sweep(flavor, tmp_path, ("0it", "5it"), **options).run(**DATA)


def test_the_same_call_trains_nothing_and_more_rewind_points_train_their_own(sweeps, tmp_path):
    flavor, directory, results, _ = sweeps["keras"]
    shutil.copytree(directory, tmp_path / "sweep")
    with pytest.MonkeyPatch.context() as patch:
        steps = counted(patch)
        again = make_sweep(flavor, tmp_path / "sweep").run(**DATA)
        assert steps == [] and again["table"] == results["table"]
        more = make_sweep(flavor, tmp_path / "sweep", (*REWINDS, "20it"), controls=()).run(**DATA)
        assert steps == [39, 19, 19]  # dense, a sparse round, which is ticket 1, and ticket 2
    assert more["steps"]["shared"] == 2 * 39


def test_an_interrupted_sweep_resumes(sweeps, tmp_path):
    flavor, directory, results, _ = sweeps["keras"]
    shutil.copytree(directory, tmp_path / "sweep")
    shutil.rmtree(tmp_path / "sweep/rewind_1ep")
    shutil.rmtree(tmp_path / "sweep/rewind_5it/seed_0/round_01")
    (tmp_path / "sweep/rewind_5it/seed_0/round_00/round.json").unlink()
    for run in ("rewind_5it/seed_0/tickets", "rewind_5it/seed_0/summary.json"):
        path = tmp_path / "sweep" / run
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = make_sweep(flavor, tmp_path / "sweep").run(**DATA)
    for ours, theirs in zip(again["table"], results["table"], strict=True):
        assert ours == theirs


@pytest.mark.parametrize(
    ("rewinds", "changes", "message"),
    [
        ((), {}, "rewinds: .* at least one"),
        (("5",), {}, "rewinds: received '5'"),
        (("0it", "39it"), {}, "rewinds: received '39it'; .*39 steps.* It is at step 39"),
        (("0it", "4ep"), {}, "rewinds: received '4ep'; .* at step 52"),
        (("13it", "1ep"), {}, "rewinds: received '1ep'; .* 13it is step 13 as well"),
        (("0it",), {"controls": ("shuffle",)}, "controls: received 'shuffle'"),
        (("0it",), {"seeds": ()}, "seeds: "),
        (("0it",), {"seeds": (-1,)}, "seeds: received -1"),
        (("0it",), {"retrain": "some"}, "retrain: received 'some'"),
    ],
)
def test_bad_sweeps_are_refused_and_write_nothing(tmp_path, rewinds, changes, message):
    with pytest.raises(ArgumentError, match=message):
        make_sweep("keras", tmp_path / "sweep", rewinds, **changes).run(**DATA)
    assert not (tmp_path / "sweep").exists()


def test_a_directory_of_other_things_or_another_sweep_is_refused(sweeps, tmp_path):
    flavor, directory, _, _ = sweeps["keras"]
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match="not empty and not a sweep"):
        make_sweep(flavor, tmp_path).run(**DATA)
    before = (directory / "results.json").read_bytes()
    pruning = PruningConfig(rounds=2, prune_rate=0.5)
    with pytest.raises(MismatchError, match="prune_rate: 0.5 requested"):
        make_sweep(flavor, directory, pruning=pruning).run(**DATA)
    assert (directory / "results.json").read_bytes() == before


def test_a_dense_round_is_reused_only_if_it_is_the_same(sweeps, tmp_path):
    flavor, directory, _, _ = sweeps["keras"]
    source = directory / "rewind_0it/seed_0"
    cases = [
        ({"seed": 1}, MismatchError, "seed: 1 requested"),
        ({"recipe": TrainingRecipe(epochs=4, batch_size=64)}, MismatchError, "epochs: 4 requested"),
        ({"rewind": "6it"}, FileError, "did not store the weights after step 6"),
    ]
    for number, (changes, error, message) in enumerate(cases):
        path = tmp_path / str(number)
        with pytest.raises(error, match=message):
            make_search(flavor, path, dense_from=source, **changes).run(**DATA)
        assert {p.name for p in path.iterdir()} <= {"config.json", ".lock"}
    with pytest.raises(FileError, match="not a run"):
        make_search(flavor, tmp_path / "n", dense_from=tmp_path / "nothing").run(**DATA)
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    (copy / "round_00/round.json").unlink()
    with pytest.raises(FileError, match="dense round is not finished"):
        make_search(flavor, tmp_path / "u", dense_from=copy).run(**DATA)


def test_an_early_stop_waits_for_every_saved_rewind_point(tmp_path, monkeypatch):
    from tf_prac.pruning import mask_distance

    monkeypatch.setattr(mask_distance.MaskDistanceStop, "update", lambda self, distance: True)
    prac = PracConfig(use_cet=False, use_cep=False, early_stop_eps=0.5)
    search = make_search("keras", tmp_path / "run", prac=prac, also_keep=("20it",), retrain="none")
    assert search.run(**DATA).summary["rounds"][0]["steps"] == 26
    assert (tmp_path / "run/round_00/rewind_step_20.npz").exists()


def test_the_command(tmp_path, capsys):
    directory = tmp_path / "sweep"
    flags = ["--epochs=2", "--rounds=2", "--prac=none", "--batch_size=128", "--retrain=last"]
    command = ["sweep", *flags, "--rewinds=0it,3it", "--controls=random_mask,reinit"]
    assert main([*command, f"--output_dir={directory}"]) == 0
    printed = capsys.readouterr().out
    assert "k=3it reinit" in printed and "more without sharing round 0" in printed
    (figures,) = [line for line in printed.splitlines() if line.startswith("figures  ")]
    names = figures.removeprefix(f"figures  {directory}/").split(", ")
    assert sorted(names) == sorted(path.name for path in directory.glob("*.png"))
    results = json.loads((directory / "results.json").read_text())
    arms = [row["arm"] for row in results["table"] if row["round"] == 2]
    kinds = ("", " random_mask", " reinit")
    assert arms == [f"k={rewind}{kind}" for rewind in ("0it", "3it") for kind in kinds]
    assert main(["info", str(directory / "rewind_3it/seed_0")]) == 0
    capsys.readouterr()
    for arguments, named in (
        (["sweep"], "--rewinds: received None"),
        (["sweep", "--rewinds=0it,99999it"], "--rewinds: received '99999it'"),
        ([*command[:-1], "--controls=shuffle"], "--controls: received 'shuffle'"),
        (["sweep", "--rewinds=0it", "--seeds=a"], "--seeds: received 'a'"),
    ):
        assert main([*arguments, f"--output_dir={tmp_path / 'bad'}"]) == 2
        assert named in capsys.readouterr().err
        assert not (tmp_path / "bad").exists()
