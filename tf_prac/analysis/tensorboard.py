"""`TensorBoardProgress`: what a search writes down, as events for TensorBoard.

TensorFlow's own writer makes the files, but its summaries are those of the package `tensorboard`,
which TensorFlow no longer brings: `pip install 'tf-prac[tensorboard]'`.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_prac.analysis.images import is_image, shown
from tf_prac.analysis.report.pictures import forgotten_by_pruning, most_forgotten
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet
from tf_prac.pruning.masks import Masks
from tf_prac.search.progress import TerminalProgress
from tf_prac.storage.files import inside
from tf_prac.storage.run_directory import (
    FORGETTING,
    HISTORY,
    MASKS,
    PRAC_SET,
    TENSORBOARD,
    RunDirectory,
)

if TYPE_CHECKING:
    from tf_prac.data.source import Samples

MISSING = "no events for TensorBoard, it is missing: pip install 'tf-prac[tensorboard]'"
ROUND = ("sparsity", "train_samples", "epochs", "steps", "val_accuracy", "seconds")
SETS = ("cet", "cep", "prac_size", "overlap")
COLUMNS = 5


class TensorBoardProgress(TerminalProgress):
    """Shows progress on the terminal, and writes events to RUN/tensorboard after each round.

    Scalars: of each round (`round/...`), its sets (`sets/...`), the sparsity of each layer
    (`layers/...`), every epoch against the steps of the whole search (`epochs/...`) and the
    retrained tickets (`tickets/...`). Histograms of forgetting events, grids of the most forgotten
    images and of those that pruning forgets, and the options as hyperparameters. Where a search
    goes on, its finished rounds are written again, so that nothing is there twice. Without
    TensorBoard one line says so, and the search goes on.

    Example:

        >>> progress = TensorBoardProgress("runs/mine", samples)
        >>> search = TicketSearch(make_model, directory="runs/mine", verbose=progress)

    Args:
        directory: the run's.
        samples: the data set, for images. Default None: no images.
    """

    def __init__(self, directory: str | os.PathLike, samples: Samples | None = None):
        self._run = RunDirectory(directory)
        self._samples = samples if samples and is_image(samples.input_shape) else None
        self._there = importlib.util.find_spec("tensorboard") is not None
        self._writer: Any = None
        self._steps = 0
        self._forgetting: list[ForgettingStats] = []

    def round(self, figures: Mapping[str, Any], full: int) -> None:
        """Shows a round, and writes its events."""
        super().round(figures, full)
        number = figures["round"]
        if number == 0:
            self._begin()
        if not self._there:
            return
        path = self._run.round_path(number)
        masks, prac_set = Masks.load(path / MASKS), PracSet.load(path / PRAC_SET)
        self._forgetting.append(ForgettingStats.load(path / FORGETTING))
        with self._writing() as summary:
            _scalars(summary, "round", {name: figures[name] for name in ROUND}, number)
            _scalars(summary, "sets", {name: figures[name] for name in SETS}, number)
            layers = {name: 1 - np.mean(mask) for name, mask in masks.items()}
            _scalars(summary, "layers", layers, number)
            seen = self._forgetting[-1].events[self._forgetting[-1].seen]
            if len(seen):
                summary.histogram("forgetting/events", seen, step=number)
            with open(inside(path, HISTORY), newline="") as file:
                for row in csv.DictReader(file):
                    values = {
                        k: float(v) for k, v in row.items() if v and k not in ("epoch", "step")
                    }
                    _scalars(summary, "epochs", values, self._steps + int(row["step"]))
            self._steps += figures["steps"]
            self._images(summary, number, prac_set)

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Writes the retrained tickets."""
        if not self._there:
            return
        with self._writing() as write:
            for ticket in [t for t in summary["tickets"] if t["retrain_steps"]]:
                names = ("sparsity", "val_accuracy", "test_accuracy")
                _scalars(write, "tickets", {name: ticket[name] for name in names}, ticket["round"])
            saved = {"steps_saved": summary["cost"]["steps_saved"]}
            _scalars(write, "cost", saved, len(summary["rounds"]))

    def _begin(self) -> None:
        """Starts anew; options are hyperparameters, so that runs can be compared by them."""
        self._steps, self._forgetting = 0, []
        if not self._there:
            self.line(MISSING)
            return
        import tensorflow as tf
        from tensorboard.plugins.hparams import api

        place = inside(self._run.path, TENSORBOARD)
        shutil.rmtree(place, ignore_errors=True)
        self._writer = tf.summary.create_file_writer(str(place))
        config = self._run.config()
        options = {
            f"{group}/{name}": value if isinstance(value, (bool, int, float, str)) else str(value)
            for group in ("recipe", "pruning", "prac")
            for name, value in config[group].items()
        }
        options["seed"] = config["search"]["seed"]
        metrics = ("round/sparsity", "round/val_accuracy", "tickets/test_accuracy")
        with self._writing():
            hparams = [api.HParam(name) for name in options]
            api.hparams_config(hparams, [api.Metric(tag) for tag in metrics])
            api.hparams(options, trial_id=self._run.path.name)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Any]:
        import tensorflow as tf

        with self._writer.as_default():
            yield tf.summary
        self._writer.flush()

    def _images(self, summary: Any, number: int, prac_set: PracSet) -> None:
        if self._samples is None:
            return
        chosen = {
            "most_forgotten": most_forgotten(self._forgetting)[0],
            "forgotten_by_pruning": forgotten_by_pruning(prac_set),
        }
        for name, ids in chosen.items():
            if len(ids):
                batch = self._samples.inputs(ids)
                summary.image(f"images/{name}", grid(batch)[None], step=number)


def grid(images: np.ndarray) -> np.ndarray:
    """Returns images in rows of five, gray lines between, uint8 [height, width, channels].

    Args:
        images: [n, height, width] or [n, height, width, channels].
    """
    tiles = [np.atleast_3d(shown(image)) for image in images]
    if tiles[0].dtype != np.uint8:
        tiles = [np.round(255 * tile).astype(np.uint8) for tile in tiles]
    tiles = [np.pad(tile, ((0, 1), (0, 1), (0, 0)), constant_values=128) for tile in tiles]
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % COLUMNS)
    rows = [np.concatenate(tiles[n : n + COLUMNS], 1) for n in range(0, len(tiles), COLUMNS)]
    return np.concatenate(rows)


def _scalars(summary: Any, group: str, values: Mapping[str, Any], step: int) -> None:
    for name, value in values.items():
        if value is not None:
            summary.scalar(f"{group}/{name}", float(value), step=step)
