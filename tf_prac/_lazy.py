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

    The stub, `__init__.pyi`, is the one list of the package's public names. It contains only lines
    `from MODULE import NAME as NAME`, which type checkers and editors read too.

    Example:

        >>> __getattr__, __dir__, __all__ = attach(__name__, __file__)  # doctest: +SKIP

    Args:
        package: `__name__` of the package or module.
        file: its `__file__`; the stub is next to it.

    Returns:
        `__getattr__`, which imports a name when it is first used; `__dir__`; and `__all__`.
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
            text = f"module {package!r} has no attribute {name!r}"
            # With name and object, Python adds "Did you mean ...?".
            raise AttributeError(text, name=name, obj=sys.modules[package])
        module, original = origins[name]
        if module == package:  # a subpackage
            return importlib.import_module(f"{package}.{original}")
        value = getattr(importlib.import_module(module), original)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(origins), sorted(origins)
