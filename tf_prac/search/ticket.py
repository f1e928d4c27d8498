"""`Ticket`: a mask and the weights it is trained from; the result of a search."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tf_prac.checks import check_bool, check_choice, check_int, check_seed
from tf_prac.config import CONTROLS, RETRAINING, PruningConfig, SearchConfig, TrainingRecipe
from tf_prac.data.splits import DataSplits, make_splits
from tf_prac.errors import ArgumentError, DamagedFileError, FileError
from tf_prac.keras_api import seed_everything
from tf_prac.pruning.criteria import shuffled_mask
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import snapshot
from tf_prac.storage.atomic import atomic_directory
from tf_prac.storage.files import inside, read_json, read_npz, sha256, write_json, write_npz
from tf_prac.storage.layout import CONFIG, MASKS, REWIND, TICKET, WEIGHTS
from tf_prac.tasks.task import Task
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.masked_model import network_of
from tf_prac.training.masked_weights import get_masks, has_masks
from tf_prac.training.pruned import Pruned, prune
from tf_prac.training.schedules import Budget
from tf_prac.training.trained_network import TrainedNetwork
from tf_prac.training.trainer import Trainer

W_K_OF_RUN = f"../../{REWIND}"
"""How the ticket.json in RUN/tickets/round_NN names the file with W_k, instead of weights.npz."""
SEARCH_ORDER, RETRAIN_ORDER, REPLICATE_ORDER, STATISTICS_ORDER, PRETRAIN_ORDER = range(5)
"""Purposes of a data order, the second number of its seed: each has its own random numbers."""


class Control(NamedTuple):
    """A control of a ticket: what is random, and its seed.

    Example:

        >>> Control(3, "random_mask", seed=1).label
        'random_mask_1'

    Attributes:
        round: number of the ticket.
        kind: "random_mask" (as many weights in each layer, at random positions), "reinit" (the
            same mask, other initial weights) or "both".
        seed: of the mask and the weights.
    """

    round: int
    kind: str
    seed: int = 0

    @property
    def label(self) -> str:
        """The value of `Ticket.control`: KIND_SEED."""
        return f"{self.kind}_{self.seed}"

    @classmethod
    def of(cls, number: int, label: str) -> Control:
        """Returns the control of ticket `number` with the given label."""
        kind, _, seed = label.rpartition("_")
        return cls(number, kind, int(seed) if seed.isdecimal() else -1)

    def check(self, rounds: int) -> None:
        """Raises `ArgumentError` unless it is a control of a run with `rounds` rounds."""
        check_choice("control", self.kind, CONTROLS)
        check_seed("control_seed", self.seed)
        check_int("round", self.round, 1)
        if self.round > rounds:
            raise ArgumentError("round", self.round, f"a sparse ticket of the run, 1 to {rounds}")


@dataclasses.dataclass(frozen=True, eq=False)
class Ticket:
    """A subnetwork: a mask, and the weights that it is trained from.

    Example:

        >>> ticket = Ticket.load("RUN/tickets/round_05")  # doctest: +SKIP
        >>> pruned = ticket.apply(model)
        >>> trained = ticket.retrain(model, (x, y))

    Source: "Stabilizing the Lottery Ticket Hypothesis", Section 2.

    Attributes:
        masks: which weights are kept.
        weights: W_k, every weight of the network after `rewind_step` steps, not masked.
        round: number of prunings; 0 is the dense network.
        rewind_step: k, in training steps on the full data.
        lr_rewind: whether retraining starts at step k of the schedule, or at step 0.
            Default True.
        control: "" for a ticket of a search; KIND_SEED for its controls, such as
            "random_mask_0". Default "".
        retraining: how it is retrained, see `PruningConfig.retraining`. With other values than
            "weight_rewinding", `weights` are those that the last round trained. Default
            "weight_rewinding".
        recipe: how the network of the run was trained, for `retrain`. Default None: not known.
        pruning: what was pruned in the run, for `retrain`. Default None: not known.
    """

    masks: Masks
    weights: Mapping[str, np.ndarray]
    round: int
    rewind_step: int
    lr_rewind: bool = True
    control: str = ""
    retraining: str = "weight_rewinding"
    recipe: TrainingRecipe | None = dataclasses.field(default=None, repr=False, compare=False)
    pruning: PruningConfig | None = dataclasses.field(default=None, repr=False, compare=False)

    def __post_init__(self):
        check_int("round", self.round, 0)
        check_int("rewind_step", self.rewind_step, 0)
        check_choice("retraining", self.retraining, RETRAINING)
        check_bool("lr_rewind", self.lr_rewind)
        shapes = {name: self.weights[name].shape for name in self.masks if name in self.weights}
        self.masks.check_shapes(shapes)

    def __repr__(self) -> str:
        control = f"{self.control}, " if self.control else ""
        return (
            f"Ticket({control}round {self.round}, {self.sparsity:.1%} sparse, "
            f"weights of step {self.rewind_step})"
        )

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights that is pruned."""
        return self.masks.sparsity

    @classmethod
    def from_model(cls, model: Any, *, rewind_step: int = 0) -> Ticket:
        """Returns the masks and the current weights of a pruned model as a ticket.

        Example:

            >>> Ticket.from_model(tf_prac.prune(network, sparsity=0.8))  # doctest: +SKIP

        Args:
            model: a model that `tf_prac.prune` or `PracModel` returned, or with TFMOT's wrappers.
            rewind_step: the training step of its weights. Default 0.

        Raises:
            ArgumentError: If the model has no masks.
        """
        if not has_masks(model):
            received = f"{model.name}, which has no masks"
            remedy = "Prune it first: tf_prac.prune(model, sparsity=...)."
            raise ArgumentError("model", received, "a pruned model", remedy)
        masks = get_masks(model)
        weights = snapshot(network_of(model))
        return cls(masks, weights, int(masks.sparsity > 0), rewind_step)

    def apply(self, model: Any) -> Pruned:
        """Returns `model` with the masked W_k, and masks that every training step keeps.

        The same as `tf_prac.prune(model, ticket=ticket)`: the result shares its layers, and so
        its weights, with `model`. To only set the weights of a plain model, use
        `tf_prac.rewind(model, ticket.weights, ticket.masks)`.

        Args:
            model: a built model of the same architecture, of either flavor.

        Raises:
            MismatchError: If names or shapes differ; the model is unchanged.
        """
        return prune(model, ticket=self)

    def randomly_masked(self, *, seed: int = 0) -> Ticket:
        """Returns the control with as many weights kept in each layer, at random positions.

        Source: "Stabilizing the Lottery Ticket Hypothesis", Section 3 (random pruning).

        Args:
            seed: of the positions. Default 0.
        """
        masks = shuffled_mask(self.masks, seed=seed)
        return dataclasses.replace(self, masks=masks, control=f"random_mask_{seed}")

    def reinitialized(self, model_fn: Callable[[], Any], *, seed: int = 0) -> Ticket:
        """Returns the control with the same mask and other initial weights.

        Its weights are those of step 0, so it is retrained for all T steps.

        Source: "The Lottery Ticket Hypothesis", Section 2 (random reinitialization).

        Args:
            model_fn: returns a new, built model whose weights depend on the global seeds.
            seed: of the weights; they differ from those of a search with this seed. Default 0.
        """
        check_seed("seed", seed)
        seed_everything(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))
        weights = snapshot(model_fn())
        return dataclasses.replace(
            self,
            weights=weights,
            retraining="weight_rewinding",
            rewind_step=0,
            control=f"reinit_{seed}",
        )

    def make_control(self, control: Control, model_fn: Callable[[], Any]) -> Ticket:
        """Returns a control of this ticket, of any kind.

        Args:
            control: kind and seed; its round is ignored.
            model_fn: as for `reinitialized`.
        """
        check_choice("control", control.kind, CONTROLS)
        ticket = self
        if control.kind != "reinit":
            ticket = ticket.randomly_masked(seed=control.seed)
        if control.kind != "random_mask":
            ticket = ticket.reinitialized(model_fn, seed=control.seed)
        return dataclasses.replace(ticket, control=control.label)

    def retrain(
        self,
        model: Any,
        train: Any,
        validation: Any = None,
        test: Any = None,
        *,
        recipe: TrainingRecipe | None = None,
        pruning: PruningConfig | None = None,
        seed: int = 0,
        task: str | Task | None = None,
    ) -> TrainedNetwork:
        """Trains the ticket on the full data for the full schedule, from W_k.

        Args:
            model: a built model of the same architecture; afterwards it has the best weights.
            train: arrays (x, y), a `tf.data.Dataset` or `Samples`.
            validation: the same. Default None: held out from `train`, see `TrainingRecipe`.
            test: not used; accepted so that the arguments are those of `TicketSearch.run`.
            recipe: how to train. Default: the recipe of the ticket's run; `TrainingRecipe()` for a
                ticket without a run.
            pruning: which weights are prunable, as in the search. Default: as in the ticket's run;
                `PruningConfig()` for a ticket without a run.
            seed: of the split, data order and augmentation. Default 0.
            task: what labels and outputs mean, as in the search. Default None: inferred.

        Returns:
            A `TrainedNetwork`; `best` has the best validation metric, its epoch and weights.

        Raises:
            ArgumentError, DataError: If the data or the model cannot be trained on.
            MismatchError: If the model is of another architecture.
            NonFiniteLossError: If training diverges.
        """
        recipe = recipe or self.recipe or TrainingRecipe()
        pruning = pruning or self.pruning
        data = make_splits(train, validation, test, recipe, seed)
        trainer = Trainer(model, recipe, data.train.samples, data.validation, pruning, task=task)
        trained = self.train_with(trainer, data, seed)
        trainer.load(trained.best_weights, self.masks)
        return trained

    def train_with(
        self,
        trainer: Trainer,
        data: DataSplits,
        seed: int,
        advance: Callable[[int], Any] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> TrainedNetwork:
        """Like `retrain`, with an existing `Trainer` and prepared data."""
        budget = self.retrain_budget(trainer.recipe, len(data.train.ids))
        order = (seed, RETRAIN_ORDER, self.round)
        return trainer.train(
            self.weights,
            self.masks,
            data.train.ids,
            budget,
            order,
            advance=advance,
            checkpoints=checkpoints,
        )

    def retrain_budget(self, recipe: TrainingRecipe, num_samples: int) -> Budget:
        """Returns the budget of retraining: T - k steps, or T without `lr_rewind`."""
        first_step = self.rewind_step if self.lr_rewind else 0
        full = Budget.full(recipe, num_samples, first_step)
        return dataclasses.replace(full, at_end=self.retraining == "fine_tuning")

    def save(self, directory: str | os.PathLike) -> None:
        """Writes masks.npz, weights.npz and ticket.json into a directory.

        A directory that contains a ticket and no other files is replaced in one operation.
        """
        path = pathlib.Path(directory)
        replaced = atomic_directory(path, replace=True) if _is_ticket_alone(path) else None
        with replaced or contextlib.nullcontext(path) as written:
            write_npz(written / WEIGHTS, "weights", self.weights)
            self._save(written, WEIGHTS, self._options())

    def save_in_run(self, directory: str | os.PathLike) -> None:
        """Writes masks.npz and ticket.json into RUN/tickets/round_NN, without the weights.

        Its weights have to be W_k; ticket.json refers to RUN/rewind.npz and its SHA-256.
        """
        self._save(pathlib.Path(directory), W_K_OF_RUN)

    def _options(self) -> dict[str, Any]:
        """Returns the recipe and the pruning options, if they are known and have a name."""
        if self.recipe is None or self.pruning is None:
            return {}
        return {"recipe": self.recipe.to_json(), "pruning": self.pruning.to_json()}

    def _save(
        self, path: pathlib.Path, weights: str, options: Mapping[str, Any] | None = None
    ) -> None:
        self.masks.save(path / MASKS)
        files = {MASKS: path / MASKS, weights: _weights_file(path, weights)}
        document = {
            "round": self.round,
            "sparsity": self.sparsity,
            "rewind_step": self.rewind_step,
            "lr_rewind": self.lr_rewind,
            "control": self.control,
            "retraining": self.retraining,
            "files": {name: sha256(file) for name, file in files.items()},
            **(options or {}),
        }
        write_json(path / TICKET, "ticket", document)

    @classmethod
    def load(cls, directory: str | os.PathLike) -> Ticket:
        """Reads a saved ticket, or RUN/tickets/round_NN; nothing in it is executed.

        Raises:
            FileError: If a file is missing, damaged or of another ticket.
        """
        file = inside(directory, TICKET)
        _check_ticket_directory(pathlib.Path(directory))
        document = read_json(file, "ticket")
        weights_name = _weights_name(file, document.get("files"))
        masks_path, weights_path = inside(directory, MASKS), _weights_file(directory, weights_name)
        for name, path in ((MASKS, masks_path), (weights_name, weights_path)):
            if sha256(path) != document["files"][name]:
                raise DamagedFileError(f"{path}: damaged, or not the file that {file} refers to.")
        masks = Masks.load(masks_path)
        weights = read_npz(weights_path, "weights" if weights_name == WEIGHTS else "rewind")
        if weights_name == W_K_OF_RUN:
            options = _options_of_run(directory)
        else:
            options = _options_of(document)
        try:
            return cls(
                masks,
                weights,
                document["round"],
                document["rewind_step"],
                document["lr_rewind"],
                document.get("control", ""),
                document.get("retraining", "weight_rewinding"),
                **options,
            )
        except (KeyError, ValueError) as error:
            raise DamagedFileError(f"{file}: damaged: {error}.") from error


def _check_ticket_directory(directory: pathlib.Path) -> None:
    """Raises `FileError` if a path is not the directory of a ticket."""
    if not directory.exists():
        raise DamagedFileError(f"{directory}: no such directory.")
    if not any(os.path.lexists(directory / name) for name in (TICKET, MASKS)):
        names = sorted(path.name for path in directory.glob("tickets/round_*"))
        allowed = "the directory of a ticket, such as RUN/tickets/round_05"
        if names:
            allowed = f"a ticket of this run, {directory}/tickets/{names[0]} to {names[-1]}"
        raise FileError(f"{directory}: not a ticket; allowed: {allowed}.")


def _options_of_run(directory: str | os.PathLike) -> dict[str, Any]:
    """Returns recipe and pruning options of the run that a ticket's directory is part of."""
    config = inside(pathlib.Path(os.path.realpath(directory)).parent.parent, CONFIG)
    return _options_of(read_json(config, "config")) if config.exists() else {}


def _options_of(groups: Mapping[str, Any]) -> dict[str, Any]:
    """Returns recipe and pruning options, without those that name a user's function."""
    try:
        config = SearchConfig.from_json({**groups, "prac": {}})
    except (KeyError, TypeError, ArgumentError):
        return {}
    return {"recipe": config.recipe, "pruning": config.pruning}


def _weights_name(file: pathlib.Path, files: object) -> str:
    """Returns the file of the weights, one of the two that a ticket.json may name."""
    names = set(files) if isinstance(files, dict) else set()
    for weights in (WEIGHTS, W_K_OF_RUN):
        if names == {MASKS, weights}:
            return weights
    raise DamagedFileError(
        f"{file}: damaged, its files are {sorted(names)}; "
        f"allowed: {MASKS} and either {WEIGHTS} or {W_K_OF_RUN}."
    )


def _is_ticket_alone(path: pathlib.Path) -> bool:
    """Whether a path is a directory that can be exchanged: it has the files of a ticket alone."""
    if not os.path.isdir(path) or path.is_symlink() or path.is_mount():
        return False
    return {each.name for each in path.iterdir()} == {MASKS, WEIGHTS, TICKET}


def _weights_file(directory: str | os.PathLike, name: str) -> pathlib.Path:
    """Returns the path of a ticket's weights, in its directory or in its run."""
    if name == WEIGHTS:
        return inside(directory, WEIGHTS)
    run = pathlib.Path(os.path.realpath(directory)).parent.parent
    path = inside(run, REWIND)
    if not path.exists():
        raise DamagedFileError(
            f"{path}: missing, it has the weights of the ticket {directory}. Load the ticket in "
            f"its run and Ticket.save it elsewhere, or copy the run's {REWIND} too."
        )
    return path
