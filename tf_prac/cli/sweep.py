"""`tf-prac sweep`."""

from __future__ import annotations

from tf_prac.cli.arguments import refuse_positional
from tf_prac.cli.experiment import define_experiment_flags, experiment_options, print_files
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.cli.settings import read_settings
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
    flags.path("output_dir", None, "Output directory. Default: sweeps/DATASET_MODEL_KERAS.")
    define_experiment_flags(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Runs a sweep."""
    refuse_positional(positional)
    if flags.rewinds is None:
        raise ArgumentError("rewinds", None, "rewind points such as 0it,100it,500it")
    settings = read_settings(flags)
    options = experiment_options(flags, settings, "sweeps")

    load_tensorflow(settings.keras, device=flags.device, quiet=flags.quiet)
    from tf_prac.analysis.sweep import RewindSweep, sweep_text
    from tf_prac.cli.open_run import load_data, model_function

    data = load_data(settings)
    sweep = RewindSweep(
        model_function(settings, data),
        flags.rewinds.split(","),
        settings.config,
        controls=filter(None, flags.controls.split(",")),
        verbose=not flags.quiet,
        **options,
    )
    results = sweep.run(data.train, test=data.test)
    steps = results["steps"]
    print(f"\n{sweep_text(results)}\n")
    print(f"trained  {steps['trained']:,} steps; {steps['shared']:,} more without sharing round 0")
    figures = ("accuracy_remaining.png", "accuracy_steps.png", "accuracy_rewind.png")
    print_files(sweep.directory, *figures)
    return 0
