"""The tables of a run's story: rounds, tickets, cost and configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tf_prac.analysis.report.html import Html, table, tag
from tf_prac.analysis.report.numbers import count, duration, percent
from tf_prac.analysis.report.story import Story
from tf_prac.config import PracConfig, PruningConfig, TrainingRecipe

OPTIONS = {"recipe": TrainingRecipe, "pruning": PruningConfig, "prac": PracConfig}
PLACES = ("data_dir", "prac_from", "sizes_from")


def rounds_table(story: Story) -> Html:
    """Returns every round in a line."""
    head = ["round", "sparsity", "samples", "of all", "epochs", "steps", "stop", "CET", "CEP"]
    head += ["PrAC set", "val accuracy", "time"]
    full = story.rounds[0]["train_samples"]
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
            percent(r["val_accuracy"]),
            duration(r["seconds"]),
        ]
        for r in story.rounds
    ]
    return tag("section", tag("h3", "Rounds"), table(head, rows, text_columns=0), class_="wide")


def tickets_table(story: Story) -> Html | None:
    """Returns the dense network, the retrained tickets and their controls."""
    if not story.tickets:
        return None
    found: list[tuple[str, Mapping[str, Any]]] = []
    if story.dense:
        steps = story.dense.get("steps")
        found.append(("dense network", {**story.dense, "sparsity": 0.0, "retrain_steps": steps}))
    found += [(f"ticket {t['round']}", t) for t in story.tickets]
    found += [(f"ticket {c['round']}, {c['control']}", c) for c in story.controls]
    rows = [
        [
            name,
            percent(f["sparsity"]),
            percent(f["val_accuracy"]),
            percent(f["test_accuracy"]),
            percent(f.get("test_accuracy_last")),
            count(f["retrain_steps"]),
        ]
        for name, f in found
    ]
    head = ["", "sparsity", "val accuracy", "test accuracy", "at the last step", "steps"]
    text = "Test accuracy is that of the weights with the best validation accuracy."
    parts = (tag("h3", "Trained on the full data"), table(head, rows), tag("p", text))
    return tag("section", *parts, class_="wide")


def cost_table(story: Story) -> Html:
    """Returns the counted cost."""
    cost = story.cost
    if cost is None:
        steps = sum(r["steps"] for r in story.rounds)
        rows = [["SGD steps of the finished rounds", count(steps)]]
    else:
        rows = [
            ["SGD steps of the search", count(cost["search_steps"])],
            ["… of as many rounds on the full data", count(cost["full_imp_steps"])],
            ["saved", percent(cost["steps_saved"], 1)],
            ["SGD steps of search and retraining", count(cost["end_to_end_steps"])],
            ["saved, both sides with retraining", percent(cost["end_to_end_steps_saved"], 1)],
            ["SGD steps for comparison alone", count(cost["reference_steps"])],
            ["samples, forward only", count(cost["forward_samples"])],
            ["samples, gradient without training", count(cost["gradient_samples"])],
        ]
    rows.append(["time of the rounds", duration(sum(r["seconds"] for r in story.rounds))])
    text = "Steps and samples are counted where they arise; time is that of the machine it ran on."
    return tag(
        "section", tag("h3", "Cost"), table(["", ""], rows), tag("p", text), class_="panel cost"
    )


def configuration(story: Story) -> Html:
    """Returns every option; those that differ from their defaults stand out."""
    groups = []
    for name, options in OPTIONS.items():
        usual = {field.name: field.default for field in dataclasses.fields(options)}
        groups.append(_options(name, story.config[name], usual))
    groups.append(_options("search", story.config["search"], {}))
    labels = {k: v for k, v in (story.config.get("labels") or {}).items() if k not in PLACES}
    identity = {k: v for k, v in story.config["dataset"].items() if k != "order_hash"}
    groups.append(_options("data and network", {**labels, **identity}, {}))
    groups.append(_options("versions", story.config["versions"], {}))
    command = tag("pre", story.command) if story.command else None
    return tag(
        "details",
        tag("summary", tag("h3", "Configuration")),
        command,
        tag("div", groups, class_="options"),
    )


def _options(title: str, values: Mapping[str, Any], usual: Mapping[str, Any]) -> Html:
    rows = []
    for name, value in values.items():
        default = usual.get(name, value)
        default = list(default) if isinstance(default, tuple) else default
        written = tag("td", tag("code", _value(value)), class_=None if value == default else "set")
        rows.append(tag("tr", tag("th", name), written))
    return tag("div", tag("h4", title), tag("table", tag("tbody", rows)))


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(each) for each in value) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "off"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
