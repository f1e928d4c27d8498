"""`RunDirectory`: what it refuses, verifies, and leaves unchanged."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from documents import COUNT, MODEL, config, round_metrics, summary, ticket_metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_prac.data.forgetting import ForgettingStats
from tf_prac.errors import DamagedFileError, FileError, MismatchError
from tf_prac.pruning.masks import Masks
from tf_prac.storage.files import write_csv, write_json, write_npz
from tf_prac.storage.layout import (
    CONFIG,
    FORGETTING,
    HISTORY,
    MASKS,
    PRAC_SET,
    RETRAINED,
    REWIND,
    ROUND,
)
from tf_prac.storage.manifest import read_manifest
from tf_prac.storage.run_directory import RunDirectory


def content(directory):
    """Every file below a directory, with its bytes."""
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()
    }


# Opening


def test_opening_writes_the_configuration_once(tmp_path):
    run = RunDirectory(tmp_path / "runs" / "one")
    run.open(config())
    assert list(content(tmp_path)) == ["runs/one/config.json"]
    assert run.config() == json.loads(json.dumps(config()))
    before = content(tmp_path)
    RunDirectory(str(run.path)).open(config())
    assert content(tmp_path) == before


def test_an_empty_directory_is_as_good_as_none(tmp_path):
    RunDirectory(tmp_path).open(config())
    assert RunDirectory(tmp_path).config()["search"] == {"seed": 0, "retrain": "last"}


def test_a_kill_while_the_configuration_was_written_does_not_spoil_the_directory(tmp_path):
    (tmp_path / f".{CONFIG}.4711.tmp").write_bytes(b'{"kind": "con')
    RunDirectory(tmp_path).open(config())
    RunDirectory(tmp_path).open(config())


def test_labels_may_differ_as_they_decide_nothing(tmp_path):
    RunDirectory(tmp_path).open(config())
    RunDirectory(tmp_path).open(config(labels={"dataset": "mnist", "data_dir": "moved"}))
    RunDirectory(tmp_path).open(config(labels={}))
    assert RunDirectory(tmp_path).config()["labels"] == config()["labels"]


@pytest.mark.parametrize(
    ("group", "option", "requested", "existing"),
    [
        ("recipe", "epochs", 21, 20),
        ("recipe", "milestones", (0.5,), [0.5, 0.75]),
        ("recipe", "weight_decay", 1e-4, 0.0),
        ("pruning", "prune_rate", 0.1, 0.2),
        ("pruning", "lr_rewind", False, True),
        ("pruning", "ignore", ("head",), []),
        ("prac", "early_stop_eps", None, 0.07),
        ("prac", "budget", "epochs", "steps"),
        ("search", "seed", 1, 0),
        ("model", "conv/kernel", [3, 3, 3, 8], [3, 3, 3, 16]),
    ],
)
def test_another_option_is_named_with_both_values(group, option, requested, existing, tmp_path):
    RunDirectory(tmp_path).open(config())
    before = content(tmp_path)
    changed = config()
    changed[group] = {**changed[group], option: requested}
    with pytest.raises(MismatchError) as caught:
        RunDirectory(tmp_path).open(changed)
    message = str(caught.value)
    requested = list(requested) if isinstance(requested, tuple) else requested
    assert message.startswith(f"{option}: {requested!r} requested, but the run in {tmp_path} has ")
    assert f" has {existing!r}. Request the same, or name another directory." in message
    assert content(tmp_path) == before


def test_an_option_only_one_side_has_is_named_too(tmp_path):
    more = config(model={**config()["model"], "head/kernel": [64, 10]})
    RunDirectory(tmp_path / "more").open(more)
    with pytest.raises(MismatchError, match=r"head/kernel: None requested.*has \[64, 10\]"):
        RunDirectory(tmp_path / "more").open(config())
    RunDirectory(tmp_path / "less").open(config())
    with pytest.raises(MismatchError, match=r"head/kernel: \[64, 10\] requested.*has None"):
        RunDirectory(tmp_path / "less").open(more)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, width=64),
        lambda inner: st.tuples(inner, inner) | st.dictionaries(st.text("ab", max_size=2), inner),
    ).filter(lambda value: value not in (float("inf"), -float("inf")))
)
def test_whatever_json_makes_of_an_option_is_the_same_option(tmp_path_factory, value):
    text = json.dumps(value)
    if "Infinity" in text:
        return
    path = tmp_path_factory.mktemp("run")
    RunDirectory(path).open(config(labels={"value": value}))
    RunDirectory(path).open(config(labels={"value": value}))


def test_other_peoples_directories_are_refused_and_left_as_they_were(tmp_path):
    (tmp_path / "thesis.tex").write_bytes(b"years of work")
    (tmp_path / "data").mkdir()
    before = content(tmp_path)
    with pytest.raises(FileError, match="not empty and not a run of tf_prac. Name another"):
        RunDirectory(tmp_path).open(config())
    with pytest.raises(FileError, match="not empty and not a run"):
        RunDirectory(tmp_path / "thesis.tex").open(config())
    with pytest.raises(FileError, match="cannot be written"):
        RunDirectory(tmp_path / "thesis.tex" / "run").open(config())
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"epochs": 3}', b'{"kind": "config", "schema": 2}', b"[]"]
)
def test_another_programs_config_is_refused_and_left_as_it_was(text, tmp_path):
    (tmp_path / CONFIG).write_bytes(text)
    for use in (lambda run: run.open(config()), lambda run: run.config()):
        with pytest.raises(FileError, match="config.json"):
            use(RunDirectory(tmp_path))
    assert content(tmp_path) == {CONFIG: text}


def test_a_directory_that_may_not_be_read_is_reported(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(FileError, match="cannot be read: Permission denied"):
        RunDirectory(tmp_path).open(config())


def test_a_directory_without_a_run_is_reported(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileError, match="not a run of tf_prac, it has no config.json"):
            RunDirectory(path).config()
        with pytest.raises(FileError, match="not a run of tf_prac, it has no config.json"):
            RunDirectory(path).summary()
    RunDirectory(tmp_path).open(config())
    with pytest.raises(FileError, match="the search is not finished"):
        RunDirectory(tmp_path).summary()


# Finished rounds and tickets

KINDS = pytest.mark.parametrize("kind", ["round", "ticket"])


METRICS = {"round": round_metrics, "ticket": ticket_metrics}


def masks(value):
    """Masks of the network of `config`."""
    return Masks({name: np.full(shape, value) for name, shape in MODEL.items()})


def finish(run, kind, number, **changes):
    """Finishes a round or ticket."""
    write = run.finish_round if kind == "round" else run.finish_ticket
    write(number, METRICS[kind](number, **changes))


def finished(tmp_path, kind="round", number=3):
    """A finished round or retrained ticket: its directory, and how to read it."""
    run = RunDirectory(tmp_path)
    run.open(config())
    path = run.round_path(number) if kind == "round" else run.ticket_path(number)
    path.mkdir(parents=True)
    (tmp_path / REWIND).write_bytes(b"rewind")
    run.round_path(number - 1).mkdir()
    for name in (MASKS, PRAC_SET):
        (run.round_path(number - 1) / name).write_bytes(name.encode())
    masks(True).save(path / MASKS)
    ForgettingStats(COUNT).save(path / FORGETTING)
    (path / ".leftover.1.tmp").write_bytes(b"half")
    finish(run, kind, number)
    read = run.finished_round if kind == "round" else run.finished_ticket
    return path, lambda: read(number)


@KINDS
def test_what_is_finished_returns_its_metrics(kind, tmp_path):
    path, read = finished(tmp_path, kind)
    assert read() == METRICS[kind](3)
    document = json.loads((path / (ROUND if kind == "round" else RETRAINED)).read_text())
    assert sorted(document["files"]) == sorted([MASKS, FORGETTING])
    (path / "notes.txt").write_bytes(b"of the user")
    assert read() == METRICS[kind](3)


@KINDS
def test_what_is_not_finished_returns_none(kind, tmp_path):
    path, read = finished(tmp_path, kind)
    (path / (ROUND if kind == "round" else RETRAINED)).unlink()
    assert read() is None
    assert RunDirectory(tmp_path / "nothing").finished_round(0) is None


@KINDS
def test_finishing_again_records_the_current_files(kind, tmp_path):
    path, read = finished(tmp_path, kind)
    masks(False).save(path / MASKS)
    finish(RunDirectory(tmp_path), kind, 3, seconds=13.5)
    assert read()["seconds"] == 13.5


@KINDS
@pytest.mark.parametrize("damage", [b"", b"mask", b"masks ", b"nasks"])
def test_a_damaged_file_is_named_and_what_to_do(kind, damage, tmp_path):
    path, read = finished(tmp_path, kind)
    (path / MASKS).write_bytes(damage)
    with pytest.raises(FileError) as caught:
        read()
    assert str(caught.value).startswith(f"{path / MASKS}: damaged, its SHA-256")
    assert "Run the same search again to restore it." in str(caught.value)


@KINDS
@pytest.mark.parametrize(
    "source", [CONFIG, REWIND, f"round_02/{MASKS}", f"round_02/{PRAC_SET}", "round_03"]
)
def test_what_was_made_from_other_files_is_of_another_run(kind, source, tmp_path):
    path, read = finished(tmp_path, kind)
    if source == "round_03":  # the place of another round
        path = path.rename(path.with_name("round_02" if kind == "ticket" else "round_04"))
        number = int(path.name[-2:])
        for name in (MASKS, PRAC_SET):
            before = RunDirectory(tmp_path).round_path(number - 1)
            before.mkdir(exist_ok=True)
            (before / name).write_bytes(name.encode())
        run = RunDirectory(tmp_path)
        read = {"round": run.finished_round, "ticket": run.finished_ticket}[kind]
        with pytest.raises(DamagedFileError, match=f"{path.name}/r.*.json was not made from this"):
            read(number)
        return
    (tmp_path / source).write_bytes(b"of another run")
    if kind == "ticket" and source.endswith(PRAC_SET):
        assert read()["round"] == 3, "a ticket is retrained on the full data"
        return
    with pytest.raises(DamagedFileError, match=f"{source}: damaged, or of another run"):
        read()


def test_a_control_in_the_place_of_another_is_refused(tmp_path):
    run = RunDirectory(tmp_path)
    path, _ = finished(tmp_path, "ticket")
    control = run.ticket_path(3, "reinit_0")
    control.mkdir(parents=True)
    metrics = ticket_metrics(3, control="reinit_0")
    run.finish_ticket(3, metrics, "reinit_0")
    assert run.finished_ticket(3, "reinit_0") == metrics
    control.rename(control.with_name("reinit_1"))
    with pytest.raises(DamagedFileError, match="retrained.json: damaged, it is of control 'rein"):
        run.finished_ticket(3, "reinit_1")
    (path / RETRAINED).write_bytes((path / "controls/reinit_1" / RETRAINED).read_bytes())
    with pytest.raises(DamagedFileError, match="retrained.json: damaged, it is of control"):
        run.finished_ticket(3)


@KINDS
def test_links_out_of_the_run_are_not_followed(kind, tmp_path):
    path, read = finished(tmp_path / "run", kind)
    (path / MASKS).rename(tmp_path / MASKS)
    (path / MASKS).symlink_to(tmp_path / MASKS)
    with pytest.raises(FileError, match="masks.npz: a link that points outside"):
        read()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError, match="round_03: a link that points outside"):
        read()


@pytest.mark.parametrize("name", [CONFIG, REWIND, "summary.json"])
def test_links_in_place_of_files_are_not_followed(name, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.open(config())
    digest = run.save_rewind({"a": np.ones(2)})
    run.save_summary(summary())
    (run.path / name).rename(tmp_path / name)
    (run.path / name).symlink_to(tmp_path / name)
    uses = {
        CONFIG: [run.config, lambda: run.open(config())],
        REWIND: [lambda: run.load_rewind(digest)],
        "summary.json": [run.summary],
    }
    for use in uses[name]:
        with pytest.raises(FileError, match=f"{name}: a link that points outside"):
            use()


@KINDS
def test_a_file_in_place_of_a_directory_of_the_run_is_refused(kind, tmp_path):
    run = RunDirectory(tmp_path)
    (tmp_path / "tickets").mkdir()
    use, path = {
        "round": (run.finished_round, tmp_path / "round_00"),
        "ticket": (run.finished_ticket, tmp_path / "tickets" / "round_00"),
    }[kind]
    path.write_bytes(b"")
    with pytest.raises(FileError, match="round_00: not a directory. Remove it"):
        use(0)


@KINDS
def test_a_missing_file_is_named(kind, tmp_path):
    path, read = finished(tmp_path, kind)
    (path / FORGETTING).unlink()
    with pytest.raises(FileError, match="forgetting.npz: no such file"):
        read()


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "a/b", "./masks.npz", "..", ".", "", "masks.npz/"]
)
def test_a_manifest_cannot_name_files_outside_its_directory(name, tmp_path):
    path, read = finished(tmp_path)
    (path.parent / "secret").write_bytes(b"")
    nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    write_json(path / ROUND, "round", {**round_metrics(3), "files": {name: nothing}})
    with pytest.raises(FileError, match="is not in the directory|Is a directory|points outside"):
        read()


@pytest.mark.parametrize("files", [None, [], "masks.npz", 3])
def test_a_manifest_that_names_no_files_is_damaged(files, tmp_path):
    path, read = finished(tmp_path)
    write_json(path / ROUND, "round", {**round_metrics(3), "files": files})
    with pytest.raises(FileError, match="round.json: damaged, it names no files"):
        read()


@pytest.mark.parametrize("digest", [None, 5, "", ["a"]])
def test_a_digest_that_is_none_does_not_fit(digest, tmp_path):
    path, read = finished(tmp_path)
    write_json(path / ROUND, "round", {**round_metrics(3), "files": {MASKS: digest}})
    with pytest.raises(FileError, match="masks.npz: damaged"):
        read()


def test_a_manifest_of_another_kind_is_refused(tmp_path):
    path, _ = finished(tmp_path)
    with pytest.raises(FileError, match="not a retrained file of tf_prac"):
        read_manifest(path, ROUND, "retrained")


def test_rounds_and_tickets_have_their_own_places(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.round_path(0) == tmp_path / "round_00"
    assert run.round_path(123) == tmp_path / "round_123"
    assert run.ticket_path(5) == tmp_path / "tickets" / "round_05"


# Arrays, the summary, and CSV


def test_the_rewind_weights_come_back_and_others_do_not(tmp_path):
    run = RunDirectory(tmp_path)
    weights = {"b/kernel": np.float32([[1, -0.0], [np.nan, 3]]), "a/bias": np.zeros(0, np.float16)}
    run.open(config(model={name: list(weight.shape) for name, weight in weights.items()}))
    digest = run.save_rewind(weights)
    loaded = run.load_rewind(digest)
    assert list(loaded) == list(weights)
    assert all(loaded[n].tobytes() == w.tobytes() for n, w in weights.items())
    assert all(loaded[n].dtype == w.dtype for n, w in weights.items())
    run.save_rewind({name: w + 1 for name, w in weights.items()})
    with pytest.raises(FileError, match="rewind.npz: damaged, or of another run"):
        run.load_rewind(digest)


def test_predictions_come_back_and_other_arrays_do_not(tmp_path):
    run = RunDirectory(tmp_path)
    run.save_predictions(0, np.int32([3, 1, 2]))
    assert run.load_predictions(0).tolist() == [3, 1, 2]
    with pytest.raises(FileError, match="no such file"):
        run.load_predictions(1)
    write_npz(run.round_path(1) / "predictions.npz", "predictions", {"labels": np.ones(2)})
    with pytest.raises(DamagedFileError, match="round_01.*damaged, classes: received None"):
        run.load_predictions(1)
    run.save_rewind({"classes": np.ones(2)})
    (tmp_path / "rewind.npz").rename(run.round_path(0) / "predictions.npz")
    with pytest.raises(FileError, match="not a predictions file of tf_prac"):
        run.load_predictions(0)


def test_the_summary_comes_back_and_says_its_schema(tmp_path):
    run = RunDirectory(tmp_path)
    run.open(config())
    run.save_summary(summary())
    assert run.summary() == summary()
    assert json.loads((tmp_path / "summary.json").read_text())["schema"] == 1


def test_the_summary_of_another_run_is_refused(tmp_path):
    for seed in (0, 1):
        run = RunDirectory(tmp_path / str(seed))
        run.open(config(search={"seed": seed, "retrain": "last"}))
        run.round_path(0).mkdir()
        run.finish_round(0, round_metrics())
        run.save_summary(summary(seed=seed))
    (tmp_path / "1" / "summary.json").replace(tmp_path / "0" / "summary.json")
    with pytest.raises(DamagedFileError, match="config.json: damaged, or of .*summary.json was"):
        RunDirectory(tmp_path / "0").summary()
    run.finish_round(0, round_metrics(seconds=1.6))
    run.save_summary(summary(seed=1))
    assert run.summary() == summary(seed=1)
    run.finish_round(0, round_metrics(seconds=1.7))
    with pytest.raises(DamagedFileError, match="round_00/round.json: damaged, or of another"):
        run.summary()


CELLS = st.none() | st.integers() | st.floats(allow_nan=False) | st.text("a,\"'\n é;", max_size=5)


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(["epoch", "loss", "a,b"]), CELLS, min_size=1)),
)
def test_a_csv_has_every_cell_in_columns_of_first_appearance(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / HISTORY
    write_csv(path, rows)
    columns = []
    for row in rows:
        columns += [name for name in row if name not in columns]
    with open(path, newline="", encoding="utf-8") as file:
        header, *lines = list(csv.reader(file)) or [[]]
    assert header == columns
    texts = [["" if row.get(c) is None else str(row[c]) for c in columns] for row in rows]
    assert lines == texts
