"""tf_prac changes nothing that a program shares with other libraries."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import global_state

SCRIPT = pathlib.Path(global_state.__file__)


def test_imports_a_search_and_prune_leave_global_state_alone(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == []


def test_a_difference_would_be_seen(monkeypatch):
    before = global_state.state()
    changed = "0" if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "2" else "2"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", changed)
    assert any(
        "environment" in line for line in global_state.differences(before, global_state.state())
    )
