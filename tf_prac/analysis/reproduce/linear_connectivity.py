"""The figures of "Linear Mode Connectivity and the Lottery Ticket Hypothesis".

Published numbers are the rewind points k from which networks are stable, which means an error
barrier below 2 percentage points (Sections 3 and 4). Replicates share W_k and differ in data order
and augmentation. Figures that show one experiment for several networks are one item here.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tf_prac.analysis.connectivity import ConnectivityRows
from tf_prac.analysis.connectivity_report import draw_during, draw_grid
from tf_prac.analysis.options import ConnectivityConfig, StabilityConfig
from tf_prac.analysis.reproduce.curves import draw_against_k, percent
from tf_prac.analysis.reproduce.item import Outcome, Paper, Results
from tf_prac.analysis.reproduce.parts import Connectivity, Part, Row, Stability, Sweep
from tf_prac.analysis.reproduce.setup import Scale, rewinding_scales
from tf_prac.analysis.reproduce.verdict import Check, holds
from tf_prac.analysis.stability import StabilityRows, network_name
from tf_prac.plotting import Line

PAPER = "linear_connectivity"
LENET, RESNET, VGG = "lmc_lenet", "lmc_resnet20", "lmc_vgg16"
RESNET50, INCEPTION = "lmc_resnet50", "lmc_inception_v3"
NETWORKS = (LENET, RESNET, VGG, RESNET50, INCEPTION)
STABLE_BELOW = 0.02

_KS = {
    LENET: ("0it", "100it", "1000it"),
    RESNET: ("0it", "50it", "100it", "250it", "500it", "1000it", "2000it", "3000it", "8000it"),
    VGG: ("0it", "50it", "250it", "500it", "1000it", "2000it", "8000it"),
    RESNET50: ("0it", "1ep", "5ep", "10ep", "18ep", "30ep"),
    INCEPTION: ("0it", "1ep", "6ep", "14ep", "28ep", "50ep"),
}
_SMALL_KS = ("0it", "10it", "30it", "100it")

SCALES = rewinding_scales(LENET, (RESNET,))
_item = Paper(PAPER, "Linear Mode Connectivity", SCALES).item


def _sweep(scale: Scale, preset: str) -> Sweep:
    """Searches from several k: what every item of this paper measures."""
    ks = _KS[preset] if scale.is_paper else _SMALL_KS
    return Sweep(setup=scale.setup(preset), rewinds=ks, seeds=scale.seeds, retrain="none")


def _config(scale: Scale, **options: Any) -> ConnectivityConfig:
    """Three replicates and 30 points, as in the paper; two, 5 and 2,000 samples at small scale."""
    if not scale.is_paper:
        options = {"copies": 2, "points": 5, "samples": 2_000, **options}
    return ConnectivityConfig(**{"copies": 3, **options})


def _parts(
    scale: Scale, preset: str, rounds: tuple[int, ...] = (), **options: Any
) -> tuple[Sweep, Connectivity]:
    sweep = _sweep(scale, preset)
    return sweep, Connectivity(of=sweep, config=_config(scale, rounds=rounds, **options))


def _plan(presets: Sequence[str], **options: Any) -> Any:
    def plan(scale: Scale) -> list[Part]:
        chosen = scale.available(presets)
        return [part for preset in chosen for part in _parts(scale, preset, **options)]

    return plan


def barrier_rows(preset: str, found: ConnectivityRows) -> list[Row]:
    """Returns a row for each k and network: error barriers in percentage points."""
    rows = []
    for row in found.summary():
        shown: Row = {"preset": preset, "k": row["k"], "network": network_name(row)}
        shown["remaining (%)"] = percent(row["density"])
        for split in ("test", "train"):
            name = f"{split}_error_barrier"
            for end in ("", "_min", "_max"):
                shown[f"{split} barrier{end.replace('_', ' ')}"] = percent(row.get(f"{name}{end}"))
        rows.append({**shown, "lines": row["samples"]})
    return rows


def stable_from(found: ConnectivityRows, number: int) -> float:
    """Returns the smallest k from which on a ticket has mean barriers below 2 points.

    Infinity if the largest k has a higher one.
    """
    barriers = {
        row["k"]: row["test_error_barrier"]
        for row in found.summary()
        if (row["round"], row["network"], row["line"]) == (number, "ticket", "order")
    }
    first = math.inf
    for k in sorted(barriers, reverse=True):
        if barriers[k] >= STABLE_BELOW:
            break
        first = k
    return first


def _stable_check(
    scale: Scale, preset: str, what: str, measured: float, published: str | None, ks: Sequence[int]
) -> list[Check]:
    """Returns the check that networks are stable from the published k on, up to one tested k."""
    if published is None or not scale.is_paper:
        return []
    index = _KS[preset].index(published)
    allowed = ks[max(index - 1, 0) : index + 2]
    return [
        dataclasses.replace(
            holds(
                f"{preset}: {what} is stable from k on",
                measured in allowed,
                test="the published k or the next smaller or larger of those tested",
                measured=measured if math.isfinite(measured) else f"{measured:g}",  # for JSON
            ),
            published=ks[index],
        )
    ]


# The dense network: Figures 2 and 3.

DENSE_FROM = {
    LENET: "0it",
    RESNET: "2000it",
    VGG: "1000it",
    RESNET50: "18ep",
    INCEPTION: "28ep",
}
SUBNETWORK_FROM = {RESNET: "500it", VGG: "1000it", RESNET50: "5ep", INCEPTION: "6ep"}


def _ks(found: ConnectivityRows) -> list[int]:
    return sorted({row["k"] for row in found.barriers})


def _barrier_at(found: ConnectivityRows, k: int, number: int) -> float:
    return next(
        row["test_error_barrier"]
        for row in found.summary()
        if (row["k"], row["round"], row["network"]) == (k, number, "ticket")
    )


def _falls(preset: str, what: str, found: ConnectivityRows, number: int) -> Check:
    """Returns the check that the barrier at the largest k is below the one at k = 0."""
    first, last = (_barrier_at(found, k, number) for k in (min(_ks(found)), max(_ks(found))))
    return holds(
        f"{preset}: the barrier of {what} falls as k grows",
        last < max(first, STABLE_BELOW),
        test="mean barrier at the largest k below that at k=0, or below 2 points",
        measured=f"{100 * first:.2f} points at k=0, {100 * last:.2f} at k={max(_ks(found)):,}",
    )


def _show_dense(scale: Scale, results: Results) -> Outcome:
    rows: list[Row] = []
    checks: list[Check] = []
    for preset in scale.available(NETWORKS):
        found = results[_parts(scale, preset)[1].name]
        rows += barrier_rows(preset, found)
        ks = _ks(found)
        what, published = "the dense network", DENSE_FROM[preset]
        checks += _stable_check(scale, preset, what, stable_from(found, 0), published, ks)
        if preset != LENET:
            checks.append(_falls(preset, what, found, 0))
        else:
            barrier = _barrier_at(found, 0, 0)
            statement = f"{preset}: {what} is stable at k=0"
            test, measured = "mean barrier below 2 points", f"{100 * barrier:.2f} points"
            checks.append(holds(statement, barrier < STABLE_BELOW, test=test, measured=measured))
    return Outcome(rows=rows, checks=checks, draw=functools.partial(_draw_barriers, rows))


def _draw_barriers(rows: Sequence[Row], stem: pathlib.Path) -> list[pathlib.Path]:
    lines = []
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["preset"], row["network"], row["remaining (%)"]), []).append(row)
    for (preset, network, _), own in groups.items():
        label = f"{preset.removeprefix('lmc_')}, {network}"
        names = ("test barrier", "test barrier min", "test barrier max")
        lines.append(Line(label, [r["k"] for r in own], *([r[n] for r in own] for n in names)))
    return draw_against_k(lines, "test error barrier (points)", stem)


FIGURE_3 = _item(
    "figure_3",
    "Error barrier of the dense network against k",
    "Section 3 (Figures 2 and 3)",
    _plan(NETWORKS, rounds=(0,)),
    _show_dense,
)


# Subnetworks: Figures 5 to 7.

_CONTROLS = ("random_mask", "reinit")


def _subnetwork_plan(scale: Scale) -> list[Part]:
    parts: list[Part] = []
    for preset in scale.available(NETWORKS):
        sweep, connectivity = _subnetwork_parts(scale, preset)
        parts += [sweep, connectivity, _accuracy_part(scale, sweep)]
    return parts


def _subnetwork_parts(scale: Scale, preset: str) -> tuple[Sweep, Connectivity]:
    return _parts(scale, preset, _last(scale, preset), controls=_CONTROLS)


def _last(scale: Scale, preset: str) -> tuple[int, ...]:
    return (scale.setup(preset).config.pruning.rounds,)


def _accuracy_part(scale: Scale, sweep: Sweep) -> Stability:
    """The accuracy of the same replicates, and of the dense network."""
    copies = _config(scale).copies
    rounds = (0, sweep.setup.config.pruning.rounds)
    config = StabilityConfig(rounds=rounds, copies=copies, pruning_copies=0, controls=_CONTROLS)
    return Stability(of=sweep, config=config)


def _show_subnetworks(scale: Scale, results: Results) -> Outcome:
    rows: list[Row] = []
    checks: list[Check] = []
    for preset in scale.available(NETWORKS):
        sweep, part = _subnetwork_parts(scale, preset)
        found, stability = results[part.name], results[_accuracy_part(scale, sweep).name]
        number = sweep.setup.config.pruning.rounds
        accuracy = _accuracies(stability)
        own = [
            {
                **row,
                "accuracy (%)": percent(accuracy[row["k"], number, row["network"]]),
                "dense (%)": percent(accuracy[row["k"], 0, "dense"]),
            }
            for row in barrier_rows(preset, found)
        ]
        rows += own
        what = f"the subnetwork of {own[0]['remaining (%)']:.1f}%"
        published = SUBNETWORK_FROM.get(preset)
        checks += _stable_check(
            scale, preset, what, stable_from(found, number), published, _ks(found)
        )
        if preset != LENET:
            checks.append(_falls(preset, what, found, number))
        checks.append(_matching_check(preset, [r for r in own if r["network"] == "ticket"]))
    return Outcome(rows=rows, checks=checks, draw=functools.partial(_draw_barriers, rows))


def _accuracies(found: StabilityRows) -> dict[tuple[int, int, str], float]:
    return {
        (row["k"], row["round"], network_name(row)): row["test_accuracy"]
        for row in found.accuracies()
    }


def _matching_check(preset: str, rows: Sequence[Row]) -> Check:
    """Returns the check that subnetworks match the dense network just where they are stable."""
    agree = sum(
        (row["test barrier"] < 100 * STABLE_BELOW) == (row["accuracy (%)"] >= row["dense (%)"] - 1)
        for row in rows
    )
    return holds(
        f"{preset}: subnetworks match the dense network only where they are stable",
        agree >= 0.75 * len(rows),
        test="for three quarters of the tested k, the mean barrier is below 2 points if and only "
        "if the mean accuracy is within 1 point of the dense network",
        measured=f"{agree} of {len(rows)} rewind points",
    )


FIGURE_6 = _item(
    "figure_6",
    "Error barrier and accuracy of subnetworks against k, with random and reinitialized ones",
    "Section 4 (Figures 5 to 7)",
    _subnetwork_plan,
    _show_subnetworks,
    "Random masks have the layer-wise densities of the tickets.",
)


# Sparsity and k: Figure 8.

_GRID = {RESNET: (0, 1, 2, 4, 6, 8, 10, 12), VGG: (0, 2, 4, 8, 12, 16, 19)}


def _grid_parts(scale: Scale, preset: str) -> tuple[Sweep, Connectivity]:
    if not scale.is_paper:
        return _parts(scale, preset, tuple(range(_last(scale, preset)[0] + 1)))
    rounds = _GRID[preset]
    sweep = _sweep(scale, preset)
    sweep = dataclasses.replace(sweep, setup=scale.setup(preset, "grid", rounds=rounds[-1]))
    return sweep, Connectivity(of=sweep, config=_config(scale, rounds=rounds))


def _grid_plan(scale: Scale) -> list[Part]:
    return [part for preset in scale.available(_GRID) for part in _grid_parts(scale, preset)]


def _show_grid(scale: Scale, results: Results) -> Outcome:
    rows: list[Row] = []
    checks: list[Check] = []
    grids = {}
    for preset in scale.available(_GRID):
        found = results[_grid_parts(scale, preset)[1].name]
        grids[preset] = [row for row in found.summary() if row["network"] == "ticket"]
        rows += barrier_rows(preset, found)
        numbers = sorted({row["round"] for row in found.barriers})
        stable = {number: stable_from(found, number) for number in numbers}
        checks.append(
            holds(
                f"{preset}: moderately sparse subnetworks are stable from a smaller k than the "
                "dense network",
                min(stable.values()) < stable[0],
                test="the smallest k, from which on mean barriers are below 2 points, of some "
                "sparsity is below that of the dense network",
                measured=", ".join(f"round {n}: {k:g}" for n, k in stable.items()),
            )
        )
    return Outcome(rows=rows, checks=checks, draw=functools.partial(_draw_grids, grids))


def _draw_grids(grids: Mapping[str, Sequence[Row]], stem: pathlib.Path) -> list[pathlib.Path]:
    """Draws the first grid as the figure, and further ones with the name of their preset."""
    written = []
    for index, (preset, rows) in enumerate(grids.items()):
        path = stem.with_name(f"{stem.name}_{preset}") if index else stem
        written += draw_grid(path, rows, "test_error_barrier")
    return written


FIGURE_8 = _item(
    "figure_8",
    "Error barrier for every sparsity and rewind point",
    "Section 4.4 (Figure 8)",
    _grid_plan,
    _show_grid,
)


# Barriers during training.


def _during_parts(scale: Scale, preset: str) -> tuple[Sweep, Connectivity]:
    rounds = tuple(sorted({0, *_last(scale, preset)}))
    every = 10 if scale.is_paper else 2
    return _parts(scale, preset, rounds, every_epochs=every)


def _during_plan(scale: Scale) -> list[Part]:
    presets = scale.available((RESNET, VGG))
    return [part for preset in presets for part in _during_parts(scale, preset)]


def _show_during(scale: Scale, results: Results) -> Outcome:
    rows: list[Row] = []
    checks: list[Check] = []
    courses: list[Row] = []
    for preset in scale.available((RESNET, VGG)):
        found = results[_during_parts(scale, preset)[1].name]
        course = found.course()
        courses += course
        for row in course:
            rows.append(
                {
                    "preset": preset,
                    "k": row["k"],
                    "network": network_name(row),
                    "remaining (%)": percent(row["density"]),
                    "step": row["step"],
                    "test barrier": percent(row.get("test_error_barrier")),
                    "train barrier": percent(row.get("train_error_barrier")),
                }
            )
        checks.append(_grows_check(preset, course))
    return Outcome(
        rows=rows,
        checks=checks,
        draw=lambda stem: draw_during(stem, courses, "test_error_barrier"),
    )


def _grows_check(preset: str, course: Sequence[Row]) -> Check:
    """Returns the check that the dense network from k = 0 becomes unstable early."""
    own = [row for row in course if (row["k"], row["round"]) == (0, 0)]
    start = f"at step {own[0]['step']:,}"
    first, last = own[0]["test_error_barrier"], own[-1]["test_error_barrier"]
    return holds(
        f"{preset}: the barrier of the dense network from k=0 appears early in training and stays",
        min(first, last) >= STABLE_BELOW,
        test="mean barriers at the first measured epoch and at the end of at least 2 points",
        measured=f"{100 * first:.2f} points {start}, {100 * last:.2f} at the end",
    )


DURING_TRAINING = _item(
    "during_training",
    "Error barrier during training",
    "the appendices (barriers throughout training)",
    _during_plan,
    _show_during,
)


# Other distances: Appendix G.

_DISTANCES = {
    "distance": "L2 distance",
    "cosine": "cosine distance",
    "disagreement": "different classes (%)",
    "loss_distance": "distance of losses",
}


def _distance_parts(scale: Scale, preset: str) -> tuple[Sweep, Stability]:
    sweep = _sweep(scale, preset)
    return sweep, _accuracy_part(scale, sweep)


def _distance_plan(scale: Scale) -> list[Part]:
    presets = scale.available((LENET, RESNET, VGG))
    return [part for preset in presets for part in _distance_parts(scale, preset)]


def _show_distances(scale: Scale, results: Results) -> Outcome:
    rows: list[Row] = []
    checks: list[Check] = []
    for preset in scale.available((LENET, RESNET, VGG)):
        found = results[_distance_parts(scale, preset)[1].name]
        own = distance_rows(preset, found)
        rows += own
        if preset != LENET:
            checks += [_distance_check(preset, own, name) for name in _DISTANCES.values()]
    return Outcome(rows=rows, checks=checks, draw=functools.partial(_draw_distances, rows))


def distance_rows(preset: str, found: StabilityRows) -> list[Row]:
    """Returns a row for each k and network: distances between replicates in other data orders."""
    rows = []
    for row in found.summary():
        if row["measure"] == "order":
            values = {
                "distance": row["distance"],
                "cosine": 1 - math.cos(math.radians(row["angle"])),
                "disagreement": percent(row.get("disagreement")),
                "loss_distance": row.get("loss_distance"),
            }
            shown = {title: values[name] for name, title in _DISTANCES.items()}
            network = {"preset": preset, "k": row["k"], "network": network_name(row)}
            rows.append({**network, "remaining (%)": percent(row["density"]), **shown})
    return rows


def _distance_check(preset: str, rows: Sequence[Row], name: str) -> Check:
    """Returns the check that replicates of the ticket are closer from the largest k than from 0."""
    by_k = {row["k"]: row[name] for row in rows if row["network"] == "ticket"}
    first, last = by_k[min(by_k)], by_k[max(by_k)]
    return holds(
        f"{preset}: {name} between replicates of the ticket falls as k grows",
        first is not None and last < first,
        test="mean at the largest k below that at k=0",
        measured=f"{first:.4g} at k=0, {last:.4g} at k={max(by_k):,}",
    )


def _draw_distances(rows: Sequence[Row], stem: pathlib.Path) -> list[pathlib.Path]:
    """Draws each distance against k, a figure for each."""
    written = []
    for index, (name, title) in enumerate(_DISTANCES.items()):
        lines = []
        for preset, network in dict.fromkeys((row["preset"], row["network"]) for row in rows):
            own = [r for r in rows if (r["preset"], r["network"]) == (preset, network)]
            if all(row[title] is not None for row in own):
                label = f"{preset.removeprefix('lmc_')}, {network}"
                lines.append(Line(label, [r["k"] for r in own], [r[title] for r in own]))
        path = stem.with_name(f"{stem.name}_{name}") if index else stem
        written += draw_against_k(lines, title, path)
    return written


APPENDIX_G = _item(
    "appendix_g",
    "Other distances between replicates against k",
    "Appendix G",
    _distance_plan,
    _show_distances,
    "Distances are of networks trained from the same W_k in different data orders; classes and "
    "losses are those of the test samples.",
)
