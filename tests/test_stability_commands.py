"""`tf-prac stability` and `tf-prac connectivity`: results, and input that is refused."""

from __future__ import annotations

import csv
import json
import shlex
import shutil

import pytest

from tf_prac import plotting
from tf_prac.cli.main import main
from tf_prac.cli.runs import search_command
from tf_prac.storage.files import write_json
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.trainer import Trainer

QUICK = (
    "--epochs=2 --rounds=2 --prune_rate=0.5 --limit_train=300 --batch_size=64 --retrain=none "
    "--prac=none --prune_last_dense --layer_rates=output=0.1"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two initializations at k = 0 and one at k = 4."""
    directory = tmp_path_factory.mktemp("runs")
    found = {}
    for name, flags in (("a", "--seed=0"), ("b", "--seed=1"), ("k4", "--rewind=4it")):
        place = f"--output_dir={directory / name}"
        rewind = [] if "rewind" in flags else ["--rewind=0it"]
        assert main(["search", *QUICK.split(), *flags.split(), *rewind, place]) == 0
        found[name] = directory / name
    return found


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run(command, paths, output, *flags):
    return main([command, *map(str, paths), f"--output_dir={output}", *flags])


def test_stability_over_initializations_and_orders(runs, tmp_path, capsys, monkeypatch):
    flags = ("--copies=2", "--rounds=2")
    assert run("stability", [runs["a"], runs["b"]], tmp_path, *flags) == 0
    printed = capsys.readouterr().out
    assert "stability to" in printed and "random mask" in printed and "data order" in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if str(tmp_path) not in line)
    summary = rows_of(tmp_path / "summary.csv")
    assert [(r["network"], r["measure"], r["samples"]) for r in summary] == [
        ("ticket", "order", "2"),
        ("ticket", "pruning", "2"),
        ("random_mask", "order", "2"),
        ("random_mask", "pruning", "2"),
    ]
    pairs = rows_of(tmp_path / "pairs.csv")
    values = [float(r["angle"]) for r in pairs if r["measure"] == "order"][:2]
    for row in summary:
        angles = [
            float(r["angle"])
            for r in pairs
            if (r["network"], r["measure"]) == (row["network"], row["measure"])
        ]
        assert float(row["angle_min"]) == min(angles) and float(row["angle_max"]) == max(angles)
        assert 0 < float(row["angle"]) < 180
    assert len(set(values)) == 2
    assert {r["seed"] for r in rows_of(tmp_path / "copies.csv")} == {"0", "1"}
    for name in ("stability", "accuracy"):
        assert all((tmp_path / f"{name}.{suffix}").exists() for suffix in ("csv", "png", "svg"))

    # The same again trains nothing and writes the same; only a missing replicate is trained.
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(plotting, "can_draw", lambda: False)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", lambda *a, **k: pytest.fail("trained again"))
        assert run("stability", [runs["a"], runs["b"]], tmp_path, *flags) == 0
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    gone = runs["b"] / "copies" / "round_02_ticket_01.npz"
    content = gone.read_bytes()
    gone.unlink()
    trained = []
    train = Trainer.train
    monkeypatch.setattr(
        Trainer, "train", lambda self, *a, **k: trained.append(a) or train(self, *a, **k)
    )
    assert run("stability", [runs["a"], runs["b"]], tmp_path, *flags) == 0
    assert len(trained) == 1 and len(gone.read_bytes()) > len(content) / 2


def test_connectivity_over_k_and_sparsity(runs, tmp_path, capsys):
    flags = ("--rounds=0,1,2", "--points=3", "--samples=100", "--successive")
    assert run("connectivity", [runs["k4"], runs["a"]], tmp_path, *flags) == 0
    printed = capsys.readouterr().out
    assert "error barriers: mean (min to max)" in printed and "dense" in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if str(tmp_path) not in line)
    barriers = rows_of(tmp_path / "barriers.csv")
    keys = {(r["k"], r["round"], r["line"]) for r in barriers}
    assert keys == {
        *((k, r, "order") for k in "04" for r in "012"),
        *((k, r, "rounds") for k in "04" for r in "12"),
    }
    assert [r["k"] for r in rows_of(tmp_path / "summary.csv")] == ["0"] * 5 + ["4"] * 5
    points = rows_of(tmp_path / "points.csv")
    for row in barriers:
        names = ("k", "round", "line", "first", "second")
        along = [
            float(p["test_error"]) for p in points if all(p[name] == row[name] for name in names)
        ]
        assert len(along) == 3
        expected = max(along) - (along[0] + along[-1]) / 2
        assert float(row["test_error_barrier"]) == pytest.approx(expected)
    for name in ("interpolation", "barrier", "grid"):
        assert all((tmp_path / f"{name}.{suffix}").exists() for suffix in ("csv", "png", "svg"))
    assert list(rows_of(tmp_path / "grid.csv")[0]) == ["density", "k=0", "k=4"]


def test_the_command_of_a_run_makes_that_run(runs, tmp_path, capsys):
    config = json.loads((runs["k4"] / "config.json").read_text())
    command = shlex.split(search_command(tmp_path / "again", config))
    assert command[:2] == ["tf-prac", "search"]
    assert main(command[1:]) == 0
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again == config
    for path in ("tickets/round_02/masks.npz", "rewind.npz"):
        assert (tmp_path / "again" / path).read_bytes() == (runs["k4"] / path).read_bytes()


def test_the_command_of_a_run_of_a_sweep(runs):
    config = json.loads((runs["a"] / "config.json").read_text())
    config["search"]["also_keep"] = ["4it"]
    assert search_command("out/rewind_0it/seed_0", config).startswith("tf-prac sweep, with")
    assert " out was started" in search_command("out/rewind_0it/seed_0", config)


@pytest.mark.parametrize("command", ["stability", "connectivity"])
def test_runs_that_do_not_fit_or_lack_tickets(command, runs, tmp_path, capsys):
    unfinished, output = tmp_path / "unfinished", tmp_path / "out"
    shutil.copytree(runs["a"], unfinished)
    (unfinished / "summary.json").unlink()
    other = tmp_path / "other"
    shutil.copytree(runs["a"], other)
    config = RunDirectory(other).config()
    config["recipe"]["batch_size"] = 65
    write_json(other / "config.json", "config", config)
    a, b = str(runs["a"]), str(runs["b"])
    for arguments, named in (
        ([a, a], "directories that are all different"),
        ([a, str(other)], "batch_size: 64 requested, but the run in"),
        (
            [str(unfinished)],
            "search is not finished. To resume it, run: tf-prac search --dataset=digits",
        ),
        ([str(unfinished)], f"--output_dir={unfinished}"),
        ([a, b, "--rounds=3"], "--rounds: received 3; allowed: tickets of"),
        ([a, b, "--rounds=3"], "--rounds=3 --prune_rate=0.5"),
        ([a, "--copies=1"], "--copies: received 1; allowed: an integer >= 2"),
    ):
        before = sorted(tmp_path.rglob("*"))
        assert run(command, arguments, output) == 2
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1 and named in errors, errors
        assert sorted(tmp_path.rglob("*")) == before
