"""The run configuration, the metrics of rounds, and the summary of a run."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_prac.data.prac_set import PracSet
from tf_prac.data.sample_set import SampleSet
from tf_prac.data.source import Samples
from tf_prac.data.splits import DataSplits, Split
from tf_prac.keras_api import flavor_of, stable_name
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import WeightInfo
from tf_prac.search.cost import Cost, round_steps
from tf_prac.search.metric import Metric
from tf_prac.search.selection import RoundOutcome, Selection

PACKAGES = ("tensorflow", "keras", "tf_keras", "tf_prac")


def run_config(
    options: Mapping[str, Any], data: DataSplits, network: Any, report: Sequence[WeightInfo]
) -> dict[str, Any]:
    """Returns the run configuration: everything that determines the result, for config.json.

    Args:
        options: the options of the search, in groups; "labels" do not affect the result.
        data: training, validation and test samples.
        network: the network that is trained.
        report: the `weight_report` of the network.
    """
    return {
        **options,
        "dataset": _identity(data.train),
        "train_samples": len(data.train.ids),
        "validation": _identity(data.validation),
        "test": _identity(data.test),
        **_unscaled(data.train.samples),
        "model": {info.name: list(info.shape) for info in report},
        "keras": flavor_of(network).name,
        "versions": {name: _version(name) for name in PACKAGES},
    }


def changed_versions(now: Mapping[str, str], before: Mapping[str, str]) -> str:
    """Returns a line that says which versions differ from those of the start; "" if none does."""
    names = [name for name in {**before, **now} if now.get(name) != before.get(name)]
    if not names:
        return ""
    changes = (f"{name} {before.get(name)} -> {now.get(name)}" for name in names)
    return (
        f"warning: resumed with other versions: {', '.join(changes)}; results may not be "
        "bit-identical to those of one version"
    )


def opening_lines(
    network: Any, dense: Masks, samples: int, k: int, steps: int, report: Sequence[WeightInfo]
) -> list[str]:
    """Returns the first lines of a search: its sizes, and weights that unexpectedly stay dense.

    Args:
        network: the network that is trained.
        dense: the masks of round 0.
        samples: size of the training set.
        k: the rewind point, in steps.
        steps: the full budget, in steps.
        report: the `weight_report` of the network.
    """
    return [
        f"{stable_name(network)} ({flavor_of(network).name}): "
        f"{dense.size:,} prunable weights in {len(dense)} tensors; "
        f"{samples:,} training samples, rewind to step {k:,} of {steps:,}",
        *_not_pruned(report),
    ]


def _not_pruned(report: Sequence[WeightInfo]) -> list[str]:
    """Returns one line for each reason why weights of rank 2 or more stay dense."""
    by_reason: dict[str, list[WeightInfo]] = {}
    for info in report:
        if not info.prunable and len(info.shape) > 1:
            by_reason.setdefault(info.reason, []).append(info)
    return [
        f"  not pruned: {infos[0].name} {infos[0].shape}"
        f"{f' and {len(infos) - 1} more' if len(infos) > 1 else ''}: {reason}"
        for reason, infos in by_reason.items()
    ]


def _unscaled(samples: Samples) -> dict[str, bool]:
    """Returns what tells a run on unscaled uint8 inputs from one that scaled them to [0, 1].

    Every uint8 input was scaled before `Samples.rescale` existed, so scaled ones have no entry.
    """
    is_unscaled = samples.input_dtype == "uint8" and not samples.rescale
    return {"unscaled_inputs": True} if is_unscaled else {}


def round_metrics(
    outcome: RoundOutcome, selection: Selection, gradient_samples: int, metric: Metric
) -> dict[str, Any]:
    """Returns the metrics of a round, for round.json and the summary.

    Args:
        outcome: the trained and pruned round.
        selection: the samples of the next round.
        gradient_samples: number of samples whose gradients were computed to prune.
        metric: the metric of validation samples.
    """
    trained = outcome.trained
    return {
        "round": outcome.number,
        "sparsity": outcome.masks.sparsity,
        "next_sparsity": outcome.next_masks.sparsity,
        "train_samples": outcome.epoch_samples or len(outcome.ids),
        "epochs": len(trained.history),
        "steps": trained.steps,
        "samples_seen": trained.samples_seen,
        "stop": trained.stop,
        "mask_distances": trained.mask_distances,
        **({"order_distances": orders} if (orders := trained.values_of("order_distance")) else {}),
        **_set_metrics(selection.sample_set),
        "val_accuracy": trained.best.value,
        **metric.to_json(),
        "seconds": trained.seconds,
        "forward_samples": trained.validation_samples + selection.forward_samples,
        "gradient_samples": gradient_samples + selection.gradient_samples,
    }


def summary_head(
    data: DataSplits, network: Any, seed: int, rewind_step: int, metric: Metric
) -> dict[str, Any]:
    """Returns the part of a summary about the data, the network, the metric and W_k."""
    return {
        **metric.to_json(),
        "dataset": {
            **data.train.samples.identity.to_json(),
            "train_samples": len(data.train.ids),
        },
        "model": stable_name(network),
        "keras": flavor_of(network).name,
        "seed": seed,
        "rewind_step": rewind_step,
    }


def dense_metrics(first_round: Mapping[str, Any], ticket: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metrics of the dense network: of round 0, or of ticket 0 if it is retrained.

    Args:
        first_round: metrics of round 0.
        ticket: metrics of ticket 0, the dense network.
    """
    retrained = ticket["retrain_steps"] > 0
    source = ticket if retrained else first_round
    return {
        "test_accuracy": source["test_accuracy"],
        "test_accuracy_last": source.get("test_accuracy_last"),
        "val_accuracy": source["val_accuracy"],
        "steps": ticket["retrain_steps"] if retrained else round_steps(first_round),
        "source": "tickets/round_00" if retrained else "round_00",
    }


def chance_warning(
    metrics: Mapping[str, Any], classes: np.ndarray | None, largest_input: float
) -> str:
    """Returns a warning if round 0 ended no better than by always predicting one class, or "".

    Args:
        metrics: of round 0.
        classes: the class of each validation sample; None if they have none.
        largest_input: the largest absolute value of some inputs.
    """
    accuracy = metrics["val_accuracy"]
    if classes is None or not len(classes) or accuracy is None or "metric" in metrics:
        return ""
    most = np.unique(classes, return_counts=True)[1].max() / len(classes)
    if accuracy > most + np.sqrt(most * (1 - most) / len(classes)):  # a standard error
        return ""
    remedy = "Check the learning rate, the loss and the labels."
    if largest_input > LARGE_INPUT:
        remedy = f"Inputs are up to {largest_input:g}: scale them to about 1, or in the model."
    return (
        f"  warning: round 0 ended with {accuracy:.2%} validation accuracy; always predicting the "
        f"most frequent class gives {most:.2%}. {remedy}"
    )


LARGE_INPUT = 20.0
"""Inputs above are probably not scaled, such as pixels up to 255."""

UNDERTRAINED = 0.01
"""How much worse than the dense network round 0 may be without a warning: one point."""


def undertrained_warning(first_round: Mapping[str, Any], ticket: Mapping[str, Any]) -> str:
    """Returns a warning if round 0 ended less accurate than the dense network, or "".

    The accuracy of tickets follows that of the networks that their masks come from, see
    docs/results/cifar10_small.md.

    Args:
        first_round: metrics of round 0, whose budget is shorter than the recipe's.
        ticket: metrics of ticket 0, the dense network, trained by the whole recipe.
    """
    metric, short, dense = Metric.of(ticket), first_round["val_accuracy"], ticket["val_accuracy"]
    known = metric.is_fraction and ticket["retrain_steps"] and None not in (short, dense)
    if not known or dense - short <= UNDERTRAINED:
        return ""
    return (
        f"  warning: round 0 ended with {metric.format(short)} validation {metric.title} after "
        f"{round_steps(first_round):,} steps; the whole recipe gives {metric.format(dense)}. The "
        "tickets are likely to improve with a larger dense_budget."
    )


def search_cost(
    rounds: Sequence[Mapping[str, Any]],
    tickets: Sequence[Mapping[str, Any]],
    controls: Sequence[Mapping[str, Any]],
    imp_steps: int,
    paper_imp_steps: int | None = None,
) -> Cost:
    """Returns the cost of a search, from the counts of its parts.

    Args:
        rounds: metrics of the rounds.
        tickets: metrics of the tickets, the dense one first.
        controls: metrics of the controls.
        imp_steps: steps of iterative magnitude pruning on the full data.
        paper_imp_steps: the same, if every round takes all T steps. Default None: `imp_steps`.
    """
    # The steps of an earlier ticket that a round trained are those of the round. A round can have
    # trained the last ticket only if the search now has fewer rounds, without that one.
    *earlier, last = tickets
    others = [each["retrain_steps"] for each in earlier if not each.get("in_round")]
    counted = [*rounds, *tickets, *controls]
    return Cost(
        search_steps=sum(round_steps(metrics) for metrics in rounds),
        full_imp_steps=imp_steps,
        paper_imp_steps=paper_imp_steps,
        forward_samples=sum(
            metrics["forward_samples"] + metrics.get("pretrain_forward_samples", 0)
            for metrics in counted
        ),
        retrain_steps=last["retrain_steps"],
        reference_steps=sum(others) + sum(control["retrain_steps"] for control in controls),
        gradient_samples=sum(r["gradient_samples"] for r in rounds),
    )


def _set_metrics(sample_set: SampleSet) -> dict[str, Any]:
    """Returns the sizes of a set; CET and CEP are 0 if it is not a PrAC set."""
    cet, cep, overlap = 0, 0, 0.0
    if isinstance(sample_set, PracSet):
        cet, cep, overlap = len(sample_set.cet), len(sample_set.cep), sample_set.overlap
    return {"cet": cet, "cep": cep, "overlap": overlap, "prac_size": len(sample_set)}


def _identity(split: Split | None) -> dict[str, Any] | None:
    return None if split is None else split.samples.identity.to_json()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
