"""`Item`: one figure or table of a paper: what it runs at each scale, and what it shows."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tf_prac.analysis.reproduce.count import Count
from tf_prac.analysis.reproduce.parts import Part, Row
from tf_prac.analysis.reproduce.setup import Scale
from tf_prac.analysis.reproduce.verdict import Check
from tf_prac.errors import ArgumentError
from tf_prac.registry import ITEMS, item_names

Results = Mapping[str, Any]
"""What the parts of a plan returned, by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a reproduction shows.

    Attributes:
        rows: the table, published numbers next to those measured here, in readable units.
        checks: the statements of the paper and whether they hold.
        draw: writes the figure to a path without a suffix, and returns the files; None: no figure.
    """

    rows: Sequence[Row]
    checks: Sequence[Check]
    draw: Callable[[pathlib.Path], list[pathlib.Path]] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A figure or table of a paper.

    Attributes:
        paper: "prac", "stabilizing" or "linear_connectivity".
        name: such as "figure_3" or "table_a3".
        title: one line: what it shows.
        source: figure, table or section, and where its published numbers are from.
        scales: the scales, by name.
        plan: the parts to run at a scale, in order.
        show: the table, checks and figure, from the results of the parts.
        note: a sentence about the conditions, for table.md. Default "".
    """

    paper: str
    name: str
    title: str
    source: str
    scales: Mapping[str, Scale]
    plan: Callable[[Scale], Sequence[Part]]
    show: Callable[[Scale, Results], Outcome]
    note: str = ""

    def scale(self, name: str) -> Scale:
        """Returns a scale; raises `ArgumentError` if there is none of this name."""
        if name not in self.scales:
            raise ArgumentError("scale", name, f"one of {', '.join(self.scales)}")
        return self.scales[name]

    def count(self, scale: str) -> Count:
        """Counts the steps of its plan at a scale."""
        return sum((part.count() for part in self.plan(self.scale(scale))), Count())


@dataclasses.dataclass(frozen=True)
class Paper:
    """What the items of a paper have in common.

    Attributes:
        name: as in `Item.paper`.
        title: starts the source of each item.
        scales: the scales of each item, by name.
    """

    name: str
    title: str
    scales: Mapping[str, Scale]

    def item(
        self,
        name: str,
        title: str,
        source: str,
        plan: Callable[[Scale], Sequence[Part]],
        show: Callable[[Scale, Results], Outcome],
        note: str = "",
    ) -> Item:
        """Returns an item of the paper; for the arguments see `Item`."""
        return Item(
            paper=self.name,
            name=name,
            title=title,
            source=f"{self.title}, {source}",
            scales=self.scales,
            plan=plan,
            show=show,
            note=note,
        )


def get_item(paper: str, name: str) -> Item:
    """Returns an item.

    Raises:
        ArgumentError: If there is no such paper, or no such item of it.
    """
    names = item_names(paper)
    if name not in names:
        raise ArgumentError("item", name, f"one of {', '.join(names)}")
    return ITEMS[f"{paper}/{name}"]


def item_name(item: Item) -> str:
    """Returns the name of an item in the registry."""
    return f"{item.paper}/{item.name}"
