"""The documentation: every public name and page has its place, and Sphinx has nothing to say."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from source_tree import ROOT

import tf_prac
from tf_prac import export
from tf_prac.keras_api import FLAVORS
from tf_prac.models import MODELS
from tf_prac.pruning import CRITERIA, PATTERNS
from tf_prac.search.selectors import SELECTORS
from tf_prac.tasks import TASKS

DOCS = ROOT / "docs"
DICTIONARIES = {"PRAC_VARIANTS", "PRESETS"}
NAMESPACES = {"analysis", "callbacks", "data", "export", "pruning", "tasks"}


def test_the_reference_has_every_public_name():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    there = {name.split(".")[-1] for name in re.findall(r"^\.\. auto\w+:: (\S+)", text, re.M)}
    public = {*tf_prac.__all__, *export.__all__} - NAMESPACES - DICTIONARIES - {"__version__"}
    assert not public - there, f"docs/api.md: add {', '.join(sorted(public - there))}"
    assert all(f"`{name}`" in text for name in DICTIONARIES)


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {
        p.relative_to(DOCS).with_suffix("").as_posix()
        for p in DOCS.rglob("*.*")
        if p.suffix in (".md", ".ipynb")
    }
    missing = [page for page in pages - {"index"} if f"\n{page}\n" not in index]
    assert not missing, f"docs/index.md: add {', '.join(sorted(missing))}"


@mock.patch.dict(CRITERIA)
@mock.patch.dict(PATTERNS)
@mock.patch.dict(SELECTORS)
@mock.patch.dict(MODELS)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_the_page_about_extending_runs_as_it_stands(flavor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = zip(*load_digits(return_X_y=True), strict=True)
    lines = [",".join([*map(str, (x / 16).tolist()), str(y)]) for x, y in rows]
    (tmp_path / "train.csv").write_text("\n".join(lines[:600]))
    page = (DOCS / "extending.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```", page, re.M | re.S))
    names: dict = {}
    code = code.replace('keras="keras"', f'keras="{flavor}"').replace("epochs=5", "epochs=2")
    exec(compile(code, "docs/extending.md", "exec"), names)
    rounds = names["result"].summary["rounds"]
    assert [each["train_samples"] for each in rounds] == [540, 216]
    assert list(names["result"].tickets[-1].masks) == ["hidden/kernel"]


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {tf_prac.__version__}\n" in citation


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("myst_nb") is None, reason="needs the extra docs")
def test_the_pages_build_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "api.html").stat().st_size > 100_000


def test_the_architecture_names_every_module_and_no_other():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    packages = text.split("## Packages")[1].split("```")[1]
    named = set(re.findall(r"\w+\.py\b", packages))
    documented_by_folder = (
        *("cli", "models", "presets", "training/callbacks"),
        *("analysis/report", "analysis/reproduce"),
    )
    modules = {
        path.name
        for path in (ROOT / "tf_prac").rglob("*.py")
        if path.relative_to(ROOT / "tf_prac").parent.as_posix() not in documented_by_folder
    } - {"__init__.py", "__main__.py", "_lazy.py", "version.py"}
    assert not modules - named, f"docs/architecture.md: add {', '.join(sorted(modules - named))}"
    assert not named - modules, f"docs/architecture.md: no {', '.join(sorted(named - modules))}"


def test_the_index_of_the_architecture_names_files_that_exist():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    index = text.split("## Where is ...?")[1].split("## ")[0]
    files = re.findall(r"^\| Where .*\? \| `(.+)` \|$", index, re.M)
    assert len(files) >= 10
    missing = [name for name in files if not (ROOT / name).is_file()]
    assert not missing, f"docs/architecture.md: no {', '.join(missing)}"


@pytest.mark.parametrize("flavor", ["keras", pytest.param("tf_keras", marks=pytest.mark.slow)])
def test_the_page_about_tasks_runs_as_it_stands(flavor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras = importlib.import_module(flavor)

    def make_model():
        layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
        return keras.Sequential([keras.Input((10,)), *layers])

    x, y = load_diabetes(return_X_y=True)
    x, y = x[:64].astype(np.float32), (y[:64] / 100).astype(np.float32)
    names: dict = {"make_model": make_model, "x_train": x, "y_train": y, "x_test": x, "y_test": y}
    page = (DOCS / "tasks.md").read_text(encoding="utf-8")
    search, rating = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    search = search.replace("epochs=20", "epochs=2").replace("rounds=4", "rounds=1")
    exec(compile(search, "docs/tasks.md", "exec"), names)
    assert names["result"].model.predict(x, verbose=0).shape == (64, 1)

    with mock.patch.dict(TASKS):
        exec(compile(rating, "docs/tasks.md", "exec"), names)
        options = {"task": "rating", "directory": "runs/rating", "verbose": False}
        recipe = tf_prac.TrainingRecipe(epochs=1, batch_size=32)
        pruning = tf_prac.PruningConfig(rounds=1, rewind="1it")
        search = tf_prac.TicketSearch(make_model, recipe, pruning, **options)
        ratings = np.clip(np.round(2 * y), 1, 5)
        assert search.run((x, ratings), test=(x, ratings)).tickets[-1].sparsity > 0
