"""`SearchResult`: the tickets and summary of a search, and the best ticket as a Keras model."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_prac.errors import ArgumentError
from tf_prac.keras_api import new_network
from tf_prac.pruning.weights import rewind
from tf_prac.search.metric import Metric
from tf_prac.search.ticket import Ticket
from tf_prac.storage.files import read_npz
from tf_prac.storage.layout import TRAINED, RunLayout
from tf_prac.training.pruned import strip


@dataclasses.dataclass(frozen=True, repr=False)
class SearchResult:
    """The result of a search.

    Example:

        >>> result = search.run((x, y), test=(x_test, y_test))  # doctest: +SKIP
        >>> result
        SearchResult(ticket 5, 67.2% sparse: test accuracy 97.20%, dense 97.00%: as good as dense;
        24.1% of the search steps saved; runs/digits)
        >>> result.model.predict(x_test)  # doctest: +SKIP

    Attributes:
        tickets: the dense network and one `Ticket` after each round, from dense to sparsest.
        summary: the content of summary.json.
        directory: the directory of the run.
        model_fn: returns a new, built model. Default None: `best.model` is not available.
    """

    tickets: list[Ticket]
    summary: dict[str, Any]
    directory: pathlib.Path
    model_fn: Callable[[], Any] | None = dataclasses.field(default=None, repr=False)

    @property
    def metric(self) -> Metric:
        """The metric of validation and test samples."""
        return Metric.of(self.summary)

    @property
    def best_round(self) -> int | None:
        """The number of the best retrained ticket; None if no ticket is retrained."""
        try:
            return self.best.ticket.round
        except ArgumentError:
            return None

    @property
    def as_good_as_dense(self) -> bool | None:
        """Whether the best ticket is as good as the dense network; on test samples, if any.

        None if no ticket is retrained, or there are neither test nor validation samples.
        """
        compared = self._compared()
        return None if compared is None else self.metric.at_least(*compared[1:])

    @property
    def model(self) -> Any:
        """The best ticket as a plain Keras model with its trained weights; pruned ones are 0.

        Raises:
            ArgumentError: If no ticket is retrained.
            FileError: If its file is damaged.
        """
        return self.best.model

    def _compared(self) -> tuple[str, float, float] | None:
        """Returns the split, and the metric of the best ticket and of the dense network on it."""
        ticket, dense = self.summary["tickets"], self.summary["dense"]
        if self.best_round is None:
            return None
        for split in ("test", "val"):
            key = f"{split}_accuracy"
            values = ticket[self.best_round][key], dense[key]
            if None not in values:
                return split, *values
        return None

    def __repr__(self) -> str:
        number, metric, compared = self.best_round, self.metric, self._compared()
        parts = [f"{len(self.tickets) - 1} tickets, none retrained"]
        if number is not None:
            parts = [f"ticket {number}, {self.tickets[number].sparsity:.1%} sparse"]
        if compared is not None:
            split, ticket, dense = compared
            verdict = "as good as dense"
            if not metric.at_least(ticket, dense):
                verdict = f"{metric.difference(abs(ticket - dense))} worse than dense"
            parts[0] += (
                f": {split} {metric.title} {metric.format(ticket)}, dense {metric.format(dense)}: "
                f"{verdict}"
            )
        saved = self.summary["cost"]["steps_saved"]
        parts += [f"{saved:.1%} of the search steps saved", str(self.directory)]
        return f"SearchResult({'; '.join(parts)})"

    @property
    def best(self) -> RetrainedTicket:
        """The retrained ticket with the best validation metric, of equal ones the sparsest.

        The dense network is not a ticket.

        Raises:
            ArgumentError: If no ticket was retrained.
        """
        retrained = [m for m in self.summary["tickets"] if m["retrain_steps"] and m["round"]]
        if not retrained:
            remedy = 'Search with retrain="last" or "all", or call Ticket.retrain.'
            raise ArgumentError("best", "no retrained ticket", "a retrained ticket", remedy)
        sign = 1 if self.metric.higher_is_better else -1
        metrics = max(retrained, key=lambda m: (sign * (m["val_accuracy"] or 0.0), m["sparsity"]))
        return RetrainedTicket(
            self.tickets[metrics["round"]], metrics, self.directory, self.model_fn
        )


@dataclasses.dataclass(frozen=True)
class RetrainedTicket:
    """A ticket that the search retrained on the full data.

    Attributes:
        ticket: the `Ticket`.
        metrics: its accuracies and costs, as in summary.json.
        directory: the directory of the run.
        model_fn: returns a new, built model, or None.
    """

    ticket: Ticket
    metrics: dict[str, Any]
    directory: pathlib.Path
    model_fn: Callable[[], Any] | None = dataclasses.field(default=None, repr=False)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The weights of the best validation epoch, with zeros where they are pruned, by name."""
        path = RunLayout(self.directory).ticket_path(self.ticket.round) / TRAINED
        return read_npz(path, "weights")

    @functools.cached_property
    def model(self) -> Any:
        """A plain Keras model with these weights."""
        if self.model_fn is None:
            remedy = "Pass a new model and `weights` to tf_prac.rewind."
            raise ArgumentError("model_fn", None, "a function that returns a model", remedy)
        model = strip(new_network(self.model_fn, mixed_precision=False))
        rewind(model, self.weights, self.ticket.masks)
        return model
