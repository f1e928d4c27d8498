"""`SearchContext`: the configuration, data, network and directory of one search."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping

from tf_prac.config import SearchConfig
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.splits import DataSplits, Split
from tf_prac.search.callbacks import SearchCallbackList
from tf_prac.search.finished_run import FinishedRun
from tf_prac.storage.layout import FORGETTING
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.checkpoint import Checkpoints, NoCheckpoints
from tf_prac.training.gradients import GradientNorms, cross_entropy
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

    @functools.cached_property
    def gradient_norms(self) -> GradientNorms:
        """The function that computes GraNd; it is compiled once."""
        model, from_logits = self.trainer.model, self.trainer.from_logits
        loss = functools.partial(cross_entropy, from_logits=from_logits)
        return GradientNorms(self.trainer.network, model.prunable, loss)

    @functools.cached_property
    def proxy(self) -> ForgettingStats:
        """The forgetting statistics of round 0: of the run `proxy_from`, or of this search."""
        if "proxy_from" in self.finished_runs:
            return self.finished_runs["proxy_from"].forgetting(self.train)
        return ForgettingStats.load(self.run.round_path(0) / FORGETTING)
