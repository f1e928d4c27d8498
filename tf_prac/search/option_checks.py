"""`check_options`: which options of a search exclude each other."""

from __future__ import annotations

from collections.abc import Collection

from tf_prac.config import PracConfig, PruningConfig, SearchConfig
from tf_prac.errors import ArgumentError
from tf_prac.pruning.criteria import criterion_name, get_criterion
from tf_prac.search.finished_run import FinishedRun
from tf_prac.search.larger_cuts import check_larger_cuts


def check_options(
    config: SearchConfig,
    sizes_from: FinishedRun | None,
    k: int,
    kept: Collection[int],
    dense_steps: int,
) -> None:
    """Checks the options that a group alone cannot check.

    Args:
        config: the options of a search.
        sizes_from: the finished run whose numbers of steps are used, or None.
        k: the rewind point, in steps.
        kept: further steps after which round 0 stores its weights.
        dense_steps: the steps of round 0.

    Raises:
        ArgumentError: If two options exclude each other.
    """
    pruning, prac = config.pruning, config.prac
    _check_rewind_points(pruning, prac, k, kept, dense_steps)
    _check_data_selection(pruning, prac)
    check_larger_cuts(pruning, sizes_from)
    if prac.round_schedule == "one_cycle":
        _check_one_cycle(pruning, prac)
    if prac.round_schedule == "swa":
        _check_averages(pruning, prac)
    if prac.early_stop_distance == "order":
        _check_order(pruning)
    pruning.make_pattern().check_rounds(pruning.rounds)


def _check_rewind_points(
    pruning: PruningConfig, prac: PracConfig, k: int, kept: Collection[int], dense_steps: int
) -> None:
    """Raises `ArgumentError` for rewind points that round 0 cannot store."""
    last, also_keep = max(k, *kept, 0), sorted(kept)
    if last >= dense_steps:
        allowed = f"more steps than the last rewind point, {last}"
        raise ArgumentError("dense_budget", f"{dense_steps} steps", allowed)
    if kept and not get_criterion(pruning.criterion).rounds_train:
        allowed = "none with a criterion whose rounds do not train"
        raise ArgumentError("also_keep", also_keep, allowed)
    if not prac.pretrains:
        return
    pretraining = f"pretrain_on={prac.pretrain_on}"
    if not k:
        remedy = "There are no steps to take on other samples."
        raise ArgumentError("rewind", pruning.rewind, f"above 0 with {pretraining}", remedy)
    if kept:
        remedy = "Each rewind point has its own round 0: search once for each."
        raise ArgumentError("also_keep", also_keep, f"none with {pretraining}", remedy)


def _check_data_selection(pruning: PruningConfig, prac: PracConfig) -> None:
    """Raises `ArgumentError` for rounds that cannot select samples, or select none."""
    if prac.coverage is not None and not prac.selects_data:
        remedy = "Every sample is in the set of a round."
        raise ArgumentError("coverage", prac.coverage, "off with full data", remedy)
    if prac.selects_data and not get_criterion(pruning.criterion).rounds_train:
        raise ArgumentError(
            "criterion",
            criterion_name(pruning.criterion),
            "one that scores trained weights while rounds select data",
            "Rounds that do not train find no critical samples: use prac=none.",
        )


def _check_one_cycle(pruning: PruningConfig, prac: PracConfig) -> None:
    """Raises `ArgumentError` for options that would interrupt the one cycle."""
    interrupts = {
        "retraining": (pruning.retraining == "weight_rewinding", "lr_rewinding"),
        "use_cet, use_cep": (prac.selects_data, "full data"),
        "early_stop_eps": (prac.early_stop_eps is not None, "off"),
        "larger_cuts": (pruning.larger_cuts is not None, "off"),
        "criterion": (
            not get_criterion(pruning.criterion).rounds_train,
            "a criterion of trained weights",
        ),
    }
    for name, (interrupted, allowed) in interrupts.items():
        if interrupted:
            allowed = f"one_cycle only with {name}: {allowed}"
            remedy = "All rounds are one training, whose length is known in advance."
            raise ArgumentError("round_schedule", prac.round_schedule, allowed, remedy)


def _check_averages(pruning: PruningConfig, prac: PracConfig) -> None:
    """Raises `ArgumentError` if the average of a round's weights could not be used."""
    if prac.early_stop_eps is not None:
        remedy = "A round that stops early has no average of its last half."
        raise ArgumentError("early_stop_eps", prac.early_stop_eps, "off with swa", remedy)
    if not get_criterion(pruning.criterion).scores_trained_weights:
        allowed = "a criterion of trained weights alone with swa, such as magnitude"
        raise ArgumentError("criterion", criterion_name(pruning.criterion), allowed)


def _check_order(pruning: PruningConfig) -> None:
    """Raises `ArgumentError` if no order of scores near a threshold exists."""
    if pruning.sparsity_m_by_n:
        reason = "sparsity_m_by_n, which has no common threshold"
    elif get_criterion(pruning.criterion).needs_network:
        reason = f"criterion={criterion_name(pruning.criterion)}, whose scores need gradients"
    else:
        return
    raise ArgumentError("early_stop_distance", "order", f"masks with {reason}")
