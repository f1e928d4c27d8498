"""The BUILD files: every module is in a target, and what a file uses it loads."""

from __future__ import annotations

import ast
import pathlib

import pytest
import source_tree
from source_tree import ROOT

BUILD_FILES = sorted(path for path in ROOT.glob("*/BUILD"))
every_build_file = pytest.mark.parametrize(
    "build", BUILD_FILES, ids=[path.relative_to(ROOT).as_posix() for path in BUILD_FILES]
)


def calls(node: pathlib.Path | ast.AST, name: str) -> list[ast.Call]:
    """Every call of a function in a BUILD file, or in a part of it."""
    tree = ast.parse(node.read_text(encoding="utf-8")) if isinstance(node, pathlib.Path) else node
    found = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
    return [call for call in found if ast.unparse(call.func).startswith(name)]


def globbed(build: pathlib.Path, call: ast.Call) -> set[pathlib.Path]:
    """The files that a `glob` of a BUILD file finds."""
    exclude = [ast.literal_eval(key.value) for key in call.keywords if key.arg == "exclude"]
    patterns = [ast.literal_eval(call.args[0]), *exclude, []][:2]
    include, without = ({p for each in some for p in build.parent.glob(each)} for some in patterns)
    return include - without


def test_the_scripts_and_the_package_have_a_build_file():
    assert [path.parent.name for path in BUILD_FILES] == sorted(["tf_prac", *source_tree.SCRIPTS])


@every_build_file
def test_every_module_is_in_a_target(build):
    covered = {path for call in calls(build, "glob") for path in globbed(build, call)}
    missing = sorted(set(build.parent.rglob("*.py")) - covered)
    assert not missing, f"no glob finds {', '.join(map(str, missing))}"


@every_build_file
def test_every_glob_finds_something(build):
    for call in calls(build, "glob"):
        assert globbed(build, call), f"{build}: {ast.unparse(call)} finds nothing"


@every_build_file
def test_named_files_and_local_labels_exist(build):
    names = {
        ast.literal_eval(key.value)
        for rule in calls(build, "py_")
        for key in rule.keywords
        if key.arg == "name" and isinstance(key.value, ast.Constant)
    }
    for rule in calls(build, "py_"):
        for node in ast.walk(rule):
            text = node.value if isinstance(node, ast.Constant) else None
            if not isinstance(text, str) or "*" in text:
                continue
            if text.startswith("//"):
                package = text.removeprefix("//").partition(":")[0]
                assert (ROOT / package / "BUILD").is_file(), f"{build}: {text}"
            elif text.startswith(":"):
                assert text[1:] in names, f"{build}: no target {text}"
            elif text.endswith((".py", ".typed")) and text != ".py":
                assert (build.parent / text).is_file(), f"{build}: no file {text}"


@every_build_file
def test_rules_that_are_used_are_loaded(build):
    loaded = {ast.literal_eval(name) for call in calls(build, "load") for name in call.args[1:]}
    assert loaded == {ast.unparse(call.func) for call in calls(build, "py_")}
