"""Reproductions: every plan is valid and counted, items run end to end, and resume."""

from __future__ import annotations

import dataclasses
import json

import pytest
from source_tree import ROOT

from tf_prac.analysis.reproduce.count import Count
from tf_prac.analysis.reproduce.item import get_item
from tf_prac.analysis.reproduce.parts import Arms, Runs, Sweep
from tf_prac.analysis.reproduce.prac import accuracy_item
from tf_prac.analysis.reproduce.prac_sets import _section_4_1_plan as section_plan
from tf_prac.analysis.reproduce.prac_sets import _show_section_4_1 as show_section_4_1
from tf_prac.analysis.reproduce.run import reproduce
from tf_prac.analysis.reproduce.setup import TRAIN_SIZES, Scale, Setup
from tf_prac.analysis.reproduce.verdict import (
    MATCHED,
    NOT_JUDGED,
    NOT_MATCHED,
    UNDECIDED,
    as_good,
    holds,
    holds_between,
    near,
    sparsest_within,
    ticket_near,
    verdict_of,
    worse,
)
from tf_prac.cli.main import main
from tf_prac.cli.reproduce import _checks_text
from tf_prac.config import SearchConfig
from tf_prac.data.datasets import load_dataset
from tf_prac.data.tfds_source import open_builder
from tf_prac.errors import FileError
from tf_prac.keras_api import FLAVORS
from tf_prac.models import MODELS
from tf_prac.registry import ITEMS, PAPERS, item_names
from tf_prac.storage.files import read_csv
from tf_prac.training.trainer import Trainer

ALL = [(key.partition("/")[0], key.partition("/")[2]) for key in ITEMS]
SCALES = ("paper", "small")


@pytest.mark.parametrize(("paper", "name"), ALL, ids=list(ITEMS))
def test_every_plan_is_valid_and_counted(paper, name):
    item = get_item(paper, name)
    assert (item.paper, item.name) == (paper, name) and item.title and item.source
    assert set(item.scales) == set(SCALES)
    for scale in SCALES:
        plan = item.plan(item.scale(scale))
        assert len({part.name for part in plan}) == len(plan)
        for part in plan:
            assert part.count().steps > 0
            if isinstance(part, (Arms, Sweep)):
                assert part.setup.model in MODELS and part.setup.dataset in TRAIN_SIZES
                assert len(part.seeds) in (1, 2, 3)
        assert item.count(scale) == sum((part.count() for part in plan), Count())
    assert item.count("paper").steps >= item.count("small").steps


def test_parts_with_the_same_name_are_the_same_runs():
    for scale in SCALES:
        options: dict = {}
        for paper, name in ALL:
            item = get_item(paper, name)
            for part in item.plan(item.scale(scale)):
                if isinstance(part, (Arms, Sweep)):
                    same = (part.setup, part.retrain, type(part))
                    assert options.setdefault((paper, part.name), same) == same, part.name


def test_a_shared_dense_network_counts_once():
    def summary(ticket=False, dense_round=False):
        tickets = [{"retrain_steps": 9, "seconds": 2.0, "dense_from": ticket}, {"retrain_steps": 8}]
        rounds = [{"steps": 12, "seconds": 5.0, "dense_from": dense_round}]
        cost = {"search_steps": 20, "retrain_steps": 8, "reference_steps": 9}
        return {"tickets": tickets, "rounds": rounds, "controls": [], "cost": cost}

    runs = Runs(None, {"fast": {0: summary()}, "gradual": {0: summary(ticket=True)}}, None, None)
    assert runs.steps == (20 + 8 + 9) + (20 + 8)
    assert runs.seconds == (5 + 2) + 5
    sweep = Runs(None, {"0it": {0: summary()}, "9it": {0: summary(dense_round=True)}}, None, None)
    assert sweep.steps == (20 + 8 + 9) + (20 - 12 + 8 + 9)
    assert sweep.seconds == (5 + 2) + 2


def test_saved_steps_do_not_depend_on_the_order_of_arms():
    scale = get_item("prac", "section_4_1").scale("small")
    steps = {"prac-early_stop": 200, "prac": 100}
    summaries = {arm: {0: {"cost": {"search_steps": count}}} for arm, count in steps.items()}
    results = {part.name: Runs(part.setup, summaries, None, None) for part in section_plan(scale)}
    saves = [c for c in show_section_4_1(scale, results).checks if "both save" in c.statement]
    assert [check.status for check in saves] == [MATCHED] * len(results)
    assert saves[0].measured.startswith("100, 200 and ")


def test_the_known_sizes_are_those_of_the_data(tfds_dir):
    assert len(load_dataset("digits").train) == TRAIN_SIZES["digits"]
    assert open_builder("mnist", tfds_dir).info.splits["train"].num_examples == 60_000


def test_the_paper_scale_has_the_authors_options_and_the_row_at_96_percent():
    item = get_item("prac", "table_a3")
    (part,) = item.plan(item.scale("paper"))
    config = part.setup.config
    assert config.prac.budget == "epochs_truncated" and config.prac.early_stop_eps == 0.08
    assert part.count() == Count(3 * 16 * 64_064, 3 * 16 * 64_064 * 128, at_most=True)
    assert round(100 * (1 - 0.8 ** (config.pruning.rounds - 1)), 2) == 96.48


def tiny(**options):
    """A scale in which every preset is a LeNet on digits for two epochs."""
    base = {"epochs": 4, "batch_size": 128, "rewind": "1it", "prune_last_dense": True}
    setup = Setup(
        name="tiny",
        dataset="digits",
        model="lenet300",
        limit_train=300,
        config=SearchConfig().replace(**{**base, **options}),
    )
    presets = {
        preset: dataclasses.replace(setup, name=f"tiny_{number}" if number else "tiny")
        for number, preset in enumerate(get_item("prac", "figure_1").scale("small").setups)
    }
    return Scale(name="small", about="tiny", seeds=(0, 1), setups=presets)


def tiny_item(name, **options):
    return dataclasses.replace(get_item("prac", name), scales={"small": tiny(**options)})


def files_of(directory):
    """The results of an item, without the seconds that it took."""
    texts = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    verdict = json.loads(texts.pop("verdict.json"))
    return texts | {"verdict": {k: v for k, v in verdict.items() if k not in ("seconds", "sha256")}}


@pytest.mark.parametrize("flavor", FLAVORS)
def test_an_item_runs_end_to_end(flavor, tmp_path, monkeypatch):
    item, options = tiny_item("figure_2"), {"keras": flavor, "verbose": False}
    result = reproduce(item, "small", tmp_path, **options)
    assert result["steps"] == item.count("small").steps == 12
    assert {"table.csv", "table.md", "figure.csv"} <= set(result["files"])
    table = (tmp_path / "figure_2/table.md").read_text()
    assert item.title in table and result["verdict"] in table
    monkeypatch.setattr(Trainer, "train", lambda *a, **k: pytest.fail("trained again"))
    assert reproduce(item, "small", tmp_path, **options) == result


@pytest.mark.parametrize("flavor", ["keras", pytest.param("tf_keras", marks=pytest.mark.slow)])
def test_a_resumed_item_equals_an_uninterrupted_one(flavor, tmp_path, monkeypatch):
    item = dataclasses.replace(
        accuracy_item("mine", "Mine", "Figure 0", arms=("imp",), checks=lambda *_: [], rounds=2),
        scales={"small": dataclasses.replace(tiny(), seeds=(0,))},
    )
    options = {"keras": flavor, "verbose": False}
    result = reproduce(item, "small", tmp_path / "whole", **options)
    assert Count(result["steps"], result["steps"] * 128) == item.count("small")
    train, calls = Trainer.train, []

    def interrupted(self, *args, **kwargs):
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train", interrupted)
        reproduce(item, "small", tmp_path / "resumed", **options)
    assert not (tmp_path / "resumed/mine").exists()
    reproduce(item, "small", tmp_path / "resumed", **options)
    assert files_of(tmp_path / "whole/mine") == files_of(tmp_path / "resumed/mine")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for paper, name in ALL if paper == "prac"])
def test_every_item_of_the_prac_paper_runs_at_a_tiny_scale(name, tmp_path):
    item = tiny_item(name, validation_split=0.2)
    result = reproduce(item, "small", tmp_path, verbose=False)
    assert result["steps"] <= item.count("small").steps
    assert read_csv(tmp_path / name / "table.csv")
    published = [check for check in result["checks"] if check["published"] is not None]
    assert all(check["status"] == NOT_JUDGED for check in published)


def test_table_1_is_that_of_the_presets(tmp_path):
    result = reproduce(get_item("prac", "table_1"), "paper", tmp_path)
    assert result["verdict"] == MATCHED and result["steps"] == 0
    assert len(result["checks"]) == len(read_csv(tmp_path / "table_1/table.csv")) == 14


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "table_1").mkdir()
    (tmp_path / "table_1/table.csv").write_text("mine")
    with pytest.raises(FileError, match="table_1: not empty and not a reproduction"):
        reproduce(get_item("prac", "table_1"), "small", tmp_path)
    (tmp_path / "table_1/verdict.json").write_text("mine")
    with pytest.raises(FileError, match=r"verdict.json: damaged"):
        reproduce(get_item("prac", "table_1"), "small", tmp_path)
    assert (tmp_path / "table_1/table.csv").read_text() == "mine"
    assert len(list((tmp_path / "table_1").iterdir())) == 2


@pytest.mark.parametrize("paper", PAPERS)
def test_the_page_has_every_item(paper):
    page = (ROOT / "docs/reproduce.md").read_text(encoding="utf-8")
    table = page.split(f"`--paper={paper}`, ")[1].split("\n\n")[1]
    for name in item_names(paper):
        item = get_item(paper, name)
        assert f"| `{name}` | {item.title} | " in table
        if paper == "prac":
            counts = [item.count(scale) for scale in SCALES]
            cells = [f"{'≤ ' if count.at_most else ''}{count.steps:,}" for count in counts]
            assert f"| {item.title} | {' | '.join(cells)} |" in table


def test_verdicts():
    reference = {0: 0.90, 1: 0.92, 2: 0.91}

    def plus(*points):
        return {s: a + d / 100 for (s, a), d in zip(reference.items(), points, strict=True)}

    assert as_good("", plus(-0.2, -0.3, -0.1), reference, 1.0).status == MATCHED
    assert as_good("", plus(-4.2, -4.3, -4.1), reference, 1.0).status == NOT_MATCHED
    assert as_good("", plus(-4, 4, 0), reference, 1.0).status == UNDECIDED
    assert as_good("", {0: 0.9}, reference, 1.0).status == UNDECIDED
    assert worse("", plus(-2, -2.1, -1.9), reference).status == MATCHED
    assert worse("", plus(2, 2.1, 1.9), reference).status == NOT_MATCHED
    assert worse("", plus(-2, 2, 0), reference).status == UNDECIDED
    assert worse("", plus(-2, -2.1, -1.9), reference).measured.startswith("-2.00 points [-2.25")
    assert near("", 95, 100, relative=0.05).status == MATCHED
    assert near("", 94, 100, relative=0.05).status == NOT_MATCHED
    assert near("", 94, 100, relative=0.05).at_scale(is_paper=False).status == NOT_JUDGED
    assert holds_between("", 17, 18.91, 22.22, slack=2).status == MATCHED
    assert holds_between("", 30, 18.91, 22.22, slack=2).status == NOT_MATCHED
    yes, no = (holds("", value, test="t") for value in (True, False))
    assert yes.at_scale(is_paper=False) == yes
    assert verdict_of([yes, no]) == NOT_MATCHED and verdict_of([yes]) == MATCHED
    assert verdict_of([]) == NOT_JUDGED


def test_the_sparsest_ticket_within_a_point():
    accuracies = enumerate([0.90, 0.91, 0.891, 0.88])
    rows = [{"arm": "a", "round": n, "test_accuracy": value} for n, value in accuracies]
    assert sparsest_within(rows, "a", 1.0) == 2 and sparsest_within(rows, "b", 1.0) is None
    assert ticket_near("a", 2, 3).status == MATCHED and ticket_near("a", 2, 7).measured == "36.00%"
    assert ticket_near("a", 2, 7).status == ticket_near("a", None, 7).status == NOT_MATCHED


def test_the_command_lists_items_with_their_steps(capsys):
    assert main(["reproduce", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    listed = {entry["item"]: entry["scales"] for entry in document["items"]}
    assert list(listed) == item_names("prac")
    assert listed["figure_2"]["paper"] == {"steps": 64064, "samples": 8200192, "at_most": False}
    assert main(["reproduce", "--list", "--item=table_a3"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "≤ 3,075,072" in printed and "figure_2" not in printed


@pytest.mark.parametrize(
    ("measured", "published", "text"),
    [
        ("96.48%", "79.03%", "96.48%, paper 79.03%"),
        (None, "79.03%", "none, paper 79.03%"),
        (0.00123, 0.012, "0.0012, paper 0.012"),
        (94.954, 91.05, "94.95, paper 91.05"),
        (12345, 24168, "12,345, paper 24,168"),
        ("0.071 to 0.001", None, "0.071 to 0.001"),
    ],
)
def test_numbers_and_texts_are_printed_beside_the_published_ones(measured, published, text):
    check = {"status": "matched", "statement": "s", "measured": measured, "published": published}
    assert _checks_text({"checks": [check]}) == f"matched      s: {text}"


def test_the_command_runs_an_item(tmp_path, capsys):
    arguments = ["reproduce", "--item=table_1", f"--output_dir={tmp_path / 'out'}"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "verdict  matched" in printed and "0 steps" in printed
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "matched"
