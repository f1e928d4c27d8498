"""`tf-prac compare`."""

from __future__ import annotations

from tf_prac.analysis.arms import ARMS, chosen_arms
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
        "compare [--flags]",
        "Runs PrAC and its controls side by side, from the same initial weights and data order, "
        "and writes one table with figures: test accuracy against remaining weights and against "
        "steps spent. The same command again goes on where it ended; further arms and seeds may "
        "be asked for later.",
    )
    flags.group("Comparison")
    arms = "; ".join(f"{name}: {arm.about}" for name, arm in ARMS.items())
    flags.string("arms", "prac,imp,imp+early_stop,prac-early_stop", f"Any of these. {arms}.")
    flags.string("seeds", "0,1,2", "Of initial weights, split, data order and augmentation.")
    flags.string("output_dir", None, "Where to. Default comparisons/DATASET_MODEL_KERAS.")
    flags.string("retrain", "all", RETRAIN_HELP)
    flags.boolean("deterministic", False, "Only operations independent of thread timing.")
    define_data_flags(flags)
    define_prac_flag(flags)
    define_option_flags(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Runs a comparison as the flags say."""
    if positional:
        raise ArgumentError("arguments", " ".join(positional), "flags only")
    settings = read_settings(flags)
    arms, seeds = flags.arms.split(","), read_seeds(flags.seeds)
    chosen_arms(arms)

    load_tensorflow(settings.keras)
    from tf_prac.analysis.comparison import Comparison
    from tf_prac.analysis.results import results_text
    from tf_prac.cli.open_run import load_data, model_function
    from tf_prac.plotting import NO_PICTURES, can_draw

    data = load_data(settings)
    comparison = Comparison(
        model_function(settings, data),
        arms,
        settings.config,
        directory=flags.output_dir or f"comparisons/{settings.name}",
        seeds=seeds,
        retrain=read_retrain(flags.retrain),
        deterministic=flags.deterministic,
        labels=settings.labels,
    )
    results = comparison.run(data.train, test=data.test)
    print(f"\n{results_text(results)}\n")
    print(f"results  {comparison.directory}/results.csv, results.json, cost.csv, runs.csv")
    if can_draw():
        print(f"figures  {comparison.directory}/accuracy_remaining.png, accuracy_steps.png")
    else:
        print(f"figures  {NO_PICTURES}")
    return 0
