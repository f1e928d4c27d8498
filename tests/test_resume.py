"""Searches that are stopped from outside, in processes of their own: a short run of the harness.

`python tests/fault_harness.py --kills=50` is the long one.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

SCENARIOS = {"keras": ["signals", "two_at_once"], "tf_keras": ["full_disk"]}


@pytest.mark.parametrize("keras", SCENARIOS)
def test_a_stopped_search_ends_like_an_undisturbed_one(keras):
    arguments = ["--digits", "--kills=2", f"--keras={keras}", "--scenarios", *SCENARIOS[keras]]
    done = subprocess.run(
        [sys.executable, "tests/fault_harness.py", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for scenario in SCENARIOS[keras]:
        assert f"{keras}: {scenario} as promised" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 kills in ")


@pytest.mark.slow
def test_fifty_kills_on_mnist(tfds_dir):
    done = subprocess.run(
        [sys.executable, "tests/fault_harness.py", "--kills=50"],
        cwd=REPOSITORY,
        env={**os.environ, "TF_PRAC_TEST_DATA": str(tfds_dir)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    print(done.stdout)
