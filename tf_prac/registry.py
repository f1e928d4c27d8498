"""`Registry`: the criteria, patterns and selectors that options take by name.

A registry maps each name to a part, or to the place where the part is defined, "MODULE:NAME". As
with the entry points of Python packages, the module is imported when the part is first used. So
options are checked against the names without importing what implements them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from tf_prac.errors import ArgumentError


class Registry(MutableMapping[str, Any]):
    """The parts of one kind, by name. Assign to it to register another one.

    Example:

        >>> "magnitude" in CRITERIA, list(PATTERNS)
        (True, ['unstructured', 'block', 'm_by_n'])
        >>> CRITERIA["mine"] = lambda weights: weights  # doctest: +SKIP

    Args:
        option: the option that takes a name of this registry; from Python it also takes a part.
        namer: place of a function that returns the name of a part for config.json, and raises
            `ArgumentError` if the option does not take it.
        parts: parts or their places, by name.
    """

    def __init__(self, option: str, namer: str, parts: Mapping[str, Any]):
        self._option, self._namer, self._parts = option, namer, dict(parts)

    def __getitem__(self, name: str) -> Any:
        part = self._parts[name]
        return _imported(part) if isinstance(part, str) else part

    def __setitem__(self, name: str, part: Any) -> None:
        self._parts[name] = part

    def __delitem__(self, name: str) -> None:
        del self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def imported(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and parts whose modules have been imported."""
        for name, part in self._parts.items():
            if not isinstance(part, str) or part.partition(":")[0] in sys.modules:
                yield name, self[name]

    def check(self, value: Any, *others: str) -> None:
        """Raises `ArgumentError` unless the option takes a value: a name, or a part.

        Args:
            value: of the option.
            *others: names that it takes in addition to those registered.
        """
        if not isinstance(value, str):
            self.name(value)
        elif value not in (*others, *self):
            remedy = "It names Python code: search from Python and pass the object itself."
            allowed = f"one of {', '.join((*others, *self))}"
            raise ArgumentError(self._option, value, allowed, remedy if "." in value else "")

    def name(self, value: Any) -> str:
        """Returns the name of a value of the option for config.json."""
        return value if isinstance(value, str) else _imported(self._namer)(value)


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


CRITERIA = Registry(
    "criterion",
    "tf_prac.pruning.criteria:criterion_name",
    {
        "magnitude": "tf_prac.pruning.criteria:MAGNITUDE",
        "magnitude_init": "tf_prac.pruning.criteria:MAGNITUDE_INIT",
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
"""Selectors of samples next to "prac": functions of a `SearchContext` and a `RoundOutcome`."""
