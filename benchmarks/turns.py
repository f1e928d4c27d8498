"""What the benchmarks share: several ways to do the same, in turn, over and over.

Ratios are those of one turn, so that what slows the machine down meanwhile slows both sides; the
median over the turns is reported, with the lowest and highest.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def take_turns(
    ways: Mapping[str, Callable[[], Any]], repeats: int, warmups: int = 1
) -> dict[str, list[float]]:
    """Returns the seconds of each way in each of `repeats` turns, after some to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warmups + repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn >= warmups:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def rows(seconds: Mapping[str, list[float]], base: str, samples: int = 0) -> dict[str, dict]:
    """Returns median seconds, ratios to `base`, and samples per second of each way."""
    found = {}
    for name, times in seconds.items():
        ratios = [ours / theirs for ours, theirs in zip(times, seconds[base], strict=True)]
        middle = statistics.median(times)
        found[name] = {
            "seconds": middle,
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
            "turns": len(ratios),
            **({"samples_per_second": samples / middle} if samples else {}),
        }
    return found


def table(found: Mapping[str, Mapping[str, float]], base: str) -> str:
    """Returns the rows as text."""
    width = max(len(name) for name in found) + 2
    title = f"to {base}"
    lines = [f"{'':<{width}}{'seconds':>10}{title:>{max(len(title), 8) + 2}}  spread"]
    for name, row in found.items():
        spread = f"{row['lowest']:.3f} to {row['highest']:.3f}"
        line = f"{name:<{width}}{row['seconds']:>10.4f}"
        line += f"{row['ratio']:>{max(len(title), 8) + 2}.3f}  {spread}"
        if "samples_per_second" in row:
            line += f"  {row['samples_per_second']:,.0f} samples/s"
        lines.append(line)
    return "\n".join(lines)


def write(path: str | None, content: Mapping[str, Any]) -> None:
    """Writes JSON, if a path is given."""
    if path:
        pathlib.Path(path).write_text(json.dumps(content, indent=2) + "\n")
