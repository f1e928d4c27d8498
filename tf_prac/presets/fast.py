"""`fast`: a search in a small part of the steps, as a preset and as options for Python.

The variant `PRAC_VARIANTS["fast"]` differs from the PrAC paper in how rounds train: they are short,
at a constant learning rate, and masks are found from the average of their weights; they continue
from the trained weights, and the mask that is found is put on W_k. They train on the full data.
docs/fast.md has the reasons.
"""

from __future__ import annotations

from typing import Any

from tf_prac.config import PRAC_VARIANTS, SearchConfig, TrainingRecipe
from tf_prac.presets.prac import PRAC_PAPER
from tf_prac.presets.preset import Preset

_PAPER = PRAC_PAPER["cifar10_resnet20"]

FAST = {
    "fast": Preset(
        about="ResNet-20 on CIFAR-10 as in the PrAC paper, with short rounds and averaged weights",
        dataset=_PAPER.dataset,
        model=_PAPER.model,
        prac="fast",
        recipe=_PAPER.recipe,
        pruning=_PAPER.pruning,
    )
}


def fast(recipe: TrainingRecipe | None = None, **options: Any) -> SearchConfig:
    """Returns the options of a search in a small part of the steps.

    Example:

        >>> config = fast(TrainingRecipe(epochs=182), rounds=7, rewind="3ep")
        >>> config.prac.dense_budget, config.prac.round_schedule
        ('30%', 'swa')
        >>> search = TicketSearch(make_model, config, directory="run")  # doctest: +SKIP

    Source: docs/fast.md.

    Args:
        recipe: how tickets are retrained; budgets of rounds are fractions of its budget.
            Default `TrainingRecipe()`.
        **options: other options of a search, of any group.

    Raises:
        ArgumentError: If an option does not exist, or a value is not allowed.
    """
    variant = PRAC_VARIANTS["fast"]
    config = SearchConfig(recipe=recipe or TrainingRecipe(), prac=variant.prac)
    return config.replace(**{**variant.pruning, **variant.recipe, **options})
