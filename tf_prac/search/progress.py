"""Text output of a search: the line of a round, the line of a ticket, the summary table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_prac.search.larger_cuts import AGREEMENT, LARGER_CUT
from tf_prac.search.metric import Metric
from tf_prac.tables import joined, text_table


def arithmetic_line(recipe: Mapping[str, Any], deterministic: bool) -> str:
    """Returns the line about the arithmetic of a run.

    Example:

        >>> arithmetic_line({"jit_compile": True, "mixed_precision": False}, deterministic=True)
        'float32, compiled by XLA, deterministic'

    Args:
        recipe: the recipe in its config.json.
        deterministic: whether its operations are deterministic.
    """
    parts = [
        *(["bfloat16 layers"] if recipe.get("mixed_precision") else []),
        "float32 with TensorFloat-32 products" if recipe.get("tf32") else "float32",
        "compiled by XLA" if recipe.get("jit_compile") else "not compiled by XLA",
        *(["deterministic"] if deterministic else []),
    ]
    return ", ".join(parts)


_ENDS = {"early_stop": ", stopped early", LARGER_CUT: ", larger cut"}


def round_line(metrics: Mapping[str, Any], train_samples: int) -> str:
    """Returns the line of a finished round.

    Args:
        metrics: the content of its round.json.
        train_samples: size of the full training set.
    """
    metric = Metric.of(metrics)
    label = "val" if metric.is_fraction else f"val {metric.title}"
    parts = [
        f"round {metrics['round']:>2}",
        f"{metrics['sparsity']:6.2%} sparse",
        f"{metrics['train_samples']:,} samples ({metrics['train_samples'] / train_samples:.0%})",
        f"{metrics['steps']:,} steps{_ENDS.get(metrics['stop'], '')}",
        f"{label} {metric.format(metrics['val_accuracy'])}",
        f"{metrics['seconds']:.1f} s",
    ]
    if AGREEMENT in metrics:
        parts.append(f"mask agreement {metrics[AGREEMENT]:.1%}")
    if metrics["cet"] or metrics["cep"]:
        sets = [f"{name.upper()} {metrics[name]:,}" for name in ("cet", "cep")]
        parts.append("  ".join([*sets, f"PrAC set {metrics['prac_size']:,}"]))
    return joined(parts, indent=10)


def ticket_line(metrics: Mapping[str, Any]) -> str:
    """Returns the line of a retrained ticket or control, from its retrained.json."""
    metric = Metric.of(metrics)
    accuracies = [
        f"{name} {metric.format(metrics[key])}"
        for name, key in (
            ("val", "val_accuracy"),
            ("test", "test_accuracy"),
            ("test at the last step", "test_accuracy_last"),
        )
        if metrics[key] is not None
    ]
    return joined(
        [
            f"ticket {metrics['round']:>2}",
            *filter(None, [metrics["control"]]),
            f"{metrics['sparsity']:6.2%} sparse",
            f"retrained {metrics['retrain_steps']:,} steps",
            *(["in another run"] if metrics.get("dense_from") else []),
            *accuracies,
        ],
        indent=11,
    )


def summary_table(summary: Mapping[str, Any]) -> str:
    """Returns the summary table: the dense network, the tickets, data and cost of the search."""
    metric = Metric.of(summary)
    columns = (f"val {metric.title}", f"test {metric.title}")
    rows = [("", "sparsity", *columns, "retrain steps")]
    dense = summary["dense"]
    rows.append(("dense", "0.00%", *_values(metric, dense), f"{dense['steps']:,}"))
    for ticket in [*summary["tickets"], *summary["controls"]]:
        if ticket["retrain_steps"] and ticket["round"]:
            name = f"ticket {ticket['round']} {ticket['control']}".rstrip()
            sparsity = f"{ticket['sparsity']:.2%}"
            rows.append((name, sparsity, *_values(metric, ticket), f"{ticket['retrain_steps']:,}"))
    cost, placement = summary["cost"], summary.get("data_placement")
    return "\n".join(
        [
            text_table(rows),
            "",
            f"search steps     {cost['search_steps']:,} instead of {cost['full_imp_steps']:,} "
            f"on the full data: {cost['steps_saved']:.1%} saved",
            *_paper_saving(cost),
            f"with retraining  {cost['end_to_end_steps']:,} instead of "
            f"{cost['full_imp_steps'] + cost['retrain_steps']:,}: "
            f"{cost['end_to_end_steps_saved']:.1%} saved",
            f"forward only     {cost['forward_samples']:,} samples",
            *([f"data             {placement['description']}"] if placement else []),
        ]
    )


def _paper_saving(cost: Mapping[str, Any]) -> list[str]:
    """Returns the saving as the PrAC paper counts it, if the learning rate was rewound."""
    steps = cost.get("paper_imp_steps", cost["full_imp_steps"])
    if steps == cost["full_imp_steps"]:
        return []
    saved = f"{cost['paper_steps_saved']:.1%} saved"
    taken = f"{cost['search_steps']:,} instead of {steps:,}"
    return [f"paper's count    {taken}, with all T steps: {saved}"]


def _values(metric: Metric, metrics: Mapping[str, Any]) -> tuple[str, str]:
    return metric.format(metrics["val_accuracy"]), metric.format(metrics["test_accuracy"])
