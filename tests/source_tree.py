"""The project's Python modules and what they import, read from their syntax trees."""

from __future__ import annotations

import ast
import dataclasses
import functools
import pathlib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]

SCRIPTS = ("tests", "examples", "benchmarks")  # their modules are imported by the bare name


@dataclasses.dataclass(frozen=True)
class Import:
    """An import: of which module, where, and whether importing its own module runs it."""

    module: str
    line: int
    at_start: bool


@functools.cache
def modules() -> dict[str, pathlib.Path]:
    """Every module of tf_prac, tests, examples and benchmarks, by the name it is imported by."""
    package = {_dotted(path): path for path in sorted((ROOT / "tf_prac").rglob("*.py"))}
    scripts = [p for room in SCRIPTS for p in sorted((ROOT / room).glob("*.py"))]
    assert len({p.stem for p in scripts}) == len(scripts), "two scripts of one name"
    return package | {path.stem: path for path in scripts}


def package_modules() -> list[str]:
    return [name for name in modules() if name.split(".")[0] == "tf_prac"]


def place(name: str, line: int | None = None) -> str:
    """Where a module is, as a compiler would say it."""
    path = modules()[name].relative_to(ROOT).as_posix()
    return path if line is None else f"{path}:{line}"


@functools.cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


@functools.cache
def imports(name: str) -> list[Import]:
    """Every import statement of a module, those in functions and for types alone included."""
    deferred = {id(n) for scope in ast.walk(tree(name)) if _defers(scope) for n in ast.walk(scope)}
    return [
        Import(module, node.lineno, id(node) not in deferred)
        for node in ast.walk(tree(name))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for module in _imported(node)
    ]


def loaded_by(name: str) -> set[str]:
    """Every module, of the project or not, that importing `name` imports at once."""
    found: set[str] = set()
    todo = [name]
    while todo:
        module = todo.pop()
        if module in found:
            continue
        found.add(module)
        if module in modules():
            todo += _parents(module)
            todo += [each.module for each in imports(module) if each.at_start]
    return found


def _dotted(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _parents(name: str) -> list[str]:
    parts = name.split(".")[:-1]
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _defers(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert node.module and not node.level, "relative import: write the full name"
    for alias in node.names:
        submodule = f"{node.module}.{alias.name}"
        yield submodule if submodule in modules() else node.module
