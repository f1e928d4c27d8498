"""Kills searches with `kill -9` and compares what the same command then finds.

    python tests/fault_harness.py --kills=50

Each trial runs a search of three rounds on MNIST in a process of its own, kills it at a random
moment once or more, and lets the same command finish. Its files then have to be those of an
undisturbed run, to the bit but for times. In every second trial file writes are slowed down, so
that most kills hit one. Processes are forked from one that has imported TensorFlow, which is most
of their start-up.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

SLOW_WRITE = 0.05  # seconds, before and after
TIMES = {"seconds"}
DERIVED = {"files", "made_from", "sha256"}  # digests of files with times in them


def command(keras: str, data_dir: str, directory: pathlib.Path, *more: str) -> list[str]:
    """The search of every trial: checkpoints after each compiled call, early stop possible."""
    return [
        "search",
        "--dataset=mnist",
        f"--data_dir={data_dir}",
        "--limit_train=1500",
        f"--keras={keras}",
        f"--output_dir={directory}",
        "--rounds=3",
        "--prune_rate=0.5",
        "--rewind=7it",
        "--epochs=4",
        "--batch_size=64",
        "--early_stop_eps=0.1",
        "--early_stop_window=2",
        "--deterministic",
        "--checkpoint_seconds=0",
        *more,
    ]


@contextlib.contextmanager
def slow_writes(seconds: float = SLOW_WRITE) -> Iterator[None]:
    """Makes each step of writing a file wait, half-written files included."""
    from tf_prac.training import checkpoint

    def slowed(function: Callable[..., Any]) -> Callable[..., Any]:
        def waiting(*args: Any, **kwargs: Any) -> Any:
            time.sleep(seconds)
            result = function(*args, **kwargs)
            time.sleep(seconds)
            return result

        return waiting

    places = [(os, "fsync"), (os, "replace"), (checkpoint, "_write_tensors"), (shutil, "rmtree")]
    kept = [getattr(owner, name) for owner, name in places]
    for owner, name in places:
        setattr(owner, name, slowed(getattr(owner, name)))
    try:
        yield
    finally:
        for (owner, name), function in zip(places, kept, strict=True):
            setattr(owner, name, function)


def start(arguments: list[str], slow: bool, log: pathlib.Path) -> int:
    """Runs the command in a new process; returns its number."""
    number = os.fork()
    if number:
        return number
    status = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        from tf_prac.cli.main import main

        with slow_writes() if slow else contextlib.nullcontext():
            status = main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def wait(number: int, until: float | None = None) -> int | None:
    """Returns the status of a process as a shell has it, or None if it still runs at `until`."""
    while True:
        found, status = os.waitpid(number, 0 if until is None else os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) % 256
        if time.monotonic() >= until:
            return None
        time.sleep(0.005)


def content(directory: pathlib.Path) -> dict[str, Any]:
    """What a run has found, without times and digests of files that have times."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        name = str(path.relative_to(directory))
        if path.suffix == ".json":
            found[name] = untimed(json.loads(path.read_text()))
        elif path.suffix == ".csv":
            found[name] = [untimed(row) for row in csv.DictReader(path.read_text().splitlines())]
        elif path.name == ".lock" or path.suffix == ".keras":  # has the number or time of a process
            found[name] = None
        else:
            found[name] = path.read_bytes()
    return found


def untimed(value: Any) -> Any:
    """The value without fields of times and digests."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k not in TIMES | DERIVED}
    return [untimed(v) for v in value] if isinstance(value, list) else value


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names the files that are not the same."""
    return sorted(n for n in {*found, *expected} if found.get(n, 0) != expected.get(n, 0))


def place_of(directory: pathlib.Path) -> str:
    """Where in the search a kill hit, as the files tell."""
    if any(directory.rglob(".*.tmp*")):
        return "while a file was written"
    if (directory / "summary.json").exists():
        return "after the end"
    if (directory / "tickets").exists():
        return "in the retraining"
    rounds = len(list(directory.glob("round_*/round.json")))
    return f"in round {rounds}" if directory.exists() else "before the first file"


class Harness:
    """Runs trials of one flavour.

    Args:
        keras: the flavour.
        data_dir: where MNIST is.
        scratch: a directory for the runs.
        seed: of the moments of kills.
    """

    def __init__(self, keras: str, data_dir: str, scratch: pathlib.Path, seed: int = 0):
        self.keras, self.data_dir = keras, data_dir
        self.scratch = scratch / keras
        self.scratch.mkdir()
        self.random = random.Random(f"{keras} {seed}")
        self.hits: collections.Counter[str] = collections.Counter()
        self.expected, self.seconds = {}, {}
        for slow in (False, True):
            directory = self.scratch / f"undisturbed_{slow}"
            began = time.monotonic()
            self._finish(directory, slow)
            self.seconds[slow] = time.monotonic() - began
            found = content(directory)
            assert not differences(found, self.expected or found), "undisturbed runs differ"
            self.expected = found

    def _start(self, directory: pathlib.Path, slow: bool) -> int:
        log = self.scratch / f"{directory.name}.log"
        return start(command(self.keras, self.data_dir, directory), slow, log)

    def _finish(self, directory: pathlib.Path, slow: bool = False) -> None:
        status = wait(self._start(directory, slow))
        log = self.scratch / f"{directory.name}.log"
        assert status == 0, f"{directory}: status {status}\n{log.read_text()[-3000:]}"

    def trial(self, number: int, kills: int) -> int:
        """Kills one search up to `kills` times, finishes and compares it; returns the kills."""
        directory, slow = self.scratch / f"trial_{number:03d}", number % 2 == 1
        killed = 0
        for _ in range(kills):
            delay = self.random.uniform(0.1, 1.0) * self.seconds[slow] / (killed + 1)
            process = self._start(directory, slow)
            if wait(process, time.monotonic() + delay) is not None:
                break
            os.kill(process, signal.SIGKILL)
            assert wait(process) == 256 - signal.SIGKILL
            self.hits[place_of(directory)] += 1
            killed += 1
        self._finish(directory)
        wrong = differences(content(directory), self.expected)
        assert not wrong, f"{directory}: differs in {', '.join(wrong)}"
        shutil.rmtree(directory)
        return killed


def preload() -> None:
    """Imports what a search needs, and runs none of it, so that a fork is safe."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras  # noqa: F401
    import tensorflow_datasets  # noqa: F401
    import tf_keras  # noqa: F401

    import tf_prac.cli.open_run
    import tf_prac.cli.search  # noqa: F401


def main() -> None:
    """Runs trials until there are enough kills, and prints their count."""
    default = pathlib.Path(__file__).resolve().parent.parent.parent / "shared" / "tfds"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="at least as many over both flavours")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    parser.add_argument("--data_dir", default=os.environ.get("TF_PRAC_TEST_DATA", str(default)))
    options = parser.parse_args()
    preload()
    total = trials = 0
    with tempfile.TemporaryDirectory() as scratch:
        for position, keras in enumerate(("keras", "tf_keras")):
            harness = Harness(keras, options.data_dir, pathlib.Path(scratch), options.seed)
            killed, number, wanted = 0, 0, (options.kills + 1 - position) // 2
            while killed < wanted:
                killed += harness.trial(number, harness.random.randint(1, 3))
                number += 1
                print(f"{keras}: {number} trials, {killed} kills, all identical", flush=True)
            print(", ".join(f"{n} {place}" for place, n in harness.hits.most_common()))
            total, trials = total + killed, trials + number
    print(f"{total} kills in {trials} searches; every one ended with the undisturbed run's files")


if __name__ == "__main__":
    main()
