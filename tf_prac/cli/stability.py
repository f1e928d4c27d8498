"""`tf-prac stability`."""

from __future__ import annotations

from tf_prac.analysis.options import StabilityConfig
from tf_prac.cli.flags import Flags
from tf_prac.cli.runs import check_output, open_runs


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "stability RUN [RUN...] [--flags]",
        "Measures how stable tickets are to pruning and to data order: how far apart networks end "
        "that start from the same W_k, as L2 distance and as angle, beside random subnetworks. "
        "RUNs may differ in seed (initialisations) and rewind point (k). Trained copies are kept "
        "in each RUN; the same command again trains only what is missing.",
    )
    flags.group("Run")
    flags.string("output_dir", "runs/stability", "Where figures and tables go.")
    flags.string("data_dir", None, "Where the data set is now. Default: where it was.")
    flags.options("Stability", StabilityConfig)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Measures the runs that are named."""
    config = StabilityConfig(**flags.given(StabilityConfig))
    check_output(flags.output_dir)
    runs = open_runs(positional, flags.data_dir, config.rounds)
    from tf_prac.analysis.stability import measure_stability, merged
    from tf_prac.analysis.stability_report import stability_table, write_stability

    rows = merged([measure_stability(copies, config) for copies in runs])
    written = write_stability(flags.output_dir, rows)
    print(f"\n{stability_table(rows)}\n")
    print(f"figures  {', '.join(path.name for path in written)} in {flags.output_dir}")
    return 0
