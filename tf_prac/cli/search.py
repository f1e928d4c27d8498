"""`tf-prac search`."""

from __future__ import annotations

from tf_prac.cli.arguments import RETRAIN_HELP, define_strategy_flags, read_retrain
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.cli.settings import (
    define_data_flags,
    define_option_flags,
    define_prac_flag,
    read_settings,
)
from tf_prac.config import CheckpointConfig
from tf_prac.errors import ArgumentError


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "search [--flags]",
        "Finds a winning lottery ticket: trains, prunes, finds the PrAC set, rewinds, and trains "
        "again on that set; then retrains the ticket on the full data. The same command resumes "
        "an unfinished search. Without flags it runs on the digits of scikit-learn.",
    )
    flags.group("Run")
    define_data_flags(flags)
    flags.string("output_dir", None, "The run's directory. Default runs/DATASET_MODEL_KERAS.")
    flags.integer("seed", 0, "Seed of initial weights, split, data order and augmentation.")
    flags.boolean("deterministic", False, "Use only operations independent of thread timing.")
    flags.string("retrain", "last", RETRAIN_HELP)
    flags.boolean("tensorboard", False, "Write events for TensorBoard to RUN/tensorboard.")
    define_strategy_flags(flags)
    define_prac_flag(flags)
    define_option_flags(flags)
    flags.options("Checkpoints", CheckpointConfig)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Runs a search with the options of the flags."""
    if positional:
        raise ArgumentError("arguments", " ".join(positional), "flags only")
    settings = read_settings(flags)
    directory = flags.output_dir or f"runs/{settings.name}"

    distribution = load_tensorflow(settings.keras, flags.strategy, flags.devices)
    from tf_prac.analysis.tensorboard import TensorBoardCallback
    from tf_prac.cli.open_run import load_data, make_search
    from tf_prac.search.progress import summary_table

    data = load_data(settings)
    search = make_search(
        settings,
        data,
        directory=directory,
        seed=flags.seed,
        retrain=read_retrain(flags.retrain),
        deterministic=flags.deterministic,
        checkpoints=CheckpointConfig(**flags.given(CheckpointConfig)),
        strategy=distribution,
    )
    callbacks = [TensorBoardCallback(directory, data.train)] if flags.tensorboard else []
    result = search.run(data.train, test=data.test, callbacks=callbacks)
    if not search.distribution.is_chief:
        print(
            f"worker {search.distribution.worker}: done; the run is in the directory of the chief"
        )
        return 0
    print(f"\n{summary_table(result.summary)}\n")
    print(f"run      {result.directory}")
    print(f"ticket   {result.directory}/tickets/round_{settings.config.pruning.rounds:02d}")
    print(f"summary  {result.directory}/summary.json")
    return 0
