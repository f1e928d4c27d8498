"""The figures and tables of "Stabilizing the Lottery Ticket Hypothesis".

Published numbers are from Figure 2 (networks and accuracies), Figures 3 and 10 (stability at k = 0)
and Sections 3 to 5 (rewind points). Figures that show one experiment for several networks or
measures are one item here, named after the first of them.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tf_prac.analysis.options import StabilityConfig
from tf_prac.analysis.reproduce.curves import (
    Curve,
    curves_table,
    draw_against_k,
    draw_curves,
    mean_percent,
    percent,
)
from tf_prac.analysis.reproduce.item import Outcome, Paper, Results
from tf_prac.analysis.reproduce.parts import Arms, Part, Row, Stability, Sweep
from tf_prac.analysis.reproduce.setup import Scale, rewinding_scales
from tf_prac.analysis.reproduce.verdict import Check, as_good, holds, near, worse
from tf_prac.analysis.stability import StabilityRows
from tf_prac.analysis.stability_report import draw_stability_against_k
from tf_prac.plotting import COLORS, Line, save_figure

PAPER = "stabilizing"
LENET = "slth_lenet_mnist"
RESNET = "slth_resnet20_cifar10"
VGG = "slth_vgg19_cifar10"
IMAGENET = tuple(f"slth_{name}_imagenet" for name in ("resnet50", "inception_v3", "squeezenet"))
CIFAR = tuple(f"{name}{kind}" for name in (RESNET, VGG) for kind in ("", "_low", "_warmup"))
NETWORKS = (LENET, *CIFAR, *IMAGENET)

_K = {RESNET: "500it", VGG: "100it"} | dict(zip(IMAGENET, ("4ep", "6ep", "10ep"), strict=True))
_SMALL_K = "30it"

SCALES = rewinding_scales(LENET, (RESNET, f"{RESNET}_low", f"{RESNET}_warmup"))
_item = Paper(PAPER, "Stabilizing the Lottery Ticket Hypothesis", SCALES).item


def _k(scale: Scale, preset: str) -> str:
    """Returns the rewind point from which the paper finds matching subnetworks."""
    return _K[preset] if scale.is_paper else _SMALL_K


def _curves_outcome(
    curves: Sequence[Curve], dense: Mapping[str, float], checks: Sequence[Check]
) -> Outcome:
    """Returns the table and the figure of curves, with the dense networks as references."""
    draw = functools.partial(draw_curves, curves, dense)
    return Outcome(rows=curves_table(curves), checks=checks, draw=draw)


# Accuracy against sparsity: Figures 1, 5 and 8.

_DENSE = {
    LENET: 98.0,
    RESNET: 90.5,
    f"{RESNET}_low": 89.1,
    f"{RESNET}_warmup": 89.6,
    VGG: 91.5,
    f"{VGG}_low": 92.0,
    f"{VGG}_warmup": 92.3,
    **dict(zip(IMAGENET, (76.1, 78.1, 54.8), strict=True)),
}
"""Test accuracy of the dense networks in percent (Figure 2)."""

_FROM_0 = {f"{RESNET}_low", f"{RESNET}_warmup", f"{VGG}_warmup"}
"""Networks whose tickets match the dense network at k = 0 (Figure 2, without LeNet)."""


def _iterative_plan(scale: Scale) -> list[Part]:
    parts: list[Part] = []
    for preset in scale.available((RESNET, VGG)):
        controls = ("reinit",)
        ks = ("0it", _k(scale, preset))
        parts.append(_sweep(scale, preset, ks, controls))
        parts += [_sweep(scale, f"{preset}_{kind}", ("0it",)) for kind in ("low", "warmup")]
    return parts


def _sweep(scale: Scale, preset: str, ks: tuple[str, ...], controls: tuple[str, ...] = ()) -> Sweep:
    setup = scale.setup(preset, "curves")
    return Sweep(setup=setup, rewinds=ks, controls=controls, seeds=scale.seeds)


def _show_iterative(scale: Scale, results: Results) -> Outcome:
    curves: list[Curve] = []
    dense: dict[str, float] = {}
    checks: list[Check] = []
    for preset in scale.available((RESNET, VGG)):
        k, network = _k(scale, preset), _network(preset)
        by_kind = {
            kind: results[_sweep(scale, f"{preset}{kind}", ()).name]
            for kind in ("", "_low", "_warmup")
        }
        runs = by_kind[""]
        chosen = {
            "rewound": Curve(f"{network}, k={k}", runs, k),
            "k=0": Curve(f"{network}, k=0", runs, "0it"),
            "reinit": Curve(f"{network}, reinitialised", runs, f"{k} reinit"),
            "_low": Curve(f"{network} low, k=0", by_kind["_low"], "0it"),
            "_warmup": Curve(f"{network} warmup, k=0", by_kind["_warmup"], "0it"),
        }
        curves += chosen.values()
        number = runs.setup.config.pruning.rounds
        for kind, each in by_kind.items():
            accuracy = each.accuracies("0it", 0)
            name = f"{preset}{kind}"
            dense[f"dense {network}{kind.replace('_', ' ')}"] = mean_percent(accuracy) or 0.0
            checks += _dense_check(name, accuracy)
            if name in _FROM_0:
                statement = f"{name}: tickets at k=0 are as good as the dense network"
                checks.append(as_good(statement, chosen[kind].accuracies(number), accuracy, 1.0))
        rewound, full = chosen["rewound"].accuracies(number), runs.accuracies("0it", 0)
        checks += [
            as_good(
                f"{preset}: tickets at k={k} are as good as the dense network", rewound, full, 1.0
            ),
            worse(f"{preset}: at k=0 they are worse", chosen["k=0"].accuracies(number), rewound),
            worse(
                f"{preset}: with new initial weights they are worse",
                chosen["reinit"].accuracies(number),
                rewound,
            ),
        ]
    return _curves_outcome(curves, dense, checks)


def _network(preset: str) -> str:
    return preset.split("_")[1]


def _dense_check(preset: str, accuracy: Mapping[int, float]) -> list[Check]:
    measured = mean_percent(accuracy)
    if measured is None:
        return []
    statement = f"test accuracy of the dense network in percent, {preset}"
    return [near(statement, measured, _DENSE[preset], absolute=0.5)]


_ONE_SHOT = (*IMAGENET, RESNET)
_ONE_SHOT_SPARSITIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
_PUBLISHED_SPARSITY = dict(zip(IMAGENET, (0.7, 0.7, 0.5), strict=True))


def _one_shot_sweep(scale: Scale, preset: str) -> Sweep:
    rounds = len(_ONE_SHOT_SPARSITIES)
    options: dict[str, Any] = {"rounds": rounds, "larger_cuts": 0.0, "largest_cut": rounds}
    setup = scale.setup(preset, "one_shot", sparsities=_ONE_SHOT_SPARSITIES, **options)
    ks = ("0it", _k(scale, preset))
    return Sweep(setup=setup, rewinds=ks, controls=("reinit",), seeds=scale.seeds)


def _one_shot_plan(scale: Scale) -> list[Part]:
    return [_one_shot_sweep(scale, preset) for preset in scale.available(_ONE_SHOT)]


def _show_one_shot(scale: Scale, results: Results) -> Outcome:
    curves: list[Curve] = []
    dense: dict[str, float] = {}
    checks: list[Check] = []
    for preset in scale.available(_ONE_SHOT):
        k, runs = _k(scale, preset), results[_one_shot_sweep(scale, preset).name]
        full, network = runs.accuracies("0it", 0), _network(preset)
        curves += [
            Curve(f"{network}, k={k}", runs, k),
            Curve(f"{network}, k=0", runs, "0it"),
            Curve(f"{network}, reinitialised", runs, f"{k} reinit"),
        ]
        dense[f"dense {network}"] = mean_percent(full) or 0.0
        sparsity = _PUBLISHED_SPARSITY.get(preset, 0.8)
        number = _ONE_SHOT_SPARSITIES.index(sparsity) + 1
        at = f"{preset}, {sparsity:.0%} pruned in one shot"
        rewound = runs.accuracies(k, number)
        checks += [
            *_dense_check(preset, full),
            as_good(f"{at}: tickets at k={k} are as good as the dense network", rewound, full, 1.0),
            worse(f"{at}: at k=0 they are worse", runs.accuracies("0it", number), rewound),
            worse(
                f"{at}: with new initial weights they are worse",
                runs.accuracies(f"{k} reinit", number),
                rewound,
            ),
        ]
    return _curves_outcome(curves, dense, checks)


FIGURE_1 = _item(
    "figure_1",
    "Iterative tickets: rewound, at k=0, reinitialized, and with low rates or warmup",
    "the iterative curves of Figures 1, 5 and 8",
    _iterative_plan,
    _show_iterative,
)
FIGURE_5 = _item(
    "figure_5",
    "One-shot tickets: rewound, at k=0 and reinitialized",
    "the one-shot curves of Figures 1, 5 and 8",
    _one_shot_plan,
    _show_one_shot,
    "Every ticket is pruned from the same trained dense network.",
)


# The networks: Figures 2 and 6.

_PARAMETERS = {
    LENET: 266e3,
    **{f"{RESNET}{kind}": 274e3 for kind in ("", "_low", "_warmup")},
    **{f"{VGG}{kind}": 20.0e6 for kind in ("", "_low", "_warmup")},
    **dict(zip(IMAGENET, (25.5e6, 27.1e6, 1.25e6), strict=True)),
}
"""Parameters of the networks (Figure 2). The 274K of ResNet-20 are with BatchNorm's statistics."""


def _dense_arm(scale: Scale, preset: str) -> Arms:
    setup = scale.setup(preset, "dense", rounds=1, rewind="0it")
    return Arms(setup=setup, arms=("imp",), seeds=scale.seeds, retrain="none")


def _networks_plan(scale: Scale) -> list[Part]:
    return [_dense_arm(scale, preset) for preset in scale.available(NETWORKS)]


def _show_networks(scale: Scale, results: Results) -> Outcome:
    rows, checks = [], []
    for preset in scale.available(NETWORKS):
        runs = results[_dense_arm(scale, preset).name]
        recipe, accuracy = runs.setup.config.recipe, runs.accuracies("imp", 0)
        parameters = _parameter_count(runs.run("imp", scale.seeds[0]).config())
        rows.append(
            {
                "preset": preset,
                "network": runs.setup.model,
                "data": runs.setup.dataset,
                "parameters": parameters,
                "parameters, paper": int(_PARAMETERS[preset]),
                "budget": f"{recipe.steps:,} steps" if recipe.steps else f"{recipe.epochs} epochs",
                "batch": recipe.batch_size,
                "optimizer": recipe.optimizer,
                "rate": f"{recipe.learning_rate:g}",
                "schedule": recipe.schedule,
                "warmup": f"{recipe.warmup_fraction:.3g}",
                "accuracy (%)": mean_percent(accuracy),
                "accuracy, paper (%)": _DENSE[preset],
            }
        )
        checks += _dense_check(preset, accuracy)
        statement = f"parameters, {preset}"
        checks.append(near(statement, parameters, _PARAMETERS[preset], relative=0.01))
    return Outcome(rows=rows, checks=checks)


def _parameter_count(config: Mapping[str, Any]) -> int:
    """Returns the number of weights with BatchNorm's statistics, from the shapes in config.json.

    So does the paper: ResNet-20 with projections has 272,474 trainable weights, and 274,042 with
    the statistics, the 274K of Figure 2.
    """
    return sum(functools.reduce(int.__mul__, shape, 1) for shape in config["model"].values())


FIGURE_2 = _item(
    "figure_2",
    "Networks, schedules and the accuracy of dense networks",
    "Figures 2 and 6",
    _networks_plan,
    _show_networks,
    "`tf_prac.presets.stabilizing` says which cells of Figure 2 are swapped in print.",
)


# Stability at k = 0: Figures 3 and 10.


@dataclasses.dataclass(frozen=True)
class Published:
    """Stability at k = 0 of IMP and random subnetworks, as printed: (IMP, random)."""

    order: tuple[float, float]
    pruning: tuple[float, float]
    accuracy: tuple[float, float]
    order_angle: tuple[float, float]
    pruning_angle: tuple[float | None, float | None] = (None, None)

    def value(self, measure: str, name: str, index: int) -> float | None:
        """Returns a distance or angle; index 0 is IMP, 1 random."""
        pair = getattr(self, measure if name == "distance" else f"{measure}_angle")
        return pair[index]


PUBLISHED = {
    LENET: Published((20.7, 58.6), (48.1, 75.7), (98.3, 97.5), (22.7, 49.2), (53.1, 83.6)),
    RESNET: Published((66.4, 66.7), (54.4, 53.4), (87.7, 87.7), (87.7, 88.0)),
    f"{RESNET}_low": Published((7.1, 28.9), (19.8, 26.6), (89.1, 86.1), (16.1, 75.8), (50.4, 77.1)),
    f"{RESNET}_warmup": Published(
        (9.5, 37.4), (24.8, 34.6), (90.3, 86.8), (17.0, 69.0), (49.9, 79.0)
    ),
    VGG: Published((285, 245), (216, 212), (90.0, 90.2), (88.5, 88.3)),
    f"{VGG}_low": Published((36.8, 90.3), (44.0, 66.1), (91.0, 88.0), (39.9, 84.9), (54.0, 79.0)),
    f"{VGG}_warmup": Published((97, 267), (138, 201), (92.4, 90.3), (39.9, 84.6), (71.7, 84.8)),
}
"""The pruning angle of ResNet standard repeats another cell in print, and is left out."""

STABLE = tuple(name for name in PUBLISHED if name not in (RESNET, VGG))
"""Networks whose IMP subnetworks are stabler than random ones at k = 0."""


def _stability(scale: Scale, preset: str) -> tuple[Arms, Stability]:
    setup = scale.setup(preset, "k0", rewind="0it")
    arms = Arms(setup=setup, arms=("imp",), seeds=scale.seeds, retrain="none")
    copies = 4 if scale.is_paper else 3
    return arms, Stability(of=arms, config=StabilityConfig(copies=copies))


def _stability_plan(scale: Scale) -> list[Part]:
    presets = scale.available(PUBLISHED)
    return [part for preset in presets for part in _stability(scale, preset)]


def _show_stability(scale: Scale, results: Results) -> Outcome:
    rows, checks = [], []
    for preset in scale.available(PUBLISHED):
        found = results[_stability(scale, preset)[1].name]
        rows += stability_rows(preset, found)
        checks += _stability_checks(preset, found)
    return Outcome(rows=rows, checks=checks, draw=functools.partial(_draw_stability, rows))


def stability_rows(preset: str, found: StabilityRows) -> list[Row]:
    """Returns a row for each measure: IMP, random and their ratio, next to the published ones."""
    published = PUBLISHED[preset]
    summary = {(row["measure"], row["network"]): row for row in found.summary()}
    rows = []
    for measure, name in itertools.product(("order", "pruning"), ("distance", "angle")):
        imp, random = (summary[measure, network][name] for network in ("ticket", "random_mask"))
        paper = [published.value(measure, name, index) for index in (0, 1)]
        rows.append(
            {
                "preset": preset,
                "stability to": "data order" if measure == "order" else measure,
                "measure": name,
                "IMP": imp,
                "random": random,
                "ratio": random / imp if imp else None,
                "IMP, paper": paper[0],
                "random, paper": paper[1],
                "ratio, paper": paper[1] / paper[0] if paper[0] and paper[1] else None,
            }
        )
    return rows


def _stability_checks(preset: str, found: StabilityRows) -> list[Check]:
    ratios = {row["measure"]: row["distance_ratio"] for row in found.ratios()}
    rows = stability_rows(preset, found)
    checks = [
        near(
            f"{preset}: {each} of IMP to {row['stability to']}, {row['measure']}",
            row[each],
            row[f"{each}, paper"],
            relative=0.15,
        )
        for row in rows
        for each in ("IMP", "random")
        if row[f"{each}, paper"] is not None
    ]
    accuracy = {row["network"]: 100 * row["test_accuracy"] for row in found.accuracies()}
    for network, published in zip(
        ("ticket", "random_mask"), PUBLISHED[preset].accuracy, strict=True
    ):
        checks.append(
            near(f"{preset}: accuracy of {network}", accuracy[network], published, absolute=0.5)
        )
    measured = f"{ratios['order']:.2f} and {ratios['pruning']:.2f} times as far"
    if preset in STABLE:
        test = "random subnetworks are at least 1.5 (order) and 1.1 (pruning) times as far apart"
        stabler = ratios["order"] >= 1.5 and ratios["pruning"] >= 1.1
        statement = f"{preset}: IMP subnetworks at k=0 are stabler than random ones"
    else:
        test = "random subnetworks are less than 1.25 times as far apart in both measures"
        stabler = max(ratios.values()) < 1.25
        statement = f"{preset}: IMP subnetworks at k=0 are no stabler than random ones"
    return [*checks, holds(statement, stabler, test=test, measured=measured)]


def _draw_stability(rows: Sequence[Row], stem: pathlib.Path) -> list[pathlib.Path]:
    """Draws the ratios of distances, random to IMP, here and in the paper."""
    shown = [row for row in rows if row["measure"] == "distance"]
    labels = [f"{row['preset'].removeprefix('slth_')}, {row['stability to']}" for row in shown]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for shift, name, label in ((-0.2, "ratio", "here"), (0.2, "ratio, paper", "paper")):
            values = [row[name] or 0.0 for row in shown]
            x = [index + shift for index in range(len(shown))]
            axes.bar(x, values, 0.38, label=label, color=COLORS[shift > 0])
        axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set_xticks(
            range(len(shown)), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=8
        )
        axes.set_ylabel("distance, random / IMP")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)

    return save_figure(stem, shown, draw, size=(max(5.0, 0.9 * len(shown)), 5.0))


FIGURE_3 = _item(
    "figure_3",
    "Stability at k=0: distance and angle, IMP against random masks",
    "Figures 3 and 10",
    _stability_plan,
    _show_stability,
    "L2 distances and angles in degrees of the kept weights; a ratio is random / IMP.",
)


# Stability and accuracy against k: Figures 4, 7, 11 and 12.

_KS = {
    RESNET: ("0it", "100it", "250it", "500it", "1000it", "2000it", "5000it", "10000it", "25000it"),
    VGG: ("0it", "25it", "50it", "100it", "250it", "500it", "1000it", "10000it", "100000it"),
}
_SMALL_KS = ("0it", "10it", "30it", "100it", "280it")


def _k_parts(scale: Scale, preset: str) -> tuple[Sweep, Stability]:
    sweep = Sweep(
        setup=scale.setup(preset, "ks"),
        rewinds=_KS[preset] if scale.is_paper else _SMALL_KS,
        seeds=scale.seeds,
        retrain="none",
    )
    copies = 4 if scale.is_paper else 2
    return sweep, Stability(of=sweep, config=StabilityConfig(copies=copies))


def _k_plan(scale: Scale) -> list[Part]:
    return [part for preset in scale.available(_KS) for part in _k_parts(scale, preset)]


def _show_k(scale: Scale, results: Results) -> Outcome:
    rows: list[Row] = []
    checks: list[Check] = []
    summaries: list[Row] = []
    for preset in scale.available(_KS):
        sweep, stability = _k_parts(scale, preset)
        runs, found = results[sweep.name], results[stability.name]
        dense = runs.accuracies("0it", 0)
        rows += k_rows(preset, found, mean_percent(dense))
        summaries += found.summary()
        checks += _k_checks(preset, found, dense, _k(scale, preset))
    return Outcome(
        rows=rows, checks=checks, draw=functools.partial(_draw_against_k, rows, summaries)
    )


def _draw_against_k(
    rows: Sequence[Row], summaries: Sequence[Row], stem: pathlib.Path
) -> list[pathlib.Path]:
    """Draws distance and angle against k, and accuracy in a figure of its own."""
    lines = []
    for preset in dict.fromkeys(row["preset"] for row in rows):
        own = [row for row in rows if row["preset"] == preset]
        ks = [row["k"] for row in own]
        for name in ("IMP", "random", "dense"):
            label = f"{_network(preset)}, {name}"
            lines.append(Line(label, ks, [row[f"{name} (%)"] for row in own]))
    accuracy = stem.with_name(f"{stem.name}_accuracy")
    return [
        *draw_stability_against_k(stem, summaries),
        *draw_against_k(lines, "test accuracy (%)", accuracy),
    ]


def k_rows(preset: str, found: StabilityRows, dense: float | None) -> list[Row]:
    """Returns a row for each k: accuracy, distance and angle of IMP and random subnetworks."""
    summary = {(r["k"], r["network"], r["measure"]): r for r in found.summary()}
    accuracy = {(r["k"], r["network"]): r["test_accuracy"] for r in found.accuracies()}
    rows = []
    for k in sorted({row["k"] for row in found.summary()}):
        row: Row = {"preset": preset, "k": k, "dense (%)": dense}
        for network, name in (("ticket", "IMP"), ("random_mask", "random")):
            row[f"{name} (%)"] = percent(accuracy[k, network])
            for measure, column in itertools.product(("order", "pruning"), ("distance", "angle")):
                row[f"{name}, {measure} {column}"] = summary[k, network, measure][column]
        rows.append(row)
    return rows


def _k_checks(preset: str, found: StabilityRows, dense: Mapping[int, float], k: str) -> list[Check]:
    step = int(k.removesuffix("it"))
    by_seed = _ticket_accuracies(found)
    statement = f"{preset}: tickets at k={step} are as good as the dense network"
    checks = [
        as_good(statement, by_seed[step], dense, 1.0),
        worse(f"{preset}: tickets at k=0 are worse than at k={step}", by_seed[0], by_seed[step]),
    ]
    for measure in ("order", "pruning"):
        apart = {
            row["k"]: row["distance"]
            for row in found.summary()
            if (row["network"], row["measure"]) == ("ticket", measure)
        }
        checks.append(
            holds(
                f"{preset}: tickets at k={step} are stabler to {measure} than at k=0",
                apart[step] < apart[0],
                test="mean L2 distance below that at k=0",
                measured=f"{apart[0]:.2f} at k=0, {apart[step]:.2f} at k={step}",
            )
        )
    return checks


def _ticket_accuracies(found: StabilityRows) -> dict[int, dict[int, float]]:
    """Returns the mean accuracy over data orders of the tickets, by k and seed."""
    values: dict[int, dict[int, list[float]]] = {}
    for row in found.replicates:
        if row["network"] == "ticket" and row["test_accuracy"] is not None:
            values.setdefault(row["k"], {}).setdefault(row["seed"], []).append(row["test_accuracy"])
    return {
        k: {seed: sum(each) / len(each) for seed, each in seeds.items()}
        for k, seeds in values.items()
    }


FIGURE_4 = _item(
    "figure_4",
    "Accuracy and stability against the rewind point k",
    "Figures 4, 7, 11 and 12",
    _k_plan,
    _show_k,
    "At the latest k the remaining T - k steps are few, and accuracy falls again.",
)


# Pruning at initialization: Figure 9.

_SNIP_ARMS = ("imp", "imp_reinit", "snip", "snip_reinit")


def _snip_part(scale: Scale, preset: str) -> Arms:
    return Arms(setup=scale.setup(preset, "snip"), arms=_SNIP_ARMS, seeds=scale.seeds)


def _snip_plan(scale: Scale) -> list[Part]:
    return [
        _snip_part(scale, name) for name in scale.available((f"{RESNET}_warmup", f"{VGG}_warmup"))
    ]


def _show_snip(scale: Scale, results: Results) -> Outcome:
    curves: list[Curve] = []
    dense: dict[str, float] = {}
    checks: list[Check] = []
    for preset in scale.available((f"{RESNET}_warmup", f"{VGG}_warmup")):
        runs = results[_snip_part(scale, preset).name]
        network, number = _network(preset), runs.setup.config.pruning.rounds
        curves += [Curve(f"{network}, {arm.replace('_', ' ')}", runs, arm) for arm in _SNIP_ARMS]
        dense[f"dense {network}"] = mean_percent(runs.accuracies("imp", 0)) or 0.0
        snip, again = runs.accuracies("snip", number), runs.accuracies("snip_reinit", number)
        checks += [
            worse(f"{preset}: SNIP is worse than IMP", snip, runs.accuracies("imp", number)),
            as_good(
                f"{preset}: SNIP with new initial weights is as good as SNIP (Frankle et al. 2021, "
                "Pruning Neural Networks at Initialization, Section 5)",
                again,
                snip,
                1.0,
            ),
        ]
    return _curves_outcome(curves, dense, checks)


FIGURE_9 = _item(
    "figure_9",
    "Pruning at initialization: SNIP and IMP, each also with new initial weights",
    "Figure 9",
    _snip_plan,
    _show_snip,
    "IMP and SNIP keep the same numbers of weights; k=0, with warmup.",
)
