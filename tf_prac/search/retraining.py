"""`Retraining`: trains tickets and their controls on the full data, and keeps what came of it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tf_prac.data.search_data import SearchData
from tf_prac.errors import ArgumentError, DamagedFileError, FileError
from tf_prac.search.progress import Progress, ticket_line
from tf_prac.search.ticket import Control, Ticket
from tf_prac.storage.files import sync, write_csv, write_npz
from tf_prac.storage.run_directory import HISTORY, MODEL, TICKET, TRAINED, RunDirectory
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.state import identity_of
from tf_prac.training.trainer import Trainer

RETRAIN = ("last", "all", "none")


class Retraining:
    """Retrains tickets that are not retrained yet.

    Args:
        run: where tickets and results are.
        trainer: trains the network.
        data: full training, validation and test data.
        seed: of the data order.
        progress: shows the work.
        checkpoints: gives the checkpoints of a training whose results go to a directory.
    """

    def __init__(
        self,
        run: RunDirectory,
        trainer: Trainer,
        data: SearchData,
        seed: int,
        progress: Progress,
        checkpoints: Callable[[pathlib.Path], Checkpoints],
    ):
        self._run, self._trainer, self._data = run, trainer, data
        self._seed, self._progress, self._checkpoints = seed, progress, checkpoints

    def figures(self, ticket: Ticket, retrain: bool) -> dict[str, Any]:
        """Returns the figures of a ticket; retrains it if asked and not done before."""
        found, damaged = self._finished(ticket.round, ticket.control)
        if found is None and (retrain or damaged):
            found = self._retrain(ticket)
        if found is not None:
            self._progress.line(ticket_line(found))
            return found
        return {
            "round": ticket.round,
            "control": ticket.control,
            "sparsity": ticket.sparsity,
            "val_accuracy": None,
            "test_accuracy": None,
            "retrain_steps": 0,
            "forward_samples": 0,
        }

    def controls(
        self, tickets: Sequence[Ticket], wanted: Collection[Control], model_fn: Callable[[], Any]
    ) -> list[dict[str, Any]]:
        """Returns the figures of controls: those asked for, and those retrained before.

        Args:
            tickets: every ticket of the run, by number.
            wanted: which controls to retrain if they are not yet.
            model_fn: returns a new, built model, for other initial weights.
        """
        found = []
        for ticket in tickets:
            asked = {c.label for c in wanted if c.round == ticket.round}
            for label in sorted({*asked, *self._run.controls(ticket.round)}):
                figures, _ = self._finished(ticket.round, label)
                if figures is None:
                    control = ticket.make_control(Control.of(ticket.round, label), model_fn)
                    control.save(self._run.ticket_path(ticket.round, label))
                    figures = self._retrain(control)
                self._progress.line(ticket_line(figures))
                found.append(figures)
        return found

    def _finished(self, number: int, control: str) -> tuple[dict[str, Any] | None, bool]:
        """The figures of a retrained ticket or control, and whether there are damaged ones."""
        try:
            return self._run.finished_ticket(number, control), False
        except DamagedFileError as error:
            self._progress.line(f"{error} It is retrained again.")
            return None, True

    def _retrain(self, ticket: Ticket) -> dict[str, Any]:
        """Test accuracy is taken at the best validation epoch, as in the paper, and at the last."""
        trainer, test = self._trainer, self._data.test
        steps = ticket.retrain_budget(trainer.recipe, len(self._data.train.ids)).steps
        title = " ".join(filter(None, ("retrain ticket", str(ticket.round), ticket.control)))
        checkpoints = self._checkpoints(self._run.ticket_path(ticket.round, ticket.control))
        with self._progress.training(title, steps) as advance:
            trained = ticket.train_with(trainer, self._data, self._seed, advance, checkpoints)
        figures: dict[str, Any] = {
            "round": ticket.round,
            "control": ticket.control,
            "sparsity": ticket.sparsity,
            "val_accuracy": trained.best.value,
            "test_accuracy": None,
            "test_accuracy_last": None if test is None else trainer.predictor.accuracy(test),
            "retrain_steps": trained.steps,
            "forward_samples": trained.validation_samples,
            "seconds": trained.seconds,
        }
        trainer.load(trained.best_weights, ticket.masks)
        if test is not None:
            figures["test_accuracy"] = trainer.predictor.accuracy(test)
            figures["forward_samples"] += 2 * len(test.ids)
        path = self._run.ticket_path(ticket.round, ticket.control)
        write_npz(path / TRAINED, "weights", trained.best_weights)
        write_csv(path / HISTORY, trained.history)
        _save_model(trainer.network, path / MODEL, self._progress)
        self._run.finish_ticket(ticket.round, figures, ticket.control)
        checkpoints.remove()
        return figures


def check_retrain(retrain: str | Collection[int], rounds: int) -> str | tuple[int, ...]:
    """Returns which tickets to retrain: a word, or numbers in order.

    Raises:
        ArgumentError: another word, or the number of a ticket that there is not.
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


def retrained(retrain: str | tuple[int, ...], rounds: int, dense_is_done: bool) -> set[int]:
    """Returns the tickets to retrain; the dense network only if round 0 did not finish it.

    Args:
        retrain: what `check_retrain` returned.
        rounds: number of the last ticket.
        dense_is_done: whether round 0 did.
    """
    if retrain == "none":
        return set()
    chosen = {"last": {rounds}, "all": set(range(1, rounds + 1))}
    found = chosen[retrain] if isinstance(retrain, str) else set(retrain) - {0}
    return found if dense_is_done else {0, *found}


def save_ticket(run: RunDirectory, ticket: Ticket, progress: Progress) -> None:
    """Writes a ticket of a run, unless the same one is there already."""
    path = run.ticket_path(ticket.round)
    if (path / TICKET).exists():
        try:
            found = Ticket.load(path)
            same = [identity_of(each.masks, each.weights) for each in (found, ticket)]
            if same[0] == same[1]:
                return
        except DamagedFileError as error:
            progress.line(f"{error} The ticket is written again.")
    ticket.save(path)


def _save_model(network: Any, path: pathlib.Path, progress: Progress) -> None:
    """Saves the network by Keras itself; a class that Keras cannot save is said so."""
    temporary = path.with_name(f".{path.stem}.tmp.keras")
    try:
        network.save(temporary)
        sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}.") from error
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        progress.line(f"  not saved as {path.name} ({reason}); the weights are in {TRAINED}")
    finally:
        temporary.unlink(missing_ok=True)
