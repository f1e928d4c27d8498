"""`tf-prac connectivity`."""

from __future__ import annotations

import functools

from tf_prac.analysis.options import ConnectivityConfig
from tf_prac.cli.flags import Flags
from tf_prac.cli.runs import analysis_flags, open_runs, write_analysis


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = analysis_flags(
        "connectivity RUN [RUN...] [--flags]",
        "Measures linear mode connectivity: error and loss on the line between networks trained "
        "from the same W_k in different data orders, and the error barrier.",
        "runs/connectivity",
    )
    flags.options("Connectivity", ConnectivityConfig)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Measures the connectivity of runs."""
    config = ConnectivityConfig(**flags.given(ConnectivityConfig))
    runs = open_runs(flags, positional, config.rounds)
    from tf_prac.analysis.connectivity import measure_connectivity
    from tf_prac.analysis.connectivity_report import connectivity_table, write_connectivity

    measure = functools.partial(measure_connectivity, config=config)
    write_analysis(flags.output_dir, runs, measure, write_connectivity, connectivity_table)
    return 0
