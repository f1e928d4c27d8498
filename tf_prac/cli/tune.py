"""`tf-prac tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tf_prac.checks import check_choice, check_int, check_number, check_seed
from tf_prac.cli.arguments import define_device_flag, read_seeds, refuse_positional
from tf_prac.cli.flags import Flags, read_number
from tf_prac.cli.quiet import load_tensorflow, quiet_start
from tf_prac.cli.settings import define_settings_flags, read_settings
from tf_prac.errors import ArgumentError, TfPracError
from tf_prac.extras import require
from tf_prac.tables import WIDTH, joined
from tf_prac.tuning.space import METRICS, parse_space

if TYPE_CHECKING:
    from tf_prac.tuning.tuner import PracTuner

ORACLES = {
    "random": "RandomSearchOracle",
    "bayesian": "BayesianOptimizationOracle",
    "grid": "GridSearchOracle",
}
_SEED_0 = 2**31 - 1  # KerasTuner takes 0 for no seed, and then draws one


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "tune --space='prune_rate=0.1..0.5,rewind=0it|2%' --sparsity=0.9 [--flags]",
        "Tunes the options of a search for a ticket of a given sparsity with KerasTuner, and "
        "prints which were best on the validation samples. Each search is an ordinary run. Run "
        "the same command again to resume.",
    )
    flags.group("Tuning")
    flags.string(
        "space",
        None,
        "Options to tune, from the groups below, separated by commas: OPTION=LOW..HIGH, "
        "OPTION=LOW..HIGH:log (logarithmic) or OPTION=A|B|C.",
    )
    flags.string("sparsity", "0.9", "Sparsity of every ticket, in (0, 1).")
    flags.string("objective", "score", f"Metric to optimize, one of {', '.join(METRICS)}.")
    flags.string(
        "steps_weight",
        "0.1",
        "Weight of training steps: score = val_accuracy + steps_weight * fraction of steps saved.",
    )
    flags.string("oracle", "bayesian", f"KerasTuner oracle, one of {', '.join(ORACLES)}.")
    flags.integer("max_trials", 10, "Number of trials.")
    flags.string("seeds", "0", "Seeds of the searches of a trial, whose metrics are averaged.")
    flags.integer("tuner_seed", 0, "Seed of the oracle.")
    flags.path("output_dir", None, "Output directory. Default: tuning/DATASET_MODEL_KERAS.")
    define_device_flag(flags)
    define_settings_flags(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Tunes a search."""
    refuse_positional(positional)
    if flags.space is None:
        raise ArgumentError("space", None, "options to tune, such as prune_rate=0.1..0.5")
    space = parse_space(flags.space)
    check_choice("objective", flags.objective, tuple(METRICS))
    check_choice("oracle", flags.oracle, tuple(ORACLES))
    check_int("max_trials", flags.max_trials, 1)
    sparsity = read_number("sparsity", flags.sparsity)
    steps_weight = read_number("steps_weight", flags.steps_weight)
    check_number("sparsity", sparsity, above=0, below=1)
    seeds = read_seeds(flags.seeds)
    settings = read_settings(flags)
    require("keras_tuner", "tuning")

    load_tensorflow(settings.keras, device=flags.device, quiet=flags.quiet)
    from tf_prac.cli.open_run import load_data, model_function

    with quiet_start(not flags.quiet):
        from tf_prac.tuning.tuner import TRIALS, PracTuner, keras_tuner

    data = load_data(settings)
    model_fn = model_function(settings, data)
    tuner = PracTuner(
        _make_oracle(flags, keras_tuner),
        lambda hp: model_fn(),
        space,
        recipe=settings.config,
        seeds=seeds,
        directory=flags.output_dir or "tuning",
        project_name="trials" if flags.output_dir else settings.name,
        verbose=not flags.quiet,
        sparsity=sparsity,
        steps_weight=steps_weight,
    )
    try:
        tuner.search(data.train, test=data.test)
    except RuntimeError as error:
        *_, message = (str(error).strip() or type(error).__name__).splitlines()
        raise TfPracError(message) from error
    _print_trials(tuner)
    print(f"trials   {tuner.project_dir}/{TRIALS}")
    return 0


def _make_oracle(flags: Flags, keras_tuner: Any) -> Any:
    check_seed("tuner_seed", flags.tuner_seed)
    oracle = getattr(keras_tuner.oracles, ORACLES[flags.oracle])(
        keras_tuner.Objective(flags.objective, METRICS[flags.objective]),
        max_trials=flags.max_trials,
        seed=flags.tuner_seed or _SEED_0,
    )
    oracle.verbose = 0
    return oracle


def _print_trials(tuner: PracTuner) -> None:
    """Prints a line for each trial, the best one marked with *."""
    best = tuner.best_trial()
    print()
    for row in tuner.rows():
        mark = "*" if row["trial"] == best.trial_id else " "
        values = (f"{name} {_format(value)}" for name, value in row.items())
        print(mark, joined(values, indent=4, width=WIDTH - 2))
    print(f"\nbest     {tuner.run_path(best)}  (show it with tf-prac info)")


def _format(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
