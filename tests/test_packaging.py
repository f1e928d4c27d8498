"""What an installation has: public names, version, dependencies, and a quick start."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest
import source_tree

import tf_prac
from tf_prac.cli.main import COMMANDS

HEAVY = {
    "keras",
    "keras_tuner",
    "matplotlib",
    "sklearn",
    "tensorboard",
    "tensorflow",
    "tensorflow_datasets",
    "tensorflow_model_optimization",
    "tf_keras",
}

EXTRA = r'"(figures|onnx|tensorboard|tf-keras|tfmot|tfds|tuner)"'
FOR_TYPES_ONLY = {"typing_extensions"}  # type checkers know it; nothing imports it at run time


def python(*arguments: str, directory) -> subprocess.CompletedProcess:
    """Runs a Python that finds only what is installed."""
    command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-I", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)


def loaded(*arguments: str, directory) -> set[str]:
    """The top-level packages that a run of Python imports."""
    trace = python("-X", "importtime", *arguments, directory=directory).stderr
    names = re.findall(r"^import time:[\s\d]*\|[\s\d]*\|\s*([\w.]+)$", trace, re.M)
    assert "tf_prac" in names
    return {name.split(".")[0] for name in names}


def test_importing_is_quick(tmp_path):
    assert not loaded("-c", "import tf_prac", directory=tmp_path) & HEAVY


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_is_quick(command, tmp_path):
    assert not loaded("-m", "tf_prac", *command, "--help", directory=tmp_path) & HEAVY


def test_heavy_packages_would_be_seen(tmp_path):
    assert "sklearn" in loaded("-c", "import tf_prac, sklearn", directory=tmp_path)


def test_help_names_every_command(tmp_path):
    shown = python("-m", "tf_prac", "--help", directory=tmp_path).stdout
    assert [name for name in COMMANDS if name in shown] == list(COMMANDS)


@pytest.mark.parametrize("name", tf_prac.__all__)
def test_public_names_are_there(name):
    value = getattr(tf_prac, name)
    assert name in dir(tf_prac)
    if callable(value):
        assert value.__module__.startswith("tf_prac.")
        assert len(value.__doc__) > 20


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="'tf_prac' has no attribute 'Tickets'"):
        _ = tf_prac.Tickets


def test_version_is_that_of_the_installation():
    assert importlib.metadata.version("tf-prac") == tf_prac.__version__


def test_imported_packages_are_declared():
    requirements = importlib.metadata.requires("tf-prac") or []
    declared = {
        normalized(re.match(r"[\w.-]+", requirement)[0])
        for requirement in requirements
        if "extra ==" not in requirement or re.search(EXTRA, requirement)
    }
    providers = importlib.metadata.packages_distributions()
    missing = set()
    for module in source_tree.package_modules():
        for each in source_tree.imports(module):
            top = each.module.split(".")[0]
            if top not in {*sys.stdlib_module_names, *FOR_TYPES_ONLY, "tf_prac"}:
                found = {normalized(name) for name in providers.get(top, [top])}
                missing |= set() if found & declared else found
    assert not missing, f"imported; add to the dependencies in pyproject.toml: {sorted(missing)}"


def normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
