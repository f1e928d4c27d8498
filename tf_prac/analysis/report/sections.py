"""The panels of a run, each a function of `RunData` that returns None if it has no data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_prac.analysis.appendix import NEVER, class_rows, forgetting_rows
from tf_prac.analysis.report import pictures
from tf_prac.analysis.report.charts import Axis, Series, bar_chart, line_chart
from tf_prac.analysis.report.html import Html, table, tag
from tf_prac.analysis.report.numbers import count, percent, points
from tf_prac.analysis.report.run_data import RunData

REMAINING = Axis("remaining weights (%)", log=True, inverted=True)


def panel(title: str, text: str, body: Html, rows: Sequence[Mapping[str, Any]] = ()) -> Html:
    """Returns a panel: title, chart, explanation and a table of the numbers."""
    numbers = None
    if rows:
        columns = list(rows[0])
        cells = [[_cell(row.get(name)) for name in columns] for row in rows]
        body_rows = table([name.replace("_", " ") for name in columns], cells, text_columns=0)
        numbers = tag("details", tag("summary", "Numbers"), body_rows)
    return tag("section", tag("h3", title), body, tag("p", text), numbers, class_="panel")


def headline(run: RunData) -> Html:
    """Returns the main results: sparsity, accuracy and steps saved."""
    tiles = [_tile(percent(run.sparsity), "of the prunable weights pruned", _weights(run))]
    ticket, dense, cost = run.ticket, run.dense, run.cost
    kind = _accuracy_kind(run)
    if ticket and ticket[kind] is not None:
        tiles[0] = _tile(percent(ticket["sparsity"]), "of the prunable weights pruned", "")
        note = ""
        if dense and dense[kind] is not None:
            difference = points(ticket[kind] - dense[kind]) + " points"
            if not run.metric.is_fraction:
                difference = f"{ticket[kind] - dense[kind]:+.4f}".replace("-", "−")
            note = f"{difference} vs. dense, {run.metric.format(dense[kind])}"
        title = f"{kind.split('_')[0]} {run.metric.title}"
        tiles.append(_tile(run.metric.format(ticket[kind]), title, note))
    if cost:
        steps = f"{count(cost['search_steps'])} instead of {count(cost['full_imp_steps'])}"
        tiles.append(_tile(percent(cost["steps_saved"], 1), "of the search steps saved", steps))
        both = percent(cost["end_to_end_steps_saved"], 1)
        tiles.append(_tile(both, "saved, with retraining", "the ticket's retraining added to both"))
    else:
        rounds = run.config["pruning"]["rounds"]
        tiles.append(_tile(f"{len(run.rounds)} of {rounds}", "rounds finished", ""))
    return tag("div", tiles, class_="tiles")


def accuracy(run: RunData) -> Html | None:
    """Returns accuracy against remaining weights, for tickets, controls and rounds."""
    kind, metric = _accuracy_kind(run), run.metric
    scale, unit = (100, " (%)") if metric.is_fraction else (1, "")
    lines = _accuracy_lines(run, kind, scale)
    if not lines:
        return None
    has_tickets = any(ticket[kind] is not None for ticket in run.tickets)
    dense = run.dense[kind] if run.dense and has_tickets else None
    word = kind.split("_")[0] if has_tickets else "validation"
    chart = line_chart(
        lines,
        REMAINING,
        Axis(f"{word} {metric.title}{unit}"),
        about=f"{metric.title.capitalize()} against remaining weights",
        references=[] if dense is None else [(scale * dense, f"dense {metric.format(dense)}")],
    )
    text = "Tickets are retrained on the full data from the rewind point. "
    text += "The rounds of the search may train on fewer samples and stop early."
    column = f"{metric.name}_%" if metric.is_fraction else metric.name
    rows = [
        {
            "": each.label,
            "remaining_%": f"{x:.2f}",
            column: f"{y:.2f}" if metric.is_fraction else f"{y:.4f}",
        }
        for each in lines
        for x, y in zip(each.x, each.y, strict=True)
    ]
    return panel(f"{metric.title.capitalize()} against sparsity", text, chart, rows)


def steps(run: RunData) -> Html:
    """Returns the training steps of each round, with the budget of a round on the full data."""
    rounds = run.rounds
    early = [r["round"] for r in rounds if r["stop"] == "early_stop"]
    series = [
        Series(label, numbers, [rounds[n]["steps"] for n in numbers], color)
        for color, label, numbers in (
            (0, "full budget", [r["round"] for r in rounds if r["round"] not in early]),
            (1, "stopped early", early),
        )
        if numbers
    ]
    budget = _full_budget(run)
    chart = bar_chart(
        [str(r["round"]) for r in rounds],
        [dataclasses.replace(s, color=0 if len(series) == 1 else s.color) for s in series],
        Axis("round"),
        Axis("training steps"),
        about="Training steps of each round",
        references=[(budget, f"full data, {count(budget)}")] if budget else [],
    )
    text = "The budget is proportional to the number of samples. A round stops early when its mask "
    text += f"no longer changes: {len(early)} of {len(rounds)} rounds did."
    rows = [{name: r[name] for name in ("round", "epochs", "steps", "stop")} for r in rounds]
    return panel("Steps of each round", text, chart, rows)


def sets(run: RunData) -> Html | None:
    """Returns the sizes of CET, CEP and the PrAC set after each round."""
    if not run.selects_data:
        return None
    rounds = run.rounds
    x = [r["round"] for r in rounds]
    lines = [
        Series(label, x, [r[key] for r in rounds], color)
        for color, label, key in (
            (2, "CEP", "cep"),
            (1, "CET", "cet"),
            (0, "PrAC set", "prac_size"),
        )
    ]
    full = rounds[0]["train_samples"]
    chart = line_chart(
        lines,
        Axis("after round", integer=True),
        Axis("samples", low=0),
        about="Sizes of CET, CEP and the PrAC set",
        references=[(full, f"training set, {count(full)}")],
    )
    text = "CET: samples that were forgotten or never learned in training. CEP: samples on which "
    text += "the dense and the pruned network disagree. The next round trains on their union, the "
    text += "PrAC set."
    rows = [
        {
            "round": r["round"],
            **{key: r[key] for key in ("cet", "cep", "prac_size")},
            "CEP_also_in_CET": percent(r["overlap"], 1),
            "of_training_set": percent(r["prac_size"] / full, 1),
        }
        for r in rounds
    ]
    return panel("Critical samples", text, chart, rows)


_MASKS = "mask distance"


def distances(run: RunData) -> Html | None:
    """Returns the mask distance over the epochs of each round, with early stops marked.

    If the early stop compares the order of the scores, it returns the distances of the order.
    """
    in_order = any("order_distances" in r for r in run.rounds)
    key, name = ("order_distances", "order distance") if in_order else ("mask_distances", _MASKS)
    rounds = [r for r in run.rounds if r.get(key)]
    if not rounds:
        return None
    eps, window = (run.config["prac"][f"early_stop_{each}"] for each in ("eps", "window"))
    lines = _distance_lines(rounds, key)
    chart = line_chart(
        [*lines[1:], lines[0]],
        Axis("epoch", integer=True),
        Axis(name, low=0),
        about=f"{name.capitalize()} over the epochs of each round",
        references=[(eps, f"stops below {eps:g}")] if eps else [],
    )
    text = "Hamming distance between the tentative masks of successive epochs, as a fraction of "
    text += "the remaining weights. "
    if in_order:
        text = "1 minus the rank correlation of the scores of successive epochs, of the weights "
        text += "near the pruning threshold. "
    if eps:
        text += f"A dot marks an early stop, after {window} epochs below the dotted line."
    else:
        text += "This search had no early stop."
    rows = [
        {"round": r["round"], "epochs": r["epochs"], "last_distance": f"{d[-1]:.4f}"}
        | {"smallest": f"{min(d):.4f}", "stop": r["stop"]}
        for r in rounds
        for d in [r[key]]
    ]
    return panel(name.capitalize(), text, chart, rows)


def layers(run: RunData) -> Html | None:
    """Returns the sparsity of each layer in the last masks."""
    if not run.masks:
        return None
    masks = run.masks[max(run.masks)]
    bars = []
    for name, mask in masks.items():
        kept = int(np.count_nonzero(mask))
        sparsity = 1 - kept / mask.size if mask.size else 0.0
        fill = tag("i", style=f"width:{100 * sparsity:.2f}%")
        title = f"{count(kept)} of {count(mask.size)} kept"
        label = [tag("b", name), tag("span", percent(sparsity, 1))]
        bars.append(tag("li", label, tag("div", fill, class_="bar"), tag("small", title)))
    text = f"After round {max(run.masks)}, {count(masks.remaining)} of {count(masks.size)} "
    text += "prunable weights are kept."
    return panel("Sparsity of each layer", text, tag("ul", bars, class_="layers"))


def forgetting(run: RunData) -> Html | None:
    """Returns histograms of forgetting events in the first, middle and last round.

    None if no round presented a sample twice, since an event is a change between presentations.
    """
    rounds = run.forgetting
    numbers = [n for n in sorted(rounds) if rounds[n].presentations.max() > 1]
    if not numbers:
        return None
    shown = sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]})
    rows = forgetting_rows({n: rounds[n] for n in shown})
    lines = []
    for color, n in enumerate(shown):
        bins = [r for r in rows if r["round"] == n and r["events"] != NEVER and r["samples"]]
        if bins:
            shares = [100 * r["share"] for r in bins]
            lines.append(Series(f"round {n}", [r["events"] for r in bins], shares, color))
    never = {r["round"]: r["samples"] for r in rows if r["events"] == NEVER}
    text = "A forgetting event is a change from correct to incorrect between two presentations "
    text += "of a sample. Never learned: "
    text += "; ".join(f"{count(never[n])} in round {n}" for n in shown) + "."
    if not lines:
        return None
    chart = line_chart(
        lines,
        Axis("forgetting events", integer=True),
        Axis("samples of the round (%)", log=True),
        about="Histogram of forgetting events",
    )
    table_rows = [
        {**r, "share": percent(r["share"], 2)} for r in rows if r["samples"] or r["events"] == NEVER
    ]
    return panel("Forgetting", text, chart, table_rows)


def classes(run: RunData) -> Html | None:
    """Returns the fraction of each class that is in the first and the last PrAC set."""
    if run.train is None or not run.selects_data:
        return None
    labels = run.train.samples.labels
    ends = sorted({0, max(run.sets)})
    rows = class_rows({n: run.sets[n] for n in ends}, labels, run.train.ids)
    every = [r["class"] for r in rows if r["round"] == ends[0]]
    names = [pictures.class_name(run.train, each).removeprefix("class ") for each in every]
    series = [
        Series(f"after round {n}", range(len(names)), shares, color)
        for color, n in enumerate(ends)
        for shares in [[100 * r["share"] for r in rows if r["round"] == n]]
    ]
    chart = bar_chart(
        names,
        series,
        Axis("class"),
        Axis("in the PrAC set (%)"),
        about="Fraction of each class in the PrAC set",
    )
    text = "Fraction of the training samples of each class that is in the PrAC set."
    numbers = [
        {k: percent(v, 1) if "share" in k else v for k, v in r.items()} | {"class": name}
        for r, name in zip(rows, names * len(ends), strict=True)
    ]
    return panel("Class balance of the PrAC set", text, chart, numbers)


def images(run: RunData) -> Html:
    """Returns images that were never learned, often forgotten, or misclassified after pruning."""
    if run.train is None:
        return tag("p", f"No images and no classes: {run.without_data}", class_="note")
    if not pictures.has_images(run.train):
        return tag("p", "No images: the samples are not images.", class_="note")
    if not run.rounds:
        return tag("p", "No images yet: no round is finished.", class_="note")
    rounds = [run.forgetting[n] for n in sorted(run.forgetting)]
    ids, events = pictures.most_forgotten(rounds)
    last = run.sets[max(run.sets)]
    galleries = [
        _gallery(run, "Never learned", "not correct in any round", pictures.hardest(rounds), ()),
        _gallery(
            run,
            "Most forgotten",
            "forgetting events over all rounds",
            ids,
            [f"{each}×" for each in events],
        ),
        _gallery(
            run,
            "Sensitive to pruning",
            "CEP of the last round",
            pictures.forgotten_by_pruning(last),
            (),
        ),
    ]
    return tag("div", galleries, class_="galleries")


def _tile(value: str, label: str, note: str) -> Html:
    return tag("div", tag("strong", value), tag("span", label), tag("small", note), class_="tile")


def _weights(run: RunData) -> str:
    if not run.masks:
        return ""
    masks = run.masks[max(run.masks)]
    return f"{count(masks.remaining)} of {count(masks.size)} kept"


def _accuracy_kind(run: RunData) -> str:
    tested = any(t["test_accuracy"] is not None for t in run.tickets)
    return "test_accuracy" if tested else "val_accuracy"


def _accuracy_line(
    label: str,
    metrics: Sequence[Mapping[str, Any]],
    kind: str,
    color: int,
    style: str,
    scale: int,
) -> Series:
    x = [100 * (1 - m["sparsity"]) for m in metrics]
    return Series(label, x, [scale * m[kind] for m in metrics], color, style)


def _accuracy_lines(run: RunData, kind: str, scale: int) -> list[Series]:
    """Returns the lines of rounds, controls and tickets that have an accuracy of the kind."""
    lines = []
    rounds = [r for r in run.rounds if r["val_accuracy"] is not None]
    if rounds and not (run.tickets and kind == "val_accuracy" and not run.selects_data):
        lines.append(_accuracy_line("search (val)", rounds, "val_accuracy", 2, "thin", scale))
    controls: dict[str, list[Mapping[str, Any]]] = {}
    for control in run.controls:
        if control[kind] is not None:
            controls.setdefault(control["control"].rpartition("_")[0], []).append(control)
    for n, (name, of_kind) in enumerate(sorted(controls.items())):
        label = name.replace("_", " ")
        lines.append(_accuracy_line(label, of_kind, kind, 3 + n % 3, "dashed", scale))
    tickets = [t for t in run.tickets if t[kind] is not None]
    if tickets:
        lines.append(_accuracy_line("ticket", tickets, kind, 0, "", scale))
    return lines


def _distance_lines(rounds: Sequence[Mapping[str, Any]], key: str) -> list[Series]:
    """Returns a line for each round, the later the more opaque; the first has its own color."""
    lines = []
    for n, r in enumerate(rounds):
        values = r[key]
        label = f"round {r['round']}" if n in (0, len(rounds) - 1) else ""
        stop = {len(values) - 1: ""} if r["stop"] == "early_stop" else {}
        opacity = 1.0 if n == 0 else 0.35 + 0.65 * n / max(len(rounds) - 1, 1)
        epochs = list(range(2, len(values) + 2))
        color = 0 if n else 1
        lines.append(Series(label, epochs, values, color, "thin", opacity, stop, dots=False))
    return lines


def _full_budget(run: RunData) -> int | None:
    """Returns the steps of a later round on the full data."""
    own_budget = run.config["prac"].get("dense_budget") is not None
    stopped = len(run.rounds) < 2 or run.rounds[0]["stop"] != "budget"
    if run.cost is None or stopped or own_budget:
        return None
    rest = run.cost["full_imp_steps"] - run.rounds[0]["steps"]
    return rest // (len(run.rounds) - 1)


def _gallery(
    run: RunData, title: str, subtitle: str, ids: np.ndarray, notes: Sequence[str]
) -> Html | None:
    if not len(ids):
        return None
    assert run.train is not None
    head = tag("h3", title, tag("small", subtitle))
    return tag("section", head, pictures.gallery(run.train, ids, notes), class_="panel")


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
