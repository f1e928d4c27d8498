"""`tf-prac search`."""

from __future__ import annotations

from tf_prac.cli.arguments import (
    define_accept_versions_flag,
    define_retrain_flag,
    define_strategy_flags,
    read_retrain,
    refuse_positional,
)
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.cli.settings import (
    define_deterministic_flag,
    define_settings_flags,
    read_settings,
)
from tf_prac.config import CheckpointConfig
from tf_prac.extras import require


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "search [--flags]",
        "Finds a winning lottery ticket: each round trains, prunes, finds the PrAC set and "
        "rewinds, and the next round trains on this set only. Then retrains the ticket on the "
        "full data. Run the same command again to resume. Without flags it runs on the digits "
        "data set that it includes.",
    )
    flags.group("Run")
    flags.path("output_dir", None, "Output directory. Default: runs/DATASET_MODEL_KERAS.")
    flags.integer("seed", 0, "Seed of initial weights, split, data order and augmentation.")
    define_deterministic_flag(flags)
    define_retrain_flag(flags, "last")
    flags.boolean("tensorboard", False, "Write events for TensorBoard to RUN/tensorboard.")
    define_accept_versions_flag(flags)
    define_strategy_flags(flags)
    define_settings_flags(flags)
    flags.options("Checkpoints", CheckpointConfig)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Runs a search."""
    refuse_positional(positional)
    settings = read_settings(flags)
    directory = flags.output_dir or f"runs/{settings.name}"
    if flags.tensorboard:
        require("tensorboard", "events for TensorBoard")

    distribution = load_tensorflow(
        settings.keras, flags.strategy, flags.devices, flags.device, quiet=flags.quiet
    )
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
        data_placement=flags.data_placement,
        accept_versions=flags.accept_versions,
        verbose=not flags.quiet,
    )
    callbacks = [TensorBoardCallback(directory, data.train)] if flags.tensorboard else []
    result = search.run(data.train, test=data.test, callbacks=callbacks)
    if not search.distribution.is_chief:
        print(f"worker {search.distribution.worker}: finished; the chief wrote the run")
        return 0
    print(f"\n{summary_table(result.summary)}\n")
    print(f"run      {result.directory}")
    print(f"ticket   {result.directory}/tickets/round_{settings.config.pruning.rounds:02d}")
    print(f"summary  {result.directory}/summary.json")
    return 0
