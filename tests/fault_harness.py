"""Kills searches with `kill -9` and compares what the same command then finds.

    python tests/fault_harness.py --kills=50

Before that, for each Keras: SIGINT and SIGTERM, two searches at once, and a disk that is full. Each
trial runs a search of three rounds in a process of its own, kills it at a random moment once or
more, and lets the same command finish. Its files then have to be those of an undisturbed run, to
the bit but for times. In every second trial file writes are slowed down, so that most kills hit
one. Processes are forked from one that has imported TensorFlow, which is most of their start-up.
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
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

TIMES = {"seconds", "search_seconds", "timing", "display"}
SIZES = {f"size.{suffix}" for suffix in ("txt", "json", "csv", "png", "svg")}
UNSTABLE = {".lock", *SIZES}  # with the number of a process; with times, and sizes of .keras files
DERIVED = {"files", "made_from", "sha256"}  # digests of files with times in them


def command(data: list[str], keras: str, directory: pathlib.Path) -> list[str]:
    """The search of every trial: checkpoints after each compiled call, early stop possible."""
    return [
        "search",
        *data,
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
    ]


@contextlib.contextmanager
def slow_writes(seconds: float) -> Iterator[None]:
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


def start(
    arguments: list[str],
    slow: float,
    log: pathlib.Path,
    most_bytes: int = 0,
    prepare: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> int:
    """Runs the command in a new process, where no file may be larger; returns its number.

    `slow` is how many seconds each step of writing a file waits, before and after. The command
    runs in the context that `prepare` returns there.
    """
    number = os.fork()
    if number:
        return number
    status = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        from tf_prac.cli.main import _terminate, execute

        signal.signal(signal.SIGTERM, _terminate)  # as the script does
        if most_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        with slow_writes(slow) if slow else contextlib.nullcontext(), prepare():
            status = execute(arguments)
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
        if path.name in UNSTABLE or path.suffix == ".keras":
            found[name] = None
        elif path.suffix == ".json":
            found[name] = untimed(json.loads(path.read_text()))
        elif path.suffix == ".csv":
            found[name] = [untimed(row) for row in csv.DictReader(path.read_text().splitlines())]
        elif path.name.startswith("events.out."):  # named after the time and the process
            found[f"{path.parent.relative_to(directory)}/events"] = None
        elif path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                arrays = {n.removesuffix(".npy"): archive.read(n) for n in archive.namelist()}
            found[name] = {n: b for n, b in arrays.items() if n not in {*TIMES, "__sha256__"}}
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
    if (directory / "summary.json").exists():
        return "after the end"
    place = f"in round {len(list(directory.glob('round_*/round.json')))}"
    if not (directory / "config.json").exists():
        place = "before the first round"
    elif (directory / "tickets").exists():
        place = "in the retraining"
    return place + ", half a file" * any(directory.rglob(".*.tmp*"))


def checkpoints_in(directory: pathlib.Path) -> set[pathlib.Path]:
    """The checkpoints of a run, which may be written and removed during the listing."""
    try:
        return set(directory.rglob("checkpoints/step_*"))
    except FileNotFoundError:
        return set()


class Harness:
    """Runs searches of one flavor, and disturbs them.

    Args:
        keras: the flavor.
        data: flags that name the data set.
        scratch: a directory for the runs.
        seed: of the moments of kills.
        slow_write: seconds that slow writes wait.
    """

    def __init__(
        self, keras: str, data: list[str], scratch: pathlib.Path, seed: int, slow_write: float
    ):
        self.keras, self.data, self.slow_write = keras, data, slow_write
        self.scratch = scratch / keras
        self.scratch.mkdir()
        self.random = random.Random(f"{keras} {seed}")
        self.hits: collections.Counter[str] = collections.Counter()
        self.seconds: dict[bool, float] = {}
        self.expected = self._undisturbed(False)

    def _undisturbed(self, slow: bool) -> dict[str, Any]:
        directory = self.scratch / f"undisturbed_{slow}"
        began = time.monotonic()
        self._finish(directory, slow)
        self.seconds[slow] = time.monotonic() - began
        return content(directory)

    def _start(self, directory: pathlib.Path, slow: bool = False, most_bytes: int = 0) -> int:
        arguments = command(self.data, self.keras, directory)
        wait = self.slow_write if slow else 0.0
        return start(arguments, wait, self._log(directory), most_bytes)

    def _log(self, directory: pathlib.Path) -> pathlib.Path:
        return self.scratch / f"{directory.name}.log"

    def _finish(self, directory: pathlib.Path, slow: bool = False) -> None:
        status = wait(self._start(directory, slow))
        assert status == 0, f"{directory}: {status}\n{self._log(directory).read_text()[-3000:]}"

    def _same(self, directory: pathlib.Path) -> None:
        wrong = differences(content(directory), self.expected)
        assert not wrong, f"{directory}: differs in {', '.join(wrong)}"
        shutil.rmtree(directory)

    def _said(self, directory: pathlib.Path) -> str:
        """The last line of the search."""
        return self._log(directory).read_text().splitlines()[-1]

    def trial(self, number: int, kills: int) -> int:
        """Kills one search up to `kills` times, finishes and compares it; returns the kills."""
        directory, slow = self.scratch / f"trial_{number:03d}", number % 2 == 1
        if slow not in self.seconds:
            assert not differences(self._undisturbed(slow), self.expected)
        killed = 0
        for _ in range(kills):
            process = self._start(directory, slow)
            early = self.random.random() < 0.2  # in the start-up, as a rule; else in what follows
            if not (early or self._wait_for_work(directory, process)):
                break
            rest = self.seconds[slow] / 2 / (killed + 1)
            if wait(process, time.monotonic() + self.random.uniform(0, rest)) is not None:
                break
            os.kill(process, signal.SIGKILL)
            if (status := wait(process)) == 0:  # it ended between the two lines above
                break
            assert status == 256 - signal.SIGKILL, self._said(directory)
            self.hits[place_of(directory)] += 1
            killed += 1
        self._finish(directory)
        self._same(directory)
        return killed

    def signals(self) -> None:
        """SIGINT, then SIGTERM, each in a training; the search then goes on from a checkpoint."""
        directory = self.scratch / "signals"
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            process = self._start(directory)
            assert self._wait_for_work(directory, process), self._said(directory)
            os.kill(process, number)
            assert wait(process) == status, self._said(directory)
            assert self._said(directory).endswith("run the same command again to resume.")
        self._finish(directory)
        assert self._log(directory).read_text().count("resuming at step") >= 2
        self._same(directory)

    def two_at_once(self) -> None:
        """A second search in the directory is refused while the first runs, which is not hurt."""
        directory = self.scratch / "two"
        first = self._start(directory)
        assert self._wait_for_work(directory, first), self._said(directory)
        second = start(command(self.data, self.keras, directory), 0.0, self.scratch / "second.log")
        assert wait(second) == 2
        said = (self.scratch / "second.log").read_text().splitlines()[-1]
        assert f"{directory}: another search works in it (process {first})." in said, said
        assert wait(first) == 0
        self._same(directory)

    def full_disk(self) -> None:
        """No file may be larger than 60 kB, then than 300 kB; then there is room."""
        directory = self.scratch / "full"
        for most_bytes in (60_000, 300_000):
            status = wait(self._start(directory, most_bytes=most_bytes))
            said = self._said(directory)
            assert status == 2 and "cannot be written: " in said and "File too large" in said, said
            assert not list(directory.rglob(".*.tmp*"))
        self._finish(directory)
        self._same(directory)

    def _wait_for_work(self, directory: pathlib.Path, process: int) -> bool:
        """Waits until a checkpoint is there that was not; returns whether the process runs."""
        before = checkpoints_in(directory)
        while not checkpoints_in(directory) - before:
            if wait(process, time.monotonic() + 0.005) is not None:
                return False
        return True


def preload() -> None:
    """Imports what a search needs, and runs none of it, so that a fork is safe."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras  # noqa: F401
    import tensorflow_datasets  # noqa: F401
    import tf_keras  # noqa: F401

    import tf_prac.cli.open_run
    import tf_prac.cli.search  # noqa: F401


def main() -> None:
    """Runs scenarios, then trials until there are enough kills, and prints their count."""
    default = pathlib.Path(__file__).resolve().parent.parent.parent / "shared" / "tfds"
    data_dir = os.environ.get("TF_PRAC_TEST_DATA", str(default))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="at least as many over all flavors")
    parser.add_argument("--keras", nargs="+", default=["keras", "tf_keras"], help="flavors")
    parser.add_argument("--scenarios", nargs="*", default=["signals", "two_at_once", "full_disk"])
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    parser.add_argument("--slow_write", type=float, default=0.05, help="seconds, before and after")
    parser.add_argument("--digits", action="store_true", help="on digits, in place of MNIST")
    options = parser.parse_args()
    data = ["--dataset=digits"]
    if not options.digits:
        data = ["--dataset=mnist", f"--data_dir={data_dir}", "--limit_train=1500"]
    preload()
    total = trials = 0
    with tempfile.TemporaryDirectory() as scratch:
        for position, keras in enumerate(options.keras):
            harness = Harness(keras, data, pathlib.Path(scratch), options.seed, options.slow_write)
            for scenario in options.scenarios:
                getattr(harness, scenario)()
                print(f"{keras}: {scenario} as promised", flush=True)
            killed, number = 0, 0
            wanted = (options.kills + position) // len(options.keras)
            while killed < wanted:
                most = min(3, wanted - killed)
                killed += harness.trial(number, harness.random.randint(1, most))
                number += 1
                print(f"{keras}: {number} trials, {killed} kills, all identical", flush=True)
            print(", ".join(f"{n} {place}" for place, n in harness.hits.most_common()))
            total, trials = total + killed, trials + number
    print(f"{total} kills in {trials} searches; every one ended with the undisturbed run's files")


if __name__ == "__main__":
    main()
