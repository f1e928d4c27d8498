"""`Replicates`: networks trained from the W_k of one run, each kept in a file of its own."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from tf_prac.checks import check_choice
from tf_prac.config import CONTROLS
from tf_prac.data.search_data import prepare
from tf_prac.errors import ArgumentError, FileError
from tf_prac.search.ticket import COPY_ORDER, Control, Ticket
from tf_prac.search.ticket_search import TicketSearch
from tf_prac.storage.files import read_npz, write_npz
from tf_prac.storage.run_directory import TICKET, RunDirectory
from tf_prac.training.trainer import Trainer

_WEIGHTS = "weights/"
NETWORKS = ("ticket", *CONTROLS)
"""What copies are trained of: the ticket itself, and its controls."""


@dataclasses.dataclass(frozen=True)
class TrainedCopy:
    """A network trained from W_k in one order of the data.

    Attributes:
        weights: every weight after the last step, by name.
        classes: predicted class of each test sample, int32, or None without test data.
        accuracy: on the test data, or None.
        steps: SGD steps it took.
        seconds: wall time.
    """

    weights: dict[str, np.ndarray]
    classes: np.ndarray | None
    accuracy: float | None
    steps: int
    seconds: float


class Replicates:
    """Trains copies of the subnetworks of one run, and keeps them in the run.

    Copy `u` of every subnetwork sees the same batches, augmentation included; another `u` sees
    others. All start from the W_k of the run and train for the steps that remain. A copy is
    trained once: it is written to RUN/copies, and read from there afterwards.

    Example:

        >>> copies = Replicates(search, (x_train, y_train), test=(x_test, y_test))  # doctest: +SKIP
        >>> copies.trained(3, "ticket", copy=0).accuracy

    Args:
        search: the search of the run, which must be finished.
        train, validation, test: what `TicketSearch.run` was given.

    Attributes:
        run: where tickets and copies are.
        data: the samples.
        seed: of the run.
    """

    def __init__(self, search: TicketSearch, train: Any, validation: Any = None, test: Any = None):
        self.search, self.seed = search, search.seed
        self.run = RunDirectory(search.directory)
        self.data = prepare(train, validation, test, search.config.recipe, search.seed)

    @functools.cached_property
    def trainer(self) -> Trainer:
        """Trains and evaluates; made, and compiled, when first needed."""
        network = self.search.make_network()
        recipe, samples = self.search.config.recipe, self.data.train.samples
        return Trainer(network, recipe, samples, pruning=self.search.config.pruning)

    @property
    def rounds(self) -> int:
        """Number of the last ticket."""
        return self.search.config.pruning.rounds

    def ticket(self, number: int, network: str = "ticket") -> Ticket:
        """Returns a ticket of the run, or a control made of it.

        Args:
            number: of prunings; 0 is the dense network.
            network: one of `NETWORKS`; the seed of a control is that of the run.

        Raises:
            ArgumentError: the search has no such ticket.
            FileError: it is not finished.
        """
        check_choice("network", network, NETWORKS)
        if not 0 <= number <= self.rounds:
            raise ArgumentError("rounds", number, f"tickets of the run, 0 to {self.rounds}")
        path = self.run.ticket_path(number)
        if not (path / TICKET).exists():
            raise FileError(
                f"{path}: no ticket yet. Run the search of this directory to its end first: "
                f"tf-prac search --output_dir={self.run.path}, with the flags it was begun with."
            )
        ticket = Ticket.load(path)
        if network == "ticket":
            return ticket
        return ticket.make_control(Control(number, network, self.seed), self.search.model_fn)

    def trained(self, number: int, network: str, copy: int) -> TrainedCopy:
        """Returns a trained copy: that of its file, or trained now.

        Args:
            number: of prunings.
            network: one of `NETWORKS`.
            copy: which order of the data, >= 0.

        Raises:
            FileError: the file is damaged, or of another run.
            NonFiniteLossError: training diverged.
        """
        ticket = self.ticket(number, network)
        path = self.run.copy_path(number, network, copy)
        origin = self._origin(ticket)
        if not path.exists():
            self._train(path, ticket, f"round {number} {network} copy {copy}", copy, origin)
        return self._read(path, origin)

    def _train(
        self, path: pathlib.Path, ticket: Ticket, title: str, copy: int, origin: str
    ) -> None:
        ids = self.data.train.ids
        budget = ticket.retrain_budget(self.search.config.recipe, len(ids))
        order = (self.seed, COPY_ORDER, copy)
        with self.search.callbacks.training(title, budget.steps) as advance:
            trained = self.trainer.train(
                ticket.weights, ticket.masks, ids, budget, order, advance=advance
            )
        arrays = {_WEIGHTS + name: weight for name, weight in trained.weights.items()}
        if self.data.test is not None:
            arrays["classes"] = self.trainer.predictor.classes(self.data.test)
        figures = {"origin": origin, "steps": trained.steps, "seconds": trained.seconds}
        write_npz(path, "copy", {**arrays, **{k: np.array(v) for k, v in figures.items()}})
        self.search.callbacks.on_message(
            f"{title}: {trained.steps:,} steps, {trained.seconds:.1f} s"
        )

    def _read(self, path: pathlib.Path, origin: str) -> TrainedCopy:
        arrays = read_npz(path, "copy")
        if not {"origin", "steps", "seconds"} <= arrays.keys():
            raise FileError(f"{path}: damaged, it lacks figures. Remove it to train it again.")
        if str(arrays["origin"]) != origin:
            raise FileError(
                f"{path}: trained from another ticket or data. Remove it to train it again."
            )
        test, classes = self.data.test, arrays.get("classes")
        accuracy = None
        if test is not None and classes is not None:
            accuracy = float(np.mean(classes == test.labels))
        return TrainedCopy(
            weights={k.removeprefix(_WEIGHTS): v for k, v in arrays.items() if _WEIGHTS in k},
            classes=classes,
            accuracy=accuracy,
            steps=int(arrays["steps"]),
            seconds=float(arrays["seconds"]),
        )

    def _origin(self, ticket: Ticket) -> str:
        """Returns a SHA-256 of what a copy is made from: ticket, and identity of the data."""
        data = [subset and subset.samples.identity.to_json() for subset in self.data]
        head = [ticket.masks.digest(), ticket.rewind_step, data]
        sha = hashlib.sha256(json.dumps(head).encode())
        for name, weight in sorted(ticket.weights.items()):
            sha.update(f"{name!r}{weight.shape}{weight.dtype}".encode())
            sha.update(np.ascontiguousarray(weight).tobytes())
        return sha.hexdigest()
