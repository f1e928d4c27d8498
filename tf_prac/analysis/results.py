"""The table and figures of a comparison, from the summaries of its runs. Plain Python.

The cost of the ticket of round n is the number of steps of rounds 0 to n - 1, with a pretraining to
W_k (the search, which is what the papers count) and, end to end, also of its own retraining. The
runs counted these steps.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tf_prac.analysis.aggregate import write_csvs
from tf_prac.analysis.paired import PairedDifference
from tf_prac.plotting import Line, line_figure, log_axis
from tf_prac.search.cost import round_steps
from tf_prac.search.metric import Metric
from tf_prac.storage.files import write_json
from tf_prac.tables import text_table

REFERENCE = "imp"
ACCURACIES = ("test_accuracy", "test_accuracy_last", "val_accuracy")
STEPS = ("search_steps", "retrain_steps", "end_to_end_steps")
COSTS = (
    "search_steps",
    "full_imp_steps",
    "steps_saved",
    "end_to_end_steps",
    "end_to_end_steps_saved",
    "forward_samples",
)

Row = dict[str, Any]
Summaries = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""The contents of summary.json, by arm and seed."""


def run_rows(arm: str, seed: int, summary: Mapping[str, Any]) -> list[Row]:
    """Returns one row for the dense network and each retrained ticket of a run.

    Args:
        arm, seed: the arm and seed of the run.
        summary: the content of its summary.json.
    """
    metric = Metric.of(summary)
    named = {} if metric == Metric() else {"metric": metric.name}
    dense = {**summary["dense"], "round": 0, "sparsity": 0.0}
    dense["retrain_steps"] = dense["steps"]
    tickets = [t for t in summary["tickets"] if t["round"] and t["retrain_steps"]]
    rows = []
    for ticket in [dense, *tickets]:
        searched = sum(round_steps(each) for each in summary["rounds"][: ticket["round"]])
        rows.append(
            {
                "arm": arm,
                "seed": seed,
                "round": ticket["round"],
                "sparsity": ticket["sparsity"],
                **named,
                **{name: ticket.get(name) for name in ACCURACIES},
                "search_steps": searched,
                "retrain_steps": ticket["retrain_steps"],
                "end_to_end_steps": searched + ticket["retrain_steps"],
            }
        )
    return rows


def table(rows: Iterable[Row], reference: str = REFERENCE) -> list[Row]:
    """Returns one row for each arm and round: means over the seeds, and their spread.

    The spread of test accuracy is the sample standard deviation (None for one seed), the minimum
    and the maximum. If the reference arm has the same round, `difference` is the mean difference in
    test accuracy from the reference with the same seed, `difference_std` its standard deviation,
    and `difference_low` and `difference_high` its 95% interval (`PairedDifference`). Both have the
    same initial weights, so this comparison is sharper. They also have the same data order, except
    for tickets of plain iterative magnitude pruning that a round trained.

    Args:
        rows: rows of `run_rows`.
        reference: the arm that others are compared with. Default "imp".
    """
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["arm"], row["round"]), []).append(row)
    return [
        {
            "arm": arm,
            "round": number,
            "seeds": len(group),
            "sparsity": _mean(group, "sparsity"),
            **({"metric": group[0]["metric"]} if "metric" in group[0] else {}),
            **_spread("test_accuracy", [row["test_accuracy"] for row in group]),
            **{name: _mean(group, name) for name in (*ACCURACIES[1:], *STEPS)},
            **_differences(group, groups.get((reference, number), [])),
        }
        for (arm, number), group in groups.items()
    ]


def cost_table(summaries: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """Returns one row for each arm: the mean cost of its searches over the seeds.

    Args:
        summaries: the contents of summary.json, by arm.
    """
    return [
        {
            "arm": arm,
            "seeds": len(runs),
            **{name: statistics.fmean(run["cost"][name] for run in runs) for name in COSTS},
            "search_seconds": statistics.fmean(
                sum(metrics["seconds"] for metrics in run["rounds"]) for run in runs
            ),
        }
        for arm, runs in summaries.items()
    ]


def counted_steps(summary: Mapping[str, Any]) -> int:
    """Returns the SGD steps of a run, with retraining and with what it copied from another run.

    Args:
        summary: the content of its summary.json.
    """
    names = ("search_steps", "retrain_steps", "reference_steps")
    return sum(summary["cost"][name] for name in names)


def copied_steps(summary: Mapping[str, Any]) -> int:
    """Returns how many of the `counted_steps` of a run another run trained.

    They are those of the dense network, as a round or as a ticket.
    """
    dense = ((summary["rounds"][0], "steps"), (summary["tickets"][0], "retrain_steps"))
    return sum(metrics[name] for metrics, name in dense if metrics.get("dense_from"))


def write_results(
    directory: str | os.PathLike,
    summaries: Summaries,
    runs: Sequence[Row] | None = None,
    *,
    kind: str = "comparison_results",
    reference: str = REFERENCE,
    **more: Any,
) -> dict[str, Any]:
    """Writes results.json, results.csv, runs.csv, cost.csv and the figures of test accuracy.

    Args:
        directory: where to write.
        summaries: the contents of summary.json, by arm and seed.
        runs: the rows of all runs. By default `run_rows` of each summary.
        kind: the kind of results.json, see `write_json`.
        reference: the arm that others are compared with. Default "imp".
        **more: further content of results.json.

    Returns:
        The content of results.json: "table", "cost", `more` and "runs".
    """
    path = pathlib.Path(directory)
    if runs is None:
        runs = [
            row
            for arm, by_seed in summaries.items()
            for seed, summary in by_seed.items()
            for row in run_rows(arm, seed, summary)
        ]
    results = {
        "table": table(runs, reference),
        "cost": cost_table({arm: list(by_seed.values()) for arm, by_seed in summaries.items()}),
        **more,
        "runs": runs,
    }
    write_json(path / "results.json", kind, results)
    write_csvs(path, {"results": results["table"], "cost": results["cost"], "runs": runs})
    draw_results(path, results["table"])
    return results


def results_text(results: Mapping[str, Any]) -> str:
    """Returns the table of results.json for a terminal: accuracy in %, then cost, by arm."""
    arms = [row["arm"] for row in results["cost"]]
    cells = {(row["round"], row["arm"]): _percent(row) for row in results["table"]}
    sparsities = {row["round"]: row["sparsity"] for row in results["table"]}
    accuracies = [
        (f"{sparsity:.2%}", *(cells.get((number, arm), "") for arm in arms))
        for number, sparsity in sorted(sparsities.items())
    ]
    costs = [
        (title, *(form.format(row[name]) for row in results["cost"]))
        for title, name, form in (
            ("search steps", "search_steps", "{:,.0f}"),
            ("saved", "steps_saved", "{:.1%}"),
            ("with retraining", "end_to_end_steps", "{:,.0f}"),
            ("saved", "end_to_end_steps_saved", "{:.1%}"),
            ("seeds", "seeds", "{}"),
        )
    ]
    return text_table([("sparsity", *arms), *accuracies, *costs])


def draw_results(directory: str | os.PathLike, rows: Sequence[Row]) -> list[pathlib.Path]:
    """Draws test accuracy against remaining weights, and against training steps.

    Bands are one standard deviation to each side. Runs without test samples are not drawn.

    Args:
        directory: where to write.
        rows: rows of `table`.
    """
    path = pathlib.Path(directory)
    tickets = [row for row in rows if row["round"] and row["test_accuracy"] is not None]
    if not tickets:
        return []
    dense = scale_of(rows) * statistics.fmean(
        row["test_accuracy"]
        for row in rows
        if not row["round"] and row["test_accuracy"] is not None
    )

    def log_axis_and_dense_line(axes: Any) -> None:
        log_axis(axes.xaxis)
        axes.axhline(dense, color="black", linewidth=0.8, linestyle=":")
        axes.annotate("dense", (0.995, dense), xycoords=("axes fraction", "data"), ha="right")

    def sparser_on_the_right(axes: Any) -> None:
        log_axis_and_dense_line(axes)
        axes.invert_xaxis()
        ticks = sorted({round(100 * (1 - row["sparsity"]), 1) for row in tickets})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()

    metric = metric_of(rows)
    y_label = f"test {metric.title}" + (" (%)" if metric.is_fraction else "")
    return [
        *line_figure(
            path / "accuracy_remaining",
            _lines(tickets, lambda row: 100 * (1 - row["sparsity"])),
            x_label="remaining weights (%)",
            y_label=y_label,
            prepare=sparser_on_the_right,
        ),
        *line_figure(
            path / "accuracy_steps",
            _lines(tickets, lambda row: row["end_to_end_steps"]),
            x_label="steps of search and retraining",
            y_label=y_label,
            prepare=log_axis_and_dense_line,
        ),
    ]


def _lines(rows: Sequence[Row], x_of: Any) -> list[Line]:
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        of_arm = [row for row in rows if row["arm"] == arm]
        scale = scale_of(of_arm)
        means = [scale * row["test_accuracy"] for row in of_arm]
        line = Line(arm, [x_of(row) for row in of_arm], means)
        spreads = [scale * (row["test_accuracy_std"] or 0) for row in of_arm]
        if any(spreads):  # of at least two seeds
            low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
            high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
            line = dataclasses.replace(line, low=low, high=high)
        lines.append(line)
    return lines


def _percent(row: Row) -> str:
    mean, spread = row["test_accuracy"], row["test_accuracy_std"]
    if mean is None:
        return "-"
    if not metric_of([row]).is_fraction:
        return f"{mean:.4f}" if spread is None else f"{mean:.4f} ± {spread:.4f}"
    return f"{mean:.2%}" if spread is None else f"{100 * mean:.2f} ± {100 * spread:.2f}"


def metric_of(rows: Sequence[Row]) -> Metric:
    """Returns the metric of rows; its direction is not known."""
    return Metric(rows[0].get("metric", Metric().name) if rows else Metric().name)


def scale_of(rows: Sequence[Row]) -> int:
    """Returns the factor of values in figures and tables: 100 for percent, otherwise 1."""
    return 100 if metric_of(rows).is_fraction else 1


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows]
    return None if None in values else statistics.fmean(values)


def _spread(name: str, values: Sequence[float | None]) -> Row:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return dict.fromkeys((name, f"{name}_std", f"{name}_min", f"{name}_max"))
    return {
        name: statistics.fmean(known),
        f"{name}_std": statistics.stdev(known) if len(known) > 1 else None,
        f"{name}_min": min(known),
        f"{name}_max": max(known),
    }


def _differences(rows: Sequence[Row], reference: Sequence[Row]) -> Row:
    values, others = (
        {row["seed"]: row["test_accuracy"] for row in group if row["test_accuracy"] is not None}
        for group in (rows, reference)
    )
    found = PairedDifference.of(values, others)
    return {
        "difference": None if found is None else found.mean,
        "difference_std": None if found is None else found.std,
        "difference_low": None if found is None else found.low,
        "difference_high": None if found is None else found.high,
    }
