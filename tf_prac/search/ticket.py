"""`Ticket`: a mask and the weights to rewind to; what the search finds."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tf_prac.checks import check_bool, check_choice, check_int, check_seed
from tf_prac.config import CONTROLS, RETRAINING, PruningConfig, TrainingRecipe
from tf_prac.data.search_data import SearchData, prepare
from tf_prac.errors import ArgumentError, DamagedFileError
from tf_prac.keras_api import seed_everything
from tf_prac.pruning.criteria import shuffled_mask
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import rewind, snapshot
from tf_prac.storage.files import inside, read_json, read_npz, sha256, write_json, write_npz
from tf_prac.storage.run_directory import MASKS, TICKET, WEIGHTS
from tf_prac.training.checkpoint import Checkpoints
from tf_prac.training.masked_weights import put_masks
from tf_prac.training.schedules import Budget
from tf_prac.training.trainer import TrainedNetwork, Trainer

SEARCH_ORDER, RETRAIN_ORDER, COPY_ORDER, STATISTICS_ORDER, PRETRAIN_ORDER = range(5)


class Control(NamedTuple):
    """Names a control of a ticket: what is random, and by which seed.

    Attributes:
        round: number of the ticket.
        kind: "random_mask" (as many weights of each layer, at random places), "reinit" (the same
            mask, other initial weights) or "both".
        seed: of the mask and the weights.
    """

    round: int
    kind: str
    seed: int = 0

    @property
    def label(self) -> str:
        """Kind and seed, as `Ticket.control` has them."""
        return f"{self.kind}_{self.seed}"

    @classmethod
    def of(cls, number: int, label: str) -> Control:
        """The control of ticket `number` that has a label."""
        kind, _, seed = label.rpartition("_")
        return cls(number, kind, int(seed) if seed.isdecimal() else -1)

    def check(self, rounds: int) -> None:
        """Raises `ArgumentError` unless it is a control of a run of as many rounds."""
        check_choice("control", self.kind, CONTROLS)
        check_seed("control_seed", self.seed)
        check_int("round", self.round, 1)
        if self.round > rounds:
            raise ArgumentError("round", self.round, f"a sparse ticket of the run, 1 to {rounds}")


@dataclasses.dataclass(frozen=True)
class Ticket:
    """A subnetwork: which weights are kept, and the values they are trained from.

    Example:

        >>> ticket = Ticket.load("RUN/tickets/round_05")  # doctest: +SKIP
        >>> ticket.apply(model)
        >>> trained = ticket.retrain(model, (x, y))

    Source: "Stabilizing the Lottery Ticket Hypothesis", Section 2.

    Attributes:
        masks: the kept weights.
        weights: W_k, every weight of the network after `rewind_step` steps, not masked.
        round: number of prunings; 0 is the dense network.
        rewind_step: k, in training steps on the full data.
        lr_rewind: whether retraining goes on at step k of the schedule or starts at step 0.
        retraining: how it is retrained, as `PruningConfig.retraining` says; `weights` are those
            that this starts from, with "weight_rewinding" W_k.
        control: "" for a ticket that was found; for its controls their kind and seed, such as
            "random_mask_0".
    """

    masks: Masks
    weights: Mapping[str, np.ndarray]
    round: int
    rewind_step: int
    lr_rewind: bool = True
    control: str = ""
    retraining: str = "weight_rewinding"

    def __post_init__(self):
        check_int("round", self.round, 0)
        check_int("rewind_step", self.rewind_step, 0)
        check_choice("retraining", self.retraining, RETRAINING)
        check_bool("lr_rewind", self.lr_rewind)
        shapes = {name: self.weights[name].shape for name in self.masks if name in self.weights}
        self.masks.check_shapes(shapes)

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights that is pruned."""
        return self.masks.sparsity

    def apply(self, model: Any) -> Any:
        """Sets a model's weights to the masked W_k, in place, and returns the model.

        To train it with the mask held: `tf_prac.prune(model, ticket=ticket)`. In a model that
        holds masks already, or has TFMOT's pruning wrappers, those become the ticket's.

        Args:
            model: a built model of the same architecture, of either flavour.

        Raises:
            MismatchError: names or shapes differ; the model is unchanged.
        """
        rewind(model, self.weights, self.masks)
        put_masks(model, self.masks)
        return model

    def randomly_masked(self, *, seed: int = 0) -> Ticket:
        """Returns the control with as many weights kept in each layer, at random places.

        Source: "Stabilizing the Lottery Ticket Hypothesis", Section 3 (random pruning).

        Args:
            seed: of the places. Default 0.
        """
        masks = shuffled_mask(self.masks, seed=seed)
        return dataclasses.replace(self, masks=masks, control=f"random_mask_{seed}")

    def reinitialized(self, model_fn: Callable[[], Any], *, seed: int = 0) -> Ticket:
        """Returns the control with the same mask and other initial weights.

        They are weights of step 0, so that it is retrained for all T steps.

        Source: "The Lottery Ticket Hypothesis", Section 2 (random reinitialization).

        Args:
            model_fn: returns a new, built model whose weights depend on the global seeds.
            seed: of the weights, which differ from those of a search with this seed. Default 0.
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
            control: kind and seed; its round is not looked at.
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
    ) -> TrainedNetwork:
        """Trains the ticket on the full data for the full schedule, from W_k.

        Args:
            model: a built model of the same architecture; it ends with the best weights.
            train: arrays (x, y), a `tf.data.Dataset` or `Samples`.
            validation: the same; default: held out from `train` as the recipe says.
            test: not used for training; accepted so that calls look like `TicketSearch.run`.
            recipe: how to train. Default `TrainingRecipe()`.
            pruning: which weights are prunable; as in the search. Default `PruningConfig()`.
            seed: of the split, data order and augmentation.

        Returns:
            What the training gave; `best` is the best validation accuracy.
        """
        recipe = recipe or TrainingRecipe()
        data = prepare(train, validation, test, recipe, seed)
        trainer = Trainer(model, recipe, data.train.samples, data.validation, pruning)
        trained = self.train_with(trainer, data, seed)
        trainer.load(trained.best_weights, self.masks)
        return trained

    def train_with(
        self,
        trainer: Trainer,
        data: SearchData,
        seed: int,
        advance: Callable[[int], Any] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> TrainedNetwork:
        """Like `retrain`, with a `Trainer` and data that are there already."""
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
        """The steps of a retraining on `num_samples`: T - k, or T without LR rewinding."""
        first_step = self.rewind_step if self.lr_rewind else 0
        full = Budget.full(recipe, num_samples, first_step)
        return dataclasses.replace(full, at_end=self.retraining == "fine_tuning")

    def save(self, directory: str | os.PathLike) -> None:
        """Writes masks.npz, weights.npz and ticket.json into a directory."""
        path = pathlib.Path(directory)
        self.masks.save(path / MASKS)
        write_npz(path / WEIGHTS, "weights", self.weights)
        figures = {
            "round": self.round,
            "sparsity": self.sparsity,
            "rewind_step": self.rewind_step,
            "lr_rewind": self.lr_rewind,
            "control": self.control,
            "retraining": self.retraining,
            "files": {name: sha256(path / name) for name in (MASKS, WEIGHTS)},
        }
        write_json(path / TICKET, "ticket", figures)

    @classmethod
    def load(cls, directory: str | os.PathLike) -> Ticket:
        """Reads what `save` wrote; nothing in it is executed.

        Raises:
            FileError: a file is missing, damaged or not of this ticket.
        """
        file = inside(directory, TICKET)
        figures = read_json(file, "ticket")
        files = figures.get("files")
        for name in (MASKS, WEIGHTS):
            path = inside(directory, name)
            if not isinstance(files, dict) or sha256(path) != files.get(name):
                raise DamagedFileError(f"{path}: damaged, it is not the file of {TICKET}.")
        masks = Masks.load(file.with_name(MASKS))
        weights = read_npz(file.with_name(WEIGHTS), "weights")
        try:
            return cls(
                masks,
                weights,
                figures["round"],
                figures["rewind_step"],
                figures["lr_rewind"],
                figures.get("control", ""),
                figures.get("retraining", "weight_rewinding"),
            )
        except (KeyError, ValueError) as error:
            raise DamagedFileError(f"{file}: damaged: {error}.") from error
