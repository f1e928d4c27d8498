"""`tf-prac figures RUN [RUN...]`."""

from __future__ import annotations

import os
import pathlib

from tf_prac.cli.arguments import run_argument
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.errors import ArgumentError
from tf_prac.storage.run_directory import FORGETTING, MASKS, PRAC_SET, TENTATIVE, RunDirectory


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "figures RUN [RUN...] [--flags]",
        "Draws what the appendix of the PrAC paper shows, each figure with its numbers as CSV. Of "
        "one run: sizes of CET, CEP and PrAC set, forgetting, class balance, images inside and "
        "outside the set, and, if it kept its tentative masks, the distances between all epochs. "
        "Of several: how much of their masks each two have in common.",
    )
    flags.group("Figures")
    flags.string("output_dir", None, "Where to. Default RUN/figures, or figures for several runs.")
    flags.string("data_dir", None, "Where the data set is now. Default: where it was.")
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Draws the figures of the runs that are named."""
    from tf_prac.plotting import NO_PICTURES, can_draw

    runs = [run_argument([path]) for path in positional] or [run_argument([])]
    for run in runs:
        run.summary()
    if len(runs) == 1:
        directory = pathlib.Path(flags.output_dir or runs[0].path / "figures")
        written = _figures_of_one(runs[0], directory, flags.data_dir)
    else:
        written = _overlap(runs, pathlib.Path(flags.output_dir or "figures"))
    for path in written:
        print(path)
    if not can_draw():
        print(NO_PICTURES)
    return 0


def _figures_of_one(
    run: RunDirectory, directory: pathlib.Path, data_dir: str | None
) -> list[pathlib.Path]:
    load_tensorflow(run.config()["keras"])
    from tf_prac.analysis import appendix
    from tf_prac.analysis.images import draw_images
    from tf_prac.cli.open_run import reopen
    from tf_prac.data.forgetting import ForgettingStats
    from tf_prac.data.prac_set import PracSet
    from tf_prac.data.search_data import prepare

    search, data = reopen(run, data_dir)
    train = prepare(data.train, None, None, search.config.recipe, search.seed).train
    rounds = run.summary()["rounds"]
    paths = {figures["round"]: run.round_path(figures["round"]) for figures in rounds}
    sets = {number: PracSet.load(path / PRAC_SET) for number, path in paths.items()}
    stats = {number: ForgettingStats.load(path / FORGETTING) for number, path in paths.items()}
    last = max(sets)
    title = f"PrAC set after round {last}: {len(sets[last]):,} of {len(train.ids):,} samples"
    written = [
        *appendix.draw_set_sizes(directory / "set_sizes", rounds),
        *appendix.draw_forgetting(directory / "forgetting", stats),
        *appendix.draw_classes(directory / "classes", sets, train.samples.labels, train.ids),
        *draw_images(directory / "images", sets[last], train, title),
    ]
    for number, path in paths.items():
        if (path / TENTATIVE).is_dir():
            sparsity = rounds[number]["sparsity"]
            written += appendix.draw_mask_distances(
                directory / f"mask_distances_{number:02d}",
                run.load_tentative(number),
                f"round {number}, {sparsity:.1%} sparse",
            )
    return written


def _overlap(runs: list[RunDirectory], directory: pathlib.Path) -> list[pathlib.Path]:
    from tf_prac.analysis.appendix import draw_iou
    from tf_prac.pruning.masks import Masks

    found = {}
    for run in runs:
        rounds = run.summary()["rounds"]
        found[_name(run, runs)] = [
            Masks.load(run.round_path(figures["round"]) / MASKS) for figures in rounds
        ]
    if len(found) < len(runs):
        raise ArgumentError("RUN", [str(run.path) for run in runs], "different runs")
    return draw_iou(directory / "mask_iou", found)


def _name(run: RunDirectory, runs: list[RunDirectory]) -> str:
    """The part of a run's path that sets it apart from the others."""
    common = os.path.commonpath([each.path.resolve() for each in runs])
    return run.path.resolve().relative_to(common).as_posix()
