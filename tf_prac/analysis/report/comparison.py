"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tf_prac.analysis.report.charts import COLORS, Axis, Series, line_chart
from tf_prac.analysis.report.html import Html, table, tag
from tf_prac.analysis.report.numbers import count, percent
from tf_prac.analysis.report.sections import REMAINING, panel
from tf_prac.analysis.report.story import Story
from tf_prac.analysis.report.tables import PLACES

SKIPPED = ("search.retrain", "dataset.order_hash", "versions", "validation", "test", "other_runs")


def comparison(stories: Sequence[Story]) -> Html:
    """Returns the table, the charts and the differences of several runs."""
    charts = [_accuracies(stories), _steps(stories), _sets(stories)]
    return tag(
        "section",
        tag("h2", "Side by side"),
        _table(stories),
        tag("div", charts, class_="panels"),
        _differences(stories),
    )


def _table(stories: Sequence[Story]) -> Html:
    head = ["run", "model", "data", "ticket: sparsity", "test accuracy", "dense", "search steps"]
    head += ["saved", "saved with retraining"]
    rows = []
    for story in stories:
        ticket, dense, cost = story.ticket or {}, story.dense or {}, story.cost or {}
        unfinished = f" ({len(story.rounds)} of {story.config['pruning']['rounds']} rounds)"
        rows.append(
            [
                story.name + ("" if story.finished else unfinished),
                story.model,
                story.dataset,
                percent(ticket.get("sparsity", story.sparsity)),
                percent(ticket.get("test_accuracy")),
                percent(dense.get("test_accuracy")),
                count(sum(r["steps"] for r in story.rounds)),
                percent(cost.get("steps_saved"), 1),
                percent(cost.get("end_to_end_steps_saved"), 1),
            ]
        )
    return tag("div", table(head, rows, text_columns=3), class_="wide")


def _accuracies(stories: Sequence[Story]) -> Html | None:
    lines = []
    for n, story in enumerate(stories):
        found = [t for t in story.tickets if t["test_accuracy"] is not None]
        if found:
            x = [100 * (1 - t["sparsity"]) for t in found]
            lines.append(
                Series(story.name, x, [100 * t["test_accuracy"] for t in found], n % COLORS)
            )
    if not lines:
        return None
    dense = [s.dense["test_accuracy"] for s in stories if s.dense and s.dense["test_accuracy"]]
    mean = 100 * sum(dense) / len(dense) if dense else None
    chart = line_chart(
        lines,
        REMAINING,
        Axis("test accuracy (%)"),
        about="Test accuracy of the runs' tickets",
        references=[(mean, f"dense, mean of {len(dense)}")] if mean else [],
    )
    return panel("Accuracy against sparsity", "Tickets retrained on the full data.", chart)


def _steps(stories: Sequence[Story]) -> Html:
    lines = []
    for n, story in enumerate(stories):
        total, sums = 0, []
        for r in story.rounds:
            total += r["steps"]
            sums.append(total)
        lines.append(Series(story.name, range(1, len(sums) + 1), sums, n % COLORS))
    chart = line_chart(
        [line for line in lines if line.y],
        Axis("rounds", whole=True),
        Axis("SGD steps so far", low=0),
        about="Steps of the runs, added up over the rounds",
    )
    return panel("What the search cost", "SGD steps, added up over the rounds.", chart)


def _sets(stories: Sequence[Story]) -> Html | None:
    lines = [
        Series(
            story.name,
            [r["round"] for r in story.rounds],
            [100 * r["train_samples"] / story.rounds[0]["train_samples"] for r in story.rounds],
            n % COLORS,
        )
        for n, story in enumerate(stories)
        if story.rounds
    ]
    if not any(min(line.y) < 100 for line in lines):
        return None
    chart = line_chart(
        lines,
        Axis("round", whole=True),
        Axis("of the training set (%)", low=0),
        about="Samples that each round trains on",
    )
    return panel("Samples of each round", "What each round trains on.", chart)


def _differences(stories: Sequence[Story]) -> Html | None:
    flat = [_flat(story.config) for story in stories]
    names = [n for n in dict.fromkeys(n for each in flat for n in each) if not _skipped(n)]
    rows = [
        [name, *(str(each.get(name, "–")) for each in flat)]
        for name in names
        if len({str(each.get(name)) for each in flat}) > 1
    ]
    if not rows:
        return tag("p", "The runs have the same options.", class_="note")
    head = ["option", *(story.name for story in stories)]
    shown = table(head, rows, text_columns=len(head))
    return tag("section", tag("h3", "Options that differ"), shown, class_="wide")


def _skipped(name: str) -> bool:
    return name.startswith(SKIPPED) or name.split(".")[-1] in PLACES


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
