"""The pictures of a run's story, each a function of `Story`; None where there is nothing to say."""

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
from tf_prac.analysis.report.story import Story

REMAINING = Axis("remaining weights (%)", log=True, falling=True)


def panel(title: str, text: str, body: Html, rows: Sequence[Mapping[str, Any]] = ()) -> Html:
    """Returns a part of the page: what it is, how to read it, the picture and its numbers."""
    numbers = None
    if rows:
        names = list(rows[0])
        cells = [[_cell(row.get(name)) for name in names] for row in rows]
        shown = table([name.replace("_", " ") for name in names], cells, text_columns=0)
        numbers = tag("details", tag("summary", "Numbers"), shown)
    return tag("section", tag("h3", title), body, tag("p", text), numbers, class_="panel")


def headline(story: Story) -> Html:
    """Returns the figures that count most: sparsity, accuracy, steps saved."""
    tiles = [_tile(percent(story.sparsity), "of the prunable weights removed", _weights(story))]
    ticket, dense, cost = story.ticket, story.dense, story.cost
    kind = _accuracy_kind(story)
    if ticket and ticket[kind] is not None:
        tiles[0] = _tile(percent(ticket["sparsity"]), "of the prunable weights removed", "")
        against = ""
        if dense and dense[kind] is not None:
            difference = points(ticket[kind] - dense[kind])
            against = f"dense {percent(dense[kind])}: {difference} points"
        tiles.append(_tile(percent(ticket[kind]), f"{kind.split('_')[0]} accuracy", against))
    if cost:
        steps = f"{count(cost['search_steps'])} of {count(cost['full_imp_steps'])}"
        tiles.append(_tile(percent(cost["steps_saved"], 1), "of the search steps saved", steps))
        both = percent(cost["end_to_end_steps_saved"], 1)
        tiles.append(_tile(both, "saved with retraining", "counted on both sides"))
    else:
        whole = story.config["pruning"]["rounds"]
        tiles.append(_tile(f"{len(story.rounds)} of {whole}", "rounds finished", ""))
    return tag("div", tiles, class_="tiles")


def accuracy(story: Story) -> Html | None:
    """Returns accuracy against remaining weights: tickets, controls, and the rounds themselves."""
    kind = _accuracy_kind(story)
    word = kind.split("_")[0]
    lines = []
    rounds = [r for r in story.rounds if r["val_accuracy"] is not None]
    if rounds and not (story.tickets and word == "val" and not story.selects_data):
        lines.append(_accuracy_line("search (val)", rounds, "val_accuracy", 2, "thin"))
    controls = [c for c in story.controls if c[kind] is not None]
    for n, name in enumerate(sorted({c["control"].rpartition("_")[0] for c in controls})):
        mine = [c for c in controls if c["control"].rpartition("_")[0] == name]
        lines.append(_accuracy_line(name.replace("_", " "), mine, kind, 3 + n % 3, "dashed"))
    tickets = [t for t in story.tickets if t[kind] is not None]
    if tickets:
        lines.append(_accuracy_line("ticket", tickets, kind, 0, ""))
    if not lines:
        return None
    dense = story.dense[kind] if story.dense else None
    references = [] if dense is None else [(100 * dense, f"dense {percent(dense)}")]
    chart = line_chart(
        lines,
        REMAINING,
        Axis(f"{word} accuracy (%)" if tickets else "validation accuracy (%)"),
        about="Accuracy against remaining weights",
        references=references if tickets else [],
    )
    text = "Tickets are retrained on the full data from the rewind point. "
    text += "The rounds of the search train on smaller sets, and may stop early."
    rows = [
        {"": each.label, "remaining_%": f"{x:.2f}", "accuracy_%": f"{y:.2f}"}
        for each in lines
        for x, y in zip(each.x, each.y, strict=True)
    ]
    return panel("Accuracy against sparsity", text, chart, rows)


def steps(story: Story) -> Html:
    """Returns the training steps of each round beside the full budget."""
    rounds = story.rounds
    early = [r["round"] for r in rounds if r["stop"] == "early_stop"]
    series = [
        Series(label, here, [rounds[n]["steps"] for n in here], color)
        for color, label, here in (
            (0, "whole budget", [r["round"] for r in rounds if r["round"] not in early]),
            (1, "stopped early", early),
        )
        if here
    ]
    one = _full_budget(story)
    chart = bar_chart(
        [str(r["round"]) for r in rounds],
        [dataclasses.replace(s, color=0 if len(series) == 1 else s.color) for s in series],
        Axis("round"),
        Axis("training steps"),
        about="Training steps of each round",
        references=[(one, f"full data, {count(one)}")] if one else [],
    )
    text = "A smaller set has a smaller budget, and a mask that stands still ends a round. "
    text += f"{len(early)} of {len(rounds)} rounds stopped early."
    rows = [{name: r[name] for name in ("round", "epochs", "steps", "stop")} for r in rounds]
    return panel("Steps of each round", text, chart, rows)


def sets(story: Story) -> Html | None:
    """Returns the sizes of CET, CEP and PrAC set after each round."""
    if not story.selects_data:
        return None
    rounds = story.rounds
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
        Axis("after round", whole=True),
        Axis("samples", low=0),
        about="Sizes of the PrAC set and its parts",
        references=[(full, f"training set, {count(full)}")],
    )
    text = "CET: samples that training forgot or never learned. CEP: samples on which dense and "
    text += "pruned network disagree. Their union trains the next round."
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


def distances(story: Story) -> Html | None:
    """Returns the mask distance over the epochs of each round, with its stop marked."""
    rounds = [r for r in story.rounds if r["mask_distances"]]
    if not rounds:
        return None
    eps = story.config["prac"]["early_stop_eps"]
    lines = []
    for n, r in enumerate(rounds):
        values = r["mask_distances"]
        label = f"round {r['round']}" if n in (0, len(rounds) - 1) else ""
        stop = {len(values) - 1: ""} if r["stop"] == "early_stop" else {}
        opacity = 1.0 if n == 0 else 0.35 + 0.65 * n / max(len(rounds) - 1, 1)
        epochs = list(range(2, len(values) + 2))
        color = 0 if n else 1
        lines.append(Series(label, epochs, values, color, "thin", opacity, stop, dots=False))
    chart = line_chart(
        [*lines[1:], lines[0]],
        Axis("epoch", whole=True),
        Axis("mask distance", low=0),
        about="Mask distance over the epochs of each round",
        references=[(eps, f"stops below {eps:g}")] if eps else [],
    )
    window = story.config["prac"]["early_stop_window"]
    text = "How much the mask that pruning would give moves from epoch to epoch, as a fraction of "
    text += f"the remaining weights. A dot marks a stop, after {window} epochs below the line."
    if not eps:
        text = text.rpartition(" A dot")[0] + " This search had no early stop."
    rows = [
        {"round": r["round"], "epochs": r["epochs"], "last_distance": f"{d[-1]:.4f}"}
        | {"smallest": f"{min(d):.4f}", "stop": r["stop"]}
        for r in rounds
        for d in [r["mask_distances"]]
    ]
    return panel("How the mask settles", text, chart, rows)


def layers(story: Story) -> Html | None:
    """Returns the sparsity of each layer in the sparsest masks."""
    if not story.masks:
        return None
    masks = story.masks[max(story.masks)]
    bars = []
    for name, mask in masks.items():
        kept = int(np.count_nonzero(mask))
        sparsity = 1 - kept / mask.size if mask.size else 0.0
        fill = tag("i", style=f"width:{100 * sparsity:.2f}%")
        title = f"{count(kept)} of {count(mask.size)} kept"
        label = [tag("b", name), tag("span", percent(sparsity, 1))]
        bars.append(tag("li", label, tag("div", fill, class_="bar"), tag("small", title)))
    text = f"Of the masks after round {max(story.masks)}: {count(masks.remaining)} of "
    text += f"{count(masks.size)} prunable weights are kept."
    return panel("Sparsity of each layer", text, tag("ul", bars, class_="layers"))


def forgetting(story: Story) -> Html | None:
    """Returns how often samples were forgotten, in the first, middle and last round."""
    rounds = story.forgetting
    if not any(stats.seen.any() for stats in rounds.values()):
        return None
    numbers = [n for n in sorted(rounds) if rounds[n].seen.any()]
    shown = sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]})
    rows = forgetting_rows({n: rounds[n] for n in shown})
    lines = []
    for color, n in enumerate(shown):
        mine = [r for r in rows if r["round"] == n and r["events"] != NEVER and r["samples"]]
        if mine:
            shares = [100 * r["share"] for r in mine]
            lines.append(Series(f"round {n}", [r["events"] for r in mine], shares, color))
    never = {r["round"]: r["samples"] for r in rows if r["events"] == NEVER}
    text = "How many of a round's samples went so often from correct to incorrect. Never learned: "
    text += "; ".join(f"{count(never[n])} in round {n}" for n in shown) + "."
    if not lines:
        return None
    chart = line_chart(
        lines,
        Axis("forgetting events", whole=True),
        Axis("samples of the round (%)", log=True),
        about="Histogram of forgetting events",
    )
    table_rows = [
        {**r, "share": percent(r["share"], 2)} for r in rows if r["samples"] or r["events"] == NEVER
    ]
    return panel("Forgetting", text, chart, table_rows)


def classes(story: Story) -> Html | None:
    """Returns the part of each class that is in the first and the last set."""
    if story.train is None or not story.selects_data:
        return None
    labels = story.train.samples.labels
    ends = sorted({0, max(story.sets)})
    rows = class_rows({n: story.sets[n] for n in ends}, labels, story.train.ids)
    every = [r["class"] for r in rows if r["round"] == ends[0]]
    names = [pictures.class_name(story.train, each).removeprefix("class ") for each in every]
    series = [
        Series(f"after round {n}", range(len(names)), shares, color)
        for color, n in enumerate(ends)
        for shares in [[100 * r["share"] for r in rows if r["round"] == n]]
    ]
    chart = bar_chart(
        names,
        series,
        Axis("class"),
        Axis("in the set (%)"),
        about="Part of each class in the set",
    )
    text = "The part of each class's training samples that is in the set: hard classes stay."
    numbers = [
        {k: percent(v, 1) if "share" in k else v for k, v in r.items()} | {"class": name}
        for r, name in zip(rows, names * len(ends), strict=True)
    ]
    return panel("Classes in the set", text, chart, numbers)


def images(story: Story) -> Html:
    """Returns the hardest, the most forgotten and the pruning-sensitive images."""
    if story.train is None:
        return tag("p", f"No images and no classes: {story.without_data}", class_="note")
    if not pictures.has_images(story.train):
        return tag("p", "No images: the samples are not images.", class_="note")
    if not story.rounds:
        return tag("p", "No images yet: no round is finished.", class_="note")
    rounds = [story.forgetting[n] for n in sorted(story.forgetting)]
    ids, events = pictures.most_forgotten(rounds)
    last = story.sets[max(story.sets)]
    found = [
        _gallery(story, "Hardest", "never classified correctly", pictures.hardest(rounds), ()),
        _gallery(
            story,
            "Most easily forgotten",
            "events over all rounds",
            ids,
            [f"{each}×" for each in events],
        ),
        _gallery(
            story,
            "Forgotten by pruning",
            "in the CEP of the last round",
            pictures.forgotten_by_pruning(last),
            (),
        ),
    ]
    return tag("div", found, class_="galleries")


def _tile(figure: str, what: str, note: str) -> Html:
    return tag("div", tag("strong", figure), tag("span", what), tag("small", note), class_="tile")


def _weights(story: Story) -> str:
    if not story.masks:
        return ""
    masks = story.masks[max(story.masks)]
    return f"{count(masks.remaining)} of {count(masks.size)} kept"


def _accuracy_kind(story: Story) -> str:
    tested = any(t["test_accuracy"] is not None for t in story.tickets)
    return "test_accuracy" if tested else "val_accuracy"


def _accuracy_line(
    label: str, figures: Sequence[Mapping[str, Any]], kind: str, color: int, style: str
) -> Series:
    x = [100 * (1 - f["sparsity"]) for f in figures]
    return Series(label, x, [100 * f[kind] for f in figures], color, style)


def _full_budget(story: Story) -> int | None:
    """Steps of a later round on the full data."""
    if story.cost is None or len(story.rounds) < 2 or story.rounds[0]["stop"] != "budget":
        return None
    rest = story.cost["full_imp_steps"] - story.rounds[0]["steps"]
    return rest // (len(story.rounds) - 1)


def _gallery(
    story: Story, title: str, what: str, ids: np.ndarray, notes: Sequence[str]
) -> Html | None:
    if not len(ids):
        return None
    assert story.train is not None
    head = tag("h3", title, tag("small", what))
    return tag("section", head, pictures.gallery(story.train, ids, notes), class_="panel")


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
