"""Runs an item, and writes its table, figure and verdict next to the published numbers.

OUTPUT_DIR/runs/SETUP/        ordinary comparisons and sweeps, shared between items
OUTPUT_DIR/ITEM/table.csv     the table, and as Markdown with the verdict table.md
OUTPUT_DIR/ITEM/figure.csv    the numbers of the figure, with figure.png and figure.svg
OUTPUT_DIR/ITEM/verdict.json  the checks, the counted steps and seconds of all trainings
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_prac.analysis.reproduce.item import Item, Outcome
from tf_prac.analysis.reproduce.parts import Runs, Workplace
from tf_prac.analysis.reproduce.setup import Scale
from tf_prac.analysis.reproduce.verdict import verdict_of
from tf_prac.errors import FileError
from tf_prac.storage.atomic import atomic_write, exclusive, is_foreign
from tf_prac.storage.files import read_json, write_csv, write_json
from tf_prac.storage.names import check_name
from tf_prac.tables import markdown_table

if TYPE_CHECKING:
    from tf_prac.analysis.replicates import TrainingCost

KIND, VERDICT = "reproduction", "verdict.json"


def reproduce(
    item: Item,
    scale: str,
    directory: str | os.PathLike,
    *,
    keras: str = "keras",
    data_dir: str | os.PathLike | None = None,
    verbose: bool = True,
) -> dict[str, Any]:
    """Runs what is not finished of an item; returns the content of verdict.json.

    Example:

        >>> item = get_item("prac", "table_a3")  # doctest: +SKIP
        >>> reproduce(item, "small", "reproductions", data_dir="tfds")["verdict"]

    The same call again continues where it stopped.

    Args:
        item: the figure or table.
        scale: "paper" or "small".
        directory: of the results, and of the runs, which other items of the paper at the same
            scale use too.
        keras: the flavor. Default "keras".
        data_dir: directory of the data sets. Default None: that of TensorFlow Datasets.
        verbose: whether to show progress. Default True.

    Raises:
        ArgumentError: If there is no such scale, or the data set is not prepared.
        MismatchError: If the directory contains runs with other options.
        FileError: If a file is damaged, of something else, or cannot be written.
        NonFiniteLossError: If training diverges; finished rounds are kept.
    """
    chosen = item.scale(scale)
    path = pathlib.Path(directory)
    _check_directory(path / item.name)
    work = Workplace(path / "runs", keras, data_dir, verbose)
    plan = item.plan(chosen)
    for part in plan:
        work.data(part.setup)  # so that a data set that is missing is known before anything runs
    with exclusive(path / item.name, f"{path / item.name}: another command reproduces it"):
        _check_directory(path / item.name)
        results: dict[str, Any] = {}
        for part in plan:
            results[part.name] = part.run(work, results)
        content = {**trained_cost(results, work), "parts": list(results)}
        return _write(item, chosen, path / item.name, item.show(chosen, results), content)


def _check_directory(path: pathlib.Path) -> None:
    """Refuses a directory with other files than those of a reproduction."""
    check_name(path)
    if (path / VERDICT).exists():
        read_json(path / VERDICT, KIND)
    elif path.is_dir() and any(is_foreign(p.name) for p in path.iterdir()):
        raise FileError(f"{path}: not empty and not a reproduction. Name another --output_dir.")


def trained_cost(results: Mapping[str, Any], work: Workplace) -> dict[str, float]:
    """Returns the steps and seconds of all trainings of an item: runs, and their replicates.

    Args:
        results: what its parts returned, by name.
        work: where they ran.
    """
    trained: list[Runs | TrainingCost] = [r for r in results.values() if isinstance(r, Runs)]
    trained += work.replicates.values()
    return {
        "steps": sum(each.steps for each in trained),
        "seconds": sum(each.seconds for each in trained),
    }


def _write(
    item: Item, scale: Scale, path: pathlib.Path, outcome: Outcome, more: Mapping[str, Any]
) -> dict[str, Any]:
    checks = [check.at_scale(scale.is_paper) for check in outcome.checks]
    content = {
        "paper": item.paper,
        "item": item.name,
        "title": item.title,
        "source": item.source,
        "scale": scale.name,
        "scale_about": scale.about,
        "seeds": list(scale.seeds),
        "verdict": verdict_of(checks),
        "checks": [check.to_json() for check in checks],
        **more,
    }
    write_json(path / VERDICT, KIND, content)  # first: it marks the directory
    write_csv(path / "table.csv", outcome.rows)
    figures = [] if outcome.draw is None else outcome.draw(path / "figure")
    with atomic_write(path / "table.md") as file:
        file.write(_page(item, scale, outcome, content).encode())
    return {**content, "files": ["table.csv", "table.md", *(each.name for each in figures)]}


def _page(item: Item, scale: Scale, outcome: Outcome, content: Mapping[str, Any]) -> str:
    """Returns the table and the verdict as Markdown."""
    lines = [f"# {item.title}", "", f"{item.source}. Scale {scale.name}: {scale.about}."]
    lines += [item.note] if item.note else []
    lines += ["", rows_as_markdown(outcome.rows), ""]
    lines += [f"Verdict: **{content['verdict']}**, after {content['steps']:,} training steps.", ""]
    head = ("statement", "here", "published", "status", "test")
    names = ("statement", "measured", "published", "status", "test")
    checks = [[cell(check[name]) for name in names] for check in content["checks"]]
    lines += [markdown_table(head, checks)] if checks else []
    return "\n".join([*lines, ""])


def rows_as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as a Markdown table, with the numbers of `cell`."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return markdown_table(columns, [[cell(row.get(name)) for name in columns] for row in rows])


def cell(value: Any) -> str:
    """Returns the text of a value: two decimals, or three digits of a fraction."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"
    return str(value)
