"""`TensorBoardCallback`: the metrics and images of a search as events for TensorBoard.

TensorFlow writes the files, but needs the package `tensorboard` for the summaries, which TensorFlow
2.21 no longer installs: `pip install 'tf-prac[tensorboard]'`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_prac.analysis.images import displayable, is_image
from tf_prac.analysis.report.pictures import forgotten_by_pruning, most_forgotten
from tf_prac.config import OPTION_GROUPS
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet
from tf_prac.errors import FileError
from tf_prac.extras import require
from tf_prac.pruning.masks import Masks
from tf_prac.search.callbacks import SearchCallback
from tf_prac.search.cost import round_steps
from tf_prac.storage.atomic import remove_directory
from tf_prac.storage.files import inside, read_csv
from tf_prac.storage.layout import FORGETTING, HISTORY, MASKS, PRAC_SET, TENSORBOARD
from tf_prac.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from tf_prac.data.source import Samples

ROUND = ("sparsity", "train_samples", "epochs", "steps", "val_accuracy", "seconds")
SETS = ("cet", "cep", "prac_size", "overlap")
COLUMNS = 5


class TensorBoardCallback(SearchCallback):
    """Writes events for TensorBoard to RUN/tensorboard, after each round and at the end.

    Scalars: of each round (`round/...`), its sets (`sets/...`), the sparsity of each layer
    (`layers/...`), every epoch against the steps of the whole search (`epochs/...`) and the
    retrained tickets (`tickets/...`). Histograms of forgetting events; grids of the most forgotten
    images and of those that pruning forgets; the options as hyperparameters. A search that
    resumes writes the events of its finished rounds again, into new files.

    Example:

        >>> search = TicketSearch(make_model, directory="runs/mine")
        >>> search.run(samples, callbacks=[TensorBoardCallback("runs/mine", samples)])

    Args:
        directory: the directory of the run.
        samples: the data set, for images. Default None: no images.

    Raises:
        MissingPackageError: If TensorBoard is not installed.
    """

    def __init__(self, directory: str | os.PathLike, samples: Samples | None = None):
        require("tensorboard", "events for TensorBoard")
        self._run = RunDirectory(directory)
        self._samples = samples if samples and is_image(samples.input_shape) else None
        self._writer: Any = None
        self._steps = 0
        self._forgetting: list[ForgettingStats] = []

    def on_search_begin(self, config: Mapping[str, Any]) -> None:
        """Opens a new event file, and writes the options as hyperparameters."""
        self._steps, self._forgetting = 0, []
        import tensorflow as tf
        from tensorboard.plugins.hparams import api

        path = inside(self._run.path, TENSORBOARD)
        remove_directory(path)
        try:
            self._writer = tf.summary.create_file_writer(str(path))
        except tf.errors.OpError as error:
            raise FileError(f"{path}: cannot be written: {error.message}.") from error
        options = {
            f"{group}/{name}": value if isinstance(value, (bool, int, float, str)) else str(value)
            for group in OPTION_GROUPS
            for name, value in config[group].items()
        }
        options["seed"] = config["search"]["seed"]
        metrics = ("round/sparsity", "round/val_accuracy", "tickets/test_accuracy")
        with self._writing():
            hparams = [api.HParam(name) for name in options]
            api.hparams_config(hparams, [api.Metric(tag) for tag in metrics])
            api.hparams(options, trial_id=self._run.path.name)

    def on_round_end(self, metrics: Mapping[str, Any]) -> None:
        """Writes the events of a round."""
        number = metrics["round"]
        path = self._run.round_path(number)
        masks, prac_set = Masks.load(path / MASKS), PracSet.load(path / PRAC_SET)
        self._forgetting.append(ForgettingStats.load(path / FORGETTING))
        with self._writing() as summary:
            _scalars(summary, "round", {name: metrics[name] for name in ROUND}, number)
            _scalars(summary, "sets", {name: metrics[name] for name in SETS}, number)
            layers = {name: 1 - np.mean(mask) for name, mask in masks.items()}
            _scalars(summary, "layers", layers, number)
            seen = self._forgetting[-1].events[self._forgetting[-1].seen]
            if len(seen):
                summary.histogram("forgetting/events", seen, step=number)
            self._epochs(summary, path)
            self._images(summary, number, prac_set)
        self._steps += round_steps(metrics)

    def on_search_end(self, summary: Mapping[str, Any]) -> None:
        """Writes the events of the retrained tickets."""
        with self._writing() as write:
            for ticket in [t for t in summary["tickets"] if t["retrain_steps"]]:
                names = ("sparsity", "val_accuracy", "test_accuracy")
                _scalars(write, "tickets", {name: ticket[name] for name in names}, ticket["round"])
            saved = {"steps_saved": summary["cost"]["steps_saved"]}
            _scalars(write, "cost", saved, len(summary["rounds"]))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Any]:
        import tensorflow as tf

        try:
            with self._writer.as_default():
                yield tf.summary
            self._writer.flush()
        except tf.errors.OpError as error:
            path = self._run.path / TENSORBOARD
            raise FileError(f"{path}: cannot be written: {error.message}.") from error

    def _epochs(self, summary: Any, path: pathlib.Path) -> None:
        for row in read_csv(inside(path, HISTORY)):
            columns = {k: float(v) for k, v in row.items() if v and k not in ("epoch", "step")}
            _scalars(summary, "epochs", columns, self._steps + int(row["step"]))

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
    """Returns images in rows of five with gray lines between, uint8 [height, width, channels].

    Args:
        images: [n, height, width] or [n, height, width, channels].
    """
    tiles = [np.atleast_3d(displayable(image)) for image in images]
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
