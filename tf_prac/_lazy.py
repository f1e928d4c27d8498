"""Public names that are imported when they are first used, so that `import tf_prac` is quick."""

from __future__ import annotations

import ast
import importlib
import pathlib
import sys
from collections.abc import Callable
from typing import Any

Getter = Callable[[str], Any]


def attach(package: str, file: str) -> tuple[Getter, Callable[[], list[str]], list[str]]:
    """Returns `__getattr__`, `__dir__` and `__all__` of a package, read from its stub file.

    The stub, `__init__.pyi`, is the one list of the package's public names. It has lines
    `from MODULE import NAME as NAME` alone, which type checkers and editors read too.

    Example:

        >>> __getattr__, __dir__, __all__ = attach(__name__, __file__)  # doctest: +SKIP

    Args:
        package: `__name__` of the package or module.
        file: its `__file__`; the stub is next to it.
    """
    stub = ast.parse(pathlib.Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    origins = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def get(name: str) -> Any:
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, there = origins[name]
        if module == package:  # a package inside this one
            return importlib.import_module(f"{package}.{there}")
        value = getattr(importlib.import_module(module), there)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(origins), sorted(origins)
