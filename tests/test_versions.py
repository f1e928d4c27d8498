"""Runs under other versions, and the lowest versions that are supported."""

from __future__ import annotations

import json
import re
from unittest import mock

import numpy as np
import pytest
import version_smoke
from conftest import REPOSITORY

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.search import SearchCallback, summary

RECIPE = TrainingRecipe(epochs=1, batch_size=40, jit_compile=False)


def search(path, ignore=(), **options):
    search = TicketSearch(
        lambda: version_smoke.network("keras"),
        RECIPE,
        PruningConfig(rounds=1, ignore=ignore),
        directory=path,
        **{"verbose": False, **options},
    )
    return search.run((version_smoke.X, version_smoke.Y))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("versions") / "run"
    search(path)
    return path


def installed(**versions):
    """Pretends that packages have other versions."""
    original = summary._version
    return mock.patch.object(summary, "_version", lambda name: versions.get(name, original(name)))


class Messages(SearchCallback):
    def __init__(self):
        self.text = ""

    def on_message(self, text):
        self.text += " ".join(text.split()) + "\n"  # lines are wrapped


@pytest.mark.parametrize("package", ["tensorflow", "keras", "tf_prac"])
def test_a_run_of_other_versions_is_refused_unless_they_are_accepted(package, run):
    before, seen = (run / "config.json").read_bytes(), Messages()
    recorded = json.loads(before)["versions"][package]
    with installed(**{package: "9.9"}):
        with pytest.raises(MismatchError, match=f"^{package}: '9.9' requested.*accept_versions"):
            search(run)
        (run / "summary.json").unlink()
        resumed = search(run, accept_versions=True, verbose=seen)
    assert seen.text.count("other versions") == 1
    assert f"{package} {recorded} -> 9.9; results may not be bit-identical" in seen.text
    assert (run / "config.json").read_bytes() == before
    assert (run / "summary.json").exists() and len(resumed.tickets) == 2


def test_the_version_of_the_other_keras_does_not_matter(run):
    with installed(tf_keras="unknown"):
        search(run)


def test_a_run_with_an_unused_pattern_of_an_earlier_version_is_resumed(tmp_path):
    """Such patterns are refused for new searches only."""
    refused = pytest.raises(ArgumentError, match="ignore: received 'head'.*matches no weight")
    with refused:
        search(tmp_path / "run", ignore=("head",))
    assert not (tmp_path / "run").exists()
    with mock.patch("tf_prac.pruning.weights._check_ignored"):
        first = search(tmp_path / "run", ignore=("head",))
    config, seen = (tmp_path / "run" / "config.json").read_bytes(), Messages()
    (tmp_path / "run" / "summary.json").unlink()
    resumed = search(tmp_path / "run", ignore=("head",), verbose=seen)
    assert "warning: ignore: 'head' matches no weight" in seen.text
    assert (tmp_path / "run" / "config.json").read_bytes() == config
    assert resumed.tickets[-1].masks == first.tickets[-1].masks
    with pytest.raises(MismatchError, match="ignore"):
        search(tmp_path / "run", ignore=("tail",))


def test_accepted_versions_that_are_the_same_are_not_mentioned():
    assert summary.changed_versions({"keras": "3"}, {"keras": "3"}) == ""


@pytest.mark.parametrize("value", [1, "yes", None])
def test_accept_versions_is_true_or_false(value, tmp_path):
    with pytest.raises(ArgumentError, match="accept_versions"):
        search(tmp_path, accept_versions=value)


def test_the_lowest_versions_are_the_lower_bounds():
    """Of the dependencies and of every extra that the smoke test installs."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    text = text[text.index("dependencies = [") : text.index("docs = [")]
    bounds = dict(re.findall(r'"([a-z0-9-]+)(?:\[[a-z-]+\])?>=([\d.]+)', text))
    lines = (REPOSITORY / "tests" / "lowest.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert bounds.keys() == pins.keys()
    for name, bound in bounds.items():
        assert f"{pins[name]}.".startswith(f"{bound}."), name


def test_the_cells_of_the_matrix_can_fail(monkeypatch, capsys):
    monkeypatch.setitem(version_smoke.CELLS, "prune", lambda flavor: np.testing.assert_equal(1, 2))
    assert version_smoke.result("prune", "keras").startswith("AssertionError")
    assert version_smoke.result("TFMOT", "keras") == "-"
    capsys.readouterr()
