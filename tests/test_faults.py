"""Commands that are killed, whose file operations fail, and that run at the same time.

A thin sample, and behind `slow` a larger one, of what `python tests/fault_commands.py` runs.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from file_faults import FAULTS

from tf_prac.analysis import experiment as experiment_module
from tf_prac.analysis.comparison import Comparison
from tf_prac.analysis.sweep import RewindSweep
from tf_prac.errors import FileError
from tf_prac.keras_api import FLAVORS


def harness(*arguments):
    """The lines that the harness prints."""
    done = subprocess.run(
        [sys.executable, "tests/fault_commands.py", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    lines = done.stdout.splitlines()
    assert lines[-1] == "0 differences from undisturbed runs, 0 mixed files, 0 files left behind"
    return lines


def test_a_thin_sample():
    commands = ["report", "export --format=npz"]
    lines = harness("--count=4", "--pairs=1", "--keras", "keras", "--commands", *commands)
    assert lines[-2].startswith("kill: 4 times: ")
    assert lines[-3].startswith("1 of 4 pairs: 1 ")


EXPERIMENTS = {
    "comparison": lambda path: Comparison(
        lambda: None, ["prac", "imp"], directory=path, seeds=[0], verbose=False
    ),
    "sweep": lambda path: RewindSweep(
        lambda: None, ["0it", "7it"], directory=path, seeds=[0], verbose=False
    ),
}


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_an_experiment_that_was_killed_at_its_first_write_starts_again(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_module, "WAIT_SECONDS", 0.1)
    experiment = EXPERIMENTS[kind](tmp_path)
    left = tmp_path / f".{kind}.json.4711.0123abcd.tmp"
    left.write_bytes(b"{")
    (tmp_path / ".lock").touch()
    with experiment._opened():
        assert not left.exists()
        other = EXPERIMENTS[kind](tmp_path)
        message = rf"another {kind} writes its files \(process {os.getpid()}\)"
        with pytest.raises(FileError, match=message), other._opened():
            pytest.fail("opened twice")


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_an_experiment_that_writes_nothing_leaves_nothing(kind, tmp_path):
    with EXPERIMENTS[kind](tmp_path / "a" / "b")._opened():
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "notes.txt").touch()
    message = "not empty and not a"
    with pytest.raises(FileError, match=message), EXPERIMENTS[kind](tmp_path)._opened():
        pytest.fail("opened")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("keras", FLAVORS)
def test_kills_of_all_commands_and_of_workers_and_pairs(keras):
    """The whole: `python tests/fault_commands.py --count=300 --workers=50 --pairs=1000`."""
    print("\n".join(harness("--count=30", "--workers=3", "--pairs=10", "--keras", keras)))


SOME_COMMANDS = ["search", "report", "export", "export --overwrite"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"kill", "hold"}))
def test_faults_below_the_file_system(fault):
    print("\n".join(harness("--count=20", f"--fault={fault}", "--commands", *SOME_COMMANDS)))
