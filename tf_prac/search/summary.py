"""What a run writes down: its configuration, the figures of rounds, and the summary."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tf_prac.data.prac_set import PracSet
from tf_prac.data.search_data import SearchData, Subset
from tf_prac.keras_api import flavour_of, stable_name
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import WeightInfo
from tf_prac.search.cost import Cost
from tf_prac.search.ticket import Ticket
from tf_prac.training.trainer import TrainedNetwork

PACKAGES = ("tensorflow", "keras", "tf_keras", "tf_prac")


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        tickets: one `Ticket` for each round and one after the last, from dense to sparsest.
        summary: the content of summary.json.
        directory: where everything is.
    """

    tickets: list[Ticket]
    summary: dict[str, Any]
    directory: pathlib.Path


def run_config(
    options: Mapping[str, Any], data: SearchData, network: Any, report: Sequence[WeightInfo]
) -> dict[str, Any]:
    """Returns everything that decides the result of a search, for config.json.

    Args:
        options: the options of the search, in groups; "labels" decide nothing.
        data: what it trains, validates and tests on.
        network: a model that it trains.
        report: the `weight_report` of the network.
    """
    return {
        **options,
        "dataset": _identity(data.train),
        "train_samples": len(data.train.ids),
        "validation": _identity(data.validation),
        "test": _identity(data.test),
        "model": {info.name: list(info.shape) for info in report},
        "keras": flavour_of(network).name,
        "versions": {name: _version(name) for name in PACKAGES},
    }


def opening_lines(
    network: Any, dense: Masks, samples: int, k: int, steps: int, report: Sequence[WeightInfo]
) -> list[str]:
    """Returns what a search says at its start: sizes, and weights that surprisingly stay dense.

    Args:
        network: a model that it trains.
        dense: the masks of round 0.
        samples: size of the training set.
        k: the rewind point.
        steps: the full budget.
        report: the `weight_report` of the network.
    """
    return [
        f"{stable_name(network)} ({flavour_of(network).name}): "
        f"{dense.size:,} prunable weights in {len(dense)} tensors; "
        f"{samples:,} training samples, rewind to step {k:,} of {steps:,}",
        *(
            f"  not pruned: {info.name} {info.shape}: {info.reason}"
            for info in report
            if not info.prunable and len(info.shape) > 1
        ),
    ]


def round_figures(
    number: int,
    trained: TrainedNetwork,
    masks: Masks,
    next_masks: Masks,
    train_samples: int,
    prac_set: PracSet,
) -> dict[str, Any]:
    """Returns the figures of a round, for round.json and the summary."""
    return {
        "round": number,
        "sparsity": masks.sparsity,
        "next_sparsity": next_masks.sparsity,
        "train_samples": train_samples,
        "epochs": len(trained.history),
        "steps": trained.steps,
        "samples_seen": trained.samples_seen,
        "stop": trained.stop,
        "mask_distances": trained.mask_distances,
        "cet": len(prac_set.cet),
        "cep": len(prac_set.cep),
        "overlap": prac_set.overlap,
        "prac_size": len(prac_set),
        "val_accuracy": trained.best.value,
        "seconds": trained.seconds,
    }


def summary_head(data: SearchData, network: Any, seed: int, rewind_step: int) -> dict[str, Any]:
    """Returns what a summary says about the search itself."""
    return {
        "dataset": {
            **data.train.samples.identity.to_json(),
            "train_samples": len(data.train.ids),
        },
        "model": stable_name(network),
        "keras": flavour_of(network).name,
        "seed": seed,
        "rewind_step": rewind_step,
    }


def dense_figures(first_round: Mapping[str, Any], ticket: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the dense network's accuracy: of round 0, unless that stopped early.

    Args:
        first_round: figures of round 0.
        ticket: figures of the ticket of round 0, which is the dense network.
    """
    retrained = ticket["retrain_steps"] > 0
    source = ticket if retrained else first_round
    return {
        "test_accuracy": source["test_accuracy"],
        "test_accuracy_last": source.get("test_accuracy_last"),
        "val_accuracy": source["val_accuracy"],
        "steps": ticket["retrain_steps"] if retrained else first_round["steps"],
        "source": "tickets/round_00" if retrained else "round_00",
    }


def search_cost(
    rounds: Sequence[Mapping[str, Any]],
    tickets: Sequence[Mapping[str, Any]],
    controls: Sequence[Mapping[str, Any]],
    imp_steps: int,
) -> Cost:
    """Adds up what was counted.

    Args:
        rounds: figures of the rounds.
        tickets: figures of the tickets, the dense one first.
        controls: figures of controls of the tickets.
        imp_steps: steps of the search on full data that this one replaces.
    """
    *others, retrained = [ticket["retrain_steps"] for ticket in tickets]
    counted = [*rounds, *tickets, *controls]
    return Cost(
        search_steps=sum(r["steps"] + r.get("pretrain_steps", 0) for r in rounds),
        full_imp_steps=imp_steps,
        forward_samples=sum(
            figures["forward_samples"] + figures.get("pretrain_forward_samples", 0)
            for figures in counted
        ),
        retrain_steps=retrained,
        reference_steps=sum(others) + sum(figures["retrain_steps"] for figures in controls),
        gradient_samples=sum(figures["gradient_samples"] for figures in rounds),
    )


def _identity(subset: Subset | None) -> dict[str, Any] | None:
    return None if subset is None else subset.samples.identity.to_json()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
