"""The tables of a run: rounds, tickets, cost and configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tf_prac.analysis.report.html import Html, table, tag
from tf_prac.analysis.report.numbers import DASH, count, duration, percent
from tf_prac.analysis.report.run_data import RunData
from tf_prac.config import AUTO, OPTION_GROUPS
from tf_prac.search.cost import round_steps
from tf_prac.search.larger_cuts import AGREEMENT

PATH_OPTIONS = ("data_dir", "prac_from", "sizes_from")


def rounds_table(run: RunData) -> Html:
    """Returns a table with a row for each round."""
    head = ["round", "sparsity", "samples", "of all", "epochs", "steps", "stop", "CET", "CEP"]
    head += ["PrAC set", f"val {run.metric.title}", "time"]
    measures_agreement = any(AGREEMENT in r for r in run.rounds)
    head += ["mask agreement"] if measures_agreement else []
    full = run.rounds[0]["train_samples"]
    rows = [
        [
            r["round"],
            percent(r["sparsity"]),
            count(r["train_samples"]),
            percent(r["train_samples"] / full, 0),
            r["epochs"],
            count(r["steps"]),
            r["stop"].replace("_", " "),
            count(r["cet"]),
            count(r["cep"]),
            count(r["prac_size"]),
            value_of(run, r["val_accuracy"]),
            duration(r["seconds"]),
            *([percent(r.get(AGREEMENT), 1)] if measures_agreement else []),
        ]
        for r in run.rounds
    ]
    return tag("section", tag("h3", "Rounds"), table(head, rows, text_columns=0), class_="wide")


def tickets_table(run: RunData) -> Html | None:
    """Returns a table of the dense network, the retrained tickets and their controls."""
    if not run.tickets:
        return None
    networks: list[tuple[str, Mapping[str, Any]]] = []
    if run.dense:
        steps = run.dense.get("steps")
        networks.append(("dense network", {**run.dense, "sparsity": 0.0, "retrain_steps": steps}))
    networks += [(f"ticket {t['round']}", t) for t in run.tickets]
    networks += [(f"ticket {c['round']}, {c['control']}", c) for c in run.controls]
    rows = [
        [
            name,
            percent(m["sparsity"]),
            value_of(run, m["val_accuracy"]),
            value_of(run, m["test_accuracy"]),
            value_of(run, m.get("test_accuracy_last")),
            count(m["retrain_steps"]),
        ]
        for name, m in networks
    ]
    title = run.metric.title
    head = ["", "sparsity", f"val {title}", f"test {title}", "test, last step", "steps"]
    text = f"Test {title} is measured with the weights of the best validation {title}."
    parts = (tag("h3", "Trained on the full data"), table(head, rows), tag("p", text))
    return tag("section", *parts, class_="wide")


def value_of(run: RunData, value: float | None) -> str:
    """Returns a value of the run's metric as text."""
    return DASH if value is None else run.metric.format(value)


def cost_table(run: RunData) -> Html:
    """Returns the counted cost as a table."""
    cost = run.cost
    if cost is None:
        steps = sum(round_steps(r) for r in run.rounds)
        rows = [["SGD steps of the finished rounds", count(steps)]]
    else:
        rows = [
            ["SGD steps of the search", count(cost["search_steps"])],
            ["SGD steps of the same rounds on the full data", count(cost["full_imp_steps"])],
            ["saved by the search", percent(cost["steps_saved"], 1)],
            [
                "saved, if every round on the full data takes the full schedule",
                percent(cost.get("paper_steps_saved", cost["steps_saved"]), 1),
            ],
            ["SGD steps of search and retraining", count(cost["end_to_end_steps"])],
            ["saved, including retraining", percent(cost["end_to_end_steps_saved"], 1)],
            [
                "SGD steps of other retraining: dense network, earlier tickets, controls",
                count(cost["reference_steps"]),
            ],
            ["samples, forward pass only", count(cost["forward_samples"])],
            ["samples, forward and backward pass for scores", count(cost["gradient_samples"])],
        ]
    rows.append(["wall time of the rounds", duration(sum(r["seconds"] for r in run.rounds))])
    text = "Steps and samples are counted during the run. Time depends on the machine."
    return tag(
        "section", tag("h3", "Cost"), table(["", ""], rows), tag("p", text), class_="panel cost"
    )


def configuration(run: RunData) -> Html:
    """Returns all options; those that differ from their defaults are bold."""
    groups = []
    for name, options in OPTION_GROUPS.items():
        defaults = {field.name: field.default for field in dataclasses.fields(options)}
        groups.append(_options(name, run.config[name], defaults))
    groups.append(_options("search", run.config["search"], {}))
    labels = {k: v for k, v in (run.config.get("labels") or {}).items() if k not in PATH_OPTIONS}
    identity = {k: v for k, v in run.config["dataset"].items() if k != "order_hash"}
    groups.append(_options("data and network", {**labels, **identity}, {}))
    groups.append(_options("versions", run.config["versions"], {}))
    command = tag("pre", run.command) if run.command else None
    return tag(
        "details",
        tag("summary", tag("h3", "Configuration")),
        command,
        tag("div", groups, class_="options"),
    )


def _options(title: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Html:
    rows = []
    for name, value in values.items():
        default = defaults.get(name, value)
        default = list(default) if isinstance(default, tuple) else default
        is_default = value == default or (default == AUTO and not value)
        cell = tag("td", tag("code", _value(value)), class_=None if is_default else "set")
        rows.append(tag("tr", tag("th", name), cell))
    return tag("div", tag("h4", title), tag("table", tag("tbody", rows)))


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(each) for each in value) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "off"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
