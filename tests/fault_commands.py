"""Disturbs every command that writes files, at its file operations, and compares what is there.

    python tests/fault_commands.py --count=300 --workers=50      # kill -9
    python tests/fault_commands.py --count=200 --fault=power_failure

Each trial copies a prepared directory, disturbs the command before or after one file operation (see
`file_faults.py`), and runs the same command again until it ends. The files then have to be those of
an undisturbed run, times aside, and no other file may be left: not in the directory, and not among
the temporary files. An operation that fails has to end the command with one line that names a file,
or do no harm. With `--workers`, searches by two workers are killed too: the chief at its file
operations, the other worker with it or after it has noticed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import importlib
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import fault_harness
from fault_harness import content, differences
from file_faults import FAULTS, FileFaults

from tf_prac.cli.main import WORKER_LOST
from tf_prac.storage.atomic import is_temporary

DATA = ["--dataset=digits", "--epochs=1", "--batch_size=256", "--deterministic"]
SEARCH = [*DATA, "--rounds=2", "--prune_rate=0.5", "--rewind=2it", "--checkpoint_steps=3"]
TINY = [*DATA, "--rounds=1", "--prune_rate=0.5", "--retrain=last"]
DEADLY = ("kill", "torn_write", "power_failure")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that is killed.

    Attributes:
        arguments: of the command line, run in the directory of the trial.
        needs: name of the command whose result it starts from, or "".
        share: how often it is disturbed, relative to others: more often if it is quick.
    """

    arguments: list[str]
    needs: str = ""
    share: int = 1


COMMANDS = {
    "search": Command(
        ["search", *SEARCH, "--output_dir=run", "--tensorboard", "--keep_epoch_masks"]
    ),
    "retrain": Command(["retrain", "run", "--round=1", "--control=reinit"], "search"),
    "report": Command(["report", "run"], "search", 4),
    "figures": Command(["figures", "run"], "search", 2),
    "stability": Command(
        ["stability", "run", "--rounds=1", "--copies=2", "--output_dir=out"], "search"
    ),
    "connectivity": Command(
        ["connectivity", "run", "--rounds=1", "--points=3", "--output_dir=out"], "search"
    ),
    "export": Command(["export", "run", "--output=served", "--nocheck"], "search", 3),
    "export --overwrite": Command(
        ["export", "run", "--output=served", "--nocheck", "--overwrite", "--storage=float16"],
        "export",
        3,
    ),
    "export --format=keras": Command(
        ["export", "run", "--output=served", "--nocheck", "--format=keras"], "search", 3
    ),
    "export --format=npz": Command(
        ["export", "run", "--output=served", "--format=npz", "--content=ticket"], "search", 4
    ),
    "export --format=tflite": Command(
        ["export", "run", "--output=served", "--nocheck", "--format=tflite"], "search"
    ),
    "export --report": Command(["export", "run", "--report"], "search"),
    "compare": Command(["compare", *TINY, "--arms=prac,imp", "--seeds=0", "--output_dir=out"]),
    "sweep": Command(["sweep", *TINY, "--rewinds=0it,2it", "--output_dir=out"]),
    "tune": Command(
        [
            "tune",
            *[flag for flag in DATA if flag != "--deterministic"],
            "--rewind=2it",
            "--space=prune_rate=0.3..0.6",
            "--sparsity=0.6",
            "--max_trials=2",
            "--output_dir=out",
        ]
    ),
    "evaluate": Command(["evaluate", "run"], "search"),
    "info": Command(["info", "run"], "search"),
}

COMMAND_MODULES = sorted({f"tf_prac.cli.{each.arguments[0]}" for each in COMMANDS.values()})
REPORT = "run/report.html"
RESULT_EXISTS = ("a directory that does not exist yet", "not empty and not a ")
"""How commands are refused whose output directory contains the result of another."""
READERS = ("evaluate", "info")
IN_PAIRS = [name for name in COMMANDS if name not in ("search", "export --overwrite", *READERS)]


class Undisturbed(NamedTuple):
    """A run without a fault: its directory, what is in it, and its points."""

    directory: pathlib.Path
    content: dict[str, Any]
    points: list[tuple[str, str]]


class Trials:
    """Runs commands in directories of their own, and disturbs them.

    Args:
        keras: the flavor.
        scratch: a directory for the trials.
        seed: of the choice of points.
    """

    def __init__(self, keras: str, scratch: pathlib.Path, seed: int):
        self.keras, self.scratch = keras, scratch
        self.random = random.Random(f"{keras} {seed}")
        self._undisturbed: dict[str, Undisturbed] = {}
        self.failures: list[str] = []
        self._number = 0

    def arguments(self, name: str) -> list[str]:
        """The command line of a command in the flavor."""
        command = COMMANDS[name]
        return [*command.arguments, *([] if command.needs else [f"--keras={self.keras}"])]

    def new_directory(self, name: str) -> pathlib.Path:
        """Returns a directory as the command finds it, under the same name in each trial."""
        directory = self.scratch / f"{self._number}" / self.keras
        self._number += 1
        needs = COMMANDS[name].needs
        if needs:
            shutil.copytree(self.undisturbed(needs).directory, directory)
        else:
            directory.mkdir(parents=True)
        (directory.parent / "tmp").mkdir(exist_ok=True)
        return directory

    def undisturbed(self, name: str) -> Undisturbed:
        """Runs a command once without a fault."""
        if name not in self._undisturbed:
            directory = self.new_directory(name)
            listing = directory.parent / "points.json"
            assert self.run(name, directory, listing=listing) == 0, self.log(directory)
            points = json.loads(listing.read_text())
            assert not (left := leftovers(directory)), left
            self._undisturbed[name] = Undisturbed(directory, content(directory), points)
        return self._undisturbed[name]

    def start(
        self,
        name: str,
        directory: pathlib.Path,
        at: int | None = None,
        fault: str = "kill",
        listing: pathlib.Path | None = None,
        environment: dict[str, str] | None = None,
        arguments: list[str] | None = None,
    ) -> int:
        """Starts a command in a directory, with a fault at a point; returns its process."""
        temporary = directory.parent / "tmp"

        @contextlib.contextmanager
        def prepare() -> Iterator[None]:
            os.chdir(directory)
            os.environ.update(environment or {})
            action, lasting = FAULTS[fault]

            def disturb(faults: FileFaults, operation: str, path: pathlib.Path) -> None:
                if not (hit := directory.parent / "hit").exists():
                    hit.write_text(operation)
                action(faults, operation, path)

            faults = FileFaults([directory, temporary], at, disturb, lasting)
            faults.follows_power = fault == "power_failure"
            with mock.patch.object(tempfile, "tempdir", str(temporary)), faults.injected():
                yield
            if listing is not None:
                listing.write_text(json.dumps([(o, str(p)) for o, p in faults.points]))

        log = directory.parent / "log"
        return fault_harness.start(arguments or self.arguments(name), 0.0, log, prepare=prepare)

    def run(self, name: str, directory: pathlib.Path, **options: Any) -> int:
        """Runs a command to its end; returns its status."""
        status = fault_harness.wait(self.start(name, directory, **options))
        assert status is not None
        return status

    def log(self, directory: pathlib.Path) -> str:
        """The end of what a command has printed."""
        return (directory.parent / "log").read_text()[-3000:]

    def trial(self, name: str, points: list[int], fault: str = "kill") -> list[str]:
        """Disturbs a command at points, one after the other, and lets it finish.

        Returns:
            The operations that were disturbed; a point may come after the end.
        """
        directory, disturbed = self.new_directory(name), []
        for point in points:
            status = self.run(name, directory, at=point, fault=fault)
            if self._is_complete(directory, status):
                break
            self._check_end(name, directory, status, fault)
            if not (hit := self._hit(directory)):
                break
            disturbed.append(hit)
        status = self.run(name, directory)
        complete = status == 0 or self._is_complete(directory, status)
        assert complete, f"{name} after {points}: {self.log(directory)}"
        self.check(name, directory, points)
        return disturbed

    def _is_complete(self, directory: pathlib.Path, status: int) -> bool:
        """Whether a command was refused because the export of an earlier run of it is there."""
        last = self.log(directory).strip().splitlines()[-1:]
        return status == 2 and RESULT_EXISTS[0] in "".join(last)

    def _hit(self, directory: pathlib.Path) -> str:
        """The operation of the last run that was disturbed; "" if none was."""
        file = directory.parent / "hit"
        operation = file.read_text() if file.exists() else ""
        file.unlink(missing_ok=True)
        return operation

    def _check_end(self, name: str, directory: pathlib.Path, status: int, fault: str) -> None:
        """Checks that a disturbed command was killed, succeeded, or told which file failed."""
        log = self.log(directory)
        if fault in DEADLY:
            assert status in (0, 256 - signal.SIGKILL), log
            return
        assert "Traceback" not in log and status in (0, 2), f"{name}: {log}"
        line = log.strip().splitlines()[-1]
        assert status == 0 or re.search(r"error: \S+: .*[.]$", line), f"{name}: {line}"

    def check(self, name: str, directory: pathlib.Path, points: Any) -> None:
        """Compares a directory with the undisturbed run, and removes it."""
        self._compare(f"{name} after {points}", directory, self.undisturbed(name).content)

    def disturb(self, name: str, count: int, fault: str) -> collections.Counter[str]:
        """Disturbs a command at points spread over its run; returns the operations hit."""
        points = len(self.undisturbed(name).points)
        first = spread(points, count, self.random)
        hits: collections.Counter[str] = collections.Counter()
        while points and sum(hits.values()) < count:
            chain = [first.pop()] if first else [self.random.randrange(points)]
            if fault in DEADLY:  # the command that resumes is killed too, up to four times
                more = min(self.random.randrange(5), count - sum(hits.values()) - 1)
                chain += [self.random.randrange(points - chain[0]) for _ in range(more)]
            hits.update(self._tried(lambda chain=chain: self.trial(name, chain, fault)))
        return hits

    def _tried(self, trial: Callable[[], list[str]], title: str = "") -> list[str]:
        """Returns the operations that a trial hits; prints and keeps the error if it fails."""
        try:
            return trial()
        except AssertionError as error:
            print(f"FAILED {title}{error}", flush=True)
            self.failures.append(f"{title}{error}")
            return ["of a trial that failed"]

    def pair(self, first: str, second: str) -> str:
        """Returns what happened in `_pair`; prints and keeps the error if it fails."""
        return self._tried(lambda: [self._pair(first, second)], f"{second} during {first}: ")[0]

    def _pair(self, first: str, second: str) -> str:
        """Runs a command while another is held at a file operation, in one directory.

        Both have to succeed, or the second is refused, because of the first or of its result. Each
        file then has to be that of one of the two; those that differ, all of the same one.

        Returns:
            What happened to the second.
        """
        alone = [self.undisturbed(name) for name in (first, second)]
        directory = self.new_directory("retrain")  # next to a finished search
        point = self.random.randrange(len(alone[0].points))
        holding = self.start(first, directory, at=point, fault="hold")
        while not (directory.parent / "hit").exists():
            ended = fault_harness.wait(holding, time.monotonic() + 0.02)
            assert ended is None, self.log(directory)
        status = self.run(second, directory)
        log = self.log(directory)
        outcome = "both succeed"
        if status:
            outcome = "the second is refused"
            refusals = (f"(process {holding}). Wait for it, or end it.", *RESULT_EXISTS)
            assert any(text in log.splitlines()[-1] for text in refusals), log
        (directory.parent / "go").touch()
        assert fault_harness.wait(holding) in (0, 2), self.log(directory)
        if status:
            status = self.run(second, directory)
            assert status in (0, 2) and "Traceback" not in self.log(directory)
        self._check_not_mixed(content(directory), [run.content for run in alone])
        assert not (left := leftovers(directory)), left
        shutil.rmtree(directory.parent)
        return outcome

    def _check_not_mixed(self, found: dict[str, Any], alone: list[dict[str, Any]]) -> None:
        before = self.undisturbed("search").content
        for name, value in found.items():
            if name == REPORT:  # it shows what the other command has written by then
                assert value.endswith(b"</html>\n")
                continue
            assert any(name in each and each[name] == value for each in (*alone, before)), name
        shared = [n for n in found if n != REPORT and all(n in each for each in alone)]
        differ = [name for name in shared if alone[0][name] != alone[1][name]]
        assert any(all(found[n] == each[n] for n in differ) for each in alone), differ

    def kill_workers(self, kills: int) -> collections.Counter[str]:
        """Kills searches by two workers so often; returns the operations hit."""
        hits: collections.Counter[str] = collections.Counter()
        points = self.worker_points = len(self._of_workers())
        first = spread(points, kills, self.random)
        while sum(hits.values()) < kills:
            chain = [first.pop() if first else self.random.randrange(points)]
            more = min(self.random.randrange(5), kills - sum(hits.values()) - 1)
            chain += [self.random.randrange(points - chain[0]) for _ in range(more)]
            hits.update(self._tried(lambda chain=chain: self._trial_of_workers(chain)))
            print(f"{self.keras}: two workers: {sum(hits.values())} kills", flush=True)
        return hits

    def _trial_of_workers(self, points: list[int]) -> list[str]:
        """Kills two workers at points, one after the other, and lets them finish."""
        directory, killed = self.new_directory("search"), []
        for point in points:
            if not (hit := self._kill_chief(directory, point, self.random.random() < 0.2)):
                break
            killed.append(hit)
        workers = self._start_workers(directory)
        assert [fault_harness.wait(each) for each in workers] == [0, 0], self.log(directory)
        self._compare(f"two workers after {points}", directory, self._by_workers)
        return killed

    def _kill_chief(self, directory: pathlib.Path, point: int, wait: bool) -> str:
        """Kills the chief at a point, and the other worker unless it is waited for."""
        chief, other = self._start_workers(directory, at=point)
        status = fault_harness.wait(chief)
        if not (hit := self._hit(directory)):
            assert (status, fault_harness.wait(other)) == (0, 0), self.log(directory)
            return ""
        assert status == 256 - signal.SIGKILL, self.log(directory)
        # A worker that has not met the chief yet waits for the chief that starts next.
        ended = fault_harness.wait(other, time.monotonic() + 30) if wait else None
        if ended is None:
            os.kill(other, signal.SIGKILL)
            fault_harness.wait(other)
        assert ended in (None, WORKER_LOST, 0), self.log(directory)
        return hit

    def _of_workers(self) -> list[tuple[str, str]]:
        """Runs an undisturbed search by two workers; returns its points."""
        directory = self.new_directory("search")
        listing = directory.parent / "points.json"
        workers = self._start_workers(directory, listing=listing)
        assert [fault_harness.wait(each) for each in workers] == [0, 0], self.log(directory)
        self._by_workers = content(directory)
        return json.loads(listing.read_text())

    def _start_workers(self, directory: pathlib.Path, **options: Any) -> list[int]:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
            for each in sockets:
                each.bind(("localhost", 0))
            addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
        processes = []
        for index in range(2):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            arguments = ["search", *SEARCH, "--rounds=1", "--strategy=multi_worker"]
            arguments += ["--output_dir=run"]
            process = self.start(
                "search",
                directory,
                environment={"TF_CONFIG": json.dumps(task)},
                arguments=[*arguments, f"--keras={self.keras}"],
                **(options if index == 0 else {}),
            )
            processes.append(process)
        return processes

    def _compare(self, title: str, directory: pathlib.Path, expected: dict[str, Any]) -> None:
        """Fails for a directory that differs, or has leftovers; removes it otherwise."""
        found = content(directory)
        for name in differences(found, expected):
            texts = [repr(each.get(name))[:1500] for each in (found, expected)]
            raise AssertionError(
                f"{title}: {directory / name} is not as expected\n" + "\n".join(texts)
            )
        left = leftovers(directory)
        assert not left, f"{title}: leaves {left}"
        shutil.rmtree(directory.parent)


def spread(points: int, kills: int, generator: random.Random) -> list[int]:
    """Returns points spread over a run: each once if there are enough kills, else some."""
    if kills >= points:
        return list(range(points))
    return sorted(
        generator.randrange(k * points // kills, (k + 1) * points // kills) for k in range(kills)
    )


def leftovers(directory: pathlib.Path) -> list[str]:
    """Temporaries in the directory of a trial, and files among the temporary files."""
    left = [str(path) for path in directory.rglob("*") if is_temporary(path.name)]
    return left + [str(path) for path in (directory.parent / "tmp").iterdir()]


def preload() -> None:
    """Imports what the commands need, and runs none of it, so that a fork is safe."""
    fault_harness.preload()
    for name in ("sklearn.datasets", "matplotlib.pyplot", *COMMAND_MODULES):
        importlib.import_module(name)


def main() -> None:
    """Disturbs commands, and prints a line for each and the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="over all commands and flavors")
    parser.add_argument("--workers", type=int, default=0, help="kills with two workers")
    parser.add_argument("--pairs", type=int, default=0, help="pairs of commands in one directory")
    parser.add_argument("--fault", default="kill", choices=FAULTS)
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS), choices=COMMANDS)
    parser.add_argument("--keras", nargs="+", default=["keras", "tf_keras"], help="flavors")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of operations")
    options = parser.parse_args()
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    preload()
    total: collections.Counter[str] = collections.Counter()
    runs = [(keras, name) for keras in options.keras for name in options.commands]
    with tempfile.TemporaryDirectory() as scratch:
        trials = {
            keras: Trials(keras, pathlib.Path(scratch, keras), options.seed)
            for keras in options.keras
        }
        shares = [0, *itertools.accumulate(COMMANDS[name].share for _, name in runs)]
        ends = [options.count * share // max(1, shares[-1]) for share in shares]
        for (keras, name), (begin, end) in zip(runs, itertools.pairwise(ends), strict=True):
            hits = trials[keras].disturb(name, end - begin, options.fault)
            total += report(keras, name, len(trials[keras].undisturbed(name).points), hits)
        named = [name for name in IN_PAIRS if name in options.commands]
        pairs = list(itertools.product(options.keras, named, named))
        outcomes: collections.Counter[str] = collections.Counter()
        for keras, first, second in random.Random(options.seed).sample(
            pairs, min(options.pairs, len(pairs))
        ):
            outcome = trials[keras].pair(first, second)
            print(f"{keras}: {second} while {first} is held: {outcome}", flush=True)
            outcomes[outcome] += 1
        if outcomes:
            tried = sum(outcomes.values())
            print(f"{tried} of {len(pairs)} pairs: {describe(outcomes)}")
        for number, keras in enumerate(options.keras):
            if count := (options.workers + number) // len(options.keras):
                hits = trials[keras].kill_workers(count)
                total += report(keras, "search, two workers", trials[keras].worker_points, hits)
    print(f"{options.fault}: {sum(total.values())} times: {describe(total)}")
    failures = [failure for each in trials.values() for failure in each.failures]
    if failures:
        sys.exit(f"{len(failures)} trials failed")
    print("0 differences from undisturbed runs, 0 mixed files, 0 files left behind")


def report(keras: str, name: str, points: int, hits: collections.Counter) -> collections.Counter:
    """Prints how often a command was disturbed; returns its argument."""
    count = f"{sum(hits.values())} of {points} points"
    print(f"{keras}: {name}: {count}. {describe(hits)}", flush=True)
    return hits


def describe(hits: collections.Counter[str]) -> str:
    """Counts by operation, as a line."""
    return ", ".join(f"{count} {operation}" for operation, count in hits.most_common())


if __name__ == "__main__":
    main()
