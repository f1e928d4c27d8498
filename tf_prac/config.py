"""Every option of a search, as frozen dataclasses that are validated when built.

The three groups are what a reader of the papers looks for: how a network is trained
(`TrainingRecipe`), how it is pruned and rewound (`PruningConfig`), and on which samples the
search trains (`PracConfig`, in `prac_config.py`). Field names are also the names of the command
line's flags.
"""

from __future__ import annotations

import dataclasses
import decimal
import re
from collections.abc import Iterable
from typing import Any

from tf_prac.checks import check_bool as check_bool
from tf_prac.checks import check_choice as check_choice
from tf_prac.checks import check_int as check_int
from tf_prac.checks import check_number as check_number
from tf_prac.checks import check_pattern
from tf_prac.errors import ArgumentError
from tf_prac.prac_config import PRAC_VARIANTS as PRAC_VARIANTS
from tf_prac.prac_config import PracConfig as PracConfig

SCHEDULES = ("constant", "step", "linear", "cosine", "exponential")
RETRAINING = ("weight_rewinding", "lr_rewinding", "fine_tuning")
SCOPES = ("global", "layerwise")
CONTROLS = ("random_mask", "reinit", "both")
POLICIES = ("all", "xnnpack")
LAYER_GROUPS = ("conv", "dense", "depthwise", "embedding", "recurrent")


def _as_tuple(argument: str, value: object) -> tuple[Any, ...]:
    """Returns a list or the like as a tuple; text is not taken for a list of letters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ArgumentError(argument, value, "a list or tuple")
    return tuple(value)


def _rate_rule(text: object) -> tuple[str, float]:
    """Reads "conv=0.1"."""
    pattern, equals, rate = str(text).partition("=")
    try:
        value = float(rate)
    except ValueError:
        value = -1.0
    if not (isinstance(text, str) and pattern and equals and 0 <= value < 1):
        raise ArgumentError("layer_rates", text, "PATTERN=RATE with a rate in [0, 1)")
    return pattern.strip(), value


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
        steps: the budget in training steps, in place of `epochs`; None ("off" on the command
            line): as many as `epochs` take. Default None.
        batch_size: samples per step, over all replicas. Default 128.
        optimizer: name of a Keras optimizer class, in lower case: "sgd", "adam", "adamw",
            "rmsprop", ... Default "sgd".
        learning_rate: peak learning rate. Default 0.1.
        momentum: of SGD and RMSprop; other optimizers ignore it. Default 0.9.
        weight_decay: coefficient of the L2 term added to the gradient of every trainable weight,
            as the papers' SGD does; with "adamw", Keras's own decoupled decay. Default 0.
        epsilon: the small constant of Adam, RMSprop and others; None ("off" on the command
            line): Keras's own. Default None.
        schedule: "constant", "step" (multiply by `decay` at each milestone), "linear" or
            "cosine" (to `final_rate`), or "exponential" (to `decay` times the peak).
            Default "step".
        milestones: where "step" decays: fractions of the budget, or points such as "20000it"
            (needs `steps`) or "91ep" (of `epochs`). Default (0.5, 0.75).
        decay: factor of "step" and "exponential". Default 0.1.
        final_rate: learning rate that "linear" and "cosine" end with. Default 0.
        warmup: fraction of the budget, or a point such as "1000it" or "5ep", up to which the
            learning rate rises linearly from 0 to the peak. Default 0.
        augment: name of an augmentation of `tf_prac.data.augment`: "none", "flip", "crop" or
            "crop_flip". Default "none".
        validation_split: fraction of the training set held out for validation when none is
            given, in [0, 1). Default 0.1.
        split: "seeded" (at random) or "last" (the last samples, as the PrAC authors do).
            Default "seeded".
        mixed_precision: whether layers compute in bfloat16 and keep their weights in float32,
            which pays where the hardware multiplies bfloat16. Default False.
        jit_compile: whether XLA compiles the training step: pays on GPU and TPU, rarely on CPU.
            Default False.

    Raises:
        ArgumentError: a value is outside its range.
    """

    epochs: int = 20
    steps: int | None = None
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    epsilon: float | None = None
    schedule: str = "step"
    milestones: tuple[float | str, ...] = (0.5, 0.75)
    decay: float = 0.1
    final_rate: float = 0.0
    warmup: float | str = 0.0
    augment: str = "none"
    validation_split: float = 0.1
    split: str = "seeded"
    mixed_precision: bool = False
    jit_compile: bool = False

    def __post_init__(self):
        check_int("epochs", self.epochs, 1, below=2**31)
        if self.steps is not None:
            check_int("steps", self.steps, 1, below=2**31)
        check_int("batch_size", self.batch_size, 1, below=2**31)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("momentum", self.momentum, minimum=0, below=1)
        check_number("weight_decay", self.weight_decay, minimum=0)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_number("decay", self.decay, above=0, maximum=1)
        if self.epsilon is not None:
            check_number("epsilon", self.epsilon, above=0)
        check_number("final_rate", self.final_rate, minimum=0)
        check_number("warmup", self.warmup_fraction, minimum=0, below=1)
        object.__setattr__(self, "milestones", _as_tuple("milestones", self.milestones))
        fractions = self.milestone_fractions
        for fraction in fractions:
            check_number("milestones", fraction, above=0, below=1)
        if list(fractions) != sorted(set(fractions)):
            raise ArgumentError("milestones", self.milestones, "increasing fractions")
        check_number("validation_split", self.validation_split, minimum=0, below=1)
        check_choice("split", self.split, ("seeded", "last"))
        check_bool("mixed_precision", self.mixed_precision)
        check_bool("jit_compile", self.jit_compile)
        if not isinstance(self.optimizer, str) or not self.optimizer:
            raise ArgumentError("optimizer", self.optimizer, "the name of a Keras optimizer")

    @property
    def warmup_fraction(self) -> float:
        """Where the warmup ends, as a fraction of the budget."""
        return self._fraction("warmup", self.warmup)

    @property
    def milestone_fractions(self) -> tuple[float, ...]:
        """The milestones as fractions of the budget."""
        return tuple(self._fraction("milestones", point) for point in self.milestones)

    def _fraction(self, argument: str, point: Any) -> float:
        """Reads "20000it", "91ep" or "50%"; leaves numbers as they are."""
        match = (
            re.fullmatch(r"(\d+(?:\.\d+)?)\s*(it|ep|%)", point) if isinstance(point, str) else None
        )
        if match is None:
            return point
        budget = {"it": self.steps, "ep": None if self.steps else self.epochs, "%": 100}[match[2]]
        if budget is None:
            remedy = "Points in iterations need a budget in steps, those in epochs one in epochs."
            raise ArgumentError(argument, point, "points in the unit of the budget", remedy)
        return float(match[1]) / budget


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
        layer_rates: other prune rates for some layers, such as ("output=0.1", "conv=0.15"):
            "output" (the last dense layer), a group of `layers` or a shell pattern of names; the
            first that fits counts. With scope "global", weights of equal rates are ranked
            together. Default ().
        sparsities: the target sparsity after each round, increasing, in place of rates; such as
            `tf_prac.PolynomialDecay(...).per_round(rounds)`. Default ().
        criterion: what a weight's score is; the lowest are pruned. "magnitude" scores trained
            weights; "magnitude_init", "snip", "grasp" and "synflow" score W_k, the initial
            weights with rewind="0it": rounds do not train then. Default "magnitude".
        score_steps: a criterion that scores W_k prunes each round in so many steps of an equal
            rate, scoring anew before each; SynFlow takes 100. Default 1.
        score_samples: number of training samples of each class from which "snip" and "grasp"
            score. Default 10.
        scope: "global" ranks all prunable weights together, "layerwise" each weight tensor by
            itself. Default "global".
        block_size: (height, width) of the blocks in which matrices are pruned. Default (1, 1).
        block_pooling_type: a block's score is the "AVG" or "MAX" of its weights' scores.
            Default "AVG".
        sparsity_m_by_n: (m, n): prune m of every n weights along the input channels, at once,
            whatever the rate. Default ().
        policy: "all" prunes what the options below say, "xnnpack" of that only the 1x1
            convolutions of networks that XNNPACK runs sparse. Default "all".
        layers: groups of layers that are pruned, of "conv", "dense", "depthwise", "embedding",
            "recurrent". Default ("conv", "dense").
        prune_last_dense: also prune the last dense layer. Default False.
        ignore: names of layers or weights to leave dense, as shell patterns. Default ().
        rewind: the rewind point k: "0it", "500it", "3ep" or "2%". Default "2%", about what the
            papers need on CIFAR-10 (1.4% to 3%).
        lr_rewind: True: rounds after the first train the remaining T - k steps, with the
            learning rate going on from step k; False: a full schedule of T steps from step 0,
            as the PrAC authors' code does. Default True.
        retraining: what rounds after the first, and retraining, start from: "weight_rewinding"
            (W_k, at the learning rate of step k), "lr_rewinding" (the weights as trained, at the
            learning rate of step k; Renda et al. 2020) or "fine_tuning" (the weights as trained,
            at the last learning rate of the schedule). Default "weight_rewinding".
        rewind_statistics: rewind the statistics of BatchNorm with the weights; False: they stay
            as trained. Default True.
        rewind_optimizer: rewind momentum and other slots of the optimizer to those after step k
            too; False: they start at zero. Default False.
        keep_epoch_masks: write down the mask that each epoch would give, one bit a weight,
            for the matrix of mask distances (`tf-prac figures`). Default False.

    Raises:
        ArgumentError: a value is outside its range.
    """

    rounds: int = 5
    prune_rate: float = 0.2
    layer_rates: tuple[str, ...] = ()
    sparsities: tuple[float, ...] = ()
    criterion: str = "magnitude"
    score_steps: int = 1
    score_samples: int = 10
    scope: str = "global"
    block_size: tuple[int, ...] = (1, 1)
    block_pooling_type: str = "AVG"
    sparsity_m_by_n: tuple[int, ...] = ()
    policy: str = "all"
    layers: tuple[str, ...] = ("conv", "dense")
    prune_last_dense: bool = False
    ignore: tuple[str, ...] = ()
    rewind: str = "2%"
    lr_rewind: bool = True
    retraining: str = "weight_rewinding"
    rewind_statistics: bool = True
    rewind_optimizer: bool = False
    keep_epoch_masks: bool = False

    def __post_init__(self):
        check_int("rounds", self.rounds, 1)
        check_int("score_steps", self.score_steps, 1)
        check_int("score_samples", self.score_samples, 1)
        check_number("prune_rate", self.prune_rate, above=0, below=1)
        object.__setattr__(self, "layer_rates", _as_tuple("layer_rates", self.layer_rates))
        _ = self.rate_rules  # refuses what it cannot read
        check_choice("scope", self.scope, SCOPES)
        check_choice("policy", self.policy, POLICIES)
        for name in ("sparsities", "block_size", "sparsity_m_by_n"):
            object.__setattr__(self, name, _as_tuple(name, getattr(self, name)))
        check_pattern(self.block_size, self.block_pooling_type, self.sparsity_m_by_n)
        for sparsity in self.sparsities:
            check_number("sparsities", sparsity, above=0, below=1)
        if list(self.sparsities) != sorted(set(self.sparsities)):
            raise ArgumentError("sparsities", self.sparsities, "increasing fractions")
        if self.sparsities and len(self.sparsities) != self.rounds:
            allowed = f"one for each round (rounds={self.rounds})"
            raise ArgumentError("sparsities", self.sparsities, allowed)
        check_bool("prune_last_dense", self.prune_last_dense)
        check_bool("lr_rewind", self.lr_rewind)
        check_choice("retraining", self.retraining, RETRAINING)
        check_bool("rewind_statistics", self.rewind_statistics)
        check_bool("rewind_optimizer", self.rewind_optimizer)
        for name, default in (("rewind_statistics", True), ("rewind_optimizer", False)):
            if self.retraining != "weight_rewinding" and getattr(self, name) != default:
                remedy = f"With {self.retraining} no weights are rewound."
                raise ArgumentError(name, not default, str(default), remedy)
        check_bool("keep_epoch_masks", self.keep_epoch_masks)
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

    @property
    def rate_rules(self) -> tuple[tuple[str, float], ...]:
        """The parsed `layer_rates`: (pattern, rate), the first that fits a layer counts."""
        return tuple(_rate_rule(text) for text in self.layer_rates)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """How often the state of a training is written, so that a search goes on inside a round.

    It changes nothing in the result, and may differ each time a search goes on.

    Args:
        checkpoint_seconds: write a checkpoint when so many seconds have passed since the last,
            between two steps or at the end of an epoch; 0 writes all the time. No more work
            than this is lost when the machine dies. Default 60.
        checkpoint_steps: also write one every so many steps of a round; 0: no. Default 0.

    Raises:
        ArgumentError: a value is outside its range.
    """

    checkpoint_seconds: float = 60.0
    checkpoint_steps: int = 0

    def __post_init__(self):
        check_number("checkpoint_seconds", self.checkpoint_seconds, minimum=0)
        check_int("checkpoint_steps", self.checkpoint_steps, 0)
