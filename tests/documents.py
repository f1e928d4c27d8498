"""Documents that fit their schemas: files of a run, and the entries of JSON on standard output."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from source_tree import ROOT

from tf_prac.config import PracConfig, PruningConfig, TrainingRecipe

COUNT = 10
HEAD = ["kind", "schema", "tf_prac"]  # of each JSON object on standard output
IDENTITY = {"name": "mnist", "version": "3", "split": "train", "count": COUNT, "order_hash": "0"}
MODEL = {"conv/kernel": [3, 3, 3, 16], "conv/bias": [16]}


def config(**changes: Any) -> dict[str, Any]:
    """A run configuration."""
    return {
        "recipe": dataclasses.asdict(TrainingRecipe()),
        "pruning": dataclasses.asdict(PruningConfig()),
        "prac": dataclasses.asdict(PracConfig()),
        "search": {"seed": 0, "retrain": "last"},
        "labels": {"dataset": "mnist", "data_dir": None},
        "dataset": IDENTITY,
        "train_samples": COUNT - 1,
        "validation": None,
        "test": None,
        "model": MODEL,
        "keras": "keras",
        "versions": {"tf_prac": "0.1.0"},
        **changes,
    }


def round_metrics(number: int = 0, **changes: Any) -> dict[str, Any]:
    """The metrics of a round."""
    first = {"rewind_sha256": "0" * 64, "test_accuracy": 0.5, "test_accuracy_last": 0.5}
    return {
        "round": number,
        "sparsity": 0.2,
        "next_sparsity": 0.36,
        "train_samples": 9,
        "epochs": 2,
        "steps": 12,
        "samples_seen": 18,
        "stop": "budget",
        "mask_distances": [0.1],
        "cet": 3,
        "cep": 2,
        "overlap": 0.5,
        "prac_size": 4,
        "val_accuracy": 0.5,
        "seconds": 1.5,
        "forward_samples": 20,
        "gradient_samples": 0,
        **({} if number else first),
        **changes,
    }


def ticket_metrics(number: int = 0, **changes: Any) -> dict[str, Any]:
    """The metrics of a retrained ticket."""
    return {
        "round": number,
        "control": "",
        "sparsity": 0.36,
        "val_accuracy": 0.5,
        "test_accuracy": 0.5,
        "test_accuracy_last": 0.5,
        "retrain_steps": 12,
        "forward_samples": 20,
        "seconds": 1.5,
        **changes,
    }


def summary(rounds: int = 5, **changes: Any) -> dict[str, Any]:
    """The summary of a run."""
    return {
        "dataset": {**IDENTITY, "train_samples": COUNT - 1},
        "model": "lenet300",
        "keras": "keras",
        "seed": 0,
        "rewind_step": 3,
        "dense": {"test_accuracy": 0.5, "val_accuracy": 0.5, "steps": 12, "source": "round_00"},
        "rounds": [round_metrics(number) for number in range(rounds)],
        "tickets": [ticket_metrics(number) for number in range(rounds + 1)],
        "controls": [],
        "cost": {
            "search_steps": 60,
            "full_imp_steps": 120,
            "forward_samples": 100,
            "retrain_steps": 12,
            "reference_steps": 0,
            "gradient_samples": 0,
            "steps_saved": 0.5,
            "end_to_end_steps": 72,
            "end_to_end_steps_saved": 0.45,
        },
        **changes,
    }


def documented_entries(command: str) -> list[str]:
    """The entries of a command's JSON object after `HEAD`, as docs/cli.md lists them."""
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| *(.*?) *\| (.*?) \|", page.split("## JSON output")[1], re.M)
    names, current = [], ""
    for first, entries in rows:
        current = first.strip("`") or current
        names += re.findall(r"`(\w+)`", entries) if current == command else []
    return names
