"""Larger cuts: rounds that prune again without training first, while training changes little.

A large cut is as good as two small ones if the training between them does not change which weights
are pruned. So each training measures whether it mattered: the weights before it and the weights
after it both choose which weights to prune, and if they agree, the next round does not train. It
prunes by the same trained weights, so that a search has the same rounds and sparsities as without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_prac.config import PruningConfig
from tf_prac.errors import ArgumentError
from tf_prac.pruning.criteria import criterion_name, get_criterion

if TYPE_CHECKING:
    from tf_prac.search.finished_run import FinishedRun

AGREEMENT = "mask_agreement"
"""The metric of a trained round: the result of `tf_prac.pruning.mask_distance.mask_agreement`."""

LARGER_CUT = "larger_cut"
"""What ended the training of a round that did not train."""


def next_round_trains(
    pruning: PruningConfig,
    rounds: Sequence[Mapping[str, Any]],
    sizes_from: FinishedRun | None = None,
) -> bool:
    """Whether the round after `rounds` trains.

    Args:
        pruning: the options; `larger_cuts` and `largest_cut` decide.
        rounds: the metrics of the finished rounds, as in round.json.
        sizes_from: a finished run whose decisions are repeated. Default None.
    """
    if sizes_from is not None:
        return not is_larger_cut(sizes_from.rounds[len(rounds)])
    if pruning.larger_cuts is None or not rounds:
        return True
    last = max(index for index, metrics in enumerate(rounds) if AGREEMENT in metrics)
    prunings = len(rounds) - last
    return prunings >= pruning.largest_cut or rounds[last][AGREEMENT] < pruning.larger_cuts


def is_larger_cut(metrics: Mapping[str, Any]) -> bool:
    """Whether a round pruned again without training, by its round.json."""
    return metrics["stop"] == LARGER_CUT


def makes_larger_cuts(pruning: PruningConfig, sizes_from: FinishedRun | None) -> bool:
    """Whether rounds may prune again without training; for the arguments see above."""
    others = () if sizes_from is None else sizes_from.rounds[: pruning.rounds]
    return any(map(is_larger_cut, others)) or pruning.larger_cuts is not None


def check_larger_cuts(pruning: PruningConfig, sizes_from: FinishedRun | None) -> None:
    """Raises `ArgumentError` if `larger_cuts` cannot be used; for the arguments see above."""
    threshold, criterion = pruning.larger_cuts, get_criterion(pruning.criterion)
    if threshold is not None and sizes_from is not None:
        remedy = "The rounds of the other run decide which rounds train."
        raise ArgumentError("larger_cuts", threshold, "off with sizes_from", remedy)
    if makes_larger_cuts(pruning, sizes_from) and not criterion.scores_trained_weights:
        allowed = f"off with criterion={criterion_name(criterion)}"
        remedy = "The criterion has to score the trained weights alone, as magnitude does."
        raise ArgumentError("larger_cuts", threshold or LARGER_CUT, allowed, remedy)
