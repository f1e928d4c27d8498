"""`tf-prac compare`."""

from __future__ import annotations

from tf_prac.analysis.arms import ARMS, chosen_arms
from tf_prac.cli.arguments import refuse_positional
from tf_prac.cli.experiment import define_experiment_flags, experiment_options, print_files
from tf_prac.cli.flags import Flags
from tf_prac.cli.output import define_json_flag, print_json
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.cli.settings import read_settings


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
    flags.path("output_dir", None, "Output directory. Default: comparisons/DATASET_MODEL_KERAS.")
    define_experiment_flags(flags)
    define_json_flag(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Runs a comparison."""
    refuse_positional(positional)
    settings = read_settings(flags)
    options = experiment_options(flags, settings, "comparisons")
    arms = flags.arms.split(",")
    chosen_arms(arms)

    load_tensorflow(settings.keras, device=flags.device, quiet=flags.quiet)
    from tf_prac.analysis.comparison import Comparison
    from tf_prac.analysis.results import results_text
    from tf_prac.cli.open_run import load_data, model_function

    data = load_data(settings)
    comparison = Comparison(
        model_function(settings, data),
        arms,
        settings.config,
        verbose=not (flags.quiet or flags.json),
        **options,
    )
    results = comparison.run(data.train, test=data.test)
    if flags.json:
        parts = {name: results[name] for name in ("table", "cost", "runs")}
        print_json("compare", {"directory": str(comparison.directory), **parts})
        return 0
    print(f"\n{results_text(results)}\n")
    print_files(comparison.directory, "accuracy_remaining.png", "accuracy_steps.png")
    return 0
