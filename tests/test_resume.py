"""Searches that are stopped from outside, in processes of their own: a short run of the harness.

`python tests/fault_harness.py --kills=50` is the long one.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

import fault_harness
import pytest
from conftest import REPOSITORY

from tf_prac.keras_api import FLAVORS

SCENARIOS = ["signals", "two_at_once", "full_disk"]


def harness(*scenarios, kills=2, keras=FLAVORS):
    """The harness with some kills, and the lines that it prints."""
    arguments = ["--digits", f"--kills={kills}", "--slow_write=0.02", "--keras", *keras]
    arguments += ["--scenarios", *scenarios]
    done = subprocess.run(
        [sys.executable, "tests/fault_harness.py", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    lines = done.stdout.splitlines()
    count, words = lines[-1].split(maxsplit=1)
    assert int(count) >= kills and words.startswith("kills in ")
    return lines


def test_a_killed_search_ends_like_an_undisturbed_one():
    """One kill of each flavor."""
    harness()


@pytest.mark.slow
def test_searches_that_are_killed_while_they_write_end_like_undisturbed_ones():
    harness(kills=4)


def test_a_search_that_ends_just_before_the_kill_is_no_kill(monkeypatch):
    trial = object.__new__(fault_harness.Harness)
    trial.scratch, trial.random, trial.seconds = REPOSITORY, random.Random(0), {False: 0}
    started, finished = [], []
    monkeypatch.setattr(trial, "_start", lambda *_: started.append(run()) or started[-1].pid)
    for name in ("_wait_for_work", "_finish", "_same"):
        monkeypatch.setattr(trial, name, lambda *_: finished.append(True) or True)
    ends = fault_harness.wait

    def run():
        return subprocess.Popen([sys.executable, "-c", ""])

    def still_running(process, until=None):
        if until is None:
            return ends(process)
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        return None

    monkeypatch.setattr(fault_harness, "wait", still_running)
    assert trial.trial(0, kills=1) == 0
    assert started and len(finished) == 3
    started[0].returncode = 0  # the harness has waited for it


@pytest.mark.slow  # a signal has to arrive before the search ends: a quick machine is in the way
@pytest.mark.parametrize("keras", FLAVORS)
def test_signals_two_searches_and_a_full_disk(keras):
    lines = harness(*SCENARIOS, keras=[keras])
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
