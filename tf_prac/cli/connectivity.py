"""`tf-prac connectivity`."""

from __future__ import annotations

from tf_prac.analysis.options import ConnectivityConfig
from tf_prac.cli.flags import Flags
from tf_prac.cli.runs import analysis_flags, open_runs
from tf_prac.storage.atomic import exclusive
from tf_prac.tables import wrapped


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
    from tf_prac.analysis.aggregate import merged
    from tf_prac.analysis.connectivity import measure_connectivity
    from tf_prac.analysis.connectivity_report import connectivity_table, write_connectivity

    with exclusive(flags.output_dir, f"{flags.output_dir}: another analysis writes to it"):
        rows = merged([measure_connectivity(replicates, config) for replicates in runs])
        files = write_connectivity(flags.output_dir, rows)
    print(f"\n{connectivity_table(rows)}\n")
    names = ", ".join(path.name for path in files)
    print(wrapped(f"results  {names} in {flags.output_dir}", indent=9))
    return 0
