"""`tf-prac search`."""

from __future__ import annotations

import dataclasses

from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.config import PRESETS, PracConfig, PruningConfig, TrainingRecipe, check_choice
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVOURS
from tf_prac.models import MODELS


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "search [--flags]",
        "Finds a winning lottery ticket: trains, prunes, finds the PrAC set, rewinds, and trains "
        "again on that set alone; then retrains the ticket on the full data. The same command "
        "again goes on where it ended. Without flags it runs on the digits of scikit-learn.",
    )
    flags.group("Run")
    flags.string("dataset", "digits", "digits, folder, or a TFDS name such as mnist or cifar10.")
    flags.string("data_dir", None, "Where the data set is; nothing is downloaded.")
    flags.integer("limit_train", None, "Use only the first n training samples.")
    flags.string("model", "lenet300", f"One of {', '.join(MODELS)}.")
    flags.string("keras", "keras", f"Flavour, one of {', '.join(FLAVOURS)}.")
    flags.string("output_dir", None, "The run's directory. Default runs/DATASET_MODEL_KERAS.")
    flags.integer("seed", 0, "Of initial weights, split, data order and augmentation.")
    flags.boolean("deterministic", False, "Only operations independent of thread timing.")
    flags.string("retrain", "last", "Tickets to retrain on the full data: last, all or none.")
    flags.string("prac", "paper", f"Preset of the options below: {', '.join(PRESETS)}.")
    flags.options("Training", TrainingRecipe)
    flags.options("Pruning and rewinding", PruningConfig)
    flags.options("PrAC sets and early stop", PracConfig)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Runs a search as the flags say."""
    if positional:
        raise ArgumentError("arguments", " ".join(positional), "flags only")
    check_choice("prac", flags.prac, tuple(PRESETS))
    check_choice("keras", flags.keras, FLAVOURS)
    check_choice("model", flags.model, tuple(MODELS))
    preset = PRESETS[flags.prac]
    recipe = TrainingRecipe(**flags.given(TrainingRecipe))
    pruning = PruningConfig(**{**preset.pruning, **flags.given(PruningConfig)})
    prac = dataclasses.replace(preset.prac, **flags.given(PracConfig))
    labels = {
        "dataset": flags.dataset,
        "data_dir": flags.data_dir,
        "limit_train": flags.limit_train,
        "model": flags.model,
    }
    directory = flags.output_dir or f"runs/{flags.dataset}_{flags.model}_{flags.keras}"

    load_tensorflow(flags.keras)
    from tf_prac.cli.open_run import make_search

    search, data = make_search(
        labels,
        flags.keras,
        recipe,
        pruning,
        prac,
        directory=directory,
        seed=flags.seed,
        retrain=flags.retrain,
        deterministic=flags.deterministic,
    )
    from tf_prac.progress import summary_table

    result = search.run(data.train, test=data.test)
    print(f"\n{summary_table(result.summary)}\n")
    print(f"run      {result.directory}")
    print(f"ticket   {result.directory}/tickets/round_{pruning.rounds:02d}")
    print(f"figures  {result.directory}/summary.json")
    return 0
