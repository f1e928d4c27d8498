"""Exactly the pruned elements are 0, with any way of training, also after loading."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import battery
import pytest

# Each model, kind, optimizer and precision at least once.
COVERING = [
    "convolutional-wrapped-adamw-float32",
    "convolutional-keras-adam-mixed_bfloat16",
    "shared-keras-ema-mixed_float16",
    "shared-tf_keras-ema-mixed_float16",
    "attention-tf_keras-clipnorm-mixed_bfloat16",
    "subclassed-keras-sgd-float32",
]


def run(phase, directory, cases):
    """One process for all cases; the rows that it prints, by case."""
    script = pathlib.Path(battery.__file__)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), phase, str(directory), *cases],
        capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == len(cases), result.stderr[-3000:]
    return {row.pop("case"): row for row in rows}


def check(directory, cases):
    before, after = run("first", directory, cases), run("second", directory, cases)
    wrong = {
        case: (before[case], after[case])
        for case in cases
        if before[case].get("wrong") != 0 or after[case] != before[case]
    }
    assert not wrong, json.dumps(wrong, indent=1).replace("\\n", "\n")
    for row in before.values():
        assert row["pruned"] == int(row["size"] * 0.7 + 0.5)


def test_a_covering_part_of_the_battery(tmp_path):
    check(tmp_path, COVERING)


@pytest.mark.slow
def test_the_whole_battery(tmp_path):
    check(tmp_path, list(battery.CASES))
