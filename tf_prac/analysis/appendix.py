"""The figures and tables of the PrAC paper's appendix, for any run and data set.

Functions `..._rows` return the numbers; functions `draw_...` write them as a CSV with a figure. All
work on plain arrays. Source: "Efficient Lottery Ticket Finding: Less Data is More",
Figures 2, 9, A13, A15 and A16, and Table A3.
"""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.sample_set import SampleSet
from tf_prac.plotting import COLORS, Line, draw_lines, line_figure, log_axis, save_figure
from tf_prac.pruning.masks import Masks

Row = dict[str, Any]
Path = str | os.PathLike
NEVER = "never learned"


def set_size_rows(rounds: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Returns the columns of Table A3: the PrAC set after each round.

    As in the paper, the sparsity of a row is that of the network which the round trained: the set
    selected after the dense round is in the row of sparsity 0, which Table A3 omits.

    Args:
        rounds: the metrics of the rounds of a run.
    """
    full = rounds[0]["train_samples"]
    return [
        {
            "round": metrics["round"],
            "sparsity": metrics["sparsity"],
            **{name: metrics[name] for name in ("cep", "cet", "prac_size", "overlap")},
            "share": metrics["prac_size"] / full,
        }
        for metrics in rounds
    ]


def draw_set_sizes(stem: Path, rounds: Sequence[Mapping[str, Any]]) -> list[pathlib.Path]:
    """Draws the sizes of CET, CEP and PrAC set against sparsity (Table A3)."""
    rows = set_size_rows(rounds)
    x = [100 * row["sparsity"] for row in rows]
    names = {"PrAC set": "prac_size", "CET": "cet", "CEP": "cep"}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        draw_lines(axes, [Line(label, x, [row[n] for row in rows]) for label, n in names.items()])
        axes.set(xlabel="sparsity (%)", ylabel="samples", ylim=(0, None))

    return save_figure(stem, rows, draw)


def forgetting_rows(rounds: Mapping[int, ForgettingStats]) -> list[Row]:
    """Returns the histogram of forgetting events over the presented samples, for each round.

    Samples that were never learned cannot be forgotten; they are counted in a separate row.

    Args:
        rounds: the forgetting statistics of each round.
    """
    rows: list[Row] = []
    for number, stats in rounds.items():
        seen = np.count_nonzero(stats.seen)
        counts = np.bincount(stats.events[stats.seen & ~stats.never_learned])
        histogram: dict[int | str, int] = dict(enumerate(counts.tolist()))
        histogram[NEVER] = int(np.count_nonzero(stats.never_learned))
        rows += [
            {"round": number, "events": events, "samples": count, "share": count / seen}
            for events, count in histogram.items()
        ]
    return rows


def draw_forgetting(stem: Path, rounds: Mapping[int, ForgettingStats]) -> list[pathlib.Path]:
    """Draws histograms of forgetting events for the first, middle and last round (Figure A16)."""
    rows, numbers = forgetting_rows(rounds), sorted(rounds)
    shown = sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]})
    lines = []
    for number in shown:
        bins = [r for r in rows if r["round"] == number and r["events"] != NEVER and r["samples"]]
        label = f"round {number} ({np.count_nonzero(rounds[number].seen):,} samples)"
        lines.append(Line(label, [r["events"] for r in bins], [100 * r["share"] for r in bins]))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        draw_lines(axes, lines)
        axes.set(xlabel="forgetting events", ylabel="samples of the round (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        log_axis(axes.yaxis)

    return save_figure(stem, rows, draw)


def class_rows(sets: Mapping[int, SampleSet], labels: np.ndarray, train: np.ndarray) -> list[Row]:
    """Returns the fraction of each class that is in the PrAC set after each round.

    Args:
        sets: the PrAC set after each round.
        labels: the class of every sample of the data set, int [num_samples].
        train: ids of the training samples; the sets are subsets of these.
    """
    classes, sizes = np.unique(labels[train], return_counts=True)
    return [
        {
            "round": number,
            "class": int(label),
            "samples": count,
            "share": count / int(size),
            "share_of_set": count / len(sample_set),
        }
        for number, sample_set in sets.items()
        for label, size in zip(classes, sizes, strict=True)
        for count in [int(np.count_nonzero(labels[sample_set.ids] == label))]
    ]


def draw_classes(
    stem: Path, sets: Mapping[int, SampleSet], labels: np.ndarray, train: np.ndarray
) -> list[pathlib.Path]:
    """Draws the class balance of the first and the last PrAC set (Figure A15)."""
    rows, shown = class_rows(sets, labels, train), sorted({min(sets), max(sets)})

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        width = 0.8 / len(shown)
        for index, number in enumerate(shown):
            bars = [row for row in rows if row["round"] == number]
            x = np.arange(len(bars)) + width * (index - (len(shown) - 1) / 2)
            label = f"after round {number}: {len(sets[number]):,} of {len(train):,}"
            color = COLORS[index]
            axes.bar(x, [100 * row["share"] for row in bars], width, label=label, color=color)
            average = 100 * len(sets[number]) / len(train)
            axes.axhline(average, color=color, linestyle=":", linewidth=1)
        if len(bars) <= 20:
            axes.set_xticks(np.arange(len(bars)), [row["class"] for row in bars])
        axes.set(xlabel="class", ylabel="samples of the class in the set (%)")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=len(shown), frameon=False)

    return save_figure(stem, rows, draw)


def mask_distances(tentative: np.ndarray) -> np.ndarray:
    """Returns the distances between the tentative masks of all epochs, float [epochs, epochs].

    As for the early stop, this is the Hamming distance divided by the number of remaining weights.

    Args:
        tentative: bool [epochs, remaining weights].
    """
    kept = tentative.astype(np.float32)
    ones = kept.sum(1)
    return (ones[:, None] + ones[None] - 2 * kept @ kept.T) / tentative.shape[1]


def draw_mask_distances(stem: Path, tentative: np.ndarray, title: str) -> list[pathlib.Path]:
    """Draws the matrix of mask distances between the epochs of one round (Figure 2)."""
    distances = mask_distances(tentative)
    count = len(distances)
    rows = [
        {"epoch": a + 1, "other_epoch": b + 1, "mask_distance": float(distances[a, b])}
        for a, b in itertools.product(range(count), repeat=2)
    ]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        edges = (0.5, count + 0.5, count + 0.5, 0.5)
        image = axes.imshow(distances, cmap="viridis", extent=edges, vmin=0)
        axes.set(xlabel="epoch", ylabel="epoch", title=title)
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)
        figure.colorbar(image, label="mask distance")

    return save_figure(stem, rows, draw, size=(5.0, 4.0))


def iou_rows(runs: Mapping[str, Sequence[Masks]]) -> list[Row]:
    """Returns the intersection over union (IoU) of the masks of each pair of runs, by ticket.

    Args:
        runs: the masks of tickets 1, 2, ... by name of the run. Two runs are compared up to the
            last ticket that both have.

    Raises:
        MismatchError: two runs have different networks.
    """
    return [
        {"run": a, "other_run": b, "round": n, "sparsity": first.sparsity, "iou": first.iou(second)}
        for a, b in itertools.combinations(runs, 2)
        for n, (first, second) in enumerate(zip(runs[a], runs[b], strict=False), 1)
    ]


def draw_iou(stem: Path, runs: Mapping[str, Sequence[Masks]]) -> list[pathlib.Path]:
    """Draws the overlap of the masks of each pair of runs (Figure A13).

    The dotted line is the expected overlap of two random masks: with density d, a fraction d * d
    of the weights is kept by both and 2 d - d * d by at least one.
    """
    rows = iou_rows(runs)
    lines = []
    for a, b in itertools.combinations(runs, 2):
        pair = [row for row in rows if (row["run"], row["other_run"]) == (a, b)]
        x = [100 * (1 - row["sparsity"]) for row in pair]
        lines.append(Line(f"{a} and {b}", x, [row["iou"] for row in pair]))

    def prepare(axes: Any) -> None:
        density = np.geomspace(min(min(line.x) for line in lines), 100, 50) / 100
        axes.plot(100 * density, density / (2 - density), "k:", linewidth=1, label="random masks")
        log_axis(axes.xaxis)
        axes.set_ylim(0, 1)
        axes.invert_xaxis()
        axes.legend(frameon=False)

    return line_figure(
        stem, lines, x_label="remaining weights (%)", y_label="mask IoU", prepare=prepare
    )
