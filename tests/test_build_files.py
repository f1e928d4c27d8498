"""The BUILD files: one target for each module, with exactly the dependencies that it imports."""

from __future__ import annotations

import ast
import dataclasses
import pathlib
import re
import sys

import pytest
import source_tree
from source_tree import ROOT

SCRIPT = "run_pytest.py"


@dataclasses.dataclass(frozen=True)
class Target:
    """What a BUILD file must say of one module.

    Attributes:
        rule: py_library, py_binary or py_test.
        name: of the target.
        srcs: its files.
        deps: labels of targets of this project.
        outside: packages of others that it imports; comments among the deps.
        args: arguments of a test's script.
        main: a test's script.
    """

    rule: str
    name: str
    srcs: frozenset[str]
    deps: frozenset[str]
    outside: frozenset[str]
    args: tuple[str, ...] = ()
    main: str | None = None

    def __str__(self) -> str:
        rows = [f"name = {quoted(self.name)}"]
        if self.rule == "py_test":
            rows.append('size = "medium"')
        rows.append(f"srcs = {listed(map(quoted, sorted(self.srcs)))}")
        if self.args:
            rows.append(f"args = {listed(map(quoted, self.args))}")
        if self.main:
            rows.append(f"main = {quoted(self.main)}")
        labels = sorted(self.deps, key=lambda label: label.split(":"))
        deps = [*map(quoted, labels), *(f"# {name}" for name in sorted(self.outside))]
        if deps:
            rows.append(f"deps = {listed(deps)}")
        return "\n".join([f"{self.rule}(", *(f"    {row}," for row in rows), ")\n"])


def quoted(text: str) -> str:
    return f'"{text}"'


def listed(items) -> str:
    items = list(items)
    if len(items) == 1 and not items[0].startswith("#"):
        return f"[{items[0]}]"
    rows = [f"        {item}{'' if item.startswith('#') else ','}" for item in items]
    return "\n".join(["[", *rows, "    ]"])


def wanted(module: str) -> Target:
    """Derives a module's target from its imports."""
    path = source_tree.modules()[module]
    imported = {each.module for each in source_tree.imports(module)}
    imported |= set(source_tree.RUN_TIME_IMPORTS.get(module, ()))
    if path.name.startswith("test_") and "conftest" in source_tree.modules():
        imported.add("conftest")
    own = imported & set(source_tree.modules())
    outside = {name.split(".")[0] for name in imported - own} - sys.stdlib_module_names
    rule, srcs, args, main = "py_library", {path.name}, (), None
    is_script = path.parent.name in ("examples", "benchmarks") and "__main__" in path.read_text()
    if path.name == "__main__.py" or is_script:
        rule = "py_binary"
    elif path.name.startswith("test_"):
        rule, args, main = "py_test", (path.relative_to(ROOT).as_posix(),), SCRIPT
        srcs.add(SCRIPT)
    deps = frozenset(label(name, path.parent) for name in own)
    return Target(rule, name_of(path), frozenset(srcs), deps, frozenset(outside), args, main)


def name_of(path: pathlib.Path) -> str:
    return path.parent.name if path.name == "__init__.py" else path.stem


def label(module: str, directory: pathlib.Path) -> str:
    """How a BUILD file in `directory` names the target of a module."""
    path = source_tree.modules()[module]
    if path.parent == directory:
        return f":{name_of(path)}"
    package = f"//{path.parent.relative_to(ROOT).as_posix()}"
    return package if path.name == "__init__.py" else f"{package}:{name_of(path)}"


def targets(build: pathlib.Path) -> dict[str, Target]:
    """Reads the Python targets of a BUILD file."""
    text = build.read_text(encoding="utf-8")
    found = {}
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("py_")):
            continue
        given = {key.arg: ast.literal_eval(key.value) for key in node.keywords}
        lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
        comments = (re.fullmatch(r"\s*# (\w+)", line) for line in lines)
        assert given["name"] not in found, f"{build}: two targets {given['name']}"
        found[given["name"]] = Target(
            ast.unparse(node.func),
            given["name"],
            frozenset(given["srcs"]),
            frozenset(given.get("deps", ())),
            frozenset(match[1] for match in comments if match),
            tuple(given.get("args", ())),
            given.get("main"),
        )
    return found


@pytest.mark.parametrize("module", source_tree.modules())
def test_every_module_has_its_target(module):
    path = source_tree.modules()[module]
    build = path.parent / "BUILD"
    assert build.is_file(), f"{build.relative_to(ROOT)}: missing"
    target = wanted(module)
    found = targets(build).get(target.name)
    assert found == target, (
        f"{build.relative_to(ROOT)}: the imports of {path.name} ask for\n\n{target}\n"
        f"but it has\n\n{found or 'no such target.'}"
    )


BUILD_FILES = sorted({path.parent / "BUILD" for path in source_tree.modules().values()})
every_build_file = pytest.mark.parametrize(
    "build", BUILD_FILES, ids=[path.relative_to(ROOT).as_posix() for path in BUILD_FILES]
)


@every_build_file
def test_every_target_has_its_module(build):
    stems = {name_of(p) for p in source_tree.modules().values() if p.parent == build.parent}
    stale = sorted(set(targets(build)) - stems)
    assert not stale, f"{build.relative_to(ROOT)}: remove {', '.join(stale)}; no such module"


@every_build_file
def test_rules_that_are_used_are_loaded(build):
    nodes = ast.walk(ast.parse(build.read_text(encoding="utf-8")))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "load"]
    loaded = {ast.literal_eval(name) for call in loads for name in call.args[1:]}
    assert loaded == {target.rule for target in targets(build).values()}
