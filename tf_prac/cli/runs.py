"""What commands about several finished runs share: flags, opening the runs, and their commands."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_prac.cli.arguments import define_data_dir_flag, define_device_flag, run_arguments
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.config import AUTO, OPTION_GROUPS
from tf_prac.errors import ArgumentError, FileError
from tf_prac.storage.atomic import exclusive
from tf_prac.storage.config_check import check_same
from tf_prac.storage.names import check_name
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.tables import wrapped

if TYPE_CHECKING:
    from tf_prac.analysis.aggregate import Tables
    from tf_prac.analysis.replicates import Replicates

MAY_DIFFER = ("search.", "versions.", "pruning.rewind", "pruning.rounds")


def analysis_flags(usage: str, description: str, output_dir: str) -> Flags:
    """Defines the flags of an analysis of networks that are trained from the W_k of runs."""
    flags = Flags(
        usage,
        f"{description} RUNs may differ in seed (initializations) and rewind point (k). Trained "
        "networks are saved in each RUN; run the same command again to train only those that are "
        "missing.",
    )
    flags.group("Run")
    flags.path("output_dir", output_dir, "Directory of figures and tables.")
    define_data_dir_flag(flags)
    define_device_flag(flags)
    return flags


def open_runs(flags: Flags, paths: Sequence[str], rounds: Sequence[int]) -> Iterator[Replicates]:
    """Checks the output directory and all runs, then opens one run after the other.

    Args:
        flags: the flags of `analysis_flags`.
        paths: the directories of the runs.
        rounds: numbers of tickets that every run must have.

    Raises:
        ArgumentError: If there is no run, one is named twice, or one lacks a ticket.
        FileError: If a directory is not a run, or the run is not finished (the command to finish
            it is named), or the output directory cannot be written.
        MismatchError: If the runs differ in more than seed and rewind point.
    """
    _check_writable(pathlib.Path(flags.output_dir))
    runs = run_arguments(paths)
    configs = [run.config() for run in runs]
    for run, config in zip(runs, configs, strict=True):
        check_same(run.path, configs[0], config, MAY_DIFFER)
        _check_tickets(run, config, rounds)
    load_tensorflow(configs[0]["keras"], device=flags.device, quiet=flags.quiet)
    return (_reopen(run, flags) for run in runs)


def write_analysis(
    directory: str,
    runs: Iterable[Replicates],
    measure: Callable[[Replicates], Tables],
    write: Callable[[str, Tables], list[pathlib.Path]],
    table: Callable[[Tables], str],
) -> None:
    """Measures runs, writes and prints the results.

    Args:
        directory: where the files are written.
        runs: as `open_runs` returns them.
        measure: returns the rows of one run.
        write: writes the rows of all runs to a directory, and returns the files.
        table: formats the rows as text.
    """
    from tf_prac.analysis.aggregate import merged

    with exclusive(directory, f"{directory}: another analysis writes to it"):
        rows = merged([measure(replicates) for replicates in runs])
        files = write(directory, rows)
    print(f"\n{table(rows)}\n")
    names = ", ".join(path.name for path in files)
    print(wrapped(f"results  {names} in {directory}", indent=9))


def check_finished(run: RunDirectory, config: Mapping[str, Any]) -> None:
    """Raises `FileError`, with the command that resumes the search, unless a run is finished."""
    if not run.has_summary:
        raise FileError(
            f"{run.path}: the search is not finished. To resume it, run: "
            f"{search_command(run.path, config)}"
        )


def check_retrained(
    run: RunDirectory, config: Mapping[str, Any], number: int, remedy: str = ""
) -> None:
    """Raises `FileError`, with the command that retrains it, unless a ticket is retrained.

    Args:
        run, config: the run and its configuration.
        number: of the ticket.
        remedy: what else can be done. Default "".
    """
    if run.finished_ticket(number) is None:
        check_finished(run, config)
        raise FileError(
            f"{run.ticket_path(number)}: not retrained yet. Run: tf-prac retrain {run.path} "
            f"--round={number}{remedy}"
        )


def search_command(path: pathlib.Path | str, config: Mapping[str, Any], **changes: Any) -> str:
    """Returns the command that repeats a run, or says that the run is part of a sweep.

    Args:
        path: the directory of the run.
        config: its configuration.
        **changes: flags that have other values.
    """
    if "also_keep" in config["search"]:
        sweep = pathlib.Path(path).parent.parent
        return f"tf-prac sweep, with the flags that {sweep} was started with"
    flags = {k: v for k, v in (config.get("labels") or {}).items() if v is not None}
    flags |= {"keras": config["keras"], **config["search"]}
    for group, options in OPTION_GROUPS.items():
        defaults = {field.name: field.default for field in dataclasses.fields(options)}
        for name, value in config[group].items():
            default = defaults.get(name)
            if default == AUTO and not value:
                continue  # the device decides
            if value != (list(default) if isinstance(default, tuple) else default):
                flags[name] = value
    flags |= {**changes, "output_dir": path}
    return " ".join(["tf-prac search", *(_flag(name, value) for name, value in flags.items())])


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    if isinstance(value, (list, tuple)):
        value = ",".join(map(str, value))
    return f"--{name}={'off' if value is None else value}"


def _check_writable(directory: pathlib.Path) -> None:
    """Raises `FileError` unless a directory can be created or written."""
    check_name(directory)
    existing = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise FileError(
            f"{existing}: not a directory that can be written. Name another --output_dir."
        )


def _check_tickets(run: RunDirectory, config: Mapping[str, Any], rounds: Sequence[int]) -> None:
    check_finished(run, config)
    last = config["pruning"]["rounds"]
    if rounds and max(rounds) > last:
        one_cycle = config["prac"].get("round_schedule") == "one_cycle"
        path = "NEW_RUN" if one_cycle or run.in_experiment else run.path
        longer = search_command(path, config, rounds=max(rounds))
        raise ArgumentError(
            "rounds", max(rounds), f"tickets of {run.path}, 0 to {last}", f"Run: {longer}"
        )


def _reopen(run: RunDirectory, flags: Flags) -> Replicates:
    from tf_prac.analysis.replicates import Replicates
    from tf_prac.cli.open_run import reopen

    search, data = reopen(run, flags.data_dir, verbose=not flags.quiet)
    return Replicates(search, data.train, test=data.test)
