"""What every command that trains takes: data, network and options, from a preset and flags."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_prac.cli.flags import Flags
from tf_prac.config import (
    PRAC_VARIANTS,
    PracConfig,
    PruningConfig,
    SearchConfig,
    TrainingRecipe,
    check_choice,
    check_int,
)
from tf_prac.keras_api import FLAVOURS
from tf_prac.models import MODELS
from tf_prac.presets import PRESETS
from tf_prac.presets.preset import Preset

_DEFAULT = Preset(about="", dataset="digits", model="lenet300")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the flags of a command say.

    Attributes:
        labels: names from which data and network can be made again.
        keras: the flavour.
        config: the options of a search.
    """

    labels: dict[str, Any]
    keras: str
    config: SearchConfig

    @property
    def name(self) -> str:
        """A name for the directory of a run."""
        return f"{self.labels['dataset']}_{self.labels['model']}_{self.keras}"


def define_data_flags(flags: Flags) -> None:
    """Defines the flags that name a preset, data and network, in the present group."""
    flags.string("preset", None, f"Experiment of a paper: {', '.join(PRESETS)}. Flags override it.")
    flags.string(
        "dataset", None, "digits (default), tiny_imagenet, folder, or a TFDS name such as mnist."
    )
    flags.string("data_dir", None, "Where the data set is; nothing is downloaded.")
    flags.integer("image_size", None, "Height and width to resize images to, where sizes differ.")
    flags.integer("limit_train", None, "Use only the first n training samples.")
    flags.string("model", None, f"One of {', '.join(MODELS)}. Default lenet300.")
    flags.string("keras", "keras", f"Flavour, one of {', '.join(FLAVOURS)}.")


def define_option_flags(flags: Flags) -> None:
    """Defines the flags of the option dataclasses."""
    flags.options("Training", TrainingRecipe)
    flags.options("Pruning and rewinding", PruningConfig)
    flags.options("PrAC sets and early stop", PracConfig)


def define_prac_flag(flags: Flags) -> None:
    """Defines the flag that names a variant of the PrAC method, in the present group."""
    names = ", ".join(PRAC_VARIANTS)
    flags.string("prac", None, f"Variant of the PrAC method: {names}. Default paper.")


def read_settings(flags: Flags) -> Settings:
    """Returns what the flags say: defaults, then the preset, then the variant, then flags.

    Raises:
        ArgumentError: a flag has a value that is not allowed.
    """
    preset = _DEFAULT
    if flags.preset is not None:
        check_choice("preset", flags.preset, tuple(PRESETS))
        preset = PRESETS[flags.preset]
    prac_name = preset.prac if flags.prac is None else flags.prac
    model = preset.model if flags.model is None else flags.model
    check_choice("prac", prac_name, tuple(PRAC_VARIANTS))
    check_choice("keras", flags.keras, FLAVOURS)
    check_choice("model", model, tuple(MODELS))
    if flags.image_size is not None:
        check_int("image_size", flags.image_size, 1)
    variant = PRAC_VARIANTS[prac_name]
    pruning = {**preset.pruning, **variant.pruning, **flags.given(PruningConfig)}
    recipe = {**preset.recipe, **variant.recipe, **flags.given(TrainingRecipe)}
    if flags.epochs is not None and flags.steps is None:
        recipe["steps"] = None  # epochs asked for, in place of the steps of a preset
    return Settings(
        labels={
            "dataset": preset.dataset if flags.dataset is None else flags.dataset,
            "data_dir": flags.data_dir,
            "image_size": preset.image_size if flags.image_size is None else flags.image_size,
            "limit_train": flags.limit_train,
            "model": model,
        },
        keras=flags.keras,
        config=SearchConfig(prac=variant.prac).replace(
            **recipe, **pruning, **{**preset.options, **flags.given(PracConfig)}
        ),
    )
