"""Searches that are stopped from outside, in processes of their own: a short run of the harness.

`python tests/fault_harness.py --kills=50` is the long one.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from tf_prac.keras_api import FLAVOURS

SCENARIOS = ["signals", "two_at_once", "full_disk"]


def harness(keras, *scenarios):
    """The harness with two kills, and the lines that it prints."""
    arguments = ["--digits", "--kills=2", f"--keras={keras}", "--scenarios", *scenarios]
    done = subprocess.run(
        [sys.executable, "tests/fault_harness.py", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    lines = done.stdout.splitlines()
    kills, words = lines[-1].split(maxsplit=1)
    assert int(kills) >= 2 and words.startswith("kills in ")
    return lines


@pytest.mark.parametrize("keras", FLAVOURS)
def test_a_killed_search_ends_like_an_undisturbed_one(keras):
    harness(keras)


@pytest.mark.slow  # a signal has to arrive before the search ends: a quick machine is in the way
@pytest.mark.parametrize("keras", FLAVOURS)
def test_signals_two_searches_and_a_full_disk(keras):
    lines = harness(keras, *SCENARIOS)
    for scenario in SCENARIOS:
        assert f"{keras}: {scenario} as promised" in lines


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
