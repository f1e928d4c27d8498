"""`tf-prac retrain RUN`."""

from __future__ import annotations

from typing import Any

from tf_prac.cli.arguments import (
    define_accept_versions_flag,
    define_strategy_flags,
    ticket_argument,
    ticket_flags,
)
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = ticket_flags(
        "retrain RUN [--flags]",
        "Retrains a ticket of a finished run, or one of its controls, on the full data for the "
        "full schedule. Writes the network next to the ticket, and its accuracy to summary.json.",
    )
    define_accept_versions_flag(flags)
    define_strategy_flags(flags)
    flags.group("Control")
    flags.string(
        "control",
        None,
        "Retrain a control in place of the ticket: random_mask (the same number of weights of "
        "each layer, at random positions), reinit (the same mask, other initial weights) or both.",
    )
    flags.integer("control_seed", 0, "Seed of the random positions and weights.")
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Retrains a ticket or control."""
    run, config, number = ticket_argument(flags, positional)
    distribution = load_tensorflow(
        config["keras"], flags.strategy, flags.devices, flags.device, quiet=flags.quiet
    )
    from tf_prac.cli.open_run import reopen
    from tf_prac.search.ticket import Control

    selection: dict[str, Any] = {"also_retrain": (number,)}
    label = ""
    if flags.control is not None:
        control = Control(number, flags.control, flags.control_seed)
        selection, label = {"controls": (control,)}, control.label
    search, data = reopen(
        run,
        flags.data_dir,
        strategy=distribution,
        data_placement=flags.data_placement,
        accept_versions=flags.accept_versions,
        verbose=not flags.quiet,
    )
    result = search.run(data.train, test=data.test, **selection)
    tickets = [*result.summary["tickets"], *result.summary["controls"]]
    metrics = next(t for t in tickets if (t["round"], t["control"]) == (number, label))
    print(f"ticket   {run.ticket_path(number, label)}")
    validation, test = (_percent(metrics[f"{split}_accuracy"]) for split in ("val", "test"))
    print(f"accuracy validation {validation}, test {test}")
    return 0


def _percent(fraction: float | None) -> str:
    return "not measured" if fraction is None else f"{fraction:.2%}"
