"""`SearchContext`: the configuration, data, network and directory of one search."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tf_prac.config import SearchConfig
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.splits import DataSplits, Split
from tf_prac.errors import ArgumentError
from tf_prac.search.callbacks import SearchCallbackList
from tf_prac.search.finished_run import FinishedRun
from tf_prac.search.metric import Metric
from tf_prac.storage.layout import FORGETTING
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.checkpoint import Checkpoints, NoCheckpoints
from tf_prac.training.gradients import GradientNorms
from tf_prac.training.placement import Place
from tf_prac.training.trainer import Trainer


def _no_checkpoints(path: pathlib.Path) -> Checkpoints:
    return NoCheckpoints()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchContext:
    """What the parts of one search share.

    Attributes:
        config: all options.
        seed: of everything random.
        data: training, validation and test samples.
        trainer: trains and evaluates the one network of the search.
        run: the directory of the run.
        finished_runs: the runs that options such as `sizes_from` name, by option.
        callbacks: observe the search.
        checkpoints: function from a directory of the run to the `Checkpoints` of the training whose
            files are in it.
    """

    config: SearchConfig
    seed: int
    data: DataSplits
    trainer: Trainer
    run: RunDirectory
    finished_runs: Mapping[str, FinishedRun] = dataclasses.field(default_factory=dict)
    callbacks: SearchCallbackList = SearchCallbackList()
    checkpoints: Callable[[pathlib.Path], Checkpoints] = _no_checkpoints

    @property
    def train(self) -> Split:
        """The full training set, without validation samples."""
        return self.data.train

    @property
    def place(self) -> Place:
        """Where the training samples are."""
        return self.trainer.placement.place(self.train.samples)

    @property
    def metric(self) -> Metric:
        """The metric of validation and test samples."""
        task = self.trainer.task
        return Metric(task.metric, task.higher_is_better)

    @functools.cached_property
    def classes(self) -> np.ndarray:
        """The class of each training sample, int64 [len(train.ids)].

        Raises:
            ArgumentError: If samples have no single class.
        """
        classes = self.trainer.task.classes(self.train.labels)
        if classes is None:
            name = self.trainer.task.name
            allowed = f"False for the task {name}, whose samples have no single class"
            raise ArgumentError("class_balanced", True, allowed)
        return classes

    @functools.cached_property
    def gradient_norms(self) -> GradientNorms:
        """Computes GraNd."""
        trainer = self.trainer
        return GradientNorms(
            trainer.network,
            trainer.model.prunable,
            lambda *y: tf.reduce_mean(trainer.task.losses(*y)),
        )

    @functools.cached_property
    def proxy(self) -> ForgettingStats:
        """The forgetting statistics of round 0: of the run `proxy_from`, or of this search."""
        if "proxy_from" in self.finished_runs:
            return self.finished_runs["proxy_from"].forgetting(self.train)
        return ForgettingStats.load(self.run.round_path(0) / FORGETTING)
