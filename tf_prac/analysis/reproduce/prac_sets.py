"""Sets, masks, forgetting and cost in the PrAC paper, and its Table 1.

Searches that are about sets have 16 rounds: 15 prunings to 96.48% sparsity, and one more round that
trains there, as a row of Table A3 has the sparsity that its round trained at.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tf_prac.analysis import appendix
from tf_prac.analysis.arms import ARMS
from tf_prac.analysis.reproduce.item import Outcome, Results
from tf_prac.analysis.reproduce.parts import Arms, Part, Row, Runs
from tf_prac.analysis.reproduce.prac import (
    AT_79,
    PAIRS,
    RESNET20,
    RESNET20_C100,
    RESNET56,
    RESNET56_C100,
    VGG16,
    VGG16_C100,
    item,
    pairs,
    sized,
)
from tf_prac.analysis.reproduce.setup import Scale, Setup
from tf_prac.analysis.reproduce.verdict import Check, as_good, holds, near
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.sample_set import SampleSet
from tf_prac.plotting import Line, line_figure, log_axis
from tf_prac.pruning.masks import Masks
from tf_prac.storage.layout import FORGETTING, MASKS, PRAC_SET

ALL_ROUNDS = 16


def _sets_part(scale: Scale, preset: str = RESNET20) -> Arms:
    setup = sized(scale, preset, ALL_ROUNDS)
    return Arms(setup=setup, arms=("prac",), seeds=scale.seeds, retrain="none")


def _sets_plan(scale: Scale) -> list[Part]:
    return [_sets_part(scale)]


def _only(results: Results) -> Runs:
    """Returns the runs of the only part."""
    (runs,) = results.values()
    return runs


def _mean(rounds: Iterable[Mapping[str, Any]], name: str) -> float:
    return statistics.fmean(metrics[name] for metrics in rounds)


# Table A3: sizes at each sparsity.

PUBLISHED_SETS = (
    (1501, 24159, 24168, 99.4),
    (1481, 21708, 21728, 98.65),
    (3935, 19542, 19838, 92.48),
    (3782, 17674, 18161, 87.12),
    (4723, 16091, 16712, 86.85),
    (5514, 14771, 16026, 77.24),
    (4420, 14357, 15202, 80.88),
    (4602, 13909, 14880, 78.9),
    (5391, 13741, 14980, 77.02),
    (5360, 14168, 15376, 77.46),
    (5098, 14365, 15247, 82.7),
    (5840, 14553, 15804, 78.58),
    (5728, 14959, 16062, 80.74),
    (6370, 15290, 16360, 83.2),
    (6616, 15369, 16499, 82.92),
)
"""Sizes of CEP, CET and PrAC set, and overlap in percent, of rounds 1 to 15 (Table A3)."""


def _show_table_a3(scale: Scale, results: Results) -> Outcome:
    rows = _size_rows(_only(results))
    checks = [
        near(
            f"PrAC set at {row['sparsity (%)']:.2f}% sparsity",
            row["PrAC set"],
            row["PrAC set, paper"],
            relative=0.1,
        )
        for row in rows
    ]
    draw = functools.partial(_draw_sets, rows)
    return Outcome(rows=rows, checks=[*checks, *_size_checks(rows)], draw=draw)


def _size_rows(runs: Runs) -> list[Row]:
    """Returns the mean sizes of the sets of each round, next to the published ones."""
    by_seed = [summary["rounds"] for summary in runs.summaries["prac"].values()]
    full, rows = by_seed[0][0]["train_samples"], []
    for number, (cep, cet, size, overlap) in enumerate(PUBLISHED_SETS, 1):
        metrics = [rounds[number] for rounds in by_seed]
        mean_size = _mean(metrics, "prac_size")
        rows.append(
            {
                "sparsity (%)": 100 * metrics[0]["sparsity"],
                "CEP": round(_mean(metrics, "cep")),
                "CEP, paper": cep,
                "CET": round(_mean(metrics, "cet")),
                "CET, paper": cet,
                "PrAC set": round(mean_size),
                "PrAC set, paper": size,
                "share (%)": 100 * mean_size / full,
                "share, paper (%)": 100 * size / 45_000,
                "overlap (%)": 100 * _mean(metrics, "overlap"),
                "overlap, paper (%)": overlap,
            }
        )
    return rows


def _size_checks(rows: Sequence[Row]) -> list[Check]:
    """Returns the checks of how sizes change with sparsity."""
    first, middle, last = rows[0], rows[7], rows[-1]
    return [
        holds(
            "PrAC sets become smaller than half of the data",
            last["share (%)"] < 50,
            test="mean share of the last set below 50%",
            measured=f"{last['share (%)']:.2f}%",
        ),
        holds(
            "PrAC sets shrink up to 83.22% sparsity",
            middle["share (%)"] < first["share (%)"],
            test="mean share at 83.22% below that at 20%",
            measured=f"{first['share (%)']:.2f}% to {middle['share (%)']:.2f}%",
        ),
        holds(
            "at higher sparsity less of CEP is in CET",
            last["overlap (%)"] < first["overlap (%)"],
            test="mean overlap of the last set below that of the first",
            measured=f"{first['overlap (%)']:.1f}% to {last['overlap (%)']:.1f}%",
        ),
    ]


def _draw_sets(rows: Sequence[Row], stem: pathlib.Path) -> list[pathlib.Path]:
    lines = _here_and_paper(rows, "sparsity (%)", "share")
    y_label = "PrAC set (% of the training set)"
    return line_figure(stem, lines, x_label="sparsity (%)", y_label=y_label)


def _here_and_paper(rows: Sequence[Row], x: str, y: str) -> list[Line]:
    """Returns the lines of a column in percent and of its published values."""
    columns = {"here": f"{y} (%)", "paper": f"{y}, paper (%)"}
    values = [row[x] for row in rows]
    return [Line(name, values, [row[column] for row in rows]) for name, column in columns.items()]


TABLE_A3 = item(
    "table_a3",
    "Sizes of CEP, CET and PrAC set at each sparsity",
    "Table A3 (ResNet-20 on CIFAR-10)",
    _sets_plan,
    _show_table_a3,
    "A row has the sparsity that its round trained at.",
)


# Table A2: sizes for each data set and network.

PUBLISHED_SHARES = {
    RESNET20: 36.66,
    RESNET56: 37.07,
    VGG16: 35.32,
    RESNET20_C100: 78.19,
    RESNET56_C100: 74.94,
    VGG16_C100: 69.55,
    "tiny_imagenet_resnet18": 75.10,
    "tiny_imagenet_vgg16": 68.23,
}
"""Size of the last PrAC set in percent of the training set (Table A2)."""


def _table_a2_plan(scale: Scale) -> list[Part]:
    return [_sets_part(scale, preset) for preset in pairs(scale)]


def _show_table_a2(scale: Scale, results: Results) -> Outcome:
    rows: list[Row] = []
    for preset, runs in zip(pairs(scale), results.values(), strict=True):
        ends = [each["rounds"] for each in runs.summaries["prac"].values()]
        shares = [100 * r[-1]["prac_size"] / r[0]["train_samples"] for r in ends]
        share, published = statistics.fmean(shares), PUBLISHED_SHARES[preset]
        row = {"preset": preset, "setup": runs.setup.name, "share (%)": share}
        rows.append({**row, "share, paper (%)": published})
    checks = [
        near(
            f"{row['setup']}: share of the last PrAC set (%)",
            row["share (%)"],
            row["share, paper (%)"],
            absolute=3.0,
        )
        for row in rows
    ]
    return Outcome(rows=rows, checks=checks)


TABLE_A2 = item(
    "table_a2",
    "Size of the last PrAC set of each data set and network",
    "Table A2 (its size at 96.48% sparsity)",
    _table_a2_plan,
    _show_table_a2,
)


# Table A4: the threshold E_F.

PUBLISHED_THRESHOLDS = {
    0: (91.05, 19748),
    2: (90.43, 14992),
    4: (90.35, 12536),
    6: (89.32, 11141),
    8: (89.08, 11152),
    10: (88.79, 10338),
}
"""Test accuracy in percent and size of the PrAC set, by E_F (Table A4)."""

AT_83 = 8
"""The ticket with 16.78% remaining weights."""


def _table_a4_plan(scale: Scale) -> list[Part]:
    return [
        Arms(
            setup=sized(scale, RESNET20, AT_83, f"ef_{threshold}", forget_threshold=threshold),
            arms=("prac",),
            seeds=scale.seeds,
            retrain="last",
        )
        for threshold in PUBLISHED_THRESHOLDS
    ]


def _show_table_a4(scale: Scale, results: Results) -> Outcome:
    rows: list[Row] = []
    for (threshold, published), runs in zip(
        PUBLISHED_THRESHOLDS.items(), results.values(), strict=True
    ):
        last = [each["rounds"][-1] for each in runs.summaries["prac"].values()]
        accuracy = 100 * statistics.fmean(runs.accuracies("prac", AT_83).values())
        rows.append(
            {
                "E_F": threshold,
                "accuracy (%)": accuracy,
                "accuracy, paper (%)": published[0],
                "PrAC set": round(_mean(last, "prac_size")),
                "PrAC set, paper": published[1],
            }
        )
    draw = functools.partial(_draw_thresholds, rows)
    return Outcome(rows=rows, checks=_threshold_checks(rows, list(results.values())), draw=draw)


def _threshold_checks(rows: Sequence[Row], runs: Sequence[Runs]) -> list[Check]:
    sizes = [row["PrAC set"] for row in rows]
    return [
        *(
            near(
                f"accuracy with E_F = {row['E_F']} (%)",
                row["accuracy (%)"],
                row["accuracy, paper (%)"],
                absolute=1.0,
            )
            for row in rows
        ),
        holds(
            "a higher threshold gives a smaller set",
            sizes[0] > sizes[-1],
            test="mean size with E_F = 10 below that with E_F = 0",
            measured=f"{sizes[0]:,} to {sizes[-1]:,}",
        ),
        as_good(
            "E_F = 0 is as good as E_F = 10 or better",
            runs[0].accuracies("prac", AT_83),
            runs[-1].accuracies("prac", AT_83),
            0.5,
        ),
    ]


def _draw_thresholds(rows: Sequence[Row], stem: pathlib.Path) -> list[pathlib.Path]:
    lines = _here_and_paper(rows, "E_F", "accuracy")
    return line_figure(stem, lines, x_label="threshold E_F", y_label="test accuracy (%)")


TABLE_A4 = item(
    "table_a4",
    "Accuracy and size of the set for thresholds of forgetting E_F",
    "Table A4 (ResNet-20 on CIFAR-10, 16.78% remaining weights)",
    _table_a4_plan,
    _show_table_a4,
    "The paper's 19,748 samples for E_F = 0 do not agree with its Table A3, and are not judged.",
)


# Section 4.1: saved iterations.

PUBLISHED_SAVINGS = {
    RESNET20: 83.93,
    RESNET56: 82.85,
    VGG16: 92.77,
    RESNET20_C100: 69.53,
    RESNET56_C100: 63.54,
    VGG16_C100: 74.92,
    "tiny_imagenet_resnet18": 76.14,
    "tiny_imagenet_vgg16": 86.56,
}
"""Steps of the search saved, in percent (Section 4.1)."""

WITHOUT_STOP = 40.63
"""Steps saved without early stop in percent, ResNet-20 on CIFAR-10."""


def _saved_rounds(preset: str) -> int:
    """Returns the rounds that the paper's saving counts: 6 by the published log of CIFAR-100."""
    return 6 if preset == RESNET20_C100 else AT_79


def _section_4_1_plan(scale: Scale) -> list[Part]:
    return [
        Arms(
            setup=sized(scale, preset, _saved_rounds(preset)),
            arms=("prac", "prac-early_stop"),
            seeds=scale.seeds,
            retrain="none",
        )
        for preset in pairs(scale)
    ]


def full_steps(setup: Setup) -> tuple[int, int]:
    """Returns the steps of IMP on the full data: T - k in later rounds, and T in all of them.

    Example:

        >>> full_steps(Setup.of_preset("cifar10_resnet20", prac="official", rounds=7))
        (442112, 448448)
    """
    from tf_prac.search.plan import RoundPlan

    plan = RoundPlan(setup.config.replace(lr_rewind=True), setup.train_size)
    return plan.imp_steps, plan.paper_imp_steps


def _show_section_4_1(scale: Scale, results: Results) -> Outcome:
    rows: list[Row] = []
    checks: list[Check] = []
    for preset, runs in zip(pairs(scale), results.values(), strict=True):
        rewound, full = full_steps(runs.setup)
        published = {"prac": PUBLISHED_SAVINGS[preset]}
        published |= {"prac-early_stop": WITHOUT_STOP} if preset == RESNET20 else {}
        steps_by_arm = {
            arm: statistics.fmean(each["cost"]["search_steps"] for each in by_seed.values())
            for arm, by_seed in runs.summaries.items()
        }
        for arm, steps in steps_by_arm.items():
            saved = 100 * (1 - steps / full)
            rows.append(
                {
                    "setup": runs.setup.name,
                    "arm": arm,
                    "rounds": runs.setup.config.pruning.rounds,
                    "steps": round(steps),
                    "IMP, T - k steps": rewound,
                    "saved of these (%)": 100 * (1 - steps / rewound),
                    "IMP, T steps": full,
                    "saved of those (%)": saved,
                    "saved, paper (%)": published.get(arm),
                }
            )
            if arm in published:
                statement = f"{runs.setup.name}: steps saved by {arm}, of T in every round (%)"
                checks.append(near(statement, saved, published[arm], absolute=2.0))
        prac, alone = (round(steps_by_arm[arm]) for arm in ("prac", "prac-early_stop"))
        checks.append(
            holds(
                f"{runs.setup.name}: the sets and the early stop both save steps",
                prac < alone < full,
                test="mean steps: with both below sets alone, and these below full IMP",
                measured=f"{prac:,}, {alone:,} and {full:,}",
            )
        )
    return Outcome(rows=rows, checks=checks)


SECTION_4_1 = item(
    "section_4_1",
    "Steps of the search that PrAC saves",
    "Section 4.1 (72k and 266k of 448k steps, ResNet-20 on CIFAR-10)",
    _section_4_1_plan,
    _show_section_4_1,
    "The paper counts T = 64,064 steps in each of 7 rounds, 448,448. With learning-rate rewinding "
    "a later round takes T - k steps, 442,112 together. The paper does not say after how many "
    "rounds the savings of the other pairs are counted: here 6 for ResNet-20 on CIFAR-100, as in a "
    "published log of the authors' code, and 7 for the others.",
)


# Figure 2: masks of all epochs.

LOG_DISTANCES = (0.10, 0.012)
"""Mask distance of successive epochs before and after the drop, in logs of the authors' code."""


def _figure_2_plan(scale: Scale) -> list[Part]:
    setup = sized(scale, RESNET20, 1, "epoch_masks", keep_epoch_masks=True)
    return [Arms(setup=setup, arms=("imp",), seeds=scale.seeds[:1], retrain="none")]


def _show_figure_2(scale: Scale, results: Results) -> Outcome:
    runs = _only(results)
    (seed,) = runs.summaries["imp"]
    tentative = runs.run("imp", seed).load_tentative(0)
    distances = appendix.mask_distances(tentative)
    drop = round(runs.setup.config.recipe.milestone_fractions[0] * len(tentative))
    successive = [float(distances[e, e - 1]) for e in range(1, len(tentative))]
    rows = [
        {"epoch": epoch, "distance from the epoch before": distance, "learning rate": rate}
        for epoch, distance in enumerate(successive, 2)
        for rate in ["first" if epoch <= drop else "reduced"]
    ]
    # The last five epochs before the drop, and five after it, without the epoch that has both.
    before, after = (
        statistics.fmean(s) for s in (successive[: drop - 1][-5:], successive[drop:][:5])
    )
    checks = [
        holds(
            "masks stop changing when the learning rate drops",
            after < before / 2,
            test="mean distance of successive masks in five epochs after the first drop below half "
            "of that in five epochs before it",
            measured=f"{before:.3f} to {after:.3f}",
        ),
        near("distance before the drop", before, LOG_DISTANCES[0], relative=0.25),
        near("distance after the drop", after, LOG_DISTANCES[1], relative=0.5),
    ]
    draw = functools.partial(
        appendix.draw_mask_distances, tentative=tentative, title="round 0, dense network"
    )
    return Outcome(rows=rows, checks=checks, draw=draw)


FIGURE_2 = item(
    "figure_2",
    "Distances between the masks of all epochs",
    "Figure 2; the two distances are from logs of the authors' code (ResNet-20 on CIFAR-10)",
    _figure_2_plan,
    _show_figure_2,
)


# Figures 9 and A15: what is in a set.


def _first_and_last(runs: Runs) -> tuple[dict[int, SampleSet], Any]:
    """Returns the first and the last set of the first seed, by round, and the training samples."""
    from tf_prac.data.splits import make_splits

    seed = min(runs.summaries["prac"])
    run = runs.run("prac", seed)
    numbers = (0, runs.setup.config.pruning.rounds - 1)
    sets = {number: SampleSet.load(run.round_path(number) / PRAC_SET) for number in numbers}
    return sets, make_splits(runs.data.train, None, None, runs.setup.config.recipe, seed).train


def _show_figure_9(scale: Scale, results: Results) -> Outcome:
    from tf_prac.analysis.images import draw_images, image_rows

    sets, train = _first_and_last(_only(results))
    last = max(sets)
    title = f"PrAC set of round {last}: {len(sets[last]):,} of {len(train.ids):,} samples"
    draw = functools.partial(draw_images, sample_set=sets[last], train=train, title=title)
    return Outcome(rows=image_rows(sets[last], train), checks=[], draw=draw)


FIGURE_9 = item(
    "figure_9",
    "Images inside and outside the PrAC set",
    "Figure 9",
    _sets_plan,
    _show_figure_9,
    "The figure has no numbers to judge.",
)


def _show_figure_a15(scale: Scale, results: Results) -> Outcome:
    sets, train = _first_and_last(_only(results))
    rows = [
        {
            "set of round": row["round"],
            "class": row["class"],
            "samples": row["samples"],
            "share of the class (%)": 100 * row["share"],
            "share of the set (%)": 100 * row["share_of_set"],
        }
        for row in appendix.class_rows(sets, train.samples.labels, train.ids)
    ]
    draw = functools.partial(
        appendix.draw_classes, sets=sets, labels=train.samples.labels, train=train.ids
    )
    return Outcome(rows=rows, checks=[], draw=draw)


FIGURE_A15 = item(
    "figure_a15",
    "Class balance of the first and the last PrAC set",
    "Figure A15",
    _sets_plan,
    _show_figure_a15,
    "The figure has no numbers to judge.",
)


# Figure A13: overlap of masks.


def _figure_a13_plan(scale: Scale) -> list[Part]:
    setup = sized(scale, RESNET20, 15, "same_start")
    setup = dataclasses.replace(setup, same_start=True)
    arms = ("imp", "prac")
    return [Arms(setup=setup, arms=arms, seeds=scale.seeds[:2], retrain="none")]


def _show_figure_a13(scale: Scale, results: Results) -> Outcome:
    runs = _only(results)
    imp, prac = (_masks(runs, arm) for arm in ("imp", "prac"))
    overlaps = {"IMP and IMP": _overlap(imp, imp), "PrAC and IMP": _overlap(prac, imp)}
    sparsities = [100 * masks.sparsity for masks in next(iter(imp.values()))]
    rows = [
        {"sparsity (%)": sparsity, **{name: ious[n] for name, ious in overlaps.items()}}
        for n, sparsity in enumerate(sparsities)
    ]
    ours, theirs = (statistics.fmean(overlaps[n]) for n in ("PrAC and IMP", "IMP and IMP"))
    checks = [
        holds(
            "masks of PrAC and IMP overlap slightly less than two masks of IMP",
            ours < theirs,
            test="mean IoU over all tickets, from the same initial weights in other data orders",
            measured=f"{ours:.3f} and {theirs:.3f}",
        )
    ]
    x = [100 - sparsity for sparsity in sparsities]
    lines = [Line(name, x, ious) for name, ious in overlaps.items()]
    return Outcome(rows=rows, checks=checks, draw=functools.partial(_draw_iou, lines))


def _masks(runs: Runs, arm: str) -> dict[int, list[Masks]]:
    """Returns the masks of all tickets by seed."""
    numbers = range(runs.setup.config.pruning.rounds)
    return {
        seed: [Masks.load(runs.run(arm, seed).round_path(n) / MASKS) for n in numbers]
        for seed in runs.summaries[arm]
    }


def _overlap(first: dict[int, list[Masks]], second: dict[int, list[Masks]]) -> list[float]:
    """Returns the mean IoU of the masks of different seeds, for each ticket."""
    seeds = [(a, b) for a in first for b in second if a != b]
    tickets = zip(*([*zip(first[a], second[b], strict=True)] for a, b in seeds), strict=True)
    return [statistics.fmean(one.iou(other) for one, other in pairs) for pairs in tickets]


def _draw_iou(lines: Sequence[Line], stem: pathlib.Path) -> list[pathlib.Path]:
    def prepare(axes: Any) -> None:
        log_axis(axes.xaxis)
        axes.set_ylim(0, 1)
        axes.invert_xaxis()

    return line_figure(
        stem, lines, x_label="remaining weights (%)", y_label="mask IoU", prepare=prepare
    )


FIGURE_A13 = item(
    "figure_a13",
    "Overlap of the masks of PrAC and IMP",
    "Figure A13",
    _figure_a13_plan,
    _show_figure_a13,
    "All seeds have the same initial weights; masks of different data orders are compared.",
)


# Figure A16: forgetting while a ticket is trained.

FORGETTING_ARMS = {
    "fine_tuning": "IMP, fine-tuned",
    "imp": "winning ticket, rewound",
    "reinit": "random ticket, other initial weights",
    "random_ticket": "random ticket, random mask",
}
"""Whose training is shown (Figure A16); the random tickets are controls of PrAC's ticket."""


def _figure_a16_plan(scale: Scale) -> list[Part]:
    setup = sized(scale, RESNET20, AT_79)
    return [Arms(setup=setup, arms=tuple(FORGETTING_ARMS), seeds=scale.seeds[:1], retrain="last")]


def _show_figure_a16(scale: Scale, results: Results) -> Outcome:
    runs = _only(results)
    (seed,) = runs.summaries["imp"]
    stats = {}
    for arm, title in FORGETTING_ARMS.items():
        control = ARMS[arm].control
        run = runs.run(ARMS[arm].controls or arm, seed)
        path = run.ticket_path(AT_79, f"{control}_{seed}" if control else "")
        stats[title] = ForgettingStats.load(path / FORGETTING)
    rows: list[Row] = []
    lines = []
    for title, of_ticket in stats.items():
        histogram = [r for r in appendix.forgetting_rows({AT_79: of_ticket}) if r["samples"]]
        rows += [
            {"training": title, "events": row["events"], "samples": row["samples"]}
            for row in histogram
        ]
        learned = [row for row in histogram if row["events"] != appendix.NEVER]
        shares = [100 * row["share"] for row in learned]
        lines.append(Line(title, [row["events"] for row in learned], shares))
    draw = functools.partial(
        line_figure,
        lines=lines,
        x_label="forgetting events",
        y_label="training samples (%)",
        prepare=_show_counts,
    )
    return Outcome(rows=rows, checks=[], draw=draw)


def _show_counts(axes: Any) -> None:
    """Makes the y axis logarithmic, and labels the x axis with integers."""
    log_axis(axes.yaxis)
    axes.xaxis.get_major_locator().set_params(integer=True)


FIGURE_A16 = item(
    "figure_a16",
    "Forgetting events while a ticket is fine-tuned, rewound, or random",
    "Figure A16 (at 79.03% sparsity here)",
    _figure_a16_plan,
    _show_figure_a16,
    "The figure has no numbers to judge.",
)


# Table 1: settings.

PUBLISHED_SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"learning_rate": 0.1, "batch_size": 128} for name in PAIRS[:6]},
    **{name: {"learning_rate": 0.1, "batch_size": 512} for name in PAIRS[6:]},
    **{
        f"{name}_low": {"learning_rate": 0.01, "batch_size": 128}
        for name in (RESNET20, RESNET56, RESNET20_C100, RESNET56_C100)
    },
    **{
        f"{name}_warmup": {"learning_rate": 0.03, "batch_size": 128, "warmup epochs": 15}
        for name in (RESNET20, RESNET20_C100)
    },
}
"""Settings of Table 1 by preset."""

EVERYWHERE = {"epochs": 182, "momentum": 0.9, "weight_decay": 1e-4, "milestones": (91, 136)}
"""Settings that all of Table 1 share (Section 4 and Appendix A1)."""


def _settings_of(preset: str) -> Row:
    recipe = Setup.of_preset(preset).config.recipe
    return {
        "learning_rate": recipe.learning_rate,
        "batch_size": recipe.batch_size,
        "warmup epochs": round(recipe.warmup_fraction * recipe.epochs),
        "epochs": recipe.epochs,
        "momentum": recipe.momentum,
        "weight_decay": recipe.weight_decay,
        "milestones": tuple(round(recipe.epochs * m) for m in recipe.milestone_fractions),
    }


def _show_table_1(scale: Scale, results: Results) -> Outcome:
    rows, checks = [], []
    for preset, published in PUBLISHED_SETTINGS.items():
        ours = _settings_of(preset)
        expected = {"warmup epochs": 0, **EVERYWHERE, **published}
        wrong = [name for name, value in expected.items() if ours[name] != value]
        texts = {name: f"{value}" for name, value in ours.items()}
        rows.append({"preset": preset, **texts})
        checks.append(
            holds(
                f"{preset} has the settings of Table 1",
                not wrong,
                test="every value is equal",
                measured=", ".join(wrong) or "equal",
            )
        )
    return Outcome(rows=rows, checks=checks)


TABLE_1 = item(
    "table_1",
    "Settings of all experiments, as in the presets",
    "Table 1, Section 4 and Appendix A1",
    lambda scale: [],
    _show_table_1,
    "Nothing is trained. The table leaves the warmup of ResNet-56 blank; its preset has that of "
    "ResNet-20.",
)
