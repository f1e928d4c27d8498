"""`Replicates`: networks trained from the W_k of one run in different data orders."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tf_prac.checks import check_choice
from tf_prac.config import CONTROLS
from tf_prac.data.splits import Split, make_splits
from tf_prac.errors import ArgumentError, DamagedFileError, FileError
from tf_prac.search.ticket import REPLICATE_ORDER, Control, Ticket
from tf_prac.search.ticket_search import TicketSearch
from tf_prac.storage.atomic import exclusive
from tf_prac.storage.files import read_npz, write_npz
from tf_prac.storage.layout import TICKET
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.inference import Decisions, disagreement
from tf_prac.training.trainer import Trainer

_WEIGHTS = "weights/"
NETWORKS = ("ticket", *CONTROLS)
"""The networks that can be trained: the ticket itself and its controls."""


@dataclasses.dataclass(frozen=True)
class TrainedReplicate:
    """A network trained from W_k in one data order.

    Attributes:
        weights: all weights after the last step, by name.
        classes: the class of each test sample, int32 [n], or what else the task predicts for it,
            [n, predictions], with 0 for what does not count; None without test data, and for
            several outputs.
        accuracy: the metric on the test data, or None.
        losses: the loss of each test sample, float [n]; None without test data, for a task without
            such losses, and in files of 0.1.0.
        steps: number of SGD steps.
        seconds: wall time of training.
    """

    weights: dict[str, np.ndarray]
    classes: np.ndarray | None
    accuracy: float | None
    steps: int
    seconds: float
    losses: np.ndarray | None = None


class TrainingCost(NamedTuple):
    """SGD steps and wall time of a training."""

    steps: int
    seconds: float


class Replicates:
    """Trains replicates of the subnetworks of one run, and stores them in the run.

    Replicate `u` of every subnetwork sees the same batches, augmentation included; replicates with
    different `u` see different data orders. All start from the W_k of the run and train for the
    remaining steps. A replicate is trained once: it is written to RUN/copies, and read afterwards.

    Example:

        >>> replicates = Replicates(  # doctest: +SKIP
        ...     search, (x_train, y_train), test=(x_test, y_test)
        ... )
        >>> replicates.trained(3, "ticket", replicate=0).accuracy

    Args:
        search: the search of the run, which must be finished.
        train, validation, test: as in the call of `TicketSearch.run`.

    Attributes:
        run: the directory of tickets and replicates.
        data: the samples.
        seed: the seed of the run.
        costs: the costs of the replicates that `trained` returned, by file.
    """

    def __init__(self, search: TicketSearch, train: Any, validation: Any = None, test: Any = None):
        self.search, self.seed = search, search.seed
        self.run = RunDirectory(search.directory)
        self.costs: dict[pathlib.Path, TrainingCost] = {}
        self.data = make_splits(train, validation, test, search.config.recipe, search.seed)

    @functools.cached_property
    def trainer(self) -> Trainer:
        """The trainer of all replicates; built and compiled on first use."""
        network = self.search.make_network()
        recipe, samples = self.search.config.recipe, self.data.train.samples
        search = self.search
        return Trainer(
            network,
            recipe,
            samples,
            pruning=search.config.pruning,
            on_fallback=search.callbacks.on_message,  # as the search itself, if it chose XLA
            task=search.task,
            class_weight=search.class_weight,
        )

    @property
    def rounds(self) -> int:
        """Number of the last ticket."""
        return self.search.config.pruning.rounds

    def ticket(self, number: int, network: str = "ticket") -> Ticket:
        """Returns a ticket of the run, or one of its controls.

        Args:
            number: number of prunings; 0 is the dense network.
            network: one of `NETWORKS`; a control has the seed of the run.

        Raises:
            ArgumentError: the search has no such ticket.
            FileError: the search is not finished.
        """
        check_choice("network", network, NETWORKS)
        if not 0 <= number <= self.rounds:
            raise ArgumentError("rounds", number, f"tickets of the run, 0 to {self.rounds}")
        path = self.run.ticket_path(number)
        if not (path / TICKET).exists():
            raise FileError(
                f"{path}: no ticket yet. Run the search of this directory until it finishes: "
                f"tf-prac search --output_dir={self.run.path}, with the flags it was started with."
            )
        ticket = Ticket.load(path)
        self.run.check_weights(path / TICKET, {n: w.shape for n, w in ticket.weights.items()})
        if network == "ticket":
            return ticket
        return ticket.make_control(Control(number, network, self.seed), self.search.model_fn)

    def disagreement(self, first: TrainedReplicate, second: TrainedReplicate) -> float | None:
        """Returns the fraction of test samples that two networks predict differently.

        None without test samples, for several outputs, and for a task without a bound.
        """
        if first.classes is None or second.classes is None:
            return None
        if first.classes.ndim == 1:
            return float(np.mean(first.classes != second.classes))
        try:
            others = Decisions(second.classes, None)
            return float(np.mean(disagreement(self.trainer.task, first.classes, others)))
        except ArgumentError:
            return None

    def trained(self, number: int, network: str, replicate: int) -> TrainedReplicate:
        """Returns a trained replicate: read from its file if that exists, else trained now.

        Args:
            number: number of prunings.
            network: one of `NETWORKS`.
            replicate: number of the data order, >= 0.

        Raises:
            FileError: the file is damaged or belongs to another run, or another process trains a
                replicate of this run.
            NonFiniteLossError: training diverged.
        """
        ticket = self.ticket(number, network)
        path = self.run.replicate_path(number, network, replicate)
        origin = self._origin(ticket)
        if not path.exists():
            title = f"round {number} {network} replicate {replicate}"
            with exclusive(path.parent, f"{path.parent}: another process trains replicates"):
                if not path.exists():
                    self._train(path, ticket, title, replicate, origin)
        found = self._read(path, origin)
        self.costs[path] = TrainingCost(found.steps, found.seconds)
        return found

    def trajectory(
        self, number: int, network: str, replicate: int, steps: Sequence[int]
    ) -> dict[int, dict[str, np.ndarray]]:
        """Returns the weights of a replicate during its training, by step from W_k.

        The replicate is trained if its file lacks one of these steps.

        Args:
            number, network, replicate: as for `trained`.
            steps: numbers of steps from W_k, > 0.

        Raises:
            FileError, NonFiniteLossError: as for `trained`.
        """
        ticket = self.ticket(number, network)
        origin, final = self._origin(ticket), self.run.replicate_path(number, network, replicate)
        path = self.run.trajectory_path(number, network, replicate)
        stored = self._read_trajectory(path, origin)
        if not set(steps) <= set(stored):
            title = f"round {number} {network} replicate {replicate}, during training"
            with exclusive(path.parent, f"{path.parent}: another process trains replicates"):
                stored = self._train(final, ticket, title, replicate, origin, steps)
                arrays = {
                    f"{_WEIGHTS}{s}/{n}": w for s, ws in stored.items() for n, w in ws.items()
                }
                write_npz(path, "trajectory", {**arrays, "origin": np.array(origin)})
        return {step: stored[step] for step in steps}

    def _read_trajectory(self, path: pathlib.Path, origin: str) -> dict[int, dict[str, np.ndarray]]:
        if not path.exists():
            return {}
        arrays = read_npz(path, "trajectory")
        _check_origin(path, str(arrays.pop("origin")), origin)
        weights: dict[int, dict[str, np.ndarray]] = {}
        for key, weight in arrays.items():
            step, _, name = key.removeprefix(_WEIGHTS).partition("/")
            weights.setdefault(int(step) if step.isdecimal() else -1, {})[name] = weight
        for each in weights.values():
            self.run.check_weights(path, {name: weight.shape for name, weight in each.items()})
        return weights

    def _train(
        self,
        path: pathlib.Path,
        ticket: Ticket,
        title: str,
        replicate: int,
        origin: str,
        snapshot_at: Sequence[int] = (),
    ) -> dict[int, dict[str, np.ndarray]]:
        """Trains a replicate and writes it; returns its weights after some steps."""
        ids = self.data.train.ids
        budget = ticket.retrain_budget(self.search.config.recipe, len(ids))
        order = (self.seed, REPLICATE_ORDER, replicate)
        with self.search.callbacks.training(title, budget.steps) as advance:
            trained = self.trainer.train(
                ticket.weights,
                ticket.masks,
                ids,
                budget,
                order,
                snapshot_at=snapshot_at,
                advance=advance,
            )
        arrays = {_WEIGHTS + name: weight for name, weight in trained.weights.items()}
        if self.data.test is not None:
            arrays |= self._predictions(self.data.test)
        metadata = {"origin": origin, "steps": trained.steps, "seconds": trained.seconds}
        write_npz(path, "copy", {**arrays, **{k: np.array(v) for k, v in metadata.items()}})
        self.search.callbacks.on_message(
            f"{title}: {trained.steps:,} steps, {trained.seconds:.1f} s"
        )
        names = trained.weights.keys()
        return {s: {n: w[n] for n in names} for s, w in trained.snapshots.items()}

    def _predictions(self, test: Split) -> dict[str, np.ndarray]:
        """Returns the predictions for the test samples; with the metric if it is not accuracy."""
        predictor = self.trainer.predictor
        values, judged = predictor.decisions(test)
        losses = {}
        with contextlib.suppress(ArgumentError):  # of a task without losses of single samples
            losses["losses"] = predictor.scores(test, "loss").astype(np.float32)
        if isinstance(values, np.ndarray) and values.ndim == 1 and judged is None:
            return {"classes": values, **losses}
        metric = {"metric": np.array(predictor.measure(test)), **losses}
        if isinstance(values, dict):
            return metric
        if judged is not None:
            values = np.where(judged, values.reshape(judged.shape), 0).reshape(values.shape)
        return {"classes": values, **metric}

    def _read(self, path: pathlib.Path, origin: str) -> TrainedReplicate:
        arrays = read_npz(path, "copy")
        _check_origin(path, str(arrays["origin"]), origin)
        weights = {k.removeprefix(_WEIGHTS): v for k, v in arrays.items() if _WEIGHTS in k}
        test, classes = self.data.test, arrays.get("classes")
        losses = arrays.get("losses") if test is not None else None
        self.run.check_weights(path, {name: weight.shape for name, weight in weights.items()})
        for name, values in (("classes", classes), ("losses", losses)):
            if test is not None and values is not None and len(values) != len(test.ids):
                raise DamagedFileError(
                    f"{path}: damaged, it has the {name} of {len(values)} samples; "
                    f"allowed: {len(test.ids)}. Remove it to train it again."
                )
        accuracy = None
        if test is not None and "metric" in arrays:
            accuracy = float(arrays["metric"])
        elif test is not None and classes is not None:
            accuracy = float(np.mean(classes == test.labels))
        return TrainedReplicate(
            weights=weights,
            classes=classes,
            accuracy=accuracy,
            steps=int(arrays["steps"]),
            seconds=float(arrays["seconds"]),
            losses=losses,
        )

    def _origin(self, ticket: Ticket) -> str:
        """Returns a SHA-256 of the ticket and of the identity of the data."""
        data = [split and split.samples.identity.to_json() for split in self.data]
        head = [ticket.masks.digest(), ticket.rewind_step, data]
        sha = hashlib.sha256(json.dumps(head).encode())
        for name, weight in sorted(ticket.weights.items()):
            sha.update(f"{name!r}{weight.shape}{weight.dtype}".encode())
            sha.update(np.ascontiguousarray(weight).tobytes())
        return sha.hexdigest()


def _check_origin(path: pathlib.Path, stored: str, origin: str) -> None:
    if stored != origin:
        raise FileError(
            f"{path}: trained from another ticket or data. Remove it to train it again."
        )
