"""Arguments and flags that several commands have: runs, tickets, seeds and devices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tf_prac.cli.flags import Flags
from tf_prac.errors import ArgumentError
from tf_prac.storage.run_directory import RunDirectory


def ticket_flags(usage: str, description: str) -> Flags:
    """Defines the flags of a command about one ticket of a run."""
    flags = Flags(usage, description)
    flags.group("Ticket")
    flags.integer("round", None, "Number of prunings of the ticket. Default: the last ticket.")
    define_data_dir_flag(flags)
    return flags


def define_data_dir_flag(flags: Flags) -> None:
    """Defines --data_dir, for a run whose data set may have been moved, in the current group."""
    flags.path("data_dir", None, "Directory of the data set. Default: as in the search.")


def define_retrain_flag(flags: Flags, default: str) -> None:
    """Defines --retrain, in the current group; `read_retrain` reads it."""
    flags.string(
        "retrain",
        default,
        "Tickets to retrain on the full data: last, all, none, or numbers such as 4,8,12.",
    )


def define_strategy_flags(flags: Flags) -> None:
    """Defines the flags that distribute a training over devices, in the current group."""
    flags.string(
        "strategy",
        "one",
        "Devices: one, mirrored (all GPUs of this machine), multi_worker (a process on each "
        "machine, described by the environment variable TF_CONFIG) or tpu (named in TPU_NAME). "
        "batch_size is the total over all devices.",
    )
    flags.integer(
        "devices",
        None,
        "Number of devices of mirrored: GPUs, or logical devices of the only GPU or of the CPU, "
        "for trying things out. Default: all GPUs.",
    )
    define_device_flag(flags)
    define_placement_flag(flags)


def define_device_flag(flags: Flags) -> None:
    """Defines --device, in the current group."""
    flags.string(
        "device",
        "auto",
        "auto (a GPU if TensorFlow finds one), gpu (an error that says why if it finds none) or "
        "cpu.",
    )


def define_placement_flag(flags: Flags) -> None:
    """Defines --data_placement, in the current group."""
    flags.string(
        "data_placement",
        "auto",
        "Where the samples are: device (in its memory), stream (read with tf.data), or auto, the "
        "device if they fit a quarter of its free memory. Results are the same, and a run can be "
        "resumed with another.",
    )


def define_accept_versions_flag(flags: Flags) -> None:
    """Defines --accept_versions, in the current group."""
    flags.boolean(
        "accept_versions",
        False,
        "Resume a run that was started with other versions of TensorFlow, Keras or tf_prac. "
        "Results may differ in their last bits.",
    )


def refuse_positional(positional: Sequence[str]) -> None:
    """Raises `ArgumentError` if a command that has only flags is given other arguments."""
    if positional:
        raise ArgumentError("arguments", " ".join(positional), "flags only")


def run_argument(positional: Sequence[str]) -> RunDirectory:
    """Returns the run that is a command's only argument; raises `ArgumentError` otherwise."""
    if len(positional) != 1:
        raise ArgumentError("RUN", " ".join(positional), "the directory of one run")
    run = RunDirectory(positional[0])
    if not run.path.is_dir():
        raise ArgumentError("RUN", positional[0], "an existing directory")
    return run


def run_arguments(positional: Sequence[str]) -> list[RunDirectory]:
    """Returns the runs that are a command's arguments, at least one and none twice.

    Raises:
        ArgumentError: If there are none, or one is named twice.
    """
    runs = [run_argument([path]) for path in positional] or [run_argument([])]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ArgumentError("RUN", " ".join(positional), "directories that are all different")
    return runs


def run_names(runs: Sequence[RunDirectory]) -> list[str]:
    """Returns the name of the only run, or the paths of several below their common parent."""
    paths = [run.path.resolve() for run in runs]
    if len(paths) == 1:
        return [paths[0].name]
    common = os.path.commonpath(paths)
    return [os.path.relpath(path, common) for path in paths]


def ticket_argument(
    flags: Flags, positional: Sequence[str]
) -> tuple[RunDirectory, dict[str, Any], int]:
    """Returns the run, its configuration, and the number of the ticket that --round names.

    Raises:
        ArgumentError: If there is not exactly one run, or it has no such ticket.
    """
    run = run_argument(positional)
    config = run.config()
    return run, config, check_round(flags.round, config["pruning"]["rounds"])


def check_round(number: int | None, rounds: int) -> int:
    """Returns the ticket that --round names, by default the last."""
    if number is None:
        return rounds
    if not 0 <= number <= rounds:
        raise ArgumentError("round", number, f"a ticket of the run, 0 to {rounds}")
    return number


def read_retrain(text: str) -> str | tuple[int, ...]:
    """Parses --retrain: a word, or the numbers of tickets."""
    numbers = text.split(",")
    return tuple(int(n) for n in numbers) if all(n.strip().isdecimal() for n in numbers) else text


def read_seeds(text: str) -> tuple[int, ...]:
    """Parses --seeds; raises `ArgumentError` unless it is a list of integers."""
    try:
        return tuple(int(seed) for seed in text.split(","))
    except ValueError as error:
        raise ArgumentError("seeds", text, "integers >= 0, separated by commas") from error
