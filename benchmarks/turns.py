"""Timing of alternatives that take turns.

Each turn runs all alternatives once, and ratios are computed within a turn, so other load on the
machine affects both sides. Reports the median, minimum and maximum over the turns.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from tf_prac.tables import text_table


def take_turns(
    alternatives: Mapping[str, Callable[[], Any]],
    repeats: int,
    warmups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Returns the seconds of each alternative in each of `repeats` turns, after the warm-up.

    `clock` may be `time.process_time`: CPU time, which other load on the machine affects less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(warmups + repeats):
        for name, run in alternatives.items():
            started = clock()
            run()
            if turn >= warmups:
                seconds[name].append(clock() - started)
    return seconds


def rows(seconds: Mapping[str, list[float]], base: str, samples: int = 0) -> dict[str, dict]:
    """Returns median seconds, ratios to `base`, and samples per second of each alternative."""
    results = {}
    for name, times in seconds.items():
        ratios = [time / of_base for time, of_base in zip(times, seconds[base], strict=True)]
        median = statistics.median(times)
        results[name] = {
            "seconds": median,
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
            "turns": len(ratios),
            **({"samples_per_second": samples / median} if samples else {}),
        }
    return results


def table(results: Mapping[str, Mapping[str, float]], base: str) -> str:
    """Returns the rows as text."""
    cells = [("", "seconds", f"to {base}", "spread", "samples/s")]
    for name, row in results.items():
        spread = f"{row['lowest']:.3f} to {row['highest']:.3f}"
        rate = f"{row['samples_per_second']:,.0f}" if "samples_per_second" in row else ""
        cells.append((name, f"{row['seconds']:.4f}", f"{row['ratio']:.3f}", spread, rate))
    if not any(row[-1] for row in cells[1:]):
        cells = [row[:-1] for row in cells]
    return text_table(cells, left=[0])


def write(path: str | None, content: Mapping[str, Any]) -> None:
    """Writes JSON if a path is given."""
    if path:
        pathlib.Path(path).write_text(json.dumps(content, indent=2) + "\n")
