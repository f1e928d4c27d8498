"""Every option of a search, as frozen dataclasses that are validated when built.

The three groups are what a reader of the papers looks for: how a network is trained
(`TrainingRecipe`), how it is pruned and rewound (`PruningConfig`), and on which samples the
search trains (`PracConfig`). Field names are also the names of the command line's flags.
"""

from __future__ import annotations

import dataclasses
import decimal
import math
import re
from collections.abc import Iterable
from typing import Any

from tf_prac.errors import ArgumentError

SCHEDULES = ("constant", "step", "linear", "cosine", "exponential")
SCOPES = ("global", "layerwise")
LAYER_GROUPS = ("conv", "dense", "depthwise", "embedding", "recurrent")


def check_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises `ArgumentError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ArgumentError(argument, value, "one of " + ", ".join(choices))


def check_bool(argument: str, value: object) -> None:
    """Raises `ArgumentError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(argument, value, "True or False")


def check_int(argument: str, value: object, minimum: int) -> None:
    """Raises `ArgumentError` unless `value` is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ArgumentError(argument, value, f"an integer >= {minimum}")


def check_number(
    argument: str,
    value: object,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
) -> None:
    """Raises `ArgumentError` unless `value` is a finite number within the bounds."""
    low = f"[{minimum}" if above is None else f"({above}"
    high = f"{maximum}]" if below is None else f"{below})"
    allowed = f"a number in {low}, {high}".replace("[None", "(-inf").replace("None]", "inf)")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ArgumentError(argument, value, allowed)
    if (
        (above is not None and value <= above)
        or (minimum is not None and value < minimum)
        or (below is not None and value >= below)
        or (maximum is not None and value > maximum)
    ):
        raise ArgumentError(argument, value, allowed)


def _as_tuple(argument: str, value: object) -> tuple[Any, ...]:
    """Returns a list or the like as a tuple; text is not taken for a list of letters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ArgumentError(argument, value, "a list or tuple")
    return tuple(value)


@dataclasses.dataclass(frozen=True)
class RewindPoint:
    """The training step k whose weights `W_k` every later round starts from.

    Example:

        >>> RewindPoint.parse("500it").steps(steps_per_epoch=352, total_steps=64064)
        500
        >>> RewindPoint.parse("3ep").steps(steps_per_epoch=352, total_steps=64064)
        1056
        >>> RewindPoint.parse("1%").steps(steps_per_epoch=352, total_steps=64064)
        641

    Source: "Stabilizing the Lottery Ticket Hypothesis", Section 3 (iterations); the PrAC paper
    rewinds to an epoch.

    Args:
        amount: how many units, >= 0.
        unit: "it" (training steps), "ep" (epochs) or "%" (of all training steps).

    Raises:
        ArgumentError: an amount or unit that is not allowed.
    """

    amount: float
    unit: str

    def __post_init__(self):
        check_number("rewind", self.amount, minimum=0)
        check_choice("rewind", self.unit, ("it", "ep", "%"))
        if self.unit == "it" and not float(self.amount).is_integer():
            raise ArgumentError("rewind", str(self), "a whole number of iterations")

    @classmethod
    def parse(cls, text: str) -> RewindPoint:
        """Reads "500it", "3ep" or "1%"; raises `ArgumentError` for anything else."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(it|ep|%)", str(text).strip())
        if match is None:
            allowed = "an amount and a unit, such as 0it, 500it, 3ep or 1%"
            raise ArgumentError("rewind", text, allowed)
        return cls(float(match[1]), match[2])

    def steps(self, steps_per_epoch: int, total_steps: int) -> int:
        """Returns k in training steps; raises `ArgumentError` when it is not before the end."""
        scale = {"it": 1, "ep": steps_per_epoch, "%": total_steps / 100}[self.unit]
        k = round(self.amount * scale)
        if k >= total_steps:
            raise ArgumentError(
                "rewind",
                str(self),
                f"a point before the end of training ({total_steps} steps, "
                f"{steps_per_epoch} an epoch)",
                f"It lies at step {k}.",
            )
        return k

    def __str__(self) -> str:
        amount = decimal.Decimal(repr(float(self.amount))).normalize()
        return f"{amount:f}{self.unit}"  # every digit, no exponent: what `parse` reads


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How one network is trained for its full budget.

    Example:

        >>> recipe = TrainingRecipe(epochs=182, schedule="step", milestones=(91 / 182, 136 / 182))
        >>> recipe.learning_rate
        0.1

    Args:
        epochs: passes over the full training set, the budget of a dense network. Default 20.
        batch_size: samples per step, over all replicas. Default 128.
        optimizer: name of a Keras optimizer class, in lower case: "sgd", "adam", "adamw",
            "rmsprop", ... Default "sgd".
        learning_rate: peak learning rate. Default 0.1.
        momentum: of SGD and RMSprop; other optimizers ignore it. Default 0.9.
        weight_decay: coefficient of the L2 term added to the gradient of every trainable weight,
            as the papers' SGD does; with "adamw", Keras's own decoupled decay. Default 0.
        schedule: "constant", "step" (multiply by `decay` at each milestone), "linear" (to 0),
            "cosine" (to 0) or "exponential" (to `decay` times the peak). Default "step".
        milestones: fractions of the budget at which "step" decays. Default (0.5, 0.75).
        decay: factor of "step" and "exponential". Default 0.1.
        warmup: fraction of the budget over which the learning rate rises linearly from 0 to
            the peak. Default 0.
        augment: name of an augmentation of `tf_prac.data.augment`: "none", "flip", "crop" or
            "crop_flip". Default "none".
        validation_split: fraction of the training set held out for validation when none is
            given, in [0, 1). Default 0.1.
        split: "seeded" (at random) or "last" (the last samples, as the PrAC authors do).
            Default "seeded".

    Raises:
        ArgumentError: a value is outside its range.
    """

    epochs: int = 20
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "step"
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    warmup: float = 0.0
    augment: str = "none"
    validation_split: float = 0.1
    split: str = "seeded"

    def __post_init__(self):
        check_int("epochs", self.epochs, 1)
        check_int("batch_size", self.batch_size, 1)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("momentum", self.momentum, minimum=0, below=1)
        check_number("weight_decay", self.weight_decay, minimum=0)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_number("decay", self.decay, above=0, maximum=1)
        check_number("warmup", self.warmup, minimum=0, below=1)
        object.__setattr__(self, "milestones", _as_tuple("milestones", self.milestones))
        for milestone in self.milestones:
            check_number("milestones", milestone, above=0, below=1)
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ArgumentError("milestones", self.milestones, "increasing fractions")
        check_number("validation_split", self.validation_split, minimum=0, below=1)
        check_choice("split", self.split, ("seeded", "last"))
        if not isinstance(self.optimizer, str) or not self.optimizer:
            raise ArgumentError("optimizer", self.optimizer, "the name of a Keras optimizer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruningConfig:
    """What is pruned, how much a round, and where each round starts again.

    Example:

        >>> PruningConfig(rounds=2, prune_rate=0.5, rewind="500it").rewind_point.amount
        500.0

    Source: "Stabilizing the Lottery Ticket Hypothesis", Algorithm 1 (iterative magnitude pruning
    with rewinding).

    Args:
        rounds: number of train-and-prune rounds; after n rounds the ticket has density
            (1 - prune_rate) ** n. Default 5.
        prune_rate: fraction of the remaining prunable weights removed a round, in (0, 1).
            Default 0.2.
        criterion: what a weight's score is; the lowest are pruned. A key of
            `tf_prac.pruning.criteria.CRITERIA`. Default "magnitude".
        scope: "global" ranks all prunable weights together, "layerwise" each weight tensor by
            itself. Default "global".
        layers: groups of layers that are pruned, of "conv", "dense", "depthwise", "embedding",
            "recurrent". Default ("conv", "dense").
        prune_last_dense: also prune the last dense layer. Default False.
        ignore: names of layers or weights to leave dense, as shell patterns. Default ().
        rewind: the rewind point k: "0it", "500it", "3ep" or "2%". Default "2%", about what the
            papers need on CIFAR-10 (1.4% to 3%).
        lr_rewind: True: rounds after the first train the remaining T - k steps, with the
            learning rate going on from step k; False: a full schedule of T steps from step 0,
            as the PrAC authors' code does. Default True.

    Raises:
        ArgumentError: a value is outside its range.
    """

    rounds: int = 5
    prune_rate: float = 0.2
    criterion: str = "magnitude"
    scope: str = "global"
    layers: tuple[str, ...] = ("conv", "dense")
    prune_last_dense: bool = False
    ignore: tuple[str, ...] = ()
    rewind: str = "2%"
    lr_rewind: bool = True

    def __post_init__(self):
        check_int("rounds", self.rounds, 1)
        check_number("prune_rate", self.prune_rate, above=0, below=1)
        check_choice("scope", self.scope, SCOPES)
        check_bool("prune_last_dense", self.prune_last_dense)
        check_bool("lr_rewind", self.lr_rewind)
        object.__setattr__(self, "layers", _as_tuple("layers", self.layers))
        object.__setattr__(self, "ignore", _as_tuple("ignore", self.ignore))
        if not self.layers:
            raise ArgumentError("layers", self.layers, "at least one of " + ", ".join(LAYER_GROUPS))
        for group in self.layers:
            check_choice("layers", group, LAYER_GROUPS)
        for pattern in self.ignore:
            if not isinstance(pattern, str):
                raise ArgumentError("ignore", pattern, "names or shell patterns")
        object.__setattr__(self, "rewind", str(self.rewind_point))

    @property
    def rewind_point(self) -> RewindPoint:
        """The parsed `rewind`."""
        return RewindPoint.parse(self.rewind)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PracConfig:
    """Which samples a round trains on, for how long, and when it stops early.

    The defaults are the paper's; `PRAC_VARIANTS` has "paper", "official" (what the authors' code
    does) and "none" (plain iterative magnitude pruning on the full data).

    Source: "Efficient Lottery Ticket Finding: Less Data is More", Section 3 and Algorithm 1.

    Args:
        use_cet: train on the critical examples for training (forgotten, or never learned).
            Default True.
        use_cep: train on the critical examples for pruning (dense and sparse network disagree).
            With neither, every round trains on the full data. Default True.
        forget_threshold: E_F; a sample is critical with more forgetting events than this.
            Default 0.
        never_learned: "critical" keeps samples that were never classified correctly, "ignore"
            judges them by their events (none) alone. Default "critical".
        cep_network: which sparse network CEP compares with the dense one: "pruned" (just after
            this round's pruning, Algorithm 1) or "trained" (the round's trained network, before
            its pruning; the authors' code). Default "pruned".
        cep_weights: "last" epoch's weights or those of the "best" validation accuracy.
            Default "last".
        cep_from_round: first round that computes CEP. Default 0.
        min_size: a PrAC set smaller than this fraction of the training set is filled up to it
            with other samples of the set it was drawn from. Default 0.01.
        budget: how a round on |P| of N samples is shortened: "steps" (the paper's formula,
            steps in proportion to |P|, so the number of epochs stays), "epochs" (the authors'
            code: epochs in proportion too, so steps fall with the square) or "full" (as many
            steps as the full data takes). Default "steps".
        early_stop_eps: stop a round when the mask distance stays below this; None ("off" on the
            command line): never. Default 0.07.
        early_stop_window: number of successive distances that must be below. Default 5.

    Raises:
        ArgumentError: a value is outside its range.
    """

    use_cet: bool = True
    use_cep: bool = True
    forget_threshold: int = 0
    never_learned: str = "critical"
    cep_network: str = "pruned"
    cep_weights: str = "last"
    cep_from_round: int = 0
    min_size: float = 0.01
    budget: str = "steps"
    early_stop_eps: float | None = 0.07
    early_stop_window: int = 5

    def __post_init__(self):
        check_bool("use_cet", self.use_cet)
        check_bool("use_cep", self.use_cep)
        check_int("forget_threshold", self.forget_threshold, 0)
        check_choice("never_learned", self.never_learned, ("critical", "ignore"))
        check_choice("cep_network", self.cep_network, ("pruned", "trained"))
        check_choice("cep_weights", self.cep_weights, ("last", "best"))
        check_int("cep_from_round", self.cep_from_round, 0)
        check_number("min_size", self.min_size, minimum=0, maximum=1)
        check_choice("budget", self.budget, ("steps", "epochs", "full"))
        if self.early_stop_eps is not None:
            check_number("early_stop_eps", self.early_stop_eps, above=0)
        check_int("early_stop_window", self.early_stop_window, 1)

    @property
    def selects_data(self) -> bool:
        """Whether rounds after the first train on less than the full data."""
        return self.use_cet or self.use_cep


@dataclasses.dataclass(frozen=True)
class PracVariant:
    """A named choice of `PracConfig`, with the pruning options that belong to it."""

    prac: PracConfig
    pruning: dict[str, Any]


PRAC_VARIANTS = {
    "paper": PracVariant(PracConfig(), {}),
    "official": PracVariant(
        PracConfig(
            cep_network="trained",
            cep_weights="best",
            cep_from_round=1,
            budget="epochs",
            early_stop_eps=0.08,
        ),
        {"layers": ("conv",), "lr_rewind": False},
    ),
    "none": PracVariant(PracConfig(use_cet=False, use_cep=False, early_stop_eps=None), {}),
}
