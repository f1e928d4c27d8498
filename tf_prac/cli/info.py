"""`tf-prac info RUN`."""

from __future__ import annotations

from tf_prac.cli.arguments import run_argument
from tf_prac.cli.flags import Flags


def define_flags() -> Flags:
    """Defines the flags of the command."""
    return Flags("info RUN", "Shows the rounds and tickets of a run, and the cost of the search.")


def main(flags: Flags, positional: list[str]) -> int:
    """Prints the summary of a run, or the finished rounds of an unfinished one."""
    from tf_prac.search.progress import arithmetic_line, round_line, summary_table

    run = run_argument(positional)
    config = run.config()
    rounds = config["pruning"]["rounds"]
    dataset = config["dataset"]
    arithmetic = arithmetic_line(config["recipe"], config["search"]["deterministic"])
    print(f"run      {run.path}")
    name = f"{dataset['name']} {dataset['version']}".strip()
    print(f"data     {name}, {config['train_samples']:,} samples")
    print(f"keras    {config['keras']}, seed {config['search']['seed']}")
    print(f"numbers  {arithmetic}\n")
    for number in range(rounds):
        metrics = run.finished_round(number)
        if metrics is None:
            print(f"round {number} of {rounds} is not finished; the search command resumes here.")
            return 0
        print(round_line(metrics, config["train_samples"]))
    print(f"\n{summary_table(run.summary())}")
    return 0
