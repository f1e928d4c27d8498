"""`tf-prac connectivity`."""

from __future__ import annotations

from tf_prac.analysis.options import ConnectivityConfig
from tf_prac.cli.flags import Flags
from tf_prac.cli.runs import check_output, open_runs


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "connectivity RUN [RUN...] [--flags]",
        "Measures linear mode connectivity: error and loss along the line between networks that "
        "were trained from the same W_k in different orders of the data, and the error barrier. "
        "RUNs may differ in seed (initialisations) and rewind point (k). Trained copies are kept "
        "in each RUN; the same command again trains only what is missing.",
    )
    flags.group("Run")
    flags.string("output_dir", "runs/connectivity", "Where figures and tables go.")
    flags.string("data_dir", None, "Where the data set is now. Default: where it was.")
    flags.options("Connectivity", ConnectivityConfig)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Measures the runs that are named."""
    config = ConnectivityConfig(**flags.given(ConnectivityConfig))
    check_output(flags.output_dir)
    runs = open_runs(positional, flags.data_dir, config.rounds)
    from tf_prac.analysis.connectivity import measure_connectivity, merged
    from tf_prac.analysis.connectivity_report import connectivity_table, write_connectivity

    rows = merged([measure_connectivity(copies, config) for copies in runs])
    written = write_connectivity(flags.output_dir, rows)
    print(f"\n{connectivity_table(rows)}\n")
    print(f"figures  {', '.join(path.name for path in written)} in {flags.output_dir}")
    return 0
