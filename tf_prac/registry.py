"""`Registry`: the criteria, patterns, selectors and other objects that options take by name.

A registry maps each name to an object, or to its import path "MODULE:NAME". As with the entry
points of Python packages, the module is imported when the object is first used. So names in options
are checked without importing the modules that implement them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from tf_prac.errors import ArgumentError


class Registry(MutableMapping[str, Any]):
    """A dictionary of the objects of one kind, by name. Assign an item to register another object.

    Example:

        >>> "magnitude" in CRITERIA, list(PATTERNS)
        (True, ['unstructured', 'block', 'm_by_n', 'channels', 'refill'])
        >>> CRITERIA["mine"] = lambda weights: weights  # doctest: +SKIP

    Args:
        option: the option that takes a name of this registry; from Python, it also takes an object.
        name_fn: import path of the function that returns the name of an object for config.json, and
            raises `ArgumentError` if the option does not take the object.
        objects: objects or their import paths, by name.
    """

    def __init__(self, option: str, name_fn: str, objects: Mapping[str, Any]):
        self._option, self._name_fn, self._objects = option, name_fn, dict(objects)

    def __getitem__(self, name: str) -> Any:
        value = self._objects[name]
        return _import(value) if isinstance(value, str) else value

    def __setitem__(self, name: str, value: Any) -> None:
        self._objects[name] = value

    def __delitem__(self, name: str) -> None:
        del self._objects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def imported(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and objects whose modules have been imported."""
        for name, value in self._objects.items():
            if not isinstance(value, str) or value.partition(":")[0] in sys.modules:
                yield name, self[name]

    def check(self, value: Any, *others: str) -> None:
        """Raises `ArgumentError` unless the option takes a value, which is a name or an object.

        Args:
            value: the value of the option.
            *others: names that the option takes in addition to the registered ones.
        """
        if not isinstance(value, str):
            self.name(value)
        elif value not in (*others, *self):
            remedy = "It names Python code: search from Python and pass the object itself."
            allowed = f"one of {', '.join((*others, *self))}"
            raise ArgumentError(self._option, value, allowed, remedy if "." in value else "")

    def name(self, value: Any) -> str:
        """Returns the name of a value of the option for config.json."""
        return value if isinstance(value, str) else _import(self._name_fn)(value)


def _import(path: str) -> Any:
    """Returns the object of an import path "MODULE:NAME"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


CRITERIA = Registry(
    "criterion",
    "tf_prac.pruning.criteria:criterion_name",
    {
        "magnitude": "tf_prac.pruning.criteria:MAGNITUDE",
        "magnitude_init": "tf_prac.pruning.criteria:MAGNITUDE_INIT",
        "random": "tf_prac.pruning.criteria:RANDOM",
        "snip": "tf_prac.pruning.gradient_criteria:SNIP",
        "grasp": "tf_prac.pruning.gradient_criteria:GRASP",
        "synflow": "tf_prac.pruning.gradient_criteria:SYNFLOW",
        "taylor": "tf_prac.pruning.gradient_criteria:TAYLOR",
    },
)
"""Pruning criteria: `tf_prac.pruning.Criterion` objects, or functions of weights."""

PATTERNS = Registry(
    "pattern",
    "tf_prac.pruning.patterns:pattern_name",
    {
        "unstructured": "tf_prac.pruning.patterns:Unstructured",
        "block": "tf_prac.pruning.patterns:Block",
        "m_by_n": "tf_prac.pruning.patterns:MByN",
        "channels": "tf_prac.pruning.patterns:Channels",
        "refill": "tf_prac.pruning.patterns:Refill",
    },
)
"""Sparsity patterns: subclasses of `tf_prac.pruning.Pattern`."""

SELECTORS = Registry(
    "selector",
    "tf_prac.search.selectors:selector_name",
    {
        "random": "tf_prac.search.selectors:random",
        "entropy": "tf_prac.search.selectors:entropy",
        "margin": "tf_prac.search.selectors:margin",
        "el2n": "tf_prac.search.selectors:el2n",
        "loss": "tf_prac.search.selectors:loss",
        "grand": "tf_prac.search.selectors:grand",
        "forgetting": "tf_prac.search.selectors:forgetting",
    },
)
"""Selectors of samples other than "prac": functions of a `SearchContext` and a `RoundOutcome`."""

TASKS = Registry(
    "task",
    "tf_prac.tasks.infer:task_name",
    {
        "sparse": "tf_prac.tasks.classification:Sparse",
        "one_hot": "tf_prac.tasks.classification:OneHot",
        "binary": "tf_prac.tasks.classification:Binary",
        "multi_label": "tf_prac.tasks.classification:MultiLabel",
        "regression": "tf_prac.tasks.regression:Regression",
    },
)
"""Tasks: subclasses of `tf_prac.tasks.Task`."""

_CONNECTIVITY = "tf_prac.analysis.reproduce.linear_connectivity"

ITEMS = Registry(
    "item",
    "tf_prac.analysis.reproduce.item:item_name",
    {
        "prac/figure_1": "tf_prac.analysis.reproduce.prac:FIGURE_1",
        "prac/figure_2": "tf_prac.analysis.reproduce.prac_sets:FIGURE_2",
        "prac/figure_3": "tf_prac.analysis.reproduce.prac:FIGURE_3",
        "prac/figure_4": "tf_prac.analysis.reproduce.prac:FIGURE_4",
        "prac/figure_5": "tf_prac.analysis.reproduce.prac:FIGURE_5",
        "prac/figure_6": "tf_prac.analysis.reproduce.prac:FIGURE_6",
        "prac/figure_7": "tf_prac.analysis.reproduce.prac:FIGURE_7",
        "prac/figure_8": "tf_prac.analysis.reproduce.prac:FIGURE_8",
        "prac/figure_9": "tf_prac.analysis.reproduce.prac_sets:FIGURE_9",
        "prac/figure_a10": "tf_prac.analysis.reproduce.prac:FIGURE_A10",
        "prac/figure_a11": "tf_prac.analysis.reproduce.prac:FIGURE_A11",
        "prac/figure_a12": "tf_prac.analysis.reproduce.prac:FIGURE_A12",
        "prac/figure_a13": "tf_prac.analysis.reproduce.prac_sets:FIGURE_A13",
        "prac/figure_a14": "tf_prac.analysis.reproduce.prac:FIGURE_A14",
        "prac/figure_a15": "tf_prac.analysis.reproduce.prac_sets:FIGURE_A15",
        "prac/figure_a16": "tf_prac.analysis.reproduce.prac_sets:FIGURE_A16",
        "prac/table_1": "tf_prac.analysis.reproduce.prac_sets:TABLE_1",
        "prac/table_a2": "tf_prac.analysis.reproduce.prac_sets:TABLE_A2",
        "prac/table_a3": "tf_prac.analysis.reproduce.prac_sets:TABLE_A3",
        "prac/table_a4": "tf_prac.analysis.reproduce.prac_sets:TABLE_A4",
        "prac/section_4_1": "tf_prac.analysis.reproduce.prac_sets:SECTION_4_1",
        "stabilizing/figure_1": "tf_prac.analysis.reproduce.stabilizing:FIGURE_1",
        "stabilizing/figure_2": "tf_prac.analysis.reproduce.stabilizing:FIGURE_2",
        "stabilizing/figure_3": "tf_prac.analysis.reproduce.stabilizing:FIGURE_3",
        "stabilizing/figure_4": "tf_prac.analysis.reproduce.stabilizing:FIGURE_4",
        "stabilizing/figure_5": "tf_prac.analysis.reproduce.stabilizing:FIGURE_5",
        "stabilizing/figure_9": "tf_prac.analysis.reproduce.stabilizing:FIGURE_9",
        "linear_connectivity/figure_3": f"{_CONNECTIVITY}:FIGURE_3",
        "linear_connectivity/figure_6": f"{_CONNECTIVITY}:FIGURE_6",
        "linear_connectivity/figure_8": f"{_CONNECTIVITY}:FIGURE_8",
        "linear_connectivity/during_training": f"{_CONNECTIVITY}:DURING_TRAINING",
        "linear_connectivity/appendix_g": f"{_CONNECTIVITY}:APPENDIX_G",
    },
)
"""Figures and tables of papers, "PAPER/NAME": `tf_prac.analysis.reproduce.item.Item` objects."""

PAPERS = tuple(dict.fromkeys(key.partition("/")[0] for key in ITEMS))
"""The papers that have items."""


def item_names(paper: str) -> list[str]:
    """Returns the names of the items of a paper.

    Raises:
        ArgumentError: If there is no such paper.
    """
    if paper not in PAPERS:
        raise ArgumentError("paper", paper, f"one of {', '.join(PAPERS)}")
    return [key.partition("/")[2] for key in ITEMS if key.startswith(f"{paper}/")]
