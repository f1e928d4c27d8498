"""Rows of results, one mapping each: mean, minimum and maximum of groups, lines, CSV files."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tf_prac.plotting import Line
from tf_prac.storage.files import write_csv

Row = Mapping[str, Any]
Tables = TypeVar("Tables", bound=tuple)
"""A `NamedTuple` of lists of rows, such as `StabilityRows`."""


def aggregate(rows: Sequence[Row], by: Sequence[str], values: Sequence[str]) -> list[dict]:
    """Returns one row for each combination of `by`, with mean, min and max of `values`.

    Example:

        >>> rows = [{"k": 0, "error": 0.25}, {"k": 0, "error": 0.75}]
        >>> aggregate(rows, ["k"], ["error"])
        [{'k': 0, 'samples': 2, 'error': 0.5, 'error_min': 0.25, 'error_max': 0.75}]

    Args:
        rows: mappings with the columns `by` and `values`. A column of `values` that is None in
            any row of a group, as without test data, is omitted from the result.
        by: columns to group by; groups are in order of first appearance.
        values: columns to aggregate.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    aggregated = []
    for key, members in groups.items():
        result: dict[str, Any] = {**dict(zip(by, key, strict=True)), "samples": len(members)}
        for name in values:
            numbers = [row[name] for row in members]
            if None not in numbers:
                result[name] = float(np.mean(numbers))
                result[f"{name}_min"], result[f"{name}_max"] = min(numbers), max(numbers)
        aggregated.append(result)
    return aggregated


def merged(results: Sequence[Tables]) -> Tables:
    """Returns the rows of several runs as one result of the same class, table by table."""
    tables = ([row for rows in each for row in rows] for each in zip(*results, strict=True))
    return type(results[0])(*tables)


def by_k(rows: Sequence[Row]) -> list[Row]:
    """Returns rows sorted by rewind point."""
    return sorted(rows, key=lambda row: row["k"])


def spread(row: Row, name: str, scale: float = 1, digits: int = 1) -> str:
    """Returns "mean (min to max)", the mean of a single value, or "-" if there is none."""
    if name not in row:
        return "-"
    mean, low, high = (row[key] * scale for key in (name, f"{name}_min", f"{name}_max"))
    if row["samples"] == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def lines_of(rows: Sequence[Row], x: str, y: str, label: Callable[[Row], str]) -> list[Line]:
    """Returns a line for each label of aggregated rows, with points in order of `x`."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if y in row:
            groups.setdefault(label(row).replace("_", " "), []).append(row)
    columns = (x, y, f"{y}_min", f"{y}_max")
    lines = []
    for name, group in groups.items():
        group.sort(key=lambda row: row[x])
        lines.append(Line(name, *([row[column] for row in group] for column in columns)))
    return lines


def write_csvs(
    directory: str | os.PathLike, tables: Mapping[str, Sequence[Row]]
) -> list[pathlib.Path]:
    """Writes DIRECTORY/NAME.csv for each table; returns the paths."""
    paths = [pathlib.Path(directory, f"{name}.csv") for name in tables]
    for path, rows in zip(paths, tables.values(), strict=True):
        write_csv(path, rows)
    return paths
