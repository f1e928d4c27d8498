"""Rows of figures, brought together: over initialisations and orders, with the whole spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]


def aggregate(rows: Sequence[Row], by: Sequence[str], values: Sequence[str]) -> list[dict]:
    """Returns one row for each combination of `by`, with mean, min and max of `values`.

    Example:

        >>> rows = [{"k": 0, "error": 0.25}, {"k": 0, "error": 0.75}]
        >>> aggregate(rows, ["k"], ["error"])
        [{'k': 0, 'samples': 2, 'error': 0.5, 'error_min': 0.25, 'error_max': 0.75}]

    Args:
        rows: mappings that have the columns `by`; a value that is None in one is left out of
            all, as without test data.
        by: columns to group by; groups are in order of first appearance.
        values: columns to bring together.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    found = []
    for key, members in groups.items():
        result: dict[str, Any] = {**dict(zip(by, key, strict=True)), "samples": len(members)}
        for name in values:
            numbers = [row[name] for row in members]
            if None not in numbers:
                result[name] = float(np.mean(numbers))
                result[f"{name}_min"], result[f"{name}_max"] = min(numbers), max(numbers)
        found.append(result)
    return found


def by_k(rows: Sequence[Row]) -> list[Row]:
    """Returns rows in order of their rewind point, whatever the order of the runs was."""
    return sorted(rows, key=lambda row: row["k"])


def spread(row: Row, name: str, scale: float = 1, digits: int = 1) -> str:
    """Returns "mean (min to max)" of an aggregated value, or "-" if there is none."""
    if name not in row:
        return "-"
    mean, low, high = (row[key] * scale for key in (name, f"{name}_min", f"{name}_max"))
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
