"""`tf-prac tune`."""

from __future__ import annotations

from tf_prac.checks import check_int
from tf_prac.cli.arguments import read_seeds
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow, quiet_start
from tf_prac.cli.settings import (
    define_data_flags,
    define_option_flags,
    define_prac_flag,
    read_settings,
)
from tf_prac.config import check_choice, check_number
from tf_prac.errors import ArgumentError, TfPracError
from tf_prac.tuning.space import METRICS, parse_space

ORACLES = {
    "random": "RandomSearchOracle",
    "bayesian": "BayesianOptimizationOracle",
    "grid": "GridSearchOracle",
}


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "tune --space=prune_rate=0.1..0.5,rewind=0it|2% --sparsity=0.9 [--flags]",
        "Searches again and again for a ticket of one sparsity, with options that KerasTuner "
        "chooses, and says which were best on the validation samples. Each search is an ordinary "
        "run. The same command again goes on where it ended.",
    )
    flags.group("Tuning")
    flags.string(
        "space",
        None,
        "Options of the groups below to vary: OPTION=LOW..HIGH, OPTION=LOW..HIGH:log (even over "
        "magnitudes) or OPTION=A|B|C, separated by commas.",
    )
    flags.string("sparsity", "0.9", "That of every ticket, in (0, 1).")
    flags.string("objective", "score", f"What is best, one of {', '.join(METRICS)}.")
    flags.string(
        "steps_weight", "0.1", "score = val_accuracy + this * the fraction of steps saved."
    )
    flags.string("oracle", "bayesian", f"What proposes trials, one of {', '.join(ORACLES)}.")
    flags.integer("max_trials", 10, "Number of trials.")
    flags.string("seeds", "0", "A trial is the mean of searches with these seeds.")
    flags.integer("tuner_seed", 0, "Of the oracle.")
    flags.string("output_dir", None, "Where to. Default tuning/DATASET_MODEL_KERAS.")
    define_data_flags(flags)
    define_prac_flag(flags)
    define_option_flags(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Tunes as the flags say."""
    if positional:
        raise ArgumentError("arguments", " ".join(positional), "flags only")
    if flags.space is None:
        raise ArgumentError("space", None, "options to vary, such as prune_rate=0.1..0.5")
    space = parse_space(flags.space)
    check_choice("objective", flags.objective, tuple(METRICS))
    check_choice("oracle", flags.oracle, tuple(ORACLES))
    check_int("max_trials", flags.max_trials, 1)
    sparsity, steps_weight = _number("sparsity", flags), _number("steps_weight", flags)
    check_number("sparsity", sparsity, above=0, below=1)
    seeds = read_seeds(flags.seeds)
    settings = read_settings(flags)

    load_tensorflow(settings.keras)
    from tf_prac.cli.open_run import load_data, model_function

    try:
        with quiet_start():
            from tf_prac.tuning.tuner import TRIALS, PracTuner, keras_tuner
    except ImportError as error:
        raise TfPracError(str(error)) from error

    data = load_data(settings)
    model_fn = model_function(settings, data)
    oracle = getattr(keras_tuner.oracles, ORACLES[flags.oracle])(
        keras_tuner.Objective(flags.objective, METRICS[flags.objective]),
        max_trials=flags.max_trials,
        seed=flags.tuner_seed,
    )
    oracle.verbose = 0
    tuner = PracTuner(
        oracle,
        lambda hp: model_fn(),
        space,
        recipe=settings.config,
        seeds=seeds,
        directory=flags.output_dir or "tuning",
        project_name="trials" if flags.output_dir else settings.name,
        verbose=True,
        sparsity=sparsity,
        steps_weight=steps_weight,
    )
    try:
        tuner.search(data.train, test=data.test)
    except RuntimeError as error:
        raise TfPracError(str(error).strip().splitlines()[-1]) from error
    best = tuner.best_trial()
    print()
    for row in tuner.rows():
        mark = "*" if row["trial"] == best.trial_id else " "
        print(mark, "  ".join(f"{name} {_shown(value)}" for name, value in row.items()))
    print(f"\nbest     {tuner.run_path(best)}  (tf-prac info shows it)")
    print(f"trials   {tuner.project_dir}/{TRIALS}")
    return 0


def _number(name: str, flags: Flags) -> float:
    text = getattr(flags, name)
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(name, text, "a number") from None


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
