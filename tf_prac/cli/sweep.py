"""`tf-prac sweep`."""

from __future__ import annotations

from tf_prac.cli.arguments import (
    define_device_flag,
    define_placement_flag,
    define_retrain_flag,
    read_retrain,
    read_seeds,
    refuse_positional,
)
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.cli.settings import (
    define_deterministic_flag,
    define_settings_flags,
    read_settings,
)
from tf_prac.errors import ArgumentError


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "sweep --rewinds=0it,500it [--flags]",
        "Runs a search for each of several rewind points k, which share the training of the dense "
        "network. Retrains tickets and their controls, and draws test accuracy against remaining "
        "weights and against k. Each search is an ordinary run. Run the same command again to "
        "resume.",
    )
    flags.group("Sweep")
    flags.string("rewinds", None, "Rewind points, such as 0it,100it,500it; replaces --rewind.")
    flags.string(
        "controls", "", "Controls to retrain for each ticket: any of random_mask, reinit, both."
    )
    flags.string(
        "seeds", "0", "Seeds of initial weights, split, data order, augmentation and controls."
    )
    flags.string("output_dir", None, "Output directory. Default: sweeps/DATASET_MODEL_KERAS.")
    define_retrain_flag(flags, "all")
    define_deterministic_flag(flags)
    define_device_flag(flags)
    define_placement_flag(flags)
    define_settings_flags(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Runs a sweep."""
    refuse_positional(positional)
    if flags.rewinds is None:
        raise ArgumentError("rewinds", None, "rewind points such as 0it,100it,500it")
    settings = read_settings(flags)
    seeds = read_seeds(flags.seeds)

    load_tensorflow(settings.keras, device=flags.device, quiet=flags.quiet)
    from tf_prac.analysis.sweep import RewindSweep, sweep_text
    from tf_prac.cli.open_run import load_data, model_function
    from tf_prac.plotting import NO_PICTURES, can_draw

    data = load_data(settings)
    sweep = RewindSweep(
        model_function(settings, data),
        flags.rewinds.split(","),
        settings.config,
        controls=filter(None, flags.controls.split(",")),
        seeds=seeds,
        directory=flags.output_dir or f"sweeps/{settings.name}",
        retrain=read_retrain(flags.retrain),
        deterministic=flags.deterministic,
        data_placement=flags.data_placement,
        labels=settings.labels,
        verbose=not flags.quiet,
    )
    results = sweep.run(data.train, test=data.test)
    steps, directory = results["steps"], sweep.directory
    print(f"\n{sweep_text(results)}\n")
    print(f"trained  {steps['trained']:,} steps; {steps['shared']:,} more without sharing round 0")
    print(f"results  {directory}/results.csv, results.json, cost.csv, runs.csv")
    figures = f"{directory}/accuracy_remaining.png, accuracy_rewind.png"
    print(f"figures  {figures if can_draw() else NO_PICTURES}")
    return 0
