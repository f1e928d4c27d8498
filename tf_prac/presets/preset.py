"""`Preset`: the data set, network and options of an experiment, by one name."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_prac.config import PRAC_VARIANTS, SearchConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """The data set, network and options that `--preset` sets; other flags override them.

    Example:

        >>> preset = Preset(about="A net", dataset="mnist", model="lenet300", recipe={"epochs": 2})
        >>> preset.prac
        'paper'

    Attributes:
        about: one line: the experiment, its paper and table.
        dataset: name of the data set.
        model: a key of `tf_prac.models.MODELS`.
        image_size: height and width that images are resized to; None: not resized.
        prac: a key of `tf_prac.config.PRAC_VARIANTS`.
        recipe: fields of `TrainingRecipe` that differ from their defaults.
        pruning: fields of `PruningConfig` that differ from their defaults.
        options: fields of `PracConfig` that differ from the variant `prac`.
    """

    about: str
    dataset: str
    model: str
    image_size: int | None = None
    prac: str = "paper"
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)
    pruning: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def config(self, prac: str | None = None, **options: Any) -> SearchConfig:
        """Returns the options of a search.

        Args:
            prac: the PrAC variant, which overrides the preset. Default None: that of the preset.
            **options: options of any group; they override the variant.

        Raises:
            ArgumentError: If an option does not exist, or a value is not allowed.
        """
        variant = PRAC_VARIANTS[self.prac if prac is None else prac]
        recipe, pruning = {**self.recipe, **variant.recipe}, {**self.pruning, **variant.pruning}
        return SearchConfig(prac=variant.prac).replace(
            **{**recipe, **pruning, **self.options, **options}
        )
