"""`tf-prac stability`."""

from __future__ import annotations

import functools

from tf_prac.analysis.options import StabilityConfig
from tf_prac.cli.flags import Flags
from tf_prac.cli.runs import analysis_flags, open_runs, write_analysis


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
    from tf_prac.analysis.stability import measure_stability
    from tf_prac.analysis.stability_report import stability_table, write_stability

    measure = functools.partial(measure_stability, config=config)
    write_analysis(flags.output_dir, runs, measure, write_stability, stability_table)
    return 0
