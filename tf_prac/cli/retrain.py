"""`tf-prac retrain RUN`."""

from __future__ import annotations

from tf_prac.cli.arguments import check_round, run_argument
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "retrain RUN [--flags]",
        "Retrains a ticket of a finished run on the full data for the full schedule, writes it "
        "beside the ticket and adds its accuracy to summary.json.",
    )
    flags.group("Ticket")
    flags.integer("round", None, "The ticket after so many prunings. Default: the last.")
    flags.string("data_dir", None, "Where the data set is now. Default: where it was.")
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Retrains the ticket that the flags name."""
    run = run_argument(positional)
    config = run.config()
    number = check_round(flags.round, config["pruning"]["rounds"])
    load_tensorflow(config["keras"])
    from tf_prac.cli.open_run import reopen

    search, data = reopen(run, flags.data_dir)
    result = search.run(data.train, test=data.test, also_retrain=(number,))
    figures = result.summary["tickets"][number]
    print(f"ticket   {run.ticket_path(number)}")
    print(f"accuracy validation {figures['val_accuracy']}, test {figures['test_accuracy']}")
    return 0
