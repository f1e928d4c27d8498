"""`SampleScores`: EL2N, GraNd and others of each sample, during a `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import check_choice, check_int
from tf_prac.data.selection import SCORES, choose, of_questions
from tf_prac.errors import ArgumentError
from tf_prac.training.callbacks.callback import Callback, built
from tf_prac.training.data_pass import DataPass
from tf_prac.training.gradients import GradientNorms
from tf_prac.training.masked_weights import masks_in_force, watched_weights
from tf_prac.training.targets import Targets


class SampleScores(Callback):
    """Scores the samples of a data set by a model's answers after an epoch: high ones are hard.

    Adds the mean, under the name of the score, to `logs`.

    Example:

        >>> scores = SampleScores(dataset, "el2n")  # doctest: +SKIP
        >>> model.fit(dataset.shuffle(60000).batch(128), epochs=10, callbacks=[scores])
        >>> hard = PracSet(scores.highest(20000), [], 60000)
        >>> model.fit(hard.filter(with_sample_ids(dataset)).batch(128))  # a PracModel

    Source: Paul et al. 2021, "Deep Learning on a Data Diet", Definitions 2.1 and 2.2; for
    "entropy", "margin" and "loss" see `tf_prac.data.selection`.

    Args:
        data: the samples, a finite `tf.data.Dataset`, batched or not, or arrays (x, y). They are
            known by the ids of `with_sample_ids`, or by their positions.
        score: "el2n", "grand" (needs a gradient of each sample), "entropy", "margin" or "loss".
            A multi-label sample asks a question for each label: norms, entropies and losses of
            all are combined as those of parts of one, and its margin is that of the least
            certain. Default "el2n".
        every: epochs from one scoring to the next; the first epoch is always scored, and between
            two the logs repeat the last mean. Default 1.
        targets: which output counts, and how its answers are read. Default `Targets()`.

    Raises:
        ArgumentError: another score, or a number of epochs below 1.

    Attributes:
        epoch: the epoch of the present scores, from 0, or None.
        samples: samples that went through the model for this alone, so far.
    """

    _given_again = ("data",)

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
        self.targets = built(Targets, targets)
        self._start()

    def _start(self) -> None:
        self.epoch: int | None = None
        self.samples = 0
        self._found: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def ids(self) -> np.ndarray:
        """The ids of the samples, int64 [samples], sorted; `ArgumentError` before the first."""
        return self._scored()[0]

    @property
    def values(self) -> np.ndarray:
        """The score of each, float [samples]; `ArgumentError` before the first."""
        return self._scored()[1]

    def highest(self, count: int, *, seed: int = 0) -> np.ndarray:
        """Returns the ids of the highest scores, int64 [count], sorted; ties by `seed`."""
        return self.ids[choose(self.values, count, seed=seed)]

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts anew; raises `ArgumentError` for data that cannot be gone over."""
        self._start()
        if self.score == "grand":
            network = getattr(self.model, "network", self.model)
            weights = watched_weights(self.model)
            self._norms = GradientNorms(network, weights, self._loss)
            self._pass = DataPass(self.data, self._norms.of_batch, self._norms.batch_size)
        else:
            self._pass = DataPass(self.data, self._answers)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Scores the samples if it is time, and adds the mean to `logs`."""
        if self._found is None or epoch % self.every == 0:
            self._found = self._score()
            self.epoch = epoch
            self.samples += len(self.ids)
        if logs is not None:
            logs[self.score] = float(np.mean(self.values))

    def _score(self) -> tuple[np.ndarray, np.ndarray]:
        if self.score == "grand":
            self._norms.set_masks(masks_in_force(self.model))
            return self._pass()
        ids, (logits, labels) = self._pass()
        return ids, of_questions(self.score, logits, labels)

    def _answers(self, x: Any, y: Any) -> tuple[tf.Tensor, tf.Tensor]:
        answers = self.targets.read(self.model, y, self.model(x, training=False))
        return tf.nn.softmax(answers.logits()), answers.labels()

    def _loss(self, y: Any, y_pred: Any) -> tf.Tensor:
        return self.targets.read(self.model, y, y_pred).loss()

    def _scored(self) -> tuple[np.ndarray, np.ndarray]:
        if self._found is None:
            raise ArgumentError("scores", None, "scores of a training", "Call fit first.")
        return self._found
