"""`Cost`: the counted steps and samples of a search, compared with a search on the full data.

Source: PrAC paper, Section 4.1 ("training iterations saved"), which counts the SGD steps of the
search alone. The cost of retraining and of the forward passes is counted too.

The steps of iterative magnitude pruning on the full data are counted in two ways, which differ if
the learning rate is rewound (`lr_rewind`): a later round takes the T - k steps after the rewind
point (`full_imp_steps`), or all T steps, as the PrAC paper counts them (`paper_imp_steps`): 442,112
and 448,448 steps for seven rounds of ResNet-20 on CIFAR-10 with k at the third epoch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Cost:
    """Counted cost of a search, in SGD steps and samples.

    Attributes:
        search_steps: SGD steps of all rounds, with those of a pretraining to W_k.
        full_imp_steps: SGD steps of iterative magnitude pruning on the full data, with as many
            rounds and the full budget in each.
        forward_samples: samples that went forward only: validation, CEP, testing and scores.
        retrain_steps: SGD steps to retrain the last ticket on the full data.
        reference_steps: SGD steps of other retraining (the dense reference, earlier tickets,
            controls), which is not needed to find a ticket.
        gradient_samples: samples that went forward and backward without training the network,
            for scores: GraNd, and pruning at initialization.
        paper_imp_steps: like `full_imp_steps`, but every round takes all T steps. Default None:
            `full_imp_steps`.
    """

    search_steps: int
    full_imp_steps: int
    forward_samples: int
    retrain_steps: int
    reference_steps: int
    gradient_samples: int = 0
    paper_imp_steps: int | None = None

    def __post_init__(self):
        if self.paper_imp_steps is None:
            object.__setattr__(self, "paper_imp_steps", self.full_imp_steps)

    @property
    def steps_saved(self) -> float:
        """Fraction of `full_imp_steps` that was saved."""
        return 1 - self.search_steps / self.full_imp_steps

    @property
    def paper_steps_saved(self) -> float:
        """Fraction of `paper_imp_steps` that was saved, as the PrAC paper reports it."""
        assert self.paper_imp_steps is not None
        return 1 - self.search_steps / self.paper_imp_steps

    @property
    def end_to_end_steps(self) -> int:
        """SGD steps from the initial weights to a trained ticket."""
        return self.search_steps + self.retrain_steps

    @property
    def end_to_end_steps_saved(self) -> float:
        """Fraction of the steps saved if both searches also retrain the last ticket."""
        return 1 - self.end_to_end_steps / (self.full_imp_steps + self.retrain_steps)

    def to_json(self) -> dict[str, float]:
        """Returns counts and fractions for `summary.json`."""
        return {
            **dataclasses.asdict(self),
            "steps_saved": self.steps_saved,
            "paper_steps_saved": self.paper_steps_saved,
            "end_to_end_steps": self.end_to_end_steps,
            "end_to_end_steps_saved": self.end_to_end_steps_saved,
        }


def round_steps(metrics: Mapping[str, Any]) -> int:
    """Returns the SGD steps of a round, with those of a pretraining to W_k.

    Args:
        metrics: the metrics of the round, as in round.json.
    """
    return metrics["steps"] + metrics.get("pretrain_steps", 0)
