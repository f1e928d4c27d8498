"""`tf-prac evaluate RUN`."""

from __future__ import annotations

from tf_prac.cli.arguments import check_round, run_argument, ticket_flags
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.errors import FileError


def define_flags() -> Flags:
    """Defines the flags of the command."""
    return ticket_flags(
        "evaluate RUN [--flags]",
        "Measures a retrained ticket on the test set, and counts the zeros of its weights.",
    )


def main(flags: Flags, positional: list[str]) -> int:
    """Evaluates the ticket that the flags name."""
    run = run_argument(positional)
    config = run.config()
    number = check_round(flags.round, config["pruning"]["rounds"])
    if run.finished_ticket(number) is None:
        raise FileError(
            f"{run.ticket_path(number)}: not retrained yet. "
            f"Run: tf-prac retrain {run.path} --round={number}"
        )
    load_tensorflow(config["keras"])
    from tf_prac.cli.open_run import reopen
    from tf_prac.search.ticket import Ticket
    from tf_prac.storage.files import read_npz
    from tf_prac.storage.run_directory import TRAINED

    search, data = reopen(run, flags.data_dir)
    if data.test is None:
        raise FileError(f"{run.path}: its data set has no test samples.")
    ticket = Ticket.load(run.ticket_path(number))
    weights = read_npz(run.ticket_path(number) / TRAINED, "weights")
    accuracy = search.evaluate(weights, data.test)
    zeros = sum(int((weights[name] == 0).sum()) for name in ticket.masks)
    print(f"ticket   {run.ticket_path(number)}")
    print(f"zeros    {zeros:,} of {ticket.masks.size:,} prunable weights ({ticket.sparsity:.2%})")
    print(f"accuracy {accuracy:.4%} on {len(data.test):,} test samples")
    return 0
