"""`tf-prac report RUN [RUN...]`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from tf_prac.cli.arguments import define_data_dir_flag, run_arguments, run_names
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.cli.runs import search_command
from tf_prac.errors import TfPracError
from tf_prac.storage.layout import REPORT
from tf_prac.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from tf_prac.data.splits import Split

NO_IMAGES = "--noimages was set."


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "report RUN [RUN...] [--flags]",
        "Writes a report of a search as one self-contained HTML page: accuracy and cost of the "
        "ticket, the samples of the PrAC sets, and every option. Several runs are also compared "
        "side by side. The searches need not be finished.",
    )
    flags.group("Report")
    flags.path(
        "output",
        None,
        "Output file. Default: RUN/report.html, or report.html for several runs.",
    )
    define_data_dir_flag(flags)
    flags.boolean("images", True, "Show samples and classes, which reads the data set.")
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Writes the report of one run or several."""
    from tf_prac.analysis.report.page import write_report
    from tf_prac.analysis.report.run_data import read_run_data

    runs = run_arguments(positional)
    output = pathlib.Path(flags.output or (runs[0].path / REPORT if len(runs) == 1 else REPORT))
    data = []
    for run, name in zip(runs, run_names(runs), strict=True):
        config = run.config()
        train, without = (
            _training_samples(run, config, flags) if flags.images else (None, NO_IMAGES)
        )
        command = _command(config)
        data.append(read_run_data(run, name, command=command, train=train, without_data=without))
    write_report(output, data)
    print(output)
    return 0


def _training_samples(
    run: RunDirectory, config: dict[str, Any], flags: Flags
) -> tuple[Split | None, str]:
    """Returns the training samples of a run, or None and the reason."""
    if "dataset" not in (config.get("labels") or {}):
        return None, "the search was run from Python, on user-provided data."
    load_tensorflow(config["keras"], quiet=flags.quiet)
    from tf_prac.cli.open_run import reopen_data
    from tf_prac.data.splits import make_splits

    try:
        settings, data = reopen_data(run, flags.data_dir)
    except TfPracError as error:
        print(f"{run.path}: no images and no classes in the report. {error}")
        return None, "the data set was not available when this page was written."
    seed = config["search"]["seed"]
    return make_splits(data.train, None, None, settings.config.recipe, seed).train, ""


def _command(config: dict[str, Any]) -> str | None:
    """The command that repeats the run, with placeholders for paths of this machine."""
    if "dataset" not in (config.get("labels") or {}) or "also_keep" in config["search"]:
        return None
    placeholders = {name: name.upper() for name in ("data_dir", "prac_from", "sizes_from")}
    labels = {k: placeholders.get(k, v) if v else v for k, v in config["labels"].items()}
    command = search_command("RUN", {**config, "labels": labels})
    return command.replace(" --nodeterministic", "")
