"""The appendix of the PrAC paper: numbers against slow references, and `tf-prac figures`."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tf_prac.analysis.appendix import (
    NEVER,
    class_rows,
    forgetting_rows,
    iou_rows,
    mask_distances,
    set_size_rows,
)
from tf_prac.analysis.images import image_rows
from tf_prac.cli import open_run
from tf_prac.cli.main import main
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.errors import FileError
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning.masks import Masks
from tf_prac.storage.run_directory import RunDirectory

QUICK = "--epochs=3 --rounds=2 --limit_train=400 --batch_size=64 --rewind=1it --retrain=none"


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 40))))
def test_mask_distances_are_hamming_distances_over_the_remaining_weights(tentative):
    found = mask_distances(tentative)
    for a, mine in enumerate(tentative):
        for b, other in enumerate(tentative):
            assert found[a, b] == pytest.approx(np.count_nonzero(mine != other) / len(mine))


def test_forgetting_rows_count_every_presented_sample_once():
    stats = ForgettingStats(6)
    ids = np.arange(5)
    for correct in ([1, 0, 1, 0, 1], [0, 0, 1, 0, 1], [1, 0, 0, 1, 1], [0, 0, 1, 1, 1]):
        stats.update(ids, np.array(correct, bool))
    rows = {row["events"]: row for row in forgetting_rows({3: stats})}
    assert {events: row["samples"] for events, row in rows.items()} == {0: 2, 1: 1, 2: 1, NEVER: 1}
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    assert all(row["round"] == 3 for row in rows.values())


@given(st.lists(st.integers(0, 59), min_size=1, unique=True))
def test_class_rows_add_up(ids):
    labels, train = np.arange(60) % 4, np.arange(60)
    rows = class_rows({0: PracSet(ids, [], 60)}, labels, train)
    assert sum(row["samples"] for row in rows) == len(ids)
    assert sum(row["share_of_set"] for row in rows) == pytest.approx(1)
    for row in rows:
        assert row["share"] == pytest.approx(sum(i % 4 == row["class"] for i in ids) / 15)


def test_iou_rows_pair_every_two_runs():
    dense = Masks({"w": np.ones(4)})
    half, other = Masks({"w": np.array([1, 1, 0, 0])}), Masks({"w": np.array([0, 1, 1, 0])})
    runs = {"a": [dense, half], "b": [dense, other], "c": [dense]}
    rows = iou_rows(runs)
    assert [(r["run"], r["other_run"], r["round"], r["iou"]) for r in rows] == [
        ("a", "b", 1, 1.0),
        ("a", "b", 2, pytest.approx(1 / 3)),
        ("a", "c", 1, 1.0),
        ("b", "c", 1, 1.0),
    ]


def test_set_sizes_are_the_columns_of_table_a3():
    sizes = {"cep": 1501, "cet": 24159, "prac_size": 24168, "overlap": 0.994}
    dense = {"round": 0, "sparsity": 0.0, "train_samples": 45000, **sizes, "prac_size": 29703}
    metrics = {"round": 1, "sparsity": 0.2, "next_sparsity": 0.36, **sizes}
    rows = set_size_rows([dense, metrics])
    assert rows[1] == {"round": 1, "sparsity": 0.2, **sizes, "share": 24168 / 45000}


def test_the_rows_of_a_published_log_are_labeled_as_in_table_a3():
    """Set sizes in the order of a published log of the authors' code, next to the paper's."""
    log = [29703, 24667, 21959, 19816, 18112, 16751]
    paper = {0.2: 24168, 0.36: 21728, 0.488: 19838, 0.5904: 18161, 0.67232: 16712}
    rest = {"cet": 0, "cep": 0, "overlap": 0.0, "train_samples": 45000}
    rounds = [
        {"round": n, "sparsity": 1 - 0.8**n, "next_sparsity": 1 - 0.8 ** (n + 1), "prac_size": size}
        for n, size in enumerate(log)
    ]
    found = {
        round(r["sparsity"], 6): r["prac_size"] for r in set_size_rows([r | rest for r in rounds])
    }
    for sparsity, size in paper.items():
        assert found[round(sparsity, 6)] == pytest.approx(size, rel=0.025)


def test_images_are_drawn_from_both_sides_of_the_training_set():
    samples = ArraySamples(np.zeros((90, 4, 4, 1), np.uint8), np.arange(90) % 3)
    train = Split(samples, np.arange(60))
    prac_set = PracSet(np.arange(0, 60, 7), [], 90)
    rows = image_rows(prac_set, train)
    assert rows == image_rows(prac_set, train)
    assert len(rows) == 3 * 6 + sum(min(6, n) for n in np.bincount(prac_set.ids % 3))
    for row in rows:
        assert row["sample_id"] in train.ids
        assert row["class"] == samples.labels[row["sample_id"]]
        assert row["inside"] == (row["sample_id"] in prac_set)


@pytest.fixture(scope="module", params=FLAVORS)
def run(request, tmp_path_factory):
    """A finished run with tentative masks."""
    directory = tmp_path_factory.mktemp("figures") / request.param
    arguments = [*QUICK.split(), f"--keras={request.param}", f"--output_dir={directory}"]
    assert main(["search", *arguments, "--keep_epoch_masks"]) == 0
    return directory


def test_figures_of_one_run(run, tmp_path, capsys):
    assert main(["figures", str(run), f"--output_dir={tmp_path}"]) == 0
    names = ["classes", "forgetting", "images", "set_sizes"]
    names += ["mask_distances_00", "mask_distances_01"]
    expected = sorted(f"{name}.{suffix}" for name in names for suffix in ("csv", "png", "svg"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", *expected]
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed) == [str(tmp_path / name) for name in expected]
    rounds = json.loads((run / "summary.json").read_text())["rounds"]
    sizes = rows_of(tmp_path / "set_sizes.csv")
    assert [int(row["prac_size"]) for row in sizes] == [r["prac_size"] for r in rounds]


def test_tentative_masks_give_the_distances_that_the_round_recorded(run):
    for figures in RunDirectory(run).summary()["rounds"]:
        tentative = RunDirectory(run).load_tentative(figures["round"])
        remaining = round((1 - figures["sparsity"]) * 49200)
        assert tentative.shape == (figures["epochs"], remaining)
        found = mask_distances(tentative)
        assert np.diag(found, 1) == pytest.approx(figures["mask_distances"])
        # The last one is the mask that the round's pruning gave.
        before = Masks.load(run / "round_00/masks.npz") if figures["round"] else None
        after = Masks.load(run / f"round_{figures['round']:02d}/masks.npz")
        kept = [m[before[n]] if before else m.ravel() for n, m in after.items()]
        np.testing.assert_array_equal(tentative[-1], np.concatenate(kept))


def test_tentative_masks_are_small_and_change_nothing(run, tmp_path):
    flavor = run.name
    arguments = [*QUICK.split(), f"--keras={flavor}", f"--output_dir={tmp_path / 'plain'}"]
    assert main(["search", *arguments]) == 0
    assert not (tmp_path / "plain/round_00/tentative").exists()
    assert Masks.load(tmp_path / "plain/round_01/masks.npz") == Masks.load(
        run / "round_01/masks.npz"
    )
    for path in (run / "round_00/tentative").iterdir():
        assert path.stat().st_size < 49200 / 8 + 1000


def test_masks_of_several_runs(run, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    assert main(["figures", str(run), str(other), f"--output_dir={tmp_path / 'out'}"]) == 0
    rows = rows_of(tmp_path / "out/mask_iou.csv")
    assert [float(row["y"]) for row in rows] == [1.0, 1.0]
    assert main(["figures", str(run), str(run)]) == 2
    assert "allowed: directories that are all different" in capsys.readouterr().err


def test_bad_input_of_figures_is_one_line(run, tmp_path, capsys):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    (unfinished / "summary.json").unlink()
    for arguments, named in (
        ([], "RUN"),
        ([str(tmp_path / "missing")], "RUN"),
        ([str(run), str(tmp_path)], "not a run"),
        ([str(unfinished)], "not finished"),
        ([str(run), "--data_dir=/nowhere", "--no_such"], "no_such"),
    ):
        assert main(["figures", *arguments]) == 2
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1 and named in errors


def test_figures_of_a_run_from_python_need_no_data(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(open_run, "is_of_command", lambda config: False)
    assert main(["figures", str(run), f"--output_dir={tmp_path}"]) == 0
    output = capsys.readouterr().out
    assert "classes and images are left out: the run was made from Python" in output
    names = {path.stem for path in tmp_path.iterdir()}
    assert {"set_sizes", "forgetting"} <= names and not {"classes", "images"} & names


def test_damaged_tentative_masks_are_refused(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.copy(copy / "round_01/tentative/epoch_001.npz", copy / "round_00/tentative")
    with pytest.raises(
        FileError, match="damaged, it is of 49200 weights; allowed: 39360, as in the first epoch"
    ):
        RunDirectory(copy).load_tentative(0)
    shutil.rmtree(copy / "round_00/tentative")
    with pytest.raises(FileError, match="--keep_epoch_masks"):
        RunDirectory(copy).load_tentative(0)
