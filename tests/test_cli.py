"""`tf-prac`: what it prints, what it writes, and how it refuses."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tf_prac.cli.main import main

QUICK = ["--epochs=1", "--rounds=1", "--limit_train=300", "--batch_size=64"]


def files_of(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two rounds, made by the command."""
    directory = tmp_path_factory.mktemp("cli") / "run"
    arguments = ["--epochs=2", "--rounds=2", f"--output_dir={directory}", "--rewind=3it"]
    assert main(["search", *arguments]) == 0
    return directory


def test_a_run_can_be_looked_at_evaluated_and_retrained(run, capsys):
    summary = json.loads((run / "summary.json").read_text())
    assert main(["info", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "round  0" in printed and "ticket 2" in printed and "saved" in printed

    assert main(["evaluate", str(run)]) == 0
    printed = capsys.readouterr().out
    assert f"accuracy {summary['tickets'][2]['test_accuracy']:.4%}" in printed
    assert "36.00%" in printed

    assert main(["evaluate", str(run), "--round=1"]) == 2
    assert f"tf-prac retrain {run} --round=1" in capsys.readouterr().err
    assert main(["retrain", str(run), "--round=1"]) == 0
    after = json.loads((run / "summary.json").read_text())
    assert after["tickets"][1]["retrain_steps"] > 0
    assert after["tickets"][2] == summary["tickets"][2]
    assert after["rounds"] == summary["rounds"]
    assert main(["evaluate", str(run), "--round=1"]) == 0


def test_the_same_command_again_trains_nothing(run, capsys, monkeypatch):
    from tf_prac.training.trainer import Trainer

    before = files_of(run)
    monkeypatch.setattr(Trainer, "train", lambda *a, **k: pytest.fail("trained again"))
    arguments = ["--epochs=2", "--rounds=2", f"--output_dir={run}", "--rewind=3it"]
    assert main(["search", *arguments]) == 0
    assert "ticket  2" in capsys.readouterr().out
    assert files_of(run) == before


def test_a_flagfile_gives_flags(run, tmp_path, capsys):
    flagfile = tmp_path / "flags.txt"
    flagfile.write_text(f"--epochs=2\n--rounds=2\n--output_dir={run}\n--rewind=4it\n")
    assert main(["search", f"--flagfile={flagfile}"]) == 2
    assert "rewind: '4it' asked for, but the run in" in capsys.readouterr().err


def test_help_is_quick_and_complete():
    command = "import sys; from tf_prac.cli.main import main; main(sys.argv[1:]);"
    command += "assert not {'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules)"
    for arguments in (["--help"], ["search", "--help"], ["info", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", command, *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 100
    for name in ("search", "retrain", "evaluate", "compare", "info"):
        assert (
            name
            in subprocess.run(
                [sys.executable, "-m", "tf_prac"], capture_output=True, text=True
            ).stdout
        )


def test_the_script_prints_no_noise(tmp_path):
    """A real process: figures on standard output, nothing on standard error."""
    arguments = [sys.executable, "-m", "tf_prac", "search", *QUICK, "--keras=tf_keras"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "runs/digits_lenet300_tf_keras/summary.json" in done.stdout
    assert (tmp_path / "runs/digits_lenet300_tf_keras/tickets/round_01/model.keras").exists()


BAD_FLAGS = [
    ("--dataset=nothing_like_it", "dataset"),
    ("--dataset=mnist --data_dir=/nowhere", "data_dir"),
    ("--dataset=mnist --data_dir=EMPTY", "data_dir"),
    ("--dataset=folder", "data_dir"),
    ("--dataset=folder --data_dir=EMPTY", "data_dir"),
    ("--model=lenet", "model"),
    ("--model=resnet50", "model"),
    ("--keras=pytorch", "keras"),
    ("--seed=-1", "seed"),
    ("--seed=x", "seed"),
    ("--retrain=some", "retrain"),
    ("--retrain=1,9 --rounds=2", "--retrain: received 9; allowed: one of last, all, none, or"),
    ("--prac=both", "prac"),
    ("--limit_train=0", "limit_train"),
    ("--limit_train=-4", "limit_train"),
    ("--limit_train=1000000", "limit_train"),
    ("--epochs=0", "epochs"),
    ("--epochs=1.5", "epochs"),
    ("--batch_size=-2", "batch_size"),
    ("--optimizer=sgdd", "optimizer"),
    ("--learning_rate=0", "learning_rate"),
    ("--learning_rate=nan", "learning_rate"),
    ("--momentum=1", "momentum"),
    ("--weight_decay=-1", "weight_decay"),
    ("--schedule=steps", "schedule"),
    ("--milestones=0.5,0.2", "milestones"),
    ("--milestones=a", "milestones"),
    ("--decay=2", "decay"),
    ("--warmup=1", "warmup"),
    ("--augment=cutout", "augment"),
    ("--validation_split=1", "validation_split"),
    ("--split=first", "split"),
    ("--rounds=0", "rounds"),
    ("--prune_rate=1.5", "prune_rate"),
    ("--prune_rate=0", "prune_rate"),
    ("--scope=local", "scope"),
    ("--criterion=size", "criterion"),
    ("--layers=attention", "layers"),
    ("--layers=conv", "model"),
    ("--ignore=*", "model"),
    ("--rewind=5", "rewind"),
    ("--rewind=20ep", "rewind"),
    ("--rewind=100%", "rewind"),
    ("--rewind=1.5it", "rewind"),
    ("--forget_threshold=-1", "forget_threshold"),
    ("--never_learned=maybe", "never_learned"),
    ("--cep_network=dense", "cep_network"),
    ("--cep_weights=worst", "cep_weights"),
    ("--cep_from_round=-1", "cep_from_round"),
    ("--min_size=2", "min_size"),
    ("--budget=time", "budget"),
    ("--early_stop_eps=0", "early_stop_eps"),
    ("--early_stop_eps=never", "early_stop_eps"),
    ("--early_stop_window=0", "early_stop_window"),
    ("--output_dir=FULL", "not empty and not a run"),
    ("--output_dir=FULL/notes.txt", "not empty and not a run"),
    ("--learning_rate=1e30 --epochs=2", "loss: NaN or infinite at step"),
    ("--no_such_flag", "no_such_flag"),
    ("--flagfile=/nowhere/flags", "flagfile"),
    ("stray", "stray"),
]


@pytest.mark.parametrize(("text", "named"), BAD_FLAGS, ids=[row[0] for row in BAD_FLAGS])
def test_bad_input_is_one_line_with_status_2_and_writes_nothing(text, named, tmp_path, capfd):
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "notes.txt").write_text("mine")
    text = text.replace("FULL", str(full)).replace("EMPTY", str(empty))
    output = [] if "--output_dir" in text else [f"--output_dir={tmp_path / 'run'}"]
    before = files_of(tmp_path)
    assert main(["search", *output, *text.split()]) == 2
    errors = capfd.readouterr().err
    assert len(errors.splitlines()) == 1 and errors.startswith("tf-prac search: error: ")
    assert named in errors and "Traceback" not in errors
    after = files_of(tmp_path)
    after.pop(tmp_path / "run" / "config.json", None)
    assert after == before
    if "loss" not in named:
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["info", "evaluate", "retrain"])
def test_what_is_no_run_is_refused(command, tmp_path, capsys, run):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_bytes((run / "config.json").read_bytes()[:-99])
    (tmp_path / "newer").mkdir()
    newer = (run / "config.json").read_text().replace('"schema": 1', '"schema": 99')
    (tmp_path / "newer" / "config.json").write_text(newer)
    for arguments, named in (
        ([], "RUN"),
        (["a", "b"], "RUN"),
        ([str(tmp_path / "missing")], "RUN"),
        ([str(tmp_path)], "not a run of tf_prac"),
        ([str(tmp_path / "damaged")], "config.json"),
        ([str(tmp_path / "newer")], "schema 99; this one reads up to 1"),
    ):
        assert main([command, *arguments]) == 2
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1 and named in errors
    if command != "info":
        assert main([command, str(run), "--round=9"]) == 2
        assert (
            "--round: received 9; allowed: a ticket of the run, 0 to 2" in capsys.readouterr().err
        )


def test_unknown_commands_and_interrupts(capsys, monkeypatch):
    assert main(["serach"]) == 2
    assert "allowed: search, retrain, evaluate, " in capsys.readouterr().err
    assert main(["--help"]) == 0 == main([])
    from tf_prac.cli import info

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "main", interrupt)
    assert main(["info", "x"]) == 130
    assert "goes on after finished rounds" in capsys.readouterr().err


@pytest.mark.parametrize("keras", ["keras", "tf_keras"])
def test_search_on_mnist(keras, tfds_dir, tmp_path):
    """A short search on the real data set, with exact sparsities in summary.json."""
    arguments = "search --dataset=mnist --model=lenet300 --rounds=4 --epochs=2 --limit_train=4000"
    directory = tmp_path / "run"
    places = [f"--data_dir={tfds_dir}", f"--output_dir={directory}", f"--keras={keras}"]
    assert main([*arguments.split(), *places]) == 0
    summary = json.loads((pathlib.Path(directory) / "summary.json").read_text())
    sparsities = [figures["sparsity"] for figures in summary["tickets"]]
    np.testing.assert_allclose(sparsities, [0, 0.2, 0.36, 0.488, 0.5904], atol=1e-5)
    assert all(figures["prac_size"] < 3600 for figures in summary["rounds"])
    assert summary["dataset"]["name"] == "mnist" and summary["keras"] == keras


def test_a_closed_pipe_ends_the_command_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "tf_prac", "search", *QUICK]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, **pipes) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
