"""Every example and a benchmark run with small settings."""

import contextlib
import csv
import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import app, flags

from tf_prac.keras_api import FLAVORS

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
SETTINGS = {
    "cifar10_prac.py": ["--model=lenet300", "--limit_train=100", "--epochs=1", "--rounds=1"],
    "export_and_serve.py": ["--epochs=1", "--rounds=1", "--nocheck"],
    "distributed_prac.py": ["--dataset=digits", "--epochs=1", "--rounds=1", "--devices=1"],
    "forgetting_in_your_fit.py": ["--epochs=2"],
    "multi_label_prac.py": ["--samples=80", "--epochs=1", "--rounds=1"],
    "regression_prac.py": ["--epochs=1", "--rounds=1"],
    "segmentation_prac.py": ["--samples=40", "--epochs=1", "--rounds=1"],
    "text_prac.py": ["--epochs=1", "--rounds=1"],
    "mobilenet_lite.py": ["--epochs=1", "--repeats=1", "--alpha=0.35"],
    "mnist_prac.py": ["--dataset=digits", "--epochs=2", "--rounds=2"],
    "rewinding_sweep.py": ["--epochs=1", "--rounds=1", "--rewinds=0it,2it"],
    "transfer_prac_set.py": ["--epochs=1", "--rounds=1", "--target=lenet300", "--source=conv2"],
    "tune_prac.py": ["--epochs=1", "--trials=2", "--sparsity=0.3"],
}
WITH_KERAS = ("export_and_serve", "forgetting_in_your_fit", "regression", "segmentation", "tune")
"""The examples whose quick run is with Keras 3; that of the others is with tf_keras."""
SLOW = "mobilenet_lite.py"  # trains a network of 150 layers


def case(name, keras):
    """A run of an example, which is slow unless its flavor is that of the quick run."""
    quick = keras == ("keras" if name.startswith(WITH_KERAS) else "tf_keras") and name != SLOW
    return pytest.param(name, keras, marks=[] if quick else pytest.mark.slow)


def test_every_example_is_tested_and_short():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SETTINGS)
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 120
        assert "except TfPracError as error:" in path.read_text()


def test_an_example_with_wrong_options_ends_with_one_line(tmp_path):
    command = [sys.executable, EXAMPLES / "rewinding_sweep.py", "--epochs=2"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: rewinds: received '2%'; allowed: ")


@pytest.mark.parametrize(
    ("name", "keras"), [case(name, keras) for name in SETTINGS for keras in FLAVORS]
)
# KerasTuner asks for the thread and its name in ways that Python 3.10 deprecated.
@pytest.mark.filterwarnings("ignore:(currentThread|getName):DeprecationWarning")
def test_example(name, keras, tmp_path, monkeypatch, capsys, request):
    arguments = [f"--keras={keras}", *SETTINGS[name]]
    if name.startswith("cifar10"):
        arguments.append(f"--data_dir={request.getfixturevalue('tfds_dir')}")
    monkeypatch.chdir(tmp_path)
    with main_of(EXAMPLES / name) as main, pytest.raises(SystemExit) as ended:
        app.run(main, [name, *arguments])
    assert not ended.value.code
    assert "%" in capsys.readouterr().out


@contextlib.contextmanager
def main_of(path):
    """Yields the `main` of a script, and removes its flags afterwards."""
    before = set(flags.FLAGS)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module.main
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def test_a_benchmark_runs_and_writes_its_results(tmp_path):
    script = BENCHMARKS / "training_step.py"
    command = [sys.executable, str(script), "--limit_train=300", "--repeats=1", "--output=o.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "o.json").read_text())
    assert set(rows) == {"plain fit", "PracModel fit", "search loop"}
    assert rows["plain fit"]["ratio"] == 1 and all(r["seconds"] > 0 for r in rows.values())


@pytest.mark.slow
def test_the_benchmark_of_tabular_data_reads_a_table_and_compares_arms(tmp_path):
    generator = np.random.default_rng(0)
    names = ["carat", "depth", "table", "price", "x", "y", "z", "color", "clarity", "cut"]
    cuts = ["Fair", "Good", "Very Good", "Premium", "Ideal"]
    rows = [
        [*generator.normal(size=7), "DEFGHIJ"[n % 7], f"clarity {n % 8}", cuts[n % 5]]
        for n in range(500)
    ]
    lines = [",".join(map(str, row)) for row in [names, *rows]]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    command = [sys.executable, str(BENCHMARKS / "tabular.py"), "--csv=table.csv", "--epochs=1"]
    command += ["--arms=imp,fast", "--seeds=0", "--rounds=2", "--retrain=2", "--output_dir=out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out/runs.csv", newline="") as file:
        arms = [row["arm"] for row in csv.DictReader(file)]
    assert arms == ["imp", "imp", "fast", "fast"]
