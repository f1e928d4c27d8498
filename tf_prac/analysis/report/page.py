"""`write_report`: the page, with its parts in order."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

from tf_prac.analysis.report import sections, tables
from tf_prac.analysis.report.comparison import comparison
from tf_prac.analysis.report.html import Html, tag
from tf_prac.analysis.report.numbers import count
from tf_prac.analysis.report.run_data import RunData
from tf_prac.analysis.report.style import STYLE
from tf_prac.storage.atomic import atomic_write
from tf_prac.version import VERSION

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(path: str | os.PathLike, runs: Sequence[RunData]) -> None:
    """Writes a self-contained HTML page: no other files, no network, no scripts.

    Example:

        >>> run = read_run_data(RunDirectory("run"), "my run")
        >>> write_report("report.html", [run])

    Args:
        path: the file.
        runs: the runs to report, at least one.

    Raises:
        FileError: the file cannot be written.
    """
    text = "<!DOCTYPE html>\n" + page(runs) + "\n"
    with atomic_write(pathlib.Path(path)) as file:
        file.write(text.encode())


def page(runs: Sequence[RunData]) -> Html:
    """Returns the page of one or several runs."""
    several = len(runs) > 1
    title = f"{len(runs)} searches" if several else _title(runs[0])
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · tf_prac"),
        tag("style", Html(STYLE)),
    )
    parts = [comparison(runs)] if several else []
    parts += [_run(run, number, several) for number, run in enumerate(runs)]
    top = [tag("p", "winning ticket search", class_="kicker"), tag("h1", title)]
    if several:
        links = [tag("a", run.name, href=f"#run{n}") for n, run in enumerate(runs)]
        top.append(tag("nav", links))
    else:
        top.append(_lead(runs[0]))
    foot = tag("footer", f"Written by tf_prac {VERSION}.")
    body = tag("body", tag("header", top), tag("main", parts), foot)
    return tag("html", head, body, lang="en")


def _title(run: RunData) -> str:
    return f"{run.model} on {run.config['dataset']['name']}"


def _lead(run: RunData) -> Html:
    config = run.config
    facts = [
        config["keras"],
        f"{count(config['train_samples'])} training samples",
        f"seed {config['search']['seed']}",
        f"rewound to {config['pruning']['rewind']}",
    ]
    if not run.finished:
        done, rounds = len(run.rounds), config["pruning"]["rounds"]
        rest = "retraining" if done == rounds else f"{done} of {rounds} rounds"
        facts.append(f"not finished: {rest}")
    return tag("p", " · ".join(facts), class_="lead")


def _run(run: RunData, number: int, several: bool) -> Html:
    title = [tag("h2", run.name), _lead(run)] if several else []
    if not run.rounds:
        note = tag("p", "No round of this search is finished yet.", class_="note")
        return tag("section", title, note, tables.configuration(run), id=f"run{number}")
    panels = [
        sections.accuracy(run),
        sections.steps(run),
        sections.sets(run),
        sections.distances(run),
        sections.forgetting(run),
        sections.classes(run),
        sections.layers(run),
        tables.cost_table(run),
    ]
    return tag(
        "section",
        title,
        sections.headline(run),
        tag("div", panels, class_="panels"),
        sections.images(run),
        tables.tickets_table(run),
        tables.rounds_table(run),
        tables.configuration(run),
        id=f"run{number}",
    )
