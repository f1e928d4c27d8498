"""`tf-prac sweep`."""

from __future__ import annotations

from tf_prac.cli.arguments import RETRAIN_HELP, read_retrain, read_seeds
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.cli.settings import (
    define_data_flags,
    define_option_flags,
    define_prac_flag,
    read_settings,
)
from tf_prac.errors import ArgumentError


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "sweep --rewinds=0it,500it [--flags]",
        "Searches once for each rewind point k, with the training of the dense network shared, "
        "retrains tickets and their controls, and draws accuracy against remaining weights and "
        "against k. Each search is an ordinary run. The same command again goes on where it ended.",
    )
    flags.group("Sweep")
    flags.string("rewinds", None, "Rewind points: 0it,100it,500it. In place of --rewind.")
    flags.string("controls", "", "Controls of each ticket: any of random_mask, reinit, both.")
    flags.string("seeds", "0", "Of initial weights, split, data order, augmentation and controls.")
    flags.string("output_dir", None, "Where to. Default sweeps/DATASET_MODEL_KERAS.")
    flags.string("retrain", "all", RETRAIN_HELP)
    flags.boolean("deterministic", False, "Only operations independent of thread timing.")
    define_data_flags(flags)
    define_prac_flag(flags)
    define_option_flags(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Runs a sweep as the flags say."""
    if positional:
        raise ArgumentError("arguments", " ".join(positional), "flags only")
    if flags.rewinds is None:
        raise ArgumentError("rewinds", None, "rewind points such as 0it,100it,500it")
    settings = read_settings(flags)
    seeds = read_seeds(flags.seeds)

    load_tensorflow(settings.keras)
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
        labels=settings.labels,
    )
    results = sweep.run(data.train, test=data.test)
    steps = results["steps"]
    print(f"\n{sweep_text(results)}\n")
    print(f"trained  {steps['trained']:,} steps; {steps['shared']:,} more without shared rounds")
    print(f"results  {sweep.directory}/results.csv, results.json, cost.csv, runs.csv")
    if can_draw():
        print(f"figures  {sweep.directory}/accuracy_remaining.png, accuracy_rewind.png")
    else:
        print(f"figures  {NO_PICTURES}")
    return 0
