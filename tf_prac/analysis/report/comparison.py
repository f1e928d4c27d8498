"""Several runs compared."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tf_prac.analysis.report.charts import COLORS, Axis, Series, line_chart
from tf_prac.analysis.report.html import Html, table, tag
from tf_prac.analysis.report.numbers import count, percent
from tf_prac.analysis.report.run_data import RunData
from tf_prac.analysis.report.sections import REMAINING, panel
from tf_prac.analysis.report.tables import PATH_OPTIONS, value_of
from tf_prac.search.cost import round_steps
from tf_prac.storage.config_check import flatten

SKIPPED = ("search.retrain", "dataset.order_hash", "versions", "validation", "test", "other_runs")


def comparison(runs: Sequence[RunData]) -> Html:
    """Returns the table, the charts and the differing options of several runs."""
    charts = [_accuracies(runs), _steps(runs), _sets(runs)]
    return tag(
        "section",
        tag("h2", "Comparison"),
        _table(runs),
        tag("div", charts, class_="panels"),
        _differences(runs),
    )


def _table(runs: Sequence[RunData]) -> Html:
    metrics = {run.metric for run in runs}
    title = runs[0].metric.title if len(metrics) == 1 else "metric"
    head = ["run", "model", "data", "ticket sparsity", f"ticket {title}", f"dense {title}"]
    head += ["search steps", "steps saved", "saved, with retraining"]
    rows = []
    for run in runs:
        ticket, dense, cost = run.ticket or {}, run.dense or {}, run.cost or {}
        unfinished = f" ({len(run.rounds)} of {run.config['pruning']['rounds']} rounds)"
        rows.append(
            [
                run.name + ("" if run.finished else unfinished),
                run.model,
                run.dataset,
                percent(ticket.get("sparsity", run.sparsity)),
                value_of(run, ticket.get("test_accuracy")),
                value_of(run, dense.get("test_accuracy")),
                count(sum(round_steps(r) for r in run.rounds)),
                percent(cost.get("steps_saved"), 1),
                percent(cost.get("end_to_end_steps_saved"), 1),
            ]
        )
    return tag("div", table(head, rows, text_columns=3), class_="wide")


def _accuracies(runs: Sequence[RunData]) -> Html | None:
    if len({run.metric for run in runs}) > 1:
        return None  # values of different metrics have no common axis
    metric, lines = runs[0].metric, []
    scale, unit = (100, " (%)") if metric.is_fraction else (1, "")
    for n, run in enumerate(runs):
        tickets = [t for t in run.tickets if t["test_accuracy"] is not None]
        if tickets:
            x = [100 * (1 - t["sparsity"]) for t in tickets]
            y = [scale * t["test_accuracy"] for t in tickets]
            lines.append(Series(run.name, x, y, n % COLORS))
    if not lines:
        return None
    dense = [r.dense["test_accuracy"] for r in runs if r.dense and r.dense["test_accuracy"]]
    mean = scale * sum(dense) / len(dense) if dense else None
    chart = line_chart(
        lines,
        REMAINING,
        Axis(f"test {metric.title}{unit}"),
        about=f"Test {metric.title} of the runs' tickets",
        references=[(mean, f"dense, mean of {len(dense)}")] if mean else [],
    )
    return panel(
        f"{metric.title.capitalize()} against sparsity",
        f"Test {metric.title} of the tickets, retrained on the full data.",
        chart,
    )


def _steps(runs: Sequence[RunData]) -> Html:
    lines = []
    for n, run in enumerate(runs):
        sums = list(itertools.accumulate(round_steps(r) for r in run.rounds))
        lines.append(Series(run.name, range(1, len(sums) + 1), sums, n % COLORS))
    chart = line_chart(
        [line for line in lines if line.y],
        Axis("rounds", integer=True),
        Axis("cumulative SGD steps", low=0),
        about="Cumulative steps of the runs over the rounds",
    )
    return panel("Search cost", "Cumulative SGD steps over the rounds.", chart)


def _sets(runs: Sequence[RunData]) -> Html | None:
    lines = [
        Series(
            run.name,
            [r["round"] for r in run.rounds],
            [100 * r["train_samples"] / run.rounds[0]["train_samples"] for r in run.rounds],
            n % COLORS,
        )
        for n, run in enumerate(runs)
        if run.rounds
    ]
    if not any(min(line.y) < 100 for line in lines):
        return None
    chart = line_chart(
        lines,
        Axis("round", integer=True),
        Axis("samples (% of the training set)", low=0),
        about="Training samples of each round",
    )
    return panel("Samples of each round", "Fraction of the training set in each round.", chart)


def _differences(runs: Sequence[RunData]) -> Html | None:
    flat = [flatten(run.config) for run in runs]
    names = [n for n in dict.fromkeys(n for each in flat for n in each) if not _skipped(n)]
    rows = [
        [name, *(str(each.get(name, "–")) for each in flat)]
        for name in names
        if len({str(each.get(name)) for each in flat}) > 1
    ]
    if not rows:
        return tag("p", "The runs have the same options.", class_="note")
    head = ["option", *(run.name for run in runs)]
    options = table(head, rows, text_columns=len(head))
    return tag("section", tag("h3", "Options that differ"), options, class_="wide")


def _skipped(name: str) -> bool:
    return name.startswith(SKIPPED) or name.split(".")[-1] in PATH_OPTIONS
