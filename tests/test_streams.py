"""Outputs that are closed, full or no longer read: no traceback, and no work is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc

import pytest

from tf_prac.cli.main import COMMANDS, main
from tf_prac.cli.streams import Stream
from tf_prac.storage.run_directory import RunDirectory

QUICK = ["--epochs=1", "--rounds=1", "--limit_train=200", "--batch_size=64", "--rewind=0it"]
OUTPUTS = {"closed": (">&-", 0), "full": (">/dev/full", 74), "unread": ("| true", 141)}
SLOW_COMMANDS = {
    "search": [*QUICK, "--output_dir=OUT"],
    "compare": [*QUICK, "--arms=prac,imp", "--output_dir=OUT"],
    "sweep": [*QUICK, "--rewinds=0it,1it", "--output_dir=OUT"],
    "tune": ["--space=prune_rate=0.5|0.6", "--sparsity=0.5", *QUICK[:1], *QUICK[2:4]]
    + ["--max_trials=1", "--oracle=grid", "--output_dir=OUT"],
    "evaluate": ["RUN"],
    "retrain": ["RUN", "--round=1"],
    "stability": ["RUN", "--copies=2", "--output_dir=OUT"],
    "connectivity": ["RUN", "--copies=2", "--points=3", "--output_dir=OUT"],
    "figures": ["RUN", "--output_dir=OUT"],
    "export": ["RUN", "--output=OUT", "--format=npz"],
    "reproduce": ["--item=table_1", "--output_dir=OUT"],
}
FAST_COMMANDS = {
    "info": ["RUN"],
    "report": ["RUN", "--noimages", "--output=OUT"],
    "completion": ["bash"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    assert main(["search", *QUICK, f"--output_dir={path}"]) == 0
    return path


def check(command, arguments, output, run, tmp_path):
    """Runs a command with an output of a kind; it ends as documented and writes its results."""
    copy = shutil.copytree(run, tmp_path / "run")
    arguments = [
        a.replace("RUN", str(copy)).replace("OUT", str(tmp_path / "out")) for a in arguments
    ]
    words = " ".join(f"'{word}'" for word in [sys.executable, "-m", "tf_prac", command, *arguments])
    redirection, expected = OUTPUTS[output]
    script = f"set -o pipefail; {words} {redirection}"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    assert done.returncode == expected, done.stderr
    if expected == 74:
        assert done.stderr == (
            "tf-prac: error: the output could not be written: No space left on device. "
            "The work is finished.\n"
        )
    if any("OUT" in each for each in {**FAST_COMMANDS, **SLOW_COMMANDS}[command]):
        assert (tmp_path / "out").exists()
    if command == "search":
        assert RunDirectory(tmp_path / "out").summary()["rounds"]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("command", FAST_COMMANDS)
def test_a_command_ends_as_documented(command, output, run, tmp_path):
    check(command, FAST_COMMANDS[command], output, run, tmp_path)


def test_a_search_with_a_full_output_is_finished(run, tmp_path):
    check("search", SLOW_COMMANDS["search"], "full", run, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("command", SLOW_COMMANDS)
def test_every_command_ends_as_documented(command, output, run, tmp_path):
    check(command, SLOW_COMMANDS[command], output, run, tmp_path)


def test_every_command_is_in_the_table():
    assert {*FAST_COMMANDS, *SLOW_COMMANDS} == set(COMMANDS)


def test_standard_error_may_be_closed_too(run):
    command = f"'{sys.executable}' -m tf_prac info '{run}' >&- 2>&-"
    assert subprocess.run(["bash", "-c", command]).returncode == 0
    command = f"'{sys.executable}' -m tf_prac info nothing 2>/dev/full"
    assert subprocess.run(["bash", "-c", command]).returncode == 2


class Limited:
    """A stream without room, or whose encoding is ASCII."""

    def __init__(self, room):
        self.room, self.text = room, ""

    def write(self, text):
        text.encode("ascii")
        if len(self.text) + len(text) > self.room:
            raise OSError(28, "No space left on device")
        self.text += text

    def flush(self):
        pass

    def fileno(self):
        raise OSError("none")


def test_a_stream_keeps_its_first_error_and_drops_the_rest():
    stream = Stream(Limited(4), escape=True)
    assert stream.write("abc") == 3 and stream.write("def") == 3 and stream.write("g") == 1
    stream.flush()
    assert stream.error.errno == 28 and stream._stream.text == "abc"


def test_a_stream_escapes_what_controls_a_terminal():
    stream = Stream(Limited(1000), escape=True)
    stream.write("a\x1b[31m\r\x07\tb\n\udcff é")
    assert stream._stream.text == "a\\x1b[31m\\x0d\\x07\tb\n\\udcff \\xe9"
    nowhere = Stream(None, escape=True)
    assert nowhere.write("abc") == 3 and not nowhere.isatty() and nowhere.error is None


def test_many_lines_to_a_closed_output_take_no_memory():
    stream = Stream(None, escape=True)
    tracemalloc.start()
    for _ in range(1000):
        stream.write("x" * 1000)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
