"""`tf-prac evaluate RUN`."""

from __future__ import annotations

from tf_prac.cli.arguments import ticket_argument, ticket_flags
from tf_prac.cli.flags import Flags
from tf_prac.cli.output import define_json_flag, print_json
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.cli.runs import check_retrained
from tf_prac.errors import FileError


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = ticket_flags(
        "evaluate RUN [--flags]",
        "Measures the accuracy of a retrained ticket on the test set, and counts its zeros.",
    )
    define_json_flag(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Evaluates a ticket."""
    run, config, number = ticket_argument(flags, positional)
    check_retrained(run, config, number)
    load_tensorflow(config["keras"], quiet=flags.quiet)
    from tf_prac.cli.open_run import reopen
    from tf_prac.search.ticket import Ticket
    from tf_prac.storage.files import read_npz
    from tf_prac.storage.layout import TRAINED

    search, data = reopen(run, flags.data_dir)
    if data.test is None:
        raise FileError(f"{run.path}: its data set has no test samples.")
    ticket = Ticket.load(run.ticket_path(number))
    weights = read_npz(run.ticket_path(number) / TRAINED, "weights")
    accuracy = search.evaluate(weights, data.test)
    zeros = sum(int((weights[name] == 0).sum()) for name in ticket.masks)
    if flags.json:
        result = {
            "run": str(run.path),
            "ticket": str(run.ticket_path(number)),
            "round": number,
            "sparsity": ticket.sparsity,
            "zeros": zeros,
            "prunable_weights": ticket.masks.size,
            "test_accuracy": accuracy,
            "test_samples": len(data.test),
        }
        print_json("evaluate", result)
        return 0
    print(f"ticket   {run.ticket_path(number)}")
    print(f"zeros    {zeros:,} of {ticket.masks.size:,} prunable weights ({ticket.sparsity:.2%})")
    print(f"accuracy {accuracy:.4%} on {len(data.test):,} test samples")
    return 0
