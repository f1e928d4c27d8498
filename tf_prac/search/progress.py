"""What a search shows while it works."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tf_prac.tables import text_table


class Progress:
    """Shows nothing; the base of everything that shows something."""

    def line(self, text: str) -> None:
        """Shows one line."""

    def round(self, figures: Mapping[str, Any], full: int) -> None:
        """Shows a round whose files are written, now or by an earlier call of the same search.

        Args:
            figures: those of the round.
            full: size of the full training set.
        """
        self.line(round_line(figures, full))

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Called when the summary of a run is written."""

    @contextlib.contextmanager
    def training(self, title: str, steps: int) -> Iterator[Callable[[int], None]]:
        """Gives a function that shows how many more of `steps` steps have been taken."""
        yield lambda count: None


class TerminalProgress(Progress):
    """Shows lines on standard output, and a bar for each training if it is a terminal."""

    def line(self, text: str) -> None:
        """Prints one line."""
        print(text, flush=True)

    @contextlib.contextmanager
    def training(self, title: str, steps: int) -> Iterator[Callable[[int], None]]:
        """Shows a bar that disappears at the end."""
        from tqdm import tqdm

        with tqdm(total=steps, desc=title, unit="step", leave=False, disable=None) as bar:
            yield bar.update


def as_progress(verbose: bool | Progress) -> Progress:
    """Returns what shows progress: on the terminal, not at all, or as the caller has it."""
    if isinstance(verbose, Progress):
        return verbose
    return TerminalProgress() if verbose else Progress()


def round_line(figures: Mapping[str, Any], full: int) -> str:
    """Returns the one line of a finished round."""
    accuracy = figures["val_accuracy"]
    parts = [
        f"round {figures['round']:>2}",
        f"{figures['sparsity']:6.2%} sparse",
        f"{figures['train_samples']:,} samples ({figures['train_samples'] / full:.0%})",
        f"{figures['steps']:,} steps" + ("" if figures["stop"] == "budget" else ", stopped early"),
        "val -" if accuracy is None else f"val {accuracy:.2%}",
    ]
    if figures["cet"] or figures["cep"]:
        parts += [f"{name.upper()} {figures[name]:,}" for name in ("cet", "cep")]
        parts += [f"PrAC {figures['prac_size']:,}"]
    parts += [f"{figures['seconds']:.1f} s"]
    return "  ".join(parts)


def ticket_line(figures: Mapping[str, Any]) -> str:
    """Returns the one line of a retrained ticket."""
    accuracies = [
        f"{name} {figures[key]:.2%}"
        for name, key in (
            ("val", "val_accuracy"),
            ("test", "test_accuracy"),
            ("last", "test_accuracy_last"),
        )
        if figures[key] is not None
    ]
    return "  ".join(
        [
            f"ticket {figures['round']:>2}",
            *filter(None, [figures["control"]]),
            f"{figures['sparsity']:6.2%} sparse",
            f"retrained {figures['retrain_steps']:,} steps",
            *accuracies,
        ]
    )


def summary_table(summary: Mapping[str, Any]) -> str:
    """Returns the closing table of a run: tickets beside the dense network, and the cost."""
    rows = [("", "sparsity", "val accuracy", "test accuracy", "retrain steps")]
    dense = summary["dense"]
    rows.append(("dense", "0.00%", *_accuracies(dense), f"{dense['steps']:,}"))
    for ticket in [*summary["tickets"], *summary["controls"]]:
        if ticket["retrain_steps"] and ticket["round"]:
            name = f"ticket {ticket['round']} {ticket['control']}".rstrip()
            sparsity = f"{ticket['sparsity']:.2%}"
            rows.append((name, sparsity, *_accuracies(ticket), f"{ticket['retrain_steps']:,}"))
    cost = summary["cost"]
    return "\n".join(
        [
            text_table(rows),
            "",
            f"search  {cost['search_steps']:,} steps; full-data IMP with as many rounds would take "
            f"{cost['full_imp_steps']:,}: {cost['steps_saved']:.1%} saved",
            f"with retraining  {cost['end_to_end_steps']:,} steps: "
            f"{cost['end_to_end_steps_saved']:.1%} saved; "
            f"{cost['forward_samples']:,} samples forward only",
        ]
    )


def _accuracies(figures: Mapping[str, Any]) -> tuple[str, str]:
    values = (figures["val_accuracy"], figures["test_accuracy"])
    val, test = ("-" if value is None else f"{value:.2%}" for value in values)
    return val, test
