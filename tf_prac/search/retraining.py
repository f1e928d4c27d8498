"""`Retraining`: trains tickets and their controls on the full data, and stores the results."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tf_prac.checks import first_line
from tf_prac.errors import ArgumentError, DamagedFileError
from tf_prac.search.callbacks import SearchCallback
from tf_prac.search.context import SearchContext
from tf_prac.search.dense_round import copy_dense_ticket
from tf_prac.search.ticket import Control, Ticket
from tf_prac.storage.atomic import atomic_path
from tf_prac.storage.files import write_csv, write_npz
from tf_prac.storage.layout import FORGETTING, HISTORY, MODEL, TICKET, TRAINED, WEIGHTS
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.state import identity_of
from tf_prac.training.trained_network import TrainedNetwork

RETRAIN = ("last", "all", "none")


class Retraining:
    """Retrains tickets and controls that are not retrained yet.

    Args:
        context: of the search.
        dense_tickets: directories of runs whose retrained dense network is copied if its training
            is the same. Default ().
    """

    def __init__(self, context: SearchContext, dense_tickets: Collection[str | os.PathLike] = ()):
        self._context, self._run = context, context.run
        self._dense_tickets = dense_tickets

    def ticket(self, ticket: Ticket, retrain: bool) -> dict[str, Any]:
        """Returns the metrics of a ticket; retrains it if requested and not finished."""
        metrics, damaged = self._finished(ticket.round, ticket.control)
        if metrics is None and (retrain or damaged):
            metrics = self._copied(ticket) or self._retrain(ticket)
        if metrics is not None:
            self._context.callbacks.on_ticket_end(metrics)
            return metrics
        return {
            "round": ticket.round,
            "control": ticket.control,
            "sparsity": ticket.sparsity,
            "val_accuracy": None,
            "test_accuracy": None,
            **self._context.metric.to_json(),
            "retrain_steps": 0,
            "forward_samples": 0,
        }

    def controls(
        self, tickets: Sequence[Ticket], controls: Collection[Control], model_fn: Callable[[], Any]
    ) -> list[dict[str, Any]]:
        """Returns the metrics of the requested controls, and of those retrained before.

        Args:
            tickets: every ticket of the run, by number.
            controls: which controls to retrain if they are not finished.
            model_fn: returns a new, built model, for other initial weights.
        """
        results = []
        for ticket in tickets:
            requested = {c.label for c in controls if c.round == ticket.round}
            for label in sorted({*requested, *self._run.controls(ticket.round)}):
                metrics, _ = self._finished(ticket.round, label)
                if metrics is None:
                    control = ticket.make_control(Control.of(ticket.round, label), model_fn)
                    control.save(self._run.ticket_path(ticket.round, label))
                    metrics = self._retrain(control)
                self._context.callbacks.on_ticket_end(metrics)
                results.append(metrics)
        return results

    def _finished(self, number: int, control: str) -> tuple[dict[str, Any] | None, bool]:
        """Returns the metrics of a retrained ticket or control, and whether they are damaged."""
        try:
            metrics = self._run.finished_ticket(number, control)
            if metrics is not None:  # a kill may have come before their removal
                self._context.checkpoints(self._run.ticket_path(number, control)).remove()
            return metrics, False
        except DamagedFileError as error:
            self._context.callbacks.on_message(f"{error} It is retrained again.")
            return None, True

    def take_round(self, ticket: Ticket, trained: TrainedNetwork) -> None:
        """Takes the training of a round as the retraining of its ticket, and writes the result.

        Args:
            ticket: the ticket whose masks and weights the round started from.
            trained: the result of the round's training, on the full data for the full budget.
        """
        if self._finished(ticket.round, ticket.control)[0] is None:
            self._context.trainer.load(trained.weights, ticket.masks)
            self._finish(ticket, trained, validation_samples=0, in_round=True)

    def _copied(self, ticket: Ticket) -> dict[str, Any] | None:
        """Returns the metrics of the dense network if another run has retrained it, else None."""
        if ticket.round > 0:
            return None
        log = self._context.callbacks.on_message
        metrics = copy_dense_ticket(self._run, self._dense_tickets, log)
        if metrics is not None:  # an interrupted retraining may have left one
            self._context.checkpoints(self._run.ticket_path(0)).remove()
        return metrics

    def _retrain(self, ticket: Ticket) -> dict[str, Any]:
        """Trains a ticket on the full data, and writes the result."""
        context, trainer = self._context, self._context.trainer
        steps = ticket.retrain_budget(trainer.recipe, len(context.train.ids)).steps
        title = " ".join(filter(None, ("retrain ticket", str(ticket.round), ticket.control)))
        checkpoints = context.checkpoints(self._run.ticket_path(ticket.round, ticket.control))
        with context.callbacks.training(title, steps) as advance:
            trained = ticket.train_with(trainer, context.data, context.seed, advance, checkpoints)
        metrics = self._finish(ticket, trained, trained.validation_samples)
        checkpoints.remove()
        return metrics

    def _finish(
        self,
        ticket: Ticket,
        trained: TrainedNetwork,
        validation_samples: int,
        in_round: bool = False,
    ) -> dict[str, Any]:
        """Measures a trained ticket, whose last weights are loaded, and writes the result.

        Test accuracy is that of the best validation epoch, as in the paper, and of the last epoch.

        Args:
            ticket: the ticket.
            trained: the result of its training.
            validation_samples: samples that went forward, to count.
            in_round: whether a round of the search was this training.
        """
        context, trainer = self._context, self._context.trainer
        test, path = context.data.test, self._run.ticket_path(ticket.round, ticket.control)
        metrics: dict[str, Any] = {
            "round": ticket.round,
            "control": ticket.control,
            "sparsity": ticket.sparsity,
            "val_accuracy": trained.best.value,
            "test_accuracy": None,
            "test_accuracy_last": None if test is None else trainer.predictor.measure(test),
            **context.metric.to_json(),
            "retrain_steps": trained.steps,
            "forward_samples": validation_samples,
            "seconds": trained.seconds,
            **({"in_round": True} if in_round else {}),
        }
        trainer.load(trained.best_weights, ticket.masks)
        if test is not None:
            metrics["test_accuracy"] = trainer.predictor.measure(test)
            metrics["forward_samples"] += 2 * len(test.ids)
        write_npz(path / TRAINED, "weights", trained.best_weights)
        write_csv(path / HISTORY, trained.history)
        trained.forgetting.save(path / FORGETTING)
        _save_model(trainer.network, path / MODEL, context.callbacks)
        self._run.finish_ticket(ticket.round, metrics, ticket.control)
        return metrics


def check_retrain(retrain: str | Collection[int], rounds: int) -> str | tuple[int, ...]:
    """Returns the option `retrain`: a word, or sorted numbers of tickets.

    Raises:
        ArgumentError: If it is another word, or the number of a ticket that does not exist.
    """
    allowed = f"one of {', '.join(RETRAIN)}, or numbers of tickets from 0 to {rounds}"
    if isinstance(retrain, str):
        if retrain not in RETRAIN:
            raise ArgumentError("retrain", retrain, allowed)
        return retrain
    if not isinstance(retrain, Collection):
        raise ArgumentError("retrain", retrain, allowed)
    for number in retrain:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= rounds:
            raise ArgumentError("retrain", number, allowed)
    return tuple(sorted(set(retrain)))


def tickets_to_retrain(
    retrain: str | tuple[int, ...], rounds: int, dense_is_done: bool
) -> set[int]:
    """Returns the numbers of the tickets to retrain.

    Args:
        retrain: the result of `check_retrain`.
        rounds: number of the last ticket.
        dense_is_done: whether round 0 trained the dense network for its full budget; otherwise
            the dense network, ticket 0, is retrained too.
    """
    if retrain == "none":
        return set()
    chosen = {"last": {rounds}, "all": set(range(1, rounds + 1))}
    numbers = chosen[retrain] if isinstance(retrain, str) else set(retrain) - {0}
    return numbers if dense_is_done else {0, *numbers}


def save_ticket(
    run: RunDirectory, ticket: Ticket, is_rewound: bool, callbacks: SearchCallback
) -> None:
    """Writes a ticket of a run, unless the same ticket is stored already.

    Args:
        run: its run.
        ticket: the ticket.
        is_rewound: whether its weights are W_k, which the run stores once.
        callbacks: get a message if a damaged ticket is replaced.
    """
    path = run.ticket_path(ticket.round)
    if (path / TICKET).exists():
        try:
            stored = Ticket.load(path)
            if _identity(stored) == _identity(ticket):
                return
        except DamagedFileError as error:
            callbacks.on_message(f"{error} The ticket is written again.")
    written_by_0_1 = (path / WEIGHTS).exists()  # and sealed, if the ticket is retrained
    if is_rewound and not written_by_0_1:
        ticket.save_in_run(path)
    else:
        ticket.save(path)


def _identity(ticket: Ticket) -> str:
    return identity_of(ticket.masks, ticket.weights)


def _save_model(network: Any, path: pathlib.Path, callbacks: SearchCallback) -> None:
    """Saves the network with Keras; a message tells if Keras cannot save its class."""
    try:
        with atomic_path(path) as temporary:
            network.save(temporary)
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = first_line(error)
        callbacks.on_message(f"  not saved as {path.name} ({reason}); the weights are in {TRAINED}")
