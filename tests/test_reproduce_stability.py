"""The items of "Stabilizing the Lottery Ticket Hypothesis" and "Linear Mode Connectivity"."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import types

import pytest
from digits_search import counted

from tf_prac.analysis import connectivity as connectivity_measure
from tf_prac.analysis import stability as stability_measure
from tf_prac.analysis.connectivity import ConnectivityRows
from tf_prac.analysis.replicates import TrainingCost
from tf_prac.analysis.reproduce import linear_connectivity, stabilizing
from tf_prac.analysis.reproduce.item import get_item
from tf_prac.analysis.reproduce.parts import Workplace
from tf_prac.analysis.reproduce.run import reproduce, trained_cost
from tf_prac.analysis.reproduce.setup import Scale, Setup
from tf_prac.analysis.reproduce.verdict import MATCHED, NOT_MATCHED, STATUSES
from tf_prac.analysis.stability import StabilityRows
from tf_prac.config import RewindPoint, SearchConfig
from tf_prac.models import build_model
from tf_prac.pruning.weights import weight_report
from tf_prac.registry import item_names
from tf_prac.training.schedules import Budget
from tf_prac.training.trainer import Trainer

ALL = [(p, n) for p in ("stabilizing", "linear_connectivity") for n in item_names(p)]
_RECIPE = {"steps": 24, "batch_size": 64, "rounds": 2, "prune_rate": 0.5, "early_stop_eps": None}
CONFIG = SearchConfig().replace(**_RECIPE, use_cet=False, use_cep=False, prune_last_dense=True)


def tiny(item, presets=()):
    """Returns the item on 300 digits for 24 steps, with one seed and some of the small setups."""
    small = item.scales["small"]
    setups = {
        preset: Setup(
            name=preset, dataset="digits", model="lenet300", limit_train=300, config=CONFIG
        )
        for preset in presets or small.setups
    }
    scale = Scale(name="small", about="digits", seeds=(0,), setups=setups)
    return dataclasses.replace(item, scales={"small": scale})


@pytest.fixture
def few_ks(monkeypatch):
    monkeypatch.setattr(stabilizing, "_SMALL_KS", ("0it", "10it"))
    monkeypatch.setattr(stabilizing, "_SMALL_K", "10it")
    monkeypatch.setattr(linear_connectivity, "_SMALL_KS", ("0it", "10it"))


def check_written(path, result):
    with open(path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row for row in rows)
    verdict = json.loads((path / "verdict.json").read_text())
    assert verdict["verdict"] == result["verdict"] in STATUSES and verdict["checks"]
    assert all((path / name).is_file() for name in result["files"])
    if result["item"] != "figure_2":
        assert "figure.csv" in result["files"]
    return rows


@pytest.mark.parametrize("flavor", ["keras", pytest.param("tf_keras", marks=pytest.mark.slow)])
def test_an_item_runs_once_and_is_read_afterwards(flavor, tmp_path, few_ks, monkeypatch):
    item = tiny(get_item("stabilizing", "figure_4"), [stabilizing.RESNET])
    options = {"keras": flavor, "verbose": False}
    steps = counted(monkeypatch)
    result = reproduce(item, "small", tmp_path, **options)
    assert result["steps"] == sum(steps) <= item.count("small").steps
    rows = check_written(tmp_path / item.name, result)
    assert [row["k"] for row in rows] == ["0", "10"]
    monkeypatch.setattr(Trainer, "train", lambda *a, **k: pytest.fail("trained again"))
    assert reproduce(item, "small", tmp_path, **options) == result


def test_a_replicate_of_two_measures_counts_once(tmp_path, monkeypatch):
    costs = {tmp_path / name: TrainingCost(24, seconds) for name, seconds in (("a", 1.5), ("b", 2))}
    runs = types.SimpleNamespace(replicates=lambda: [types.SimpleNamespace(costs=costs)])
    monkeypatch.setattr(stability_measure, "measure_stability", lambda *_: StabilityRows([], []))
    monkeypatch.setattr(
        connectivity_measure, "measure_connectivity", lambda *_: ConnectivityRows([], [], [])
    )
    item = get_item("linear_connectivity", "figure_6")
    sweep, *parts = item.plan(tiny(item).scale("small"))[:3]
    work = Workplace(tmp_path)
    for part in parts:
        part.run(work, {sweep.name: runs})
    assert work.replicates == costs
    assert trained_cost({sweep.name: None}, work) == {"steps": 48, "seconds": 3.5}


def test_dense_networks_of_all_curves_are_shown():
    setup = types.SimpleNamespace(config=CONFIG, name="s")
    runs = types.SimpleNamespace(accuracies=lambda *_: {0: 0.9}, table=lambda: [], setup=setup)
    item = tiny(get_item("stabilizing", "figure_1"), stabilizing.CIFAR)
    scale = item.scale("small")
    outcome = item.show(scale, {part.name: runs for part in item.plan(scale)})
    kinds = ("", " low", " warmup")
    names = {f"dense {network}{kind}" for network in ("resnet20", "vgg19") for kind in kinds}
    assert dict(outcome.draw.args[1]) == dict.fromkeys(names, 90.0)


def test_parameters_are_counted_as_in_the_paper():
    network = build_model(
        "resnet20_projection", keras="keras", input_shape=(32, 32, 3), num_classes=10
    )
    shapes = {weight.name: list(weight.shape) for weight in weight_report(network)}
    count = stabilizing._parameter_count({"model": shapes})
    assert count == 272_474 + 2 * 784  # BatchNorm's statistics are among the published 274K
    assert round(count, -3) == stabilizing._PARAMETERS[stabilizing.RESNET]


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["stabilizing", "linear_connectivity"])
def test_every_item_runs(paper, tmp_path, few_ks):
    for name in item_names(paper):
        item = tiny(get_item(paper, name))
        result = reproduce(item, "small", tmp_path, verbose=False)
        assert result["steps"] <= item.count("small").steps
        check_written(tmp_path / name, result)


@pytest.mark.parametrize(("paper", "name"), ALL)
def test_steps_are_counted_before_an_item_runs(paper, name):
    """At the scale of the paper they are many; parts are named without clashes."""
    item = get_item(paper, name)
    for scale in ("paper", "small"):
        assert item.count(scale).steps > 0
        names = [part.name for part in item.plan(item.scales[scale])]
        assert len(names) == len(set(names))
    assert item.count("paper").steps > 20 * item.count("small").steps


def connectivity(barriers):
    """Returns rows of the mean test barriers of tickets, by (k, round)."""
    rows = [
        {
            **{"seed": 0, "k": k, "round": n, "density": 0.5**n, "network": "ticket"},
            **{"line": "order", "first": 0, "second": 1},
            **{f"{split}_error_barrier": b for split in ("train", "test")},
            **{f"{split}_loss_barrier": b for split in ("train", "test")},
        }
        for (k, n), b in barriers.items()
    ]
    return ConnectivityRows([], rows, [])


@pytest.mark.parametrize(
    ("barriers", "expected"),
    [
        ({0: 0.5, 10: 0.1, 20: 0.01, 30: 0.0}, 20),
        ({0: 0.5, 10: 0.01, 20: 0.3, 30: 0.0}, 30),  # stable for good
        ({0: 0.0, 10: 0.0}, 0),
        ({0: 0.5, 10: 0.02}, math.inf),
    ],
)
def test_the_k_from_which_a_network_is_stable(barriers, expected):
    found = connectivity({(k, 0): b for k, b in barriers.items()})
    assert linear_connectivity.stable_from(found, 0) == expected


def test_a_network_that_no_tested_k_makes_stable_is_written_as_json():
    scale, name = linear_connectivity.SCALES["paper"], linear_connectivity.RESNET50
    ks = [1252 * epoch for epoch in (0, 1, 5, 10, 18, 30)]
    (check,) = linear_connectivity._stable_check(scale, name, "it", math.inf, "18ep", ks)
    assert (check.status, check.measured) == (NOT_MATCHED, "inf")
    assert json.dumps(check.to_json(), allow_nan=False)


def test_a_published_k_is_matched_up_to_one_tested_k():
    scales, name = linear_connectivity.SCALES, linear_connectivity.RESNET50
    ks = [1252 * epoch for epoch in (0, 1, 5, 10, 18, 30)]
    for epoch, status in ((18, MATCHED), (10, MATCHED), (30, MATCHED), (5, NOT_MATCHED)):
        arguments = name, "it", 1252 * epoch, "18ep", ks
        (check,) = linear_connectivity._stable_check(scales["paper"], *arguments)
        assert (check.status, check.published) == (status, 18 * 1252)
        assert linear_connectivity._stable_check(scales["small"], *arguments) == []
    for preset, ks in linear_connectivity._KS.items():
        setup = scales["paper"].setup(preset)
        budget = Budget.full(setup.config.recipe, setup.train_size)
        steps = budget.steps_per_epoch, budget.total_steps
        numbers = [RewindPoint.parse(k).steps(*steps) for k in ks]
        assert numbers == sorted(set(numbers))
        assert linear_connectivity.DENSE_FROM[preset] in ks
        assert linear_connectivity.SUBNETWORK_FROM.get(preset, ks[0]) in ks


def stability(ticket, random, angle=30.0):
    columns = {"seed": 0, "k": 0, "round": 8, "density": 0.167, "first": 0, "second": 1}
    values = {"angle": angle, "disagreement": 0.1, "loss_distance": 1.0}
    pairs = [
        {**columns, "network": network, "measure": measure, "distance": d, **values}
        for network, distances in (("ticket", ticket), ("random_mask", random))
        for measure, d in zip(("order", "pruning"), distances, strict=True)
    ]
    replicates = [
        {**columns, "network": network, "copy": 0, "test_accuracy": 0.9}
        for network in ("ticket", "random_mask")
    ]
    return StabilityRows(replicates, pairs)


@pytest.mark.parametrize(
    ("preset", "random", "status"),
    [
        (f"{stabilizing.RESNET}_low", (28.9, 26.6), MATCHED),
        (f"{stabilizing.RESNET}_low", (8.0, 26.6), NOT_MATCHED),
        (stabilizing.RESNET, (7.2, 19.9), MATCHED),
        (stabilizing.RESNET, (28.9, 26.6), NOT_MATCHED),
    ],
)
def test_stability_is_judged_by_its_ratios(preset, random, status):
    found = stability((7.1, 19.8), random)
    *numbers, last = stabilizing._stability_checks(preset, found)
    assert last.status == status and last.published is None
    assert all(check.published is not None for check in numbers)
    row = stabilizing.stability_rows(preset, found)[0]
    assert row["ratio"] == pytest.approx(random[0] / 7.1)
    assert row["ratio, paper"] == pytest.approx(row["random, paper"] / row["IMP, paper"])
