"""The files of a ticket: by itself with its weights, in its run with a reference to W_k."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from unittest import mock

import numpy as np
import pytest
from damage import other_references
from digits_search import X, Y

from tf_prac import (
    Comparison,
    ForgettingStats,
    PracConfig,
    PruningConfig,
    Ticket,
    TicketSearch,
    TrainingRecipe,
)
from tf_prac.analysis.connectivity import ConnectivityRows
from tf_prac.analysis.stability import StabilityRows
from tf_prac.errors import DamagedFileError, FileError
from tf_prac.keras_api import FLAVORS
from tf_prac.search.ticket import W_K_OF_RUN, Control
from tf_prac.storage.files import read_json, sha256, write_json
from tf_prac.training.trainer import Trainer

PLAIN = PracConfig(use_cet=False, use_cep=False, early_stop_eps=None)


def make_search(flavor, directory, **pruning):
    keras = importlib.import_module(flavor)
    layers = keras.layers
    return TicketSearch(
        lambda: keras.Sequential(
            [layers.Input((64,)), layers.Dense(12), layers.BatchNormalization(), layers.Dense(10)]
        ),
        TrainingRecipe(epochs=1, batch_size=50),
        PruningConfig(**{"rounds": 2, "rewind": "3it", **pruning}),
        PLAIN,
        directory=directory,
        verbose=False,
    )


def search(flavor, directory, controls=(), **pruning):
    return make_search(flavor, directory, **pruning).run((X[:300], Y[:300]), controls=controls)


@pytest.fixture(scope="module", params=FLAVORS)
def finished(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param) / "run"
    controls = [Control(2, "reinit"), Control(2, "random_mask")]
    return request.param, search(request.param, directory, controls)


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished[1].directory, tmp_path / "copy" / "run")


def names_in(path):
    return {p.name for p in path.iterdir() if p.is_file()}


def same(ours, theirs):
    assert ours.masks == theirs.masks and ours.weights.keys() == theirs.weights.keys()
    assert all(np.array_equal(ours.weights[n], w) for n, w in theirs.weights.items())


def test_a_run_stores_w_k_once(finished):
    _, result = finished
    for ticket in result.tickets:
        path = result.directory / f"tickets/round_{ticket.round:02d}"
        assert "weights.npz" not in names_in(path)
        files = json.loads((path / "ticket.json").read_text())["files"]
        assert files == {
            "masks.npz": sha256(path / "masks.npz"),
            "../../rewind.npz": sha256(result.directory / "rewind.npz"),
        }
        same(Ticket.load(path), ticket)
    for label in ("reinit_0", "random_mask_0"):
        path = result.directory / f"tickets/round_02/controls/{label}"
        assert {"masks.npz", "weights.npz", "ticket.json"} <= names_in(path)
        assert Ticket.load(path).control == label


@pytest.mark.parametrize(
    "pruning",
    [
        {"retraining": "lr_rewinding"},
        {"retraining": "fine_tuning"},
        {"rewind_statistics": False},
    ],
)
def test_other_weights_are_stored_with_their_ticket(pruning, tmp_path):
    result = search("keras", tmp_path / "run", **pruning)
    dense, *sparse = result.tickets
    assert "weights.npz" not in names_in(tmp_path / "run/tickets/round_00")
    same(Ticket.load(tmp_path / "run/tickets/round_00"), dense)
    for ticket in sparse:
        path = tmp_path / f"run/tickets/round_{ticket.round:02d}"
        assert "weights.npz" in names_in(path)
        same(Ticket.load(path), ticket)


def test_a_ticket_is_moved_with_its_run_or_by_save(finished, run, tmp_path, monkeypatch):
    _, result = finished
    ticket = result.tickets[2]
    same(Ticket.load(run / "tickets/round_02"), ticket)
    (tmp_path / "link").symlink_to(run / "tickets/round_02")
    same(Ticket.load(tmp_path / "link"), ticket)
    monkeypatch.chdir(run / "tickets/round_02")
    same(Ticket.load("."), ticket)
    Ticket.load(".").save(tmp_path / "alone")
    assert names_in(tmp_path / "alone") == {"masks.npz", "weights.npz", "ticket.json"}
    same(Ticket.load(tmp_path / "alone"), ticket)


def test_a_ticket_that_cannot_be_written_leaves_the_one_before(finished, tmp_path, monkeypatch):
    """Replaced as a whole, but not with other files next to it, which would be lost."""
    first, second = finished[1].tickets[:2]
    path = tmp_path / "ticket"
    first.save(path)
    monkeypatch.setattr("tf_prac.search.ticket.write_json", mock.Mock(side_effect=OSError("full")))
    with pytest.raises(OSError, match="full"):
        second.save(path)
    same(Ticket.load(path), first)
    monkeypatch.undo()
    (path / "notes.txt").write_text("mine")
    second.save(path)
    same(Ticket.load(path), second)
    (path / "notes.txt").unlink()
    (tmp_path / "link").symlink_to(path)
    for other in (path, tmp_path / "link"):
        first.save(other)
        same(Ticket.load(path), first)
    assert names_in(path) == {"masks.npz", "weights.npz", "ticket.json"}
    assert {each.name for each in tmp_path.iterdir()} == {"ticket", "link"}


def test_a_ticket_copied_without_its_weights_says_what_to_do(run, tmp_path):
    shutil.copytree(run / "tickets/round_02", tmp_path / "away" / "a" / "ticket")
    message = r"away/rewind.npz: missing, .* Ticket.save it elsewhere, or copy the run's rewind.npz"
    with pytest.raises(DamagedFileError, match=message):
        Ticket.load(tmp_path / "away" / "a" / "ticket")
    shutil.copy(run / "rewind.npz", tmp_path / "away")
    Ticket.load(tmp_path / "away" / "a" / "ticket")


def refer(path, files):
    """Seals a ticket.json that has other files than its masks."""
    content = read_json(path / "ticket.json", "ticket")
    content["files"] = {"masks.npz": content["files"]["masks.npz"], **files}
    write_json(path / "ticket.json", "ticket", content)


@pytest.mark.parametrize("number", range(10))
def test_a_reference_to_another_path_is_refused_without_following_it(run, number, monkeypatch):
    reference, path = other_references(run)[number], run / "tickets/round_02"
    refer(path, {reference: sha256(run / "rewind.npz")})
    opened = []
    monkeypatch.setattr("tf_prac.search.ticket.sha256", opened.append)
    monkeypatch.setattr("tf_prac.search.ticket.read_npz", lambda *a: opened.append(a))
    with pytest.raises(DamagedFileError, match="ticket.json: damaged, its files are "):
        Ticket.load(path)
    assert not opened


def test_two_references_none_or_another_file_are_refused(run):
    path, digest = run / "tickets/round_02", sha256(run / "rewind.npz")
    for files in (
        {},
        {W_K_OF_RUN: digest, "weights.npz": digest},
        {W_K_OF_RUN: digest, "/etc/passwd": digest},
    ):
        refer(path, files)
        with pytest.raises(
            DamagedFileError, match=r"ticket.json: damaged, its files are .*allowed"
        ):
            Ticket.load(path)


def test_weights_of_another_run_are_refused(finished, run, tmp_path):
    flavor, _ = finished
    other = search(flavor, tmp_path / "other", rewind="2it")
    shutil.copy(other.directory / "rewind.npz", run)
    with pytest.raises(DamagedFileError, match=r"rewind.npz: damaged, or not the file that .*json"):
        Ticket.load(run / "tickets/round_02")


def test_a_path_that_is_no_ticket_is_refused_by_name(run, tmp_path):
    for path, message in (
        (run, r"not a ticket; allowed: a ticket of this run, .*/round_00 to round_02"),
        (tmp_path, "not a ticket; allowed: the directory of a ticket, such as RUN/tickets/"),
        (run / "config.json", "not a ticket; allowed: the directory of a ticket"),
        (run / "tickets/round_07", "round_07: no such directory"),
    ):
        with pytest.raises(FileError, match=message):
            Ticket.load(path)


def test_results_are_shown_in_one_line(finished, tmp_path):
    flavor, result = finished
    stats = ForgettingStats.load(result.directory / "round_00/forgetting.npz")
    never, rows = stats.never_learned.sum(), [{"k": 1}] * 3
    options = {"directory": "runs/c", "seeds": (0, 1)}
    for shown, expected in (
        (result.tickets[2], "Ticket(round 2, 36.1% sparse, weights of step 3)"),
        (
            stats,
            f"ForgettingStats(300 samples: 270 presented, 0 forgotten, {never} never learned)",
        ),
        (make_search(flavor, "runs/a"), "TicketSearch(runs/a: 2 rounds, seed 0)"),
        (Comparison(lambda: None, ["imp"], **options), "Comparison(runs/c: seeds 0, 1)"),
        (StabilityRows(rows, rows), "StabilityRows(3 replicates, 3 pairs)"),
        (ConnectivityRows(rows, rows, []), "ConnectivityRows(3 lines, 3 points)"),
    ):
        assert repr(shown) == expected


def test_a_link_out_of_the_run_is_not_followed(run, tmp_path):
    shutil.move(run / "rewind.npz", tmp_path / "rewind.npz")
    os.symlink(tmp_path / "rewind.npz", run / "rewind.npz")
    with pytest.raises(FileError, match=r"rewind.npz: a link that points outside "):
        Ticket.load(run / "tickets/round_02")


def test_the_tickets_of_earlier_versions_are_left_as_they_are(finished, run, monkeypatch):
    flavor, result = finished
    shutil.rmtree(run / "tickets")
    for ticket in result.tickets:  # each with its own copy of W_k
        ticket.save(run / f"tickets/round_{ticket.round:02d}")
    old = {p: p.read_bytes() for p in (run / "tickets").rglob("*") if p.is_file()}
    again = search(flavor, run)
    assert {p: p.read_bytes() for p in old} == old
    for ours, theirs in zip(again.tickets, result.tickets, strict=True):
        same(ours, theirs)

    monkeypatch.setattr(Trainer, "train", lambda *a, **k: pytest.fail("trained again"))
    weights = run / "tickets/round_02/weights.npz"
    weights.write_bytes(weights.read_bytes()[:-9])
    search(flavor, run)
    assert weights.read_bytes() == old[weights], "it is made again, and still fits its retraining"
