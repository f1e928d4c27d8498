"""`ForgettingLogger`: forgetting in the logs of a `fit`."""

from __future__ import annotations

import numpy as np

from tf_prac.data.forgetting import ForgettingStats
from tf_prac.errors import ArgumentError
from tf_prac.training.callbacks.callback import Callback
from tf_prac.training.prac_model import PracModel


class ForgettingLogger(Callback):
    """Puts forgetting into the logs of each epoch, and keeps the statistics of the run.

    Adds `forgetting_events` (all so far), and the fractions of presented samples that are
    `unforgettable` and `never_learned`, to `logs`. Statistics start anew with each `fit`.

    Example:

        >>> logger = ForgettingLogger()  # doctest: +SKIP
        >>> model = PracModel(network, num_samples=60000)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")
        >>> model.fit(with_sample_ids(dataset).batch(128), callbacks=[logger])
        >>> logger.stats.critical_for_training()

    Source: Toneva et al. 2019, Section 3.
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts counting; raises `ArgumentError` for a model that does not record."""
        if not isinstance(self.model, PracModel) or self.model.forgetting is None:
            raise ArgumentError(
                "model",
                type(self.model).__name__,
                "a PracModel with num_samples",
                "Wrap yours: PracModel(model, num_samples=...).",
            )
        self.model.forgetting.reset()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the figures to `logs`."""
        stats = self.stats
        seen = max(1, int(np.count_nonzero(stats.seen)))
        if logs is not None:
            logs["forgetting_events"] = int(stats.events.sum())
            logs["unforgettable"] = np.count_nonzero(stats.unforgettable) / seen
            logs["never_learned"] = np.count_nonzero(stats.never_learned) / seen

    @property
    def stats(self) -> ForgettingStats:
        """The statistics so far."""
        return self.model.forgetting.stats
