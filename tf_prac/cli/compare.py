"""`tf-prac compare`."""

from __future__ import annotations

from tf_prac.analysis.arms import ARMS, chosen_arms
from tf_prac.cli.arguments import (
    define_device_flag,
    define_placement_flag,
    define_retrain_flag,
    read_retrain,
    read_seeds,
    refuse_positional,
)
from tf_prac.cli.flags import Flags
from tf_prac.cli.output import define_json_flag, print_json
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.cli.settings import (
    define_deterministic_flag,
    define_settings_flags,
    read_settings,
)


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "compare [--flags]",
        "Compares PrAC with baselines, ablations and controls (the arms), from the same initial "
        "weights and data order. Writes a table and figures: test accuracy against remaining "
        "weights and against training steps. Run the same command again to resume, or to add arms "
        "and seeds.",
    )
    flags.group("Comparison")
    arms = "; ".join(f"{name}: {arm.about}" for name, arm in ARMS.items())
    flags.string(
        "arms", "prac,imp,imp+early_stop,prac-early_stop", f"Arms, separated by commas. {arms}."
    )
    flags.string("seeds", "0,1,2", "Seeds of initial weights, split, data order and augmentation.")
    flags.string("output_dir", None, "Output directory. Default: comparisons/DATASET_MODEL_KERAS.")
    define_retrain_flag(flags, "all")
    define_deterministic_flag(flags)
    define_device_flag(flags)
    define_placement_flag(flags)
    define_settings_flags(flags)
    define_json_flag(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Runs a comparison."""
    refuse_positional(positional)
    settings = read_settings(flags)
    arms, seeds = flags.arms.split(","), read_seeds(flags.seeds)
    chosen_arms(arms)

    load_tensorflow(settings.keras, device=flags.device, quiet=flags.quiet)
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
        data_placement=flags.data_placement,
        labels=settings.labels,
        verbose=not (flags.quiet or flags.json),
    )
    results = comparison.run(data.train, test=data.test)
    directory = comparison.directory
    if flags.json:
        parts = {name: results[name] for name in ("table", "cost", "runs")}
        print_json("compare", {"directory": str(directory), **parts})
        return 0
    print(f"\n{results_text(results)}\n")
    print(f"results  {directory}/results.csv, results.json, cost.csv, runs.csv")
    figures = f"{directory}/accuracy_remaining.png, accuracy_steps.png"
    print(f"figures  {figures if can_draw() else NO_PICTURES}")
    return 0
