"""Larger cuts: rounds that prune again without training first, while training changes little.

A large cut is as good as two small ones if the training between them does not change which weights
are pruned. So each training measures whether it mattered: the weights before it and the weights
after it both choose which weights to prune, and if they agree, the next round does not train. It
prunes by the same trained weights, so that a search has the same rounds and sparsities as without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tf_prac.config import PruningConfig
from tf_prac.errors import ArgumentError
from tf_prac.pruning.criteria import TRAINED, criterion_name, get_criterion

AGREEMENT = "mask_agreement"
"""The metric of a trained round: the result of `tf_prac.pruning.mask_distance.mask_agreement`."""

LARGER_CUT = "larger_cut"
"""What ended the training of a round that did not train."""


def next_round_trains(pruning: PruningConfig, rounds: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the round after `rounds` trains.

    Args:
        pruning: the options; `larger_cuts` and `largest_cut` decide.
        rounds: the metrics of the finished rounds, as in round.json.
    """
    if pruning.larger_cuts is None or not rounds:
        return True
    last = max(index for index, metrics in enumerate(rounds) if AGREEMENT in metrics)
    prunings = len(rounds) - last
    return prunings >= pruning.largest_cut or rounds[last][AGREEMENT] < pruning.larger_cuts


def check_larger_cuts(pruning: PruningConfig) -> None:
    """Raises `ArgumentError` if the criterion does not score trained weights alone."""
    criterion = get_criterion(pruning.criterion)
    if pruning.larger_cuts is not None and (criterion.at != TRAINED or criterion.needs_network):
        allowed = f"off with criterion={criterion_name(criterion)}"
        remedy = "The criterion has to score the trained weights alone, as magnitude does."
        raise ArgumentError("larger_cuts", pruning.larger_cuts, allowed, remedy)
