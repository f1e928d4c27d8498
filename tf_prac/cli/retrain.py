"""`tf-prac retrain RUN`."""

from __future__ import annotations

from typing import Any

from tf_prac.cli.arguments import (
    check_round,
    define_strategy_flags,
    run_argument,
    ticket_flags,
)
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = ticket_flags(
        "retrain RUN [--flags]",
        "Retrains a ticket of a finished run, or a control of it, on the full data for the full "
        "schedule, writes it beside the ticket and adds its accuracy to summary.json.",
    )
    define_strategy_flags(flags)
    flags.group("Control")
    flags.string(
        "control",
        None,
        "Retrain a control in place of the ticket: random_mask (as many weights of each layer, at "
        "random places), reinit (the same mask, other initial weights) or both.",
    )
    flags.integer("control_seed", 0, "Of the random places and weights.")
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Retrains the ticket that the flags name."""
    run = run_argument(positional)
    config = run.config()
    number = check_round(flags.round, config["pruning"]["rounds"])
    distribution = load_tensorflow(config["keras"], flags.strategy, flags.devices)
    from tf_prac.search.ticket import Control

    wanted: dict[str, Any] = {"also_retrain": (number,)}
    label = ""
    if flags.control is not None:
        control = Control(number, flags.control, flags.control_seed)
        wanted, label = {"controls": (control,)}, control.label
    from tf_prac.cli.open_run import reopen

    search, data = reopen(run, flags.data_dir, distribution)
    result = search.run(data.train, test=data.test, **wanted)
    tickets = [*result.summary["tickets"], *result.summary["controls"]]
    figures = next(t for t in tickets if (t["round"], t["control"]) == (number, label))
    print(f"ticket   {run.ticket_path(number, label)}")
    print(f"accuracy validation {figures['val_accuracy']}, test {figures['test_accuracy']}")
    return 0
