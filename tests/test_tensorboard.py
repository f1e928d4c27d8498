"""Events for TensorBoard, read back from their files."""

from __future__ import annotations

import collections
import csv
import importlib.util
import json

import numpy as np
import pytest

from tf_prac.analysis.tensorboard import MISSING, grid
from tf_prac.cli.main import main
from tf_prac.keras_api import FLAVOURS
from tf_prac.pruning.masks import Masks

QUICK = "--epochs=3 --rounds=2 --limit_train=300 --batch_size=64 --rewind=1it --retrain=all"
THERE = importlib.util.find_spec("tensorboard") is not None


def events_of(directory):
    """Every event's value, by tag and step."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    found = collections.defaultdict(dict)
    for path in sorted(directory.glob("events.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                array = tensor_util.make_ndarray(value.tensor)
                assert event.step not in found[value.tag], f"{value.tag} is there twice"
                found[value.tag][event.step] = array
    return found


@pytest.mark.skipif(not THERE, reason="needs the extra tensorboard")
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_events_are_what_the_run_wrote_down(flavour, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["search", *QUICK.split(), f"--keras={flavour}", f"--output_dir={run}"]
    for _ in range(2):  # the second call has nothing to train, and writes the same
        assert main([*arguments, "--tensorboard"]) == 0
        events = events_of(run / "tensorboard")
        summary = json.loads((run / "summary.json").read_text())
        total = 0
        for r in summary["rounds"]:
            number = r["round"]
            for tag, key in (
                ("round/sparsity", "sparsity"),
                ("round/val_accuracy", "val_accuracy"),
                ("round/steps", "steps"),
                ("sets/cet", "cet"),
                ("sets/cep", "cep"),
                ("sets/prac_size", "prac_size"),
            ):
                assert events[tag][number] == pytest.approx(r[key], rel=1e-6)
            masks = Masks.load(run / f"round_{number:02d}/masks.npz")
            for name, mask in masks.items():
                assert events[f"layers/{name}"][number] == pytest.approx(1 - mask.mean(), abs=1e-6)
            buckets = events["forgetting/events"][number]
            assert buckets[:, 2].sum() == pytest.approx(r["train_samples"])
            with open(run / f"round_{number:02d}/history.csv", newline="") as file:
                for row in csv.DictReader(file):
                    there = events["epochs/loss"][total + int(row["step"])]
                    assert there == pytest.approx(float(row["loss"]), rel=1e-6)
            total += r["steps"]
        for ticket in summary["tickets"][1:]:
            found = events["tickets/test_accuracy"][ticket["round"]]
            assert found == pytest.approx(ticket["test_accuracy"], rel=1e-6)
        assert "images/forgotten_by_pruning" in events or not summary["rounds"][-1]["cep"]
        assert any(tag.startswith("_hparams_") for tag in events)


def test_without_tensorboard_a_line_says_so_and_the_search_goes_on(tmp_path, capsys, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "tensorboard" else there(name)
    )
    run = tmp_path / "run"
    arguments = [*QUICK.split(), "--rounds=1", f"--output_dir={run}", "--tensorboard"]
    assert main(["search", *arguments]) == 0
    assert capsys.readouterr().out.count(MISSING) == 1
    assert (run / "summary.json").exists() and not (run / "tensorboard").exists()


def test_a_grid_holds_its_images_in_rows():
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 4)).astype(np.uint8)
    found = grid(images)
    assert found.shape == (12, 30, 1) and found.dtype == np.uint8
    for n, image in enumerate(images):
        row, column = divmod(n, 6)
        place = found[6 * row : 6 * row + 5, 5 * column : 5 * column + 4, 0]
        np.testing.assert_array_equal(place, image)
    assert not found[6:, 10:].any()
