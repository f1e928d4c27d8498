"""What `compare` and `sweep` share: the flags of their searches, and the files they write."""

from __future__ import annotations

import pathlib
from typing import Any

from tf_prac.cli.arguments import (
    define_device_flag,
    define_placement_flag,
    define_retrain_flag,
    read_retrain,
    read_seeds,
)
from tf_prac.cli.flags import Flags
from tf_prac.cli.settings import Settings, define_deterministic_flag, define_settings_flags


def define_experiment_flags(flags: Flags) -> None:
    """Defines the flags of the searches, the first of them in the current group."""
    define_retrain_flag(flags, "all")
    define_deterministic_flag(flags)
    define_device_flag(flags)
    define_placement_flag(flags)
    define_settings_flags(flags)


def experiment_options(flags: Flags, settings: Settings, parent: str) -> dict[str, Any]:
    """Returns the options that `Comparison` and `RewindSweep` have in common.

    Args:
        flags: those of `define_experiment_flags`, and --seeds, --output_dir.
        settings: of the searches.
        parent: the directory in which experiments are by default.

    Raises:
        ArgumentError: If the seeds are not integers.
    """
    return {
        "directory": flags.output_dir or f"{parent}/{settings.name}",
        "seeds": read_seeds(flags.seeds),
        "retrain": read_retrain(flags.retrain),
        "deterministic": flags.deterministic,
        "data_placement": flags.data_placement,
        "labels": settings.labels,
    }


def print_files(directory: pathlib.Path, *figures: str) -> None:
    """Prints the files of an experiment: its tables, and its figures if they can be drawn."""
    from tf_prac.plotting import NO_PICTURES, can_draw

    print(f"results  {directory}/results.csv, results.json, cost.csv, runs.csv")
    written = f"{directory}/{', '.join(figures)}" if can_draw() else NO_PICTURES
    print(f"figures  {written}")
