"""Names that no file can have: every command and function refuses them, and writes nothing."""

from __future__ import annotations

import os

import numpy as np
import pytest

import tf_prac
from tf_prac import Masks, PracConfig, PracSet, Ticket, TicketSearch
from tf_prac.cli.main import COMMANDS, main
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.errors import FileError, TfPracError
from tf_prac.export.directory import check_target
from tf_prac.search.finished_run import FinishedRun
from tf_prac.storage.run_directory import RunDirectory

NAMES = {"long": "n" * 300, "not UTF-8": "\udcff", "NUL": "a\0b", "address": "gs://bucket/a"}
REFUSED = r"not the name of a file|not a local path|FinishedRun|NUL|UTF-8"
TUNE = ["--space=prune_rate=0.5", "--sparsity=0.5", "--limit_train=100"]
ARGUMENTS = {
    "search": [["--output_dir=NAME"], ["--prac_from=NAME", "--selector=prac"]]
    + [["--dataset=folder", "--data_dir=NAME"], ["--flagfile=NAME"]],
    "compare": [["--output_dir=NAME"]],
    "sweep": [["--output_dir=NAME", "--rewinds=0it,1it"]],
    "tune": [[*TUNE, "--output_dir=NAME"]],
    "reproduce": [["--item=table_1", "--output_dir=NAME"]],
    "evaluate": [["NAME"]],
    "retrain": [["NAME"]],
    "stability": [["NAME"], ["x", "--output_dir=NAME"]],
    "connectivity": [["NAME"], ["x", "--output_dir=NAME"]],
    "report": [["NAME"], ["NAME", "x"]],
    "figures": [["NAME"], ["NAME", "x"]],
    "export": [["NAME", "--output=x"], ["x", "--output=NAME"]],
    "info": [["NAME"]],
    "completion": [["NAME"]],
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", ARGUMENTS)
def test_a_command_refuses_it_in_one_line(command, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in ARGUMENTS[command]:
        words = [each.replace("NAME", NAMES[name]) for each in arguments]
        assert main([command, *words]) == 2, words
        out, error = capsys.readouterr()
        assert len(error.splitlines()) == 1 and error.startswith(f"tf-prac {command}: error: ")
        assert out == "" and error.rstrip("\n").isprintable()
        assert not os.listdir(tmp_path), words


def test_every_command_is_in_the_table():
    assert set(ARGUMENTS) == set(COMMANDS)


@pytest.mark.parametrize("name", NAMES)
def test_functions_of_python_refuse_it(name, tmp_path):
    path = NAMES[name] if name == "address" else tmp_path / NAMES[name]
    masks = Masks({"a": np.ones(2, bool)})
    doors = [
        lambda: masks.save(path),
        lambda: Masks.load(path),
        lambda: PracSet([1], [2], 3).save(path),
        lambda: PracSet.load(path),
        lambda: ForgettingStats(2).save(path),
        lambda: ForgettingStats.load(path),
        lambda: Ticket(masks, {"a": np.ones(2)}, 1, 0).save(path),
        lambda: Ticket.load(path),
        lambda: RunDirectory(path),
        lambda: FinishedRun("prac_from", str(path)),
        lambda: TicketSearch(lambda: None, directory=path),
        lambda: PracConfig(prac_from=str(path)) and FinishedRun("prac_from", str(path)),
        lambda: tf_prac.load_model(path),
        lambda: tf_prac.load_sparse(path),
        lambda: check_target(path, overwrite=False),
    ]
    for number, door in enumerate(doors):
        with pytest.raises(
            TfPracError, match=r"not the name of a file|FinishedRun|NUL|UTF-8|not a local path"
        ):
            door()
            pytest.fail(f"door {number}")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("directory", [".", "..", "/", "kept"])
def test_a_directory_is_no_name_of_a_file(directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("kept")
    for write in (Masks({"a": np.ones(2, bool)}).save, PracSet([1], [2], 3).save):
        with pytest.raises(FileError, match="cannot be written: Is a directory"):
            write(directory)
    assert os.listdir() == ["kept"] and os.listdir("kept") == []
