"""Runs, comparisons, exports and pruned models that version 0.1.0 wrote load, resume and report.

tests/saved_by_0_1/make.py made the files, before modules moved.
"""

from __future__ import annotations

import importlib
import io
import json
import pathlib
import re
import shutil
import zipfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from digits_search import counted

import tf_prac
from tf_prac import Comparison, PracConfig, PruningConfig, Ticket, TicketSearch, TrainingRecipe
from tf_prac.cli.main import main
from tf_prac.config import CheckpointConfig
from tf_prac.errors import FileError
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning.weights import snapshot
from tf_prac.search.callbacks import SearchCallback
from tf_prac.storage.files import read_npz

SAVED = pathlib.Path(__file__).parent / "saved_by_0_1"
RECIPE = TrainingRecipe(epochs=3, batch_size=16, learning_rate=0.05)
PRUNING = PruningConfig(rounds=3, rewind="2it")


def samples(seed, count):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    x = generator.normal(size=(count, 6)).astype("float32")
    return x + 0.7 * np.eye(6, dtype="float32")[labels], labels


def make_model(flavor):
    keras = importlib.import_module(flavor)
    return lambda: keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3),
        ]
    )


TRAIN, TEST = samples(0, 90), samples(1, 30)
INTERRUPTED = 4
COMPARED = (
    make_model("keras"),
    ("prac", "random_subset", "random_ticket"),
    RECIPE,
    PruningConfig(rounds=2, rewind="2it"),
)


def unpacked(name, directory):
    with zipfile.ZipFile(SAVED / f"{name}.zip") as archive:
        archive.extractall(directory / name)
    return directory / name


@pytest.fixture(params=FLAVORS)
def run(request, tmp_path):
    """A finished search of either flavor, opened under the versions that it was made with."""
    path = unpacked(f"search_{request.param}", tmp_path)
    versions = json.loads((path / "config.json").read_text())["versions"]
    with mock.patch("tf_prac.search.summary._version", versions.get):
        yield request.param, path


def search(flavor, path):
    return TicketSearch(
        make_model(flavor), RECIPE, PRUNING, directory=path, retrain=(3,), verbose=False
    )


@pytest.fixture
def trained(monkeypatch):
    """The numbers of steps of each training that happens."""
    return counted(monkeypatch)


def stored_summary(path):
    return json.loads((path / "summary.json").read_text())


def test_tickets_load(run):
    flavor, path = run
    w_k = read_npz(path / "rewind.npz", "rewind")
    for number in range(4):
        ticket = Ticket.load(path / "tickets" / f"round_{number:02d}")
        assert (ticket.round, ticket.rewind_step) == (number, 2)
        assert ticket.sparsity == pytest.approx([0, 10 / 48, 18 / 48, 24 / 48][number], abs=0.01)
        assert all(np.array_equal(ticket.weights[name], w_k[name]) for name in w_k)
    model = ticket.apply(make_model(flavor)())
    kernel = snapshot(model)["dense/kernel"]
    assert np.array_equal(kernel != 0, ticket.masks["dense/kernel"])


def test_a_finished_search_trains_nothing(run, trained):
    flavor, path = run
    before = stored_summary(path)
    result = search(flavor, path).run(TRAIN, test=TEST)
    assert trained == []
    for group in ("dataset", "dense", "rounds", "tickets", "cost"):
        found = result.summary[group]
        if group == "cost":  # to which options were added
            found = {name: found[name] for name in before[group]}
        assert found == before[group]


def test_a_search_resumes_after_its_second_round(run, trained):
    flavor, path = run
    before = stored_summary(path)
    (path / "summary.json").unlink()
    shutil.rmtree(path / "round_02")
    shutil.rmtree(path / "tickets")
    result = search(flavor, path).run(TRAIN, test=TEST)
    last = result.summary["rounds"][2]
    assert trained == [last["steps"], result.summary["tickets"][3]["retrain_steps"]]
    assert result.summary["rounds"][:2] == before["rounds"][:2]
    for key in ("sparsity", "next_sparsity", "train_samples", "epochs", "steps"):
        assert last[key] == before["rounds"][2][key]
    assert result.tickets[3].sparsity == before["tickets"][3]["sparsity"]


def frequent_search(path):
    """A search with a checkpoint after every second step."""
    return TicketSearch(
        make_model("keras"),
        RECIPE,
        PruningConfig(rounds=2, rewind="2it"),
        PracConfig(min_size=0.5, early_stop_eps=None),
        directory=path,
        checkpoints=CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=2),
        retrain="none",
        verbose=False,
    )


def test_a_search_resumes_within_a_round(tmp_path):
    path, taken = unpacked("interrupted", tmp_path), []
    versions = json.loads((path / "config.json").read_text())["versions"]

    class Steps(SearchCallback):
        def on_training_steps(self, count):
            taken.append(count)

    with mock.patch("tf_prac.search.summary._version", versions.get):
        result = frequent_search(path).run(TRAIN, test=TEST, callbacks=[Steps()])
    assert taken[0] == INTERRUPTED
    assert sum(taken) == result.summary["rounds"][1]["steps"] > INTERRUPTED


def test_a_search_reports(run, capsys):
    _, path = run
    assert main(["info", str(path)]) == 0
    assert main(["report", str(path)]) == 0
    page = (path / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page and f"{stored_summary(path)['tickets'][3]['sparsity']:.1%}"[:4] in page


def test_a_comparison_trains_nothing_and_reports_the_same(tmp_path, trained):
    path = unpacked("comparison", tmp_path)
    versions = json.loads((path / "prac" / "seed_0" / "config.json").read_text())["versions"]
    before = json.loads((path / "results.json").read_text())
    comparison = Comparison(*COMPARED, directory=path, seeds=(0,), verbose=False)
    with mock.patch("tf_prac.search.summary._version", versions.get):
        results = comparison.run(TRAIN, test=TEST)
    assert trained == []
    for part in ("table", "cost", "runs"):  # to whose rows columns were added
        found = json.loads(json.dumps(results[part]))
        assert [
            {name: row[name] for name in old} for row, old in zip(found, before[part], strict=True)
        ] == before[part]


def needs_the_keras_of(path, flavor):
    """Skips a test with an older Keras than that of a file, if it cannot read the file."""
    with zipfile.ZipFile(path) as archive:
        saved_by = json.loads(archive.read("metadata.json"))["keras_version"]
    installed = importlib.import_module(flavor).__version__
    if version(installed) < version(saved_by):
        try:
            tf_prac.load_model(path)
        except FileError as error:
            reason = f"{flavor} {saved_by} saved it; {flavor} {installed} is installed."
            assert reason in str(error)
            pytest.skip(reason)


def version(text):
    return [int(number) for number in text.split(".")[:2]]


def test_an_export_loads(tmp_path):
    needs_the_keras_of(SAVED / "pruned_keras.keras", "keras")
    path = unpacked("export", tmp_path)
    weights = snapshot(tf_prac.load_model(SAVED / "pruned_keras.keras"))
    x = TEST[0]
    hidden = np.maximum(x @ weights["dense/kernel"] + weights["dense/bias"], 0)
    scale = weights["batch_normalization/gamma"] / np.sqrt(
        weights["batch_normalization/moving_variance"] + 1e-3
    )
    normalized = (hidden - weights["batch_normalization/moving_mean"]) * scale
    normalized += weights["batch_normalization/beta"]
    wanted = normalized @ weights["dense_1/kernel"] + weights["dense_1/bias"]
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    (outputs,) = served(tf.constant(x)).values()
    np.testing.assert_allclose(outputs, wanted, atol=1e-5)
    np.testing.assert_allclose(tf_prac.load_sparse(path)(x), wanted, atol=1e-5)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_pruned_model_loads_with_its_masks(flavor, tmp_path):
    needs_the_keras_of(SAVED / f"pruned_{flavor}.keras", flavor)
    ticket = Ticket.load(unpacked(f"search_{flavor}", tmp_path) / "tickets" / "round_03")
    model = tf_prac.load_model(SAVED / f"pruned_{flavor}.keras")
    assert model.masks == ticket.masks
    model.compile("sgd", "mse")
    model.fit(TRAIN[0], np.eye(3, dtype="float32")[TRAIN[1]], epochs=1, verbose=0)
    kernel = snapshot(tf_prac.strip(model))["dense/kernel"]
    assert np.array_equal(kernel != 0, ticket.masks["dense/kernel"])


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_damaged_saved_model_is_refused(flavor, tmp_path):
    content = (SAVED / f"pruned_{flavor}.keras").read_bytes()
    path = tmp_path / "pruned.keras"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        places = [i.header_offset + 30 + len(i.filename) + 9 for i in archive.infolist()]
    for place in [*places, len(content) - 30, len(content) // 3]:
        flipped = bytearray(content)
        flipped[place] ^= 16
        for damaged in (bytes(flipped), content[:place]):
            path.write_bytes(damaged)
            with pytest.raises(FileError, match=re.escape(str(path))):
                tf_prac.load_model(path)
