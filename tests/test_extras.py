"""Optional packages: without one, each door that needs it names the extra, and the rest works."""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys

import pytest

from tf_prac.errors import MissingPackageError
from tf_prac.extras import EXTRAS, is_installed, require

SCRIPT = pathlib.Path(__file__).with_name("without_extras.py")
TFMOT = "tensorflow_model_optimization"
ALL_DOORS = 16  # of every package but TFMOT


@pytest.mark.parametrize("blocked, doors", [({*EXTRAS, "sklearn"}, ALL_DOORS), ({TFMOT}, 1)])
def test_each_door_names_the_extra_before_any_work_and_the_rest_works(blocked, doors, tmp_path):
    command = [sys.executable, str(SCRIPT), ",".join(blocked), str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    errors = json.loads(process.stdout)
    assert len(errors) == doors
    for name, package, message in errors:
        assert message.endswith(f"pip install 'tf-prac[{EXTRAS[package]}]'\n"), (name, message)
        assert message.count("\n") == 1
        assert package in message


def test_extras_are_those_of_the_installation():
    assert set(EXTRAS.values()) <= set(
        importlib.metadata.metadata("tf-prac").get_all("Provides-Extra")
    )


@pytest.mark.parametrize("package", EXTRAS)
def test_the_extra_of_a_package_installs_it(package):
    # Python 3.10 finds only distributions that list their packages.
    providers = importlib.metadata.packages_distributions().get(package, [package])
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in providers}
    extra = re.compile(rf'extra == "{EXTRAS[package]}"')
    installed = {
        re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()
        for requirement in importlib.metadata.requires("tf-prac")
        if extra.search(requirement)
    }
    assert names & installed


def test_a_package_that_is_installed_is_not_imported():
    assert is_installed("this") and "this" not in sys.modules
    assert not is_installed("no_such_package")


def test_the_error_is_an_import_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ImportError, match=r"tf-prac\[tf-keras\]") as error:
        require("tf_keras", "models of Keras 2")
    assert isinstance(error.value, MissingPackageError) and error.value.name == "tf_keras"
