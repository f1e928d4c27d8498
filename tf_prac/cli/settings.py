"""`Settings`: the data, network and options of a search, from a preset and flags."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_prac.checks import check_choice, check_int
from tf_prac.cli.flags import Flags
from tf_prac.config import (
    OPTION_GROUPS,
    PRAC_VARIANTS,
    PracConfig,
    PruningConfig,
    SearchConfig,
    TrainingRecipe,
)
from tf_prac.data.datasets import check_packages
from tf_prac.keras_api import FLAVORS
from tf_prac.models import MODELS
from tf_prac.presets import PRESETS
from tf_prac.presets.preset import Preset

_DEFAULT = Preset(about="", dataset="digits", model="lenet300")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The data, network and options of a search.

    Attributes:
        labels: the names and sizes from which data set and network can be built again.
        keras: the flavor.
        config: the options of the search.
    """

    labels: dict[str, Any]
    keras: str
    config: SearchConfig

    @property
    def name(self) -> str:
        """The default name of a run's directory."""
        return f"{self.labels['dataset']}_{self.labels['model']}_{self.keras}"


def define_settings_flags(flags: Flags) -> None:
    """Defines the flags of `Settings`: preset, data and network, then the options by group."""
    flags.group("Data and network")
    flags.string(
        "preset",
        None,
        f"Experiment of a paper, which sets the defaults of other flags: {', '.join(PRESETS)}.",
    )
    flags.string(
        "dataset",
        None,
        "digits, tiny_imagenet, folder, or the name of a TensorFlow data set such as mnist. "
        "Default digits.",
    )
    flags.path("data_dir", None, "Directory of the data set; nothing is downloaded.")
    flags.integer(
        "image_size",
        None,
        "Height and width that images are resized to; required if their sizes differ.",
    )
    flags.integer("limit_train", None, "Use only the first n training samples.")
    flags.string("model", None, f"Network, one of {', '.join(MODELS)}. Default lenet300.")
    flags.string("keras", "keras", f"Flavor of Keras, one of {', '.join(FLAVORS)}.")
    names = ", ".join(PRAC_VARIANTS)
    flags.string("prac", None, f"Variant of the PrAC method: {names}. Default paper.")
    flags.options("Training", TrainingRecipe)
    flags.options("Pruning and rewinding", PruningConfig)
    flags.options("PrAC sets and early stop", PracConfig)


def define_deterministic_flag(flags: Flags) -> None:
    """Defines --deterministic, in the current group."""
    flags.boolean(
        "deterministic",
        False,
        "Use deterministic operations only, so results do not depend on timing.",
    )


def read_settings(flags: Flags) -> Settings:
    """Returns the settings; flags override the variant, which overrides preset and defaults.

    Raises:
        ArgumentError: If the value of a flag is not allowed.
        MissingPackageError: If the data set needs a package that is not installed.
    """
    preset = _DEFAULT
    if flags.preset is not None:
        check_choice("preset", flags.preset, tuple(PRESETS))
        preset = PRESETS[flags.preset]
    prac_name = preset.prac if flags.prac is None else flags.prac
    model = preset.model if flags.model is None else flags.model
    check_choice("prac", prac_name, tuple(PRAC_VARIANTS))
    check_choice("keras", flags.keras, FLAVORS)
    check_choice("model", model, tuple(MODELS))
    if flags.image_size is not None:
        check_int("image_size", flags.image_size, 1)
    dataset = preset.dataset if flags.dataset is None else flags.dataset
    check_packages(dataset)
    given = {n: v for group in OPTION_GROUPS.values() for n, v in flags.given(group).items()}
    if flags.epochs is not None and flags.steps is None:
        given["steps"] = None  # --epochs replaces the steps of a preset
    return Settings(
        labels={
            "dataset": dataset,
            "data_dir": flags.data_dir,
            "image_size": preset.image_size if flags.image_size is None else flags.image_size,
            "limit_train": flags.limit_train,
            "model": model,
        },
        keras=flags.keras,
        config=preset.config(prac_name, **given),
    )
