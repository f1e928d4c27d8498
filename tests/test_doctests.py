"""Every example of a docstring gives what it says; those on data of one's own are at least Python.

An example belongs to the reader if it uses names that nothing in it or in its module defines, such
as `make_model` and `x_train`, or is marked with `# doctest: +SKIP`.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import pathlib

import numpy as np
import pytest
from source_tree import modules, package_modules


def stub_of(name: str) -> pathlib.Path:
    """Where the public names of a package or module are listed, if they are."""
    return modules()[name].with_suffix(".pyi")


WITH_EXAMPLES = [name for name in package_modules() if ">>> " in modules()[name].read_text("utf-8")]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(name: str) -> list[doctest.DocTest]:
    """The examples of a module, one entry for each docstring."""
    module = importlib.import_module(name)
    everywhere = {"np": np, **vars(module)}
    return [t for t in doctest.DocTestFinder().find(module, globs=everywhere) if t.examples]


def is_of_the_reader(test: doctest.DocTest) -> bool:
    if any(doctest.SKIP in each.options for each in test.examples):
        return True
    tree = ast.parse("".join(each.source for each in test.examples))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    defined = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            defined |= {(each.asname or each.name).split(".")[0] for each in node.names}
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
    return bool({node.id for node in names} - defined - set(test.globs) - set(vars(builtins)))


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_of_docstrings(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for test in examples(module):
        if is_of_the_reader(test):
            compile("".join(each.source for each in test.examples), test.name, "exec")
        else:
            runner.run(test)
    assert not runner.failures


def test_most_examples_are_run():
    found = [is_of_the_reader(test) for module in WITH_EXAMPLES for test in examples(module)]
    assert found.count(False) > found.count(True)


@pytest.mark.parametrize("package", [name for name in package_modules() if stub_of(name).exists()])
def test_every_public_class_and_function_has_an_example(package):
    module = importlib.import_module(package)
    public = {name: getattr(module, name) for name in module.__all__}
    without = [
        name
        for name, value in public.items()
        if callable(value) and ">>> " not in (value.__doc__ or "")
    ]
    assert not without
