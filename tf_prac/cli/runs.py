"""What the commands on several finished runs share: opening them, and saying what is missing."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_prac.cli.arguments import distinct_runs
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.config import OPTION_GROUPS
from tf_prac.errors import ArgumentError, FileError
from tf_prac.storage.run_directory import SUMMARY, RunDirectory, check_same

if TYPE_CHECKING:
    from tf_prac.analysis.replicates import Replicates

MAY_DIFFER = ("search.", "versions.", "pruning.rewind", "pruning.rounds")


def open_runs(
    paths: Sequence[str], data_dir: str | None, rounds: Sequence[int]
) -> Iterator[Replicates]:
    """Checks all runs, then opens one after the other.

    Args:
        paths: their directories.
        data_dir: where the data set is now; None: where it was.
        rounds: tickets that each must have.

    Raises:
        ArgumentError: no run, one twice, or one without a ticket of `rounds`.
        FileError: one that is not a run, or not finished; its command is named.
        MismatchError: they differ in more than seed and rewind point.
    """
    runs = distinct_runs(list(paths))
    configs = [run.config() for run in runs]
    for run, config in zip(runs, configs, strict=True):
        check_same(run.path, configs[0], config, MAY_DIFFER)
        _check_tickets(run, config, rounds)
    load_tensorflow(configs[0]["keras"])
    return map(lambda run: _reopen(run, data_dir), runs)


def check_output(directory: str) -> None:
    """Raises `FileError` unless figures can be written to a directory, before any work."""
    path = pathlib.Path(directory)
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise FileError(f"{there}: not a directory that can be written. Name another --output_dir.")


def search_command(path: pathlib.Path | str, config: Mapping[str, Any], **changes: Any) -> str:
    """Returns the command that makes a run; of one that a sweep began, that it was a sweep.

    Args:
        path: the run's directory.
        config: its configuration.
        **changes: flags that are to have other values.
    """
    if "also_keep" in config["search"]:
        return (
            f"tf-prac sweep, with the flags that {pathlib.Path(path).parent.parent} was begun with"
        )
    flags = {k: v for k, v in (config.get("labels") or {}).items() if v is not None}
    flags |= {"keras": config["keras"], **config["search"]}
    for group, options in OPTION_GROUPS.items():
        usual = {field.name: field.default for field in dataclasses.fields(options)}
        for name, value in config[group].items():
            default = usual.get(name)
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


def _check_tickets(run: RunDirectory, config: Mapping[str, Any], rounds: Sequence[int]) -> None:
    if not (run.path / SUMMARY).exists():
        raise FileError(
            f"{run.path}: its tickets are not there, the search is not finished. "
            f"Run: {search_command(run.path, config)}"
        )
    last = config["pruning"]["rounds"]
    if rounds and max(rounds) > last:
        longer = search_command("NEW_RUN", config, rounds=max(rounds))
        raise ArgumentError(
            "rounds", max(rounds), f"tickets of {run.path}, 0 to {last}", f"Run: {longer}"
        )


def _reopen(run: RunDirectory, data_dir: str | None) -> Replicates:
    from tf_prac.analysis.replicates import Replicates
    from tf_prac.cli.open_run import reopen

    search, data = reopen(run, data_dir)
    return Replicates(search, data.train, test=data.test)
