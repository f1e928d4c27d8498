"""`SampleScores`: EL2N, GraNd and other scores of each sample, during a `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_choice, check_int
from tf_prac.data.selection import SCORES, choose
from tf_prac.errors import ArgumentError
from tf_prac.training.callbacks.callback import Callback, as_options
from tf_prac.training.data_pass import DataPass
from tf_prac.training.gradients import GradientNorms
from tf_prac.training.masked_model import network_of
from tf_prac.training.masked_weights import get_masks, get_prunable
from tf_prac.training.scores import parts_of, score_of
from tf_prac.training.targets import Targets, check_valid_labels


class SampleScores(Callback):
    """Scores the samples of a data set after an epoch; samples with high scores are hard.

    Adds the mean, under the name of the score, to `logs`; that of "loss" as "sample_loss".

    Example:

        >>> scores = SampleScores(dataset, "el2n")  # doctest: +SKIP
        >>> model.fit(dataset.shuffle(60000).batch(128), epochs=10, callbacks=[scores])
        >>> hard = SampleSet(scores.highest(20000), 60000)
        >>> model.fit(hard.filter(with_sample_ids(dataset)).batch(128))  # a PracModel

    Source: Paul et al. 2021, "Deep Learning on a Data Diet", Definitions 2.1 and 2.2; for
    "entropy", "margin" and "loss" see `tf_prac.data.selection`.

    Args:
        data: the samples: anything that `tf_prac.data.as_samples` takes. They are identified by the
            ids of `with_sample_ids`, or by their positions; shuffled data by an order of its
            content, after a warning.
        score: "el2n", "grand" (computes a gradient per sample), "entropy", "margin" or "loss".
            For a multi-label sample, norm, entropy and loss are those of all labels jointly, and
            the margin is that of the least certain label. Default "el2n".
        every: interval between scorings in epochs, starting with the first; in between, the logs
            repeat the last mean. Default 1.
        targets: which output to use, and how to interpret it. Default `Targets()`.

    Raises:
        ArgumentError: If the score is unknown or `every` is below 1.

    Attributes:
        epoch: the epoch of the current scores, from 0, or None.
        samples: the number of samples that this callback has passed through the model.
    """

    _not_serialized = ("data",)

    def __init__(
        self,
        data: Any,
        score: str = "el2n",
        *,
        every: int = 1,
        targets: Targets | Mapping[str, Any] | None = None,
    ):
        check_choice("score", score, (*SCORES, "grand"))
        check_int("every", every, 1)
        self.data, self.score, self.every = data, score, every
        self.targets = as_options(Targets, targets)
        self._reset()

    def _reset(self) -> None:
        self.epoch: int | None = None
        self.samples = 0
        self._scores: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def ids(self) -> np.ndarray:
        """The ids of the samples, int64 [samples], sorted; `ArgumentError` before scoring."""
        return self._ids_and_values()[0]

    @property
    def values(self) -> np.ndarray:
        """The score of each sample, float [samples]; `ArgumentError` before scoring."""
        return self._ids_and_values()[1]

    def highest(self, count: int, *, seed: int = 0) -> np.ndarray:
        """Returns the ids with the highest scores, int64 [count], sorted; `seed` breaks ties."""
        return self.ids[choose(self.values, count, seed=seed)]

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Resets the scores.

        Raises:
            ArgumentError: If the data is not a finite data set of (x, y), or the score is "grand"
                and the model has nothing to prune.
        """
        self._reset()
        if self.score == "grand":
            network = network_of(self.model)
            weights = get_prunable(self.model)
            self._norms = GradientNorms(network, weights, self._loss)
            self._pass = DataPass(self.data, self._gradient_norms, self._norms.batch_size)
        else:
            self._pass = DataPass(self.data, self._parts)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Scores the samples every `every` epochs, and adds the mean to `logs`.

        Raises:
            ArgumentError: If two samples have the same id, or the model has no output for a label.
        """
        if self._scores is None or epoch % self.every == 0:
            self._scores = self._score()
            self.epoch = epoch
            self.samples += len(self.ids)
        if logs is not None:
            name = "sample_loss" if self.score == "loss" else self.score  # "loss" is that of `fit`
            logs[name] = float(np.mean(self.values))

    def _score(self) -> tuple[np.ndarray, np.ndarray]:
        if self.score == "grand":
            self._norms.set_masks(get_masks(self.model))
        ids, (parts, valid) = self._pass()
        check_valid_labels(ids, valid)
        return ids, parts if self.score == "grand" else score_of(self.score, parts)

    def _parts(self, x: Any, y: Any, weight: Any = None) -> tuple[Any, tf.Tensor]:
        predictions = self.targets.read(self.model, y, self.model(x, training=False), weight)
        arguments = predictions.y, predictions.y_pred, predictions.weight
        return parts_of(self.score, predictions.task, *arguments), predictions.valid_labels()

    def _gradient_norms(self, x: Any, *targets: Any) -> tuple[tf.Tensor, tf.Tensor]:
        y = targets[0]
        predictions = self.targets.read(self.model, y, self.model(x, training=False))
        return self._norms.of_batch(x, *targets), predictions.valid_labels()

    def _loss(self, y: Any, y_pred: Any, weight: Any = None) -> tf.Tensor:
        return self.targets.read(self.model, y, y_pred, weight).loss()

    def _ids_and_values(self) -> tuple[np.ndarray, np.ndarray]:
        if self._scores is None:
            raise ArgumentError("scores", None, "scores of a training", "Call fit first.")
        return self._scores
