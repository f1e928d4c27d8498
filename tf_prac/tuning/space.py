"""The search space of a tuner: options of a search with their values or ranges."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from tf_prac.checks import check_bool, check_number
from tf_prac.config import OPTION_GROUPS, SearchConfig
from tf_prac.errors import ArgumentError

FIXED = (
    "rounds",
    "sparsities",
    "layer_rates",
    "sizes_from",
    "prac_from",
    "proxy_from",
    "validation_split",
)
"""Options that cannot be tuned."""

METRICS = {"val_accuracy": "max", "steps_saved": "max", "search_steps": "min", "score": "max"}


@dataclasses.dataclass(frozen=True)
class Range:
    """A range of numbers, both ends included; of integers if the option is an integer.

    Example:

        >>> Range(0.01, 0.3, log=True).high
        0.3

    Args:
        low: the lower bound.
        high: the upper bound, above `low`.
        log: whether to sample on a logarithmic scale; `low` must be above 0. Default False.

    Raises:
        ArgumentError: a bound is not allowed.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self):
        check_bool("log", self.log)
        check_number("low", self.low, **({"above": 0} if self.log else {}))
        check_number("high", self.high, above=self.low)


Space = Mapping[str, "Range | Sequence[Any]"]


def check_space(space: Space) -> dict[str, Range | tuple[Any, ...]]:
    """Checks a search space, and returns it with lists of values as tuples.

    Raises:
        ArgumentError: an option that does not exist, cannot be tuned, or has no values; or a value
            that the option does not allow.
    """
    types = _types()
    checked: dict[str, Range | tuple[Any, ...]] = {}
    for name, values in space.items():
        if name not in types or name in FIXED:
            allowed = ", ".join(sorted(set(types) - set(FIXED)))
            raise ArgumentError("space", name, f"options of a search: {allowed}")
        if isinstance(values, Range):
            if types[name] not in (int, float, float | None, float | str):
                raise ArgumentError("space", f"{name}={values}", f"a list of values for {name}")
            checked[name] = values
        elif isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ArgumentError("space", f"{name}={values!r}", "Range(low, high) or a list")
        else:
            checked[name] = tuple(values)
        ends = (values.low, values.high) if isinstance(values, Range) else checked[name]
        for value in typing.cast(Sequence[Any], ends):
            SearchConfig().replace(**{name: int(value) if types[name] is int else value})
    return checked


def is_integer(name: str) -> bool:
    """Whether an option is an integer."""
    return _types()[name] is int


def parse_space(text: str) -> dict[str, Range | tuple[Any, ...]]:
    """Parses "prune_rate=0.1..0.5,learning_rate=0.01..0.3:log,rewind=0it|2%".

    Example:

        >>> parse_space("prune_rate=0.2|0.5,epochs=2..10")
        {'prune_rate': (0.2, 0.5), 'epochs': Range(low=2, high=10, log=False)}

    Raises:
        ArgumentError: the text cannot be parsed, or the space is refused by `check_space`.
    """
    space: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, values = part.partition("=")
        if not equals or not values or name in space:
            raise ArgumentError("space", part, "OPTION=LOW..HIGH, OPTION=LOW..HIGH:log, OPTION=A|B")
        low, dots, high = values.removesuffix(":log").partition("..")
        if dots:
            ends = _value(low), _value(high)
            if not all(isinstance(end, (int, float)) for end in ends):
                raise ArgumentError("space", part, "numbers on both sides of ..")
            space[name] = Range(*ends, log=values.endswith(":log"))
        else:
            space[name] = tuple(_value(value) for value in values.split("|"))
    if not space:
        raise ArgumentError("space", text, "at least one option to tune")
    return check_space(space)


def rounds_to(sparsity: float, prune_rate: float) -> tuple[float, ...]:
    """Returns the sparsity after each round at a prune rate; the last one is exactly `sparsity`.

    Example:

        >>> rounds_to(0.6, 0.5)
        (0.5, 0.6)

    Args:
        sparsity: sparsity after the last round, in (0, 1).
        prune_rate: fraction of the remaining weights that a round prunes; the last round may
            prune less.
    """
    check_number("sparsity", sparsity, above=0, below=1)
    check_number("prune_rate", prune_rate, above=0, below=1)
    rounds = math.ceil(math.log1p(-sparsity) / math.log1p(-prune_rate) - 1e-9)
    return (*(1 - (1 - prune_rate) ** number for number in range(1, rounds)), sparsity)


def _types() -> dict[str, Any]:
    return {name: kind for group in OPTION_GROUPS.values() for name, kind in _hints(group).items()}


def _hints(group: type) -> dict[str, Any]:
    return {f.name: typing.get_type_hints(group)[f.name] for f in dataclasses.fields(group)}


def _value(text: str) -> Any:
    text = text.strip()
    words = {"off": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
