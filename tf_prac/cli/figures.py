"""`tf-prac figures RUN [RUN...]`."""

from __future__ import annotations

import pathlib

from tf_prac.cli.arguments import define_data_dir_flag, run_arguments, run_names
from tf_prac.cli.flags import Flags
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.storage.atomic import exclusive
from tf_prac.storage.layout import FORGETTING, MASKS, PRAC_SET, TENTATIVE
from tf_prac.storage.run_directory import RunDirectory


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "figures RUN [RUN...] [--flags]",
        "Draws the figures of the PrAC paper's appendix, each with its data as CSV. For one run: "
        "sizes of CET, CEP and PrAC set, forgetting, class balance, images inside and outside the "
        "set, and, for a search with --keep_epoch_masks, the mask distances between all epochs. "
        "For several runs: the overlap of their masks, pair by pair.",
    )
    flags.group("Figures")
    flags.path(
        "output_dir", None, "Output directory. Default: RUN/figures, or figures for several runs."
    )
    define_data_dir_flag(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Draws the figures of one run, or of several."""
    from tf_prac.plotting import NO_PICTURES, can_draw

    runs = run_arguments(positional)
    for run in runs:
        run.summary()
    default = runs[0].path / "figures" if len(runs) == 1 else "figures"
    directory = pathlib.Path(flags.output_dir or default)
    with exclusive(directory, f"{directory}: figures of another command are written to it"):
        if len(runs) == 1:
            files = _figures_of_run(runs[0], directory, flags)
        else:
            files = _mask_overlap(runs, directory)
    for path in files:
        print(path)
    if not can_draw():
        print(NO_PICTURES)
    return 0


def _figures_of_run(run: RunDirectory, directory: pathlib.Path, flags: Flags) -> list[pathlib.Path]:
    config = run.config()
    load_tensorflow(config["keras"], quiet=flags.quiet)
    from tf_prac.analysis import appendix
    from tf_prac.analysis.images import draw_images
    from tf_prac.cli.open_run import is_of_command, reopen
    from tf_prac.data.forgetting import ForgettingStats
    from tf_prac.data.sample_set import SampleSet
    from tf_prac.data.splits import make_splits

    rounds = run.summary()["rounds"]
    paths = {metrics["round"]: run.round_path(metrics["round"]) for metrics in rounds}
    sets = {number: SampleSet.load(path / PRAC_SET) for number, path in paths.items()}
    stats = {number: ForgettingStats.load(path / FORGETTING) for number, path in paths.items()}
    files = [
        *appendix.draw_set_sizes(directory / "set_sizes", rounds),
        *appendix.draw_forgetting(directory / "forgetting", stats),
    ]
    if is_of_command(config):
        search, data = reopen(run, flags.data_dir)
        train = make_splits(data.train, None, None, search.config.recipe, search.seed).train
        last = max(sets)
        title = f"PrAC set after round {last}: {len(sets[last]):,} of {len(train.ids):,} samples"
        files += appendix.draw_classes(directory / "classes", sets, train.samples.labels, train.ids)
        files += draw_images(directory / "images", sets[last], train, title)
    else:
        print("classes and images are left out: the run was made from Python, with data of its own")
    for number, path in paths.items():
        if (path / TENTATIVE).is_dir():
            sparsity = rounds[number]["sparsity"]
            files += appendix.draw_mask_distances(
                directory / f"mask_distances_{number:02d}",
                run.load_tentative(number),
                f"round {number}, {sparsity:.1%} sparse",
            )
    return files


def _mask_overlap(runs: list[RunDirectory], directory: pathlib.Path) -> list[pathlib.Path]:
    from tf_prac.analysis.appendix import draw_iou
    from tf_prac.pruning.masks import Masks

    masks = {
        name: [Masks.load(run.round_path(m["round"]) / MASKS) for m in run.summary()["rounds"]]
        for name, run in zip(run_names(runs), runs, strict=True)
    }
    return draw_iou(directory / "mask_iou", masks)
