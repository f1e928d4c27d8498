"""`tf-prac`: what it prints, what it writes, and how it refuses."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from documents import HEAD, documented_entries

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


def test_results_as_json(run, tmp_path, capsys):
    """Standard output is one JSON object with the documented entries."""
    summary = json.loads((run / "summary.json").read_text())
    assert main(["info", str(run), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert list(info) == [*HEAD, *documented_entries("info")]
    assert (info["kind"], info["schema"], info["finished"]) == ("info", 1, True)
    assert len(info["rounds"]) == info["num_rounds"] == 2
    assert all(info[name] == summary[name] for name in ("dense", "tickets", "controls", "cost"))

    assert main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result) == [*HEAD, *documented_entries("evaluate")]
    assert result["test_accuracy"] == pytest.approx(summary["tickets"][2]["test_accuracy"])
    assert result["zeros"] == round(0.36 * result["prunable_weights"]) and result["round"] == 2

    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    for rounds, part in ((2, "the retraining"), (1, "round 1 of 2")):
        assert main(["info", str(tmp_path / "run"), "--json"]) == 0
        info = json.loads(capsys.readouterr().out)
        assert not info["finished"] and len(info["rounds"]) == rounds and info["cost"] is None
        assert main(["info", str(tmp_path / "run")]) == 0
        assert f"{part} is not finished" in capsys.readouterr().out
        (tmp_path / "run/round_01/round.json").unlink(missing_ok=True)
    assert main(["info", str(tmp_path), "--json"]) == 2
    assert capsys.readouterr().out == ""


def test_quiet_prints_the_results_only(run, capsys):
    arguments = ["--epochs=2", "--rounds=2", f"--output_dir={run}", "--rewind=3it"]
    assert main(["search", *arguments, "--quiet"]) == 0
    out, error = capsys.readouterr()
    assert error == "" and "round" not in out.replace("round_02", "") and "ticket 2" in out


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
    assert "rewind: '4it' requested, but the run in" in capsys.readouterr().err


def test_help_is_quick_and_complete():
    command = "import sys; from tf_prac.cli.main import main; main(sys.argv[1:]);"
    command += "assert not {'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules)"
    for arguments in (["--help"], ["search", "--help"], ["info", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", command, *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80
    done = subprocess.run([sys.executable, "-m", "tf_prac"], capture_output=True, text=True)
    for name in ("search", "retrain", "evaluate", "compare", "sweep", "info"):
        assert name in done.stdout


def test_the_script_prints_no_noise(tmp_path):
    """A real process: figures on standard output, nothing on standard error."""
    arguments = [sys.executable, "-m", "tf_prac", "search", *QUICK, "--keras=tf_keras"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "runs/digits_lenet300_tf_keras/summary.json" in done.stdout
    assert (tmp_path / "runs/digits_lenet300_tf_keras/tickets/round_01/model.keras").exists()


def test_a_loss_that_explodes_is_one_line_with_status_2_and_keeps_the_run(tmp_path, capfd):
    directory = tmp_path / "run"
    flags = ["--learning_rate=1e30", "--epochs=2", f"--output_dir={directory}"]
    assert main(["search", *flags]) == 2
    errors = capfd.readouterr().err
    assert len(errors.splitlines()) == 1 and "NaN or infinite at step" in errors
    assert {path.name for path in files_of(directory)} == {".lock", "config.json"}


def test_unknown_commands_and_interrupts(capsys, monkeypatch):
    assert main(["serach"]) == 2
    assert "allowed: search, retrain, evaluate, " in capsys.readouterr().err
    assert main(["--help"]) == 0 == main([])
    from tf_prac.cli import info

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "main", interrupt)
    assert main(["info", "x"]) == 130
    assert "run the same command again to resume" in capsys.readouterr().err


@pytest.mark.parametrize("keras", ["keras", pytest.param("tf_keras", marks=pytest.mark.slow)])
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
