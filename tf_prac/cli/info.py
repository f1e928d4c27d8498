"""`tf-prac info RUN`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_prac.cli.arguments import run_argument
from tf_prac.cli.flags import Flags
from tf_prac.cli.output import define_json_flag, print_json
from tf_prac.storage.run_directory import RunDirectory


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "info RUN [--flags]", "Shows the rounds and tickets of a run, and the cost of the search."
    )
    define_json_flag(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Prints the summary of a run, or the finished rounds of an unfinished one."""
    run = run_argument(positional)
    config = run.config()
    rounds = run.finished_rounds()
    all_rounds = len(rounds) == config["pruning"]["rounds"]
    summary = run.summary() if all_rounds and run.has_summary else None
    if flags.json:
        print_json("info", _document(run, config, rounds, summary))
    else:
        _print_text(run, config, rounds, summary)
    return 0


def _document(
    run: RunDirectory,
    config: Mapping[str, Any],
    rounds: list[dict[str, Any]],
    summary: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Returns the entries of the JSON object."""
    parts = ("dense", "tickets", "controls", "cost")
    return {
        "run": str(run.path),
        "finished": summary is not None,
        "dataset": config["dataset"],
        "train_samples": config["train_samples"],
        "keras": config["keras"],
        "seed": config["search"]["seed"],
        "num_rounds": config["pruning"]["rounds"],
        "rounds": rounds,
        **{name: summary and summary[name] for name in parts},
    }


def _print_text(
    run: RunDirectory,
    config: Mapping[str, Any],
    rounds: list[dict[str, Any]],
    summary: Mapping[str, Any] | None,
) -> None:
    from tf_prac.search.progress import arithmetic_line, round_line, summary_table

    dataset, number = config["dataset"], config["pruning"]["rounds"]
    arithmetic = arithmetic_line(config["recipe"], config["search"]["deterministic"])
    print(f"run      {run.path}")
    name = f"{dataset['name']} {dataset['version']}".strip()
    print(f"data     {name}, {config['train_samples']:,} samples")
    print(f"keras    {config['keras']}, seed {config['search']['seed']}")
    print(f"numbers  {arithmetic}\n")
    for metrics in rounds:
        print(round_line(metrics, config["train_samples"]))
    if summary is not None:
        print(f"\n{summary_table(summary)}")
        return
    part = f"round {len(rounds)} of {number}" if len(rounds) < number else "the retraining"
    print(f"{part} is not finished; the search command resumes here.")
