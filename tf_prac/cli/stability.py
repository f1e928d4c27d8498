"""`tf-prac stability`."""

from __future__ import annotations

from tf_prac.analysis.options import StabilityConfig
from tf_prac.cli.flags import Flags
from tf_prac.cli.runs import analysis_flags, open_runs
from tf_prac.storage.atomic import exclusive
from tf_prac.tables import wrapped


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = analysis_flags(
        "stability RUN [RUN...] [--flags]",
        "Measures how stable tickets are to pruning and to data order: the L2 distance and the "
        "angle between networks trained from the same W_k, compared with random subnetworks.",
        "runs/stability",
    )
    flags.options("Stability", StabilityConfig)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Measures the stability of runs."""
    config = StabilityConfig(**flags.given(StabilityConfig))
    runs = open_runs(flags, positional, config.rounds)
    from tf_prac.analysis.aggregate import merged
    from tf_prac.analysis.stability import measure_stability
    from tf_prac.analysis.stability_report import stability_table, write_stability

    with exclusive(flags.output_dir, f"{flags.output_dir}: another analysis writes to it"):
        rows = merged([measure_stability(replicates, config) for replicates in runs])
        files = write_stability(flags.output_dir, rows)
    print(f"\n{stability_table(rows)}\n")
    names = ", ".join(path.name for path in files)
    print(wrapped(f"results  {names} in {flags.output_dir}", indent=9))
    return 0
