"""The public names have types that a user's own type checker sees."""

from __future__ import annotations

import re
import subprocess
import sys

from source_tree import ROOT

SCRIPT = """
import numpy as np

from tf_prac import (
    Range, ConstantSparsity, ForgettingLogger, ForgettingStats, MaskDistance, Masks,
    PracConfig, PracModel, PracSet, PruningConfig, RewindCheckpoint, SampleScores, SampleSet,
    SparsityLogger, Targets, Ticket, TicketSearch, TrainingRecipe, global_magnitude, load_dataset,
    prune, rewind, snapshot, strip,
)

x, y = np.zeros((20, 4), np.float32), np.zeros(20, np.int64)


def search(make_model: object) -> Ticket:
    recipe = TrainingRecipe(epochs=2, milestones=(0.5, "8ep"))
    pruning, prac = PruningConfig(rounds=2), PracConfig(early_stop_eps=None)
    run = TicketSearch(lambda: make_model, recipe, pruning, prac, directory="run", retrain=(1, 2))
    result = run.run((x, y), test=(x, y))
    reveal_type(result.tickets)
    reveal_type(result.summary["cost"])
    return Ticket.load("run/tickets/round_02")


def fit(network: object) -> None:
    model = PracModel(network, num_samples=20, targets=Targets("binary", output=0))
    logger, scores = ForgettingLogger((x, y)), SampleScores((x, y), "el2n", every=2)
    watch, early = MaskDistance(0.2, eps=0.07), RewindCheckpoint("5it")
    callbacks = [logger, scores, watch, early, SparsityLogger(per_layer=True)]
    model.compile("sgd", "mse")
    model.fit(x, y, callbacks=callbacks)
    reveal_type(logger.stats)
    reveal_type(logger.stats.critical_for_training())
    reveal_type(scores.highest(3))
    reveal_type(early.weights)
    reveal_type(watch.distances)
    reveal_type(model.masks.sparsity)
    rewind(network, early.weights, watch.tentative)
    strip(prune(network, schedule=ConstantSparsity(0.5, begin_step=0)))
    reveal_type(PracSet([1, 2], [], 20).ids)
    reveal_type(SampleSet.load("a.npz").ids)
    reveal_type(Range(0.1, 0.2).log)
    reveal_type(global_magnitude(snapshot(network)))
    reveal_type(len(load_dataset("digits").train))
    Masks(1)  # wrong
    TrainingRecipe(epochs="2")  # wrong
    Ticket.load()  # wrong
"""
ANY_ARRAY = "ndarray[tuple[Any, ...], dtype[Any]]"
REVEALED = {
    "list[Ticket]",
    "Any",
    "ForgettingStats",
    ANY_ARRAY,
    f"dict[str, {ANY_ARRAY}]",
    "list[float]",
    "float",
    "bool",
    "Masks",
    "int",
}


def test_a_user_s_script_is_checked_by_the_types_of_the_library(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    options = ["--ignore-missing-imports", "--follow-imports=silent", "--config-file="]
    cache = f"--cache-dir={tmp_path / 'cache'}"
    command = [sys.executable, "-m", "mypy", *options, cache, "--strict", str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    wrong = [n for n, line in enumerate(SCRIPT.splitlines(), 1) if line.endswith("# wrong")]
    errors = [line for line in lines if ": error:" in line]
    assert [int(line.split(":")[1]) for line in errors] == wrong, "\n".join(errors)
    found = re.findall(r'Revealed type is "(.*?)"', done.stdout)
    assert len(found) == SCRIPT.count("reveal_type")
    plain = {re.sub(r"(?:\w+\.)+(\w+)", r"\1", kind) for kind in found}
    # NumPy 2.2, the newest for Python 3.10, shows arrays without a shape.
    plain = {kind.replace("ndarray[Any, Any]", ANY_ARRAY) for kind in plain}
    assert plain <= REVEALED, plain - REVEALED


def test_the_package_says_that_it_has_types():
    assert (ROOT / "tf_prac" / "py.typed").is_file()
