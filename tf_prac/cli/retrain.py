"""`tf-prac retrain RUN`."""

from __future__ import annotations

from tf_prac.cli.arguments import check_round, run_argument, ticket_flags
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow


def define_flags() -> Flags:
    """Defines the flags of the command."""
    return ticket_flags(
        "retrain RUN [--flags]",
        "Retrains a ticket of a finished run on the full data for the full schedule, writes it "
        "beside the ticket and adds its accuracy to summary.json.",
    )


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
