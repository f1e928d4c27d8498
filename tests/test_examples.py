"""Every example runs, on a small setting, in both flavours."""

import pathlib
import subprocess
import sys

import pytest

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
