"""The page: parts in order, and `write_report`."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

from tf_prac.analysis.report import sections, tables
from tf_prac.analysis.report.comparison import comparison
from tf_prac.analysis.report.html import Html, tag
from tf_prac.analysis.report.numbers import count
from tf_prac.analysis.report.story import Story
from tf_prac.analysis.report.style import STYLE
from tf_prac.storage.files import atomic_write
from tf_prac.version import VERSION

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(path: str | os.PathLike, stories: Sequence[Story]) -> None:
    """Writes one HTML file that needs no other, no network and no scripts.

    Args:
        path: the file.
        stories: the runs, at least one.

    Raises:
        FileError: the file cannot be written.
    """
    text = "<!DOCTYPE html>\n" + page(stories) + "\n"
    with atomic_write(pathlib.Path(path)) as file:
        file.write(text.encode())


def page(stories: Sequence[Story]) -> Html:
    """Returns the page of some runs."""
    several = len(stories) > 1
    title = f"{len(stories)} searches" if several else _title(stories[0])
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · tf_prac"),
        tag("style", Html(STYLE)),
    )
    parts = [comparison(stories)] if several else []
    parts += [_run(story, number, several) for number, story in enumerate(stories)]
    top = [tag("p", "winning ticket search", class_="kicker"), tag("h1", title)]
    if several:
        links = [tag("a", s.name, href=f"#run{n}") for n, s in enumerate(stories)]
        top.append(tag("nav", links))
    else:
        top.append(_lead(stories[0]))
    foot = tag("footer", f"Written by tf_prac {VERSION}.")
    body = tag("body", tag("header", top), tag("main", parts), foot)
    return tag("html", head, body, lang="en")


def _title(story: Story) -> str:
    return f"{story.model} on {story.config['dataset']['name']}"


def _lead(story: Story) -> Html:
    config = story.config
    facts = [
        config["keras"],
        f"{count(config['train_samples'])} training samples",
        f"seed {config['search']['seed']}",
        f"rewound to {config['pruning']['rewind']}",
    ]
    if not story.finished:
        done, whole = len(story.rounds), config["pruning"]["rounds"]
        rest = "retraining" if done == whole else f"{done} of {whole} rounds"
        facts.append(f"not finished: {rest}")
    return tag("p", " · ".join(facts), class_="lead")


def _run(story: Story, number: int, several: bool) -> Html:
    title = [tag("h2", story.name), _lead(story)] if several else []
    if not story.rounds:
        note = tag("p", "No round of this search is finished yet.", class_="note")
        return tag("section", title, note, tables.configuration(story), id=f"run{number}")
    panels = [
        sections.accuracy(story),
        sections.steps(story),
        sections.sets(story),
        sections.distances(story),
        sections.forgetting(story),
        sections.classes(story),
        sections.layers(story),
        tables.cost_table(story),
    ]
    return tag(
        "section",
        title,
        sections.headline(story),
        tag("div", panels, class_="panels"),
        sections.images(story),
        tables.tickets_table(story),
        tables.rounds_table(story),
        tables.configuration(story),
        id=f"run{number}",
    )
