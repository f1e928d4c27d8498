"""What several commands take: the directory of a run, and the number of a ticket."""

from __future__ import annotations

import pathlib

from tf_prac.cli.flags import Flags
from tf_prac.errors import ArgumentError
from tf_prac.storage.run_directory import RunDirectory

RETRAIN_HELP = "Tickets to retrain on the full data: last, all, none, or numbers such as 4,8,12."


def ticket_flags(usage: str, about: str) -> Flags:
    """Defines the flags of a command about one ticket of a run."""
    flags = Flags(usage, about)
    flags.group("Ticket")
    flags.integer("round", None, "The ticket after so many prunings. Default: the last.")
    flags.string("data_dir", None, "Where the data set is now. Default: where it was.")
    return flags


def define_strategy_flags(flags: Flags) -> None:
    """Defines the flags that spread a training over devices, in the present group."""
    flags.string(
        "strategy",
        "one",
        "Devices: one, mirrored (all of this machine), multi_worker (a process on each machine, "
        "named in the environment variable TF_CONFIG) or tpu (named in TPU_NAME). batch_size is "
        "that of all devices together.",
    )
    flags.integer(
        "devices",
        None,
        "How many devices mirrored uses: GPUs, or without any parts of the CPU. Default all GPUs.",
    )


def run_argument(positional: list[str]) -> RunDirectory:
    """Returns the run that is a command's one argument; raises `ArgumentError` otherwise."""
    if len(positional) != 1:
        raise ArgumentError("RUN", " ".join(positional), "the directory of one run")
    if not pathlib.Path(positional[0]).is_dir():
        raise ArgumentError("RUN", positional[0], "an existing directory")
    return RunDirectory(positional[0])


def distinct_runs(positional: list[str]) -> list[RunDirectory]:
    """Returns the runs that a command names, at least one; raises `ArgumentError` otherwise."""
    runs = [run_argument([path]) for path in positional] or [run_argument([])]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ArgumentError("RUN", " ".join(positional), "directories that are all different")
    return runs


def check_round(number: int | None, rounds: int) -> int:
    """Returns the ticket that --round names, by default the last."""
    if number is None:
        return rounds
    if not 0 <= number <= rounds:
        raise ArgumentError("round", number, f"a ticket of the run, 0 to {rounds}")
    return number


def read_retrain(text: str) -> str | tuple[int, ...]:
    """Returns what --retrain says: a word, or the numbers of tickets."""
    numbers = text.split(",")
    return tuple(int(n) for n in numbers) if all(n.strip().isdecimal() for n in numbers) else text


def read_seeds(text: str) -> tuple[int, ...]:
    """Returns what --seeds says; raises `ArgumentError` unless it is a list of integers."""
    try:
        return tuple(int(seed) for seed in text.split(","))
    except ValueError as error:
        raise ArgumentError("seeds", text, "integers >= 0, separated by commas") from error
