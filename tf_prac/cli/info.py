"""`tf-prac info RUN`."""

from __future__ import annotations

from tf_prac.cli.arguments import run_argument
from tf_prac.cli.flags import Flags


def define_flags() -> Flags:
    """Defines the flags of the command."""
    return Flags("info RUN", "Shows the rounds and tickets of a run, and what the search cost.")


def main(flags: Flags, positional: list[str]) -> int:
    """Prints the summary of a run, or how far an unfinished one is."""
    from tf_prac.search.progress import round_line, summary_table

    run = run_argument(positional)
    config = run.config()
    rounds = config["pruning"]["rounds"]
    dataset = config["dataset"]
    print(f"run      {run.path}")
    name = f"{dataset['name']} {dataset['version']}".strip()
    print(f"data     {name}, {config['train_samples']:,} samples")
    print(f"keras    {config['keras']}, seed {config['search']['seed']}\n")
    for number in range(rounds):
        figures = run.finished_round(number)
        if figures is None:
            print(f"round {number} of {rounds} is not finished; the search command goes on here.")
            return 0
        print(round_line(figures, config["train_samples"]))
    print(f"\n{summary_table(run.summary())}")
    return 0
