"""`ForgettingLogger`: adds forgetting statistics to the logs of a `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_prac.data.forgetting import ForgettingStats
from tf_prac.errors import ArgumentError
from tf_prac.training.callbacks.callback import Callback, as_options
from tf_prac.training.data_pass import DataPass
from tf_prac.training.prac_model import PracModel
from tf_prac.training.targets import Targets, check_valid_labels


class ForgettingLogger(Callback):
    """Adds forgetting statistics to the logs of each epoch.

    Adds `forgetting_events` (the number so far), and the fractions of the presented samples that
    are `unforgettable` and `never_learned`, to `logs`. Each `fit` resets the statistics.

    A `PracModel` records them at no cost inside its training step, as defined in the paper: at each
    presentation, before the update. For any other compiled model, pass the data, which is then
    classified after each epoch.

    Example:

        >>> logger = ForgettingLogger()  # doctest: +SKIP
        >>> model = PracModel(network, num_samples=60000)
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> model.fit(with_sample_ids(dataset).batch(128), callbacks=[logger])
        >>> logger.stats.critical_for_training()

        >>> logger = ForgettingLogger(dataset)  # doctest: +SKIP
        >>> network.fit(dataset.shuffle(60000).batch(128), callbacks=[logger])

    Source: Toneva et al. 2019, Section 3.

    Args:
        data: the samples to classify after each epoch: anything that `tf_prac.data.as_samples`
            takes. They are identified by the ids of `with_sample_ids`, or by their positions;
            shuffled data by an order of its content, after a warning. Default None: the model is a
            `PracModel` that records forgetting.
        targets: with `data`, how to tell whether a sample is classified correctly.
            Default `Targets()`.

    Attributes:
        forward_samples: the number of samples that this callback has classified.
    """

    _not_serialized = ("data",)

    def __init__(self, data: Any = None, *, targets: Targets | Mapping[str, Any] | None = None):
        self.data, self.targets = data, as_options(Targets, targets)
        self.forward_samples = 0
        self._stats: ForgettingStats | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Resets the statistics.

        Raises:
            ArgumentError: If there is no `data` and the model does not record forgetting.
        """
        self._stats, self.forward_samples = None, 0
        if self.data is not None:
            self.targets.check_correct(self.model)
            self._pass = DataPass(self.data, self._correct)
            return
        if not isinstance(self.model, PracModel) or self.model.forgetting is None:
            raise ArgumentError(
                "model",
                type(self.model).__name__,
                "a PracModel with num_samples",
                "Wrap yours: PracModel(model, num_samples=...), or pass the data: "
                "ForgettingLogger(data).",
            )
        self.model.forgetting.reset()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the statistics to `logs`.

        Raises:
            ArgumentError: If a sample id or label of the epoch is out of range, or an id is in a
                batch twice; with `data`, if two samples have the same id.
        """
        if self.data is None:
            self._stats = self.model.forgetting.stats
        else:
            self._classify()
        stats = self.stats
        presented = max(1, int(np.count_nonzero(stats.seen)))
        if logs is not None:
            logs["forgetting_events"] = int(stats.events.sum())
            logs["unforgettable"] = np.count_nonzero(stats.unforgettable) / presented
            logs["never_learned"] = np.count_nonzero(stats.never_learned) / presented

    @property
    def stats(self) -> ForgettingStats:
        """The statistics after the last epoch; `ArgumentError` before the end of the first."""
        if self._stats is None:
            raise ArgumentError("stats", None, "statistics of a training", "Call fit first.")
        return self._stats

    def _correct(self, x: Any, y: Any, weight: Any = None) -> tuple[Any, Any]:
        predictions = self.targets.read(self.model, y, self.model(x, training=False), weight)
        return predictions.correct(), predictions.valid_labels()

    def _classify(self) -> None:
        ids, (correct, valid) = self._pass()
        check_valid_labels(ids, valid)
        self.forward_samples += len(ids)
        if self._stats is None:
            self._stats = ForgettingStats(int(ids.max()) + 1)
        self._stats.update(ids, correct)
