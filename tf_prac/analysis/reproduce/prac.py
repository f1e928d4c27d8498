"""The figures and tables of "Efficient Lottery Ticket Finding: Less Data is More" (PrAC).

At the scale of the paper, searches have the options of the authors' code (the variant "official"),
from which the published numbers come: an early stop below 0.08, and budgets in epochs. Published
numbers are from Section 4 and Appendix A.
"""

from __future__ import annotations

import functools
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from tf_prac.analysis.reproduce.item import Item, Outcome, Results
from tf_prac.analysis.reproduce.parts import Arms, Part, Runs
from tf_prac.analysis.reproduce.setup import Scale, Setup
from tf_prac.analysis.reproduce.verdict import (
    Check,
    as_good,
    holds,
    near,
    sparsest_within,
    worse,
)
from tf_prac.config import SearchConfig
from tf_prac.plotting import Line, line_figure

Row = dict[str, Any]

PAPER = "prac"
RESNET20 = "cifar10_resnet20"
_RECIPE: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 64,
    "milestones": (0.5, 0.75),
    "momentum_form": "pytorch",
    "weight_decay": 1e-4,
    "prune_last_dense": True,
    "rewind": "1ep",
}


def _small(name: str, dataset: str, model: str, limit: int | None = None, **options: Any) -> Setup:
    config = SearchConfig().replace(**{**_RECIPE, **options})
    return Setup(name=name, dataset=dataset, model=model, limit_train=limit, config=config)


_MNIST = _small("mnist_lenet300", "mnist", "lenet300", 6_000)
SCALES = {
    "paper": Scale(
        name="paper",
        about="networks, data and schedule of the paper, three seeds, options of the authors' code",
        prac="official",
    ),
    "small": Scale(
        name="small",
        about="LeNet-300-100 on 6,000 images of MNIST for 10 epochs in place of ResNet-20 on "
        "CIFAR-10, three seeds, options of the paper (the variant paper)",
        setups={
            RESNET20: _MNIST,
            f"{RESNET20}_low": _MNIST.replace("low", learning_rate=0.01, rewind="0it"),
            f"{RESNET20}_warmup": _MNIST.replace(
                "warmup", learning_rate=0.03, warmup=15 / 182, rewind="0it"
            ),
            "cifar100_resnet20": _small("digits_lenet300", "digits", "lenet300", epochs=20),
            "cifar100_resnet56": _small("digits_resnet8", "digits", "resnet8", epochs=20),
        },
    ),
}


def _item(name: str, title: str, source: str, plan: Any, show: Any, note: str = "") -> Item:
    return Item(
        paper=PAPER,
        name=name,
        title=title,
        source=f"PrAC paper, {source}",
        scales=SCALES,
        plan=plan,
        show=show,
        note=note,
    )


def _rounds(scale: Scale, paper: int, small: int) -> int:
    return paper if scale.is_paper else small


def _runs(results: Results) -> list[Runs]:
    return [result for result in results.values() if isinstance(result, Runs)]


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


# Accuracy of arms: Figures 1 and 3.


def _accuracy_rows(runs: Runs, arms: Sequence[str]) -> list[Row]:
    """Returns one row for each ticket, with the mean accuracy and spread of each arm in percent."""
    table = {(row["arm"], row["round"]): row for row in runs.table()}
    numbers = sorted({number for _, number in table})
    rows: list[Row] = []
    for number in numbers:
        found = [table[arm, number] for arm in arms if (arm, number) in table]
        row: Row = {"setup": runs.setup.name, "sparsity (%)": _percent(found[0]["sparsity"])}
        for each in found:
            row[f"{each['arm']} (%)"] = _percent(each["test_accuracy"])
            row[f"{each['arm']} std"] = _percent(each["test_accuracy_std"])
        rows.append(row)
    return rows


def _draw_accuracy(runs: Runs, arms: Sequence[str], x: str, stem: pathlib.Path) -> Any:
    """Draws accuracy against remaining weights, or against the steps of the search."""
    lines = []
    for arm in arms:
        rows = [row for row in runs.table() if row["arm"] == arm and row["round"]]
        against_steps = x == "search_steps"
        values = [row[x] if against_steps else 100 * (1 - row["sparsity"]) for row in rows]
        lines.append(
            Line(
                arm,
                values,
                [100 * row["test_accuracy"] for row in rows],
                [100 * row["test_accuracy_min"] for row in rows],
                [100 * row["test_accuracy_max"] for row in rows],
            )
        )

    def prepare(axes: Any) -> None:
        axes.set_xscale("symlog" if x == "search_steps" else "log")
        if x != "search_steps":
            axes.invert_xaxis()
            axes.xaxis.set_major_formatter("{x:g}")

    label = "steps of the search" if x == "search_steps" else "remaining weights (%)"
    return line_figure(
        stem,
        lines,
        x_label=label,
        y_label="test accuracy (%)",
        title=runs.setup.name,
        prepare=prepare,
    )


FIGURE_3_ARMS = ("imp", "prac", "random_pruning", "reinit")


def _figure_1_plan(scale: Scale) -> list[Part]:
    setup = scale.setup(RESNET20, rounds=_rounds(scale, 29, 15))
    return [Arms(setup=setup, arms=FIGURE_3_ARMS, seeds=scale.seeds)]


def _show_figure_1(scale: Scale, results: Results) -> Outcome:
    (runs,) = _runs(results)
    return Outcome(
        rows=_accuracy_rows(runs, FIGURE_3_ARMS),
        checks=_figure_3_checks(runs),
        draw=functools.partial(_draw_accuracy, runs, FIGURE_3_ARMS, "search_steps"),
    )


def _figure_3_checks(runs: Runs) -> list[Check]:
    """Returns the paper's statements: as good as IMP, better than random, and how sparse."""
    number = 7  # 79.03% sparse
    prac, imp = runs.accuracies("prac", number), runs.accuracies("imp", number)
    last = runs.setup.config.pruning.rounds
    random = runs.accuracies("random_pruning", last)
    checks = [
        as_good("at 79.03% sparsity, tickets of PrAC are as good as those of IMP", prac, imp, 1.0),
        worse(
            "random pruning is worse than PrAC at the last sparsity",
            random,
            runs.accuracies("prac", last),
        ),
    ]
    table = runs.table()
    published = {"prac": 79.03, "random_pruning": 48.80, "reinit": 48.80}
    for arm, sparsity in published.items() if runs.setup.name == RESNET20 else ():
        found = sparsest_within(table, arm)
        statement = f"sparsest ticket of {arm} within 1 point of the dense network (sparsity in %)"
        checks.append(near(statement, 100 * (found or 0.0), sparsity, absolute=5))
    return checks


FIGURE_1 = _item(
    "figure_1",
    "Accuracy of tickets against the steps of their search",
    "Figure 1, Section 4.2 for the sparsest tickets within 1 point",
    _figure_1_plan,
    _show_figure_1,
)


# Sizes of sets: Table A3.

PUBLISHED_SETS = (
    (20.0, 1501, 24159, 24168, 99.4),
    (36.0, 1481, 21708, 21728, 98.65),
    (48.8, 3935, 19542, 19838, 92.48),
    (59.04, 3782, 17674, 18161, 87.12),
    (67.23, 4723, 16091, 16712, 86.85),
    (73.79, 5514, 14771, 16026, 77.24),
    (79.03, 4420, 14357, 15202, 80.88),
    (83.22, 4602, 13909, 14880, 78.9),
    (86.58, 5391, 13741, 14980, 77.02),
    (89.26, 5360, 14168, 15376, 77.46),
    (91.41, 5098, 14365, 15247, 82.7),
    (93.13, 5840, 14553, 15804, 78.58),
    (94.5, 5728, 14959, 16062, 80.74),
    (95.6, 6370, 15290, 16360, 83.2),
    (96.48, 6616, 15369, 16499, 82.92),
)
"""Sparsity in percent, sizes of CEP, CET and PrAC set, overlap in percent (Table A3)."""


def _sets_plan(scale: Scale) -> list[Part]:
    """A search whose last round trains at 96.48% sparsity: 15 prunings, then one more round."""
    setup = scale.setup(RESNET20, rounds=16)
    return [Arms(setup=setup, arms=("prac",), seeds=scale.seeds, retrain="none")]


def _show_table_a3(scale: Scale, results: Results) -> Outcome:
    (runs,) = _runs(results)
    by_seed = [summary["rounds"] for summary in runs.summaries["prac"].values()]
    full = by_seed[0][0]["train_samples"]
    rows: list[Row] = []
    for number, (_, cep, cet, size, overlap) in enumerate(PUBLISHED_SETS, 1):
        metrics = [rounds[number] for rounds in by_seed]
        means = {
            name: statistics.fmean(each[name] for each in metrics)
            for name in ("cep", "cet", "prac_size", "overlap")
        }
        rows.append(
            {
                "sparsity (%)": _percent(metrics[0]["sparsity"]),
                "CEP": round(means["cep"]),
                "CEP, paper": cep,
                "CET": round(means["cet"]),
                "CET, paper": cet,
                "PrAC set": round(means["prac_size"]),
                "PrAC set, paper": size,
                "share (%)": 100 * means["prac_size"] / full,
                "share, paper (%)": 100 * size / 45_000,
                "overlap (%)": _percent(means["overlap"]),
                "overlap, paper (%)": overlap,
            }
        )
    first, last = rows[0], rows[-1]
    checks = [
        near(
            f"PrAC set at {row['sparsity (%)']:.2f}%",
            row["PrAC set"],
            row["PrAC set, paper"],
            relative=0.1,
        )
        for row in rows
    ]
    checks += [
        holds(
            "PrAC sets become smaller than half of the data",
            last["share (%)"] < 50,
            test="mean share of the last set below 50%",
            measured=f"{last['share (%)']:.2f}%",
        ),
        holds(
            "CEP becomes less of a subset of CET as sparsity grows",
            last["overlap (%)"] < first["overlap (%)"],
            test="mean overlap of the last set below that of the first",
            measured=f"{first['overlap (%)']:.1f}% to {last['overlap (%)']:.1f}%",
        ),
    ]
    return Outcome(rows=rows, checks=checks, draw=functools.partial(_draw_sets, rows))


def _draw_sets(rows: Sequence[Row], stem: pathlib.Path) -> list[pathlib.Path]:
    x = [row["sparsity (%)"] for row in rows]
    shares = {"here": "share (%)", "paper": "share, paper (%)"}
    lines = [Line(label, x, [row[name] for row in rows]) for label, name in shares.items()]
    return line_figure(
        stem, lines, x_label="sparsity (%)", y_label="PrAC set (% of the training set)"
    )


TABLE_A3 = _item(
    "table_a3",
    "Sizes of CEP, CET and PrAC set at each sparsity",
    "Table A3 (ResNet-20 on CIFAR-10)",
    _sets_plan,
    _show_table_a3,
    "A row has the sparsity that its round trained at.",
)
