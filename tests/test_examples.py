"""Every example and benchmark runs, on a small setting."""

import json
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
SETTINGS = {
    "mnist_prac.py": ["--dataset=digits", "--epochs=2", "--rounds=2"],
    "forgetting_in_your_fit.py": ["--epochs=2"],
}


def test_every_example_is_tested_and_short():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SETTINGS)
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 120


@pytest.mark.parametrize("keras", ["keras", "tf_keras"])
@pytest.mark.parametrize("name", SETTINGS)
def test_example(name, keras, tmp_path):
    command = [sys.executable, str(EXAMPLES / name), f"--keras={keras}", *SETTINGS[name]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "%" in done.stdout


def test_the_benchmark_runs_and_writes_its_figures(tmp_path):
    script = BENCHMARKS / "training_step.py"
    command = [sys.executable, str(script), "--limit_train=300", "--repeats=1", "--output=o.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "o.json").read_text())
    assert set(rows) == {"plain fit", "PracModel fit", "search loop"}
    assert rows["plain fit"]["ratio"] == 1 and all(r["seconds"] > 0 for r in rows.values())
