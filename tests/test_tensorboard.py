"""Events for TensorBoard, read back from their files."""

from __future__ import annotations

import collections
import csv
import importlib
import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf

from tf_prac import (
    ForgettingLogger,
    ForgettingStats,
    MaskDistance,
    PracSet,
    SampleScores,
    SparsityLogger,
    load_dataset,
)
from tf_prac.analysis.tensorboard import grid
from tf_prac.cli.main import main
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning.masks import Masks

QUICK = "--epochs=3 --rounds=2 --limit_train=300 --batch_size=64 --rewind=1it --retrain=all"
THERE = importlib.util.find_spec("tensorboard") is not None


def values_of(directory):
    """Every (step, value) of the event files."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for path in sorted(directory.glob("events.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                yield event.step, value


def events_of(directory):
    """Every event's value, by tag and step."""
    from tensorboard.util import tensor_util

    found = collections.defaultdict(dict)
    for step, value in values_of(directory):
        assert step not in found[value.tag], f"{value.tag} is there twice"
        found[value.tag][step] = tensor_util.make_ndarray(value.tensor)
    return found


def hyperparameters_of(directory):
    """The options that the page for hyperparameters shows."""
    from tensorboard.plugins.hparams import metadata

    (content,) = (
        value.metadata.plugin_data.content
        for _, value in values_of(directory)
        if value.tag == metadata.SESSION_START_INFO_TAG
    )
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


@pytest.mark.skipif(not THERE, reason="needs the extra tensorboard")
@pytest.mark.parametrize("flavor", FLAVORS)
def test_events_are_what_the_run_wrote_down(flavor, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["search", *QUICK.split(), f"--keras={flavor}", f"--output_dir={run}"]
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
            stats = ForgettingStats.load(run / f"round_{number:02d}/forgetting.npz")
            assert buckets[:, 2].sum() == pytest.approx(stats.seen.sum())
            assert buckets[0, 0] == stats.events.min() and buckets[-1, 1] == stats.events.max()
            with open(run / f"round_{number:02d}/history.csv", newline="") as file:
                for row in csv.DictReader(file):
                    there = events["epochs/loss"][total + int(row["step"])]
                    assert there == pytest.approx(float(row["loss"]), rel=1e-6)
            total += r["steps"]
        for ticket in summary["tickets"][1:]:
            found = events["tickets/test_accuracy"][ticket["round"]]
            assert found == pytest.approx(ticket["test_accuracy"], rel=1e-6)
        last = summary["rounds"][-1]
        assert "images/forgotten_by_pruning" in events or not last["cep"]
        samples, width, height = load_dataset("digits").train, 45, -(-min(20, last["cep"]) // 5) * 9
        size, _, png = events["images/forgotten_by_pruning"][last["round"]][:3]
        assert int(size) == width
        picture = tf.io.decode_png(png).numpy()
        assert picture.shape == (height, width, 1)
        cep = PracSet.load(run / f"round_{last['round']:02d}/prac_set.npz").cep
        np.testing.assert_array_equal(picture[:8, :8, 0], samples.inputs(cep[:1])[0, :, :, 0])
        options = hyperparameters_of(run / "tensorboard")
        assert options["recipe/batch_size"] == 64 and options["pruning/rewind"] == "1it"
        assert options["prac/use_cet"] is True and options["seed"] == 0


@pytest.mark.skipif(not THERE, reason="needs the extra tensorboard")
@pytest.mark.parametrize("flavor", FLAVORS)
def test_keras_s_own_callback_writes_what_ours_put_into_the_logs(flavor, tmp_path):
    keras = importlib.import_module(flavor)
    x, y = np.random.default_rng(0).normal(size=(60, 6)).astype("f4"), np.arange(60) % 3
    layers = [keras.layers.InputLayer((6,)), keras.layers.Dense(8), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    board = keras.callbacks.TensorBoard(str(tmp_path), write_graph=False)
    ours = [MaskDistance(0.3), SparsityLogger(), ForgettingLogger((x, y)), SampleScores((x, y))]
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[*ours, board]).history
    events = events_of(tmp_path / "train")
    for name in ("mask_distance", "sparsity", "forgetting_events", "unforgettable", "el2n"):
        written = [float(events[f"epoch_{name}"][epoch]) for epoch in range(3)]
        assert written == pytest.approx(history[name])


def test_a_grid_holds_its_images_in_rows():
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 4)).astype(np.uint8)
    found = grid(images)
    assert found.shape == (12, 25, 1) and found.dtype == np.uint8
    for n, image in enumerate(images):
        row, column = divmod(n, 5)
        place = found[6 * row : 6 * row + 5, 5 * column : 5 * column + 4, 0]
        np.testing.assert_array_equal(place, image)
    assert not found[6:, 15:].any()
