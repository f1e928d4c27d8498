"""The options of a search, as frozen dataclasses that are validated when built.

There are three groups: how a network is trained (`TrainingRecipe`), how it is pruned and rewound
(`PruningConfig`), and on which samples the search trains (`PracConfig`). `SearchConfig` contains
all three. The fields are also the flags of the command line, and their docstrings its help.
"""

from __future__ import annotations

import dataclasses
import decimal
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from tf_prac.checks import (
    check_auto_bool,
    check_bool,
    check_choice,
    check_int,
    check_number,
    python_numbers,
)
from tf_prac.errors import ArgumentError
from tf_prac.registry import CRITERIA, PATTERNS, SELECTORS

DATA_PLACEMENTS = ("auto", "device", "stream")
SCHEDULES = ("constant", "step", "linear", "cosine", "exponential")
RETRAINING = ("weight_rewinding", "lr_rewinding", "fine_tuning")
SCOPES = ("global", "layerwise")
MOMENTUM_FORMS = ("keras", "pytorch")
TICKET_STARTS = ("as_rounds", "rewind_point")
BUDGETS = ("steps", "epochs", "epochs_truncated", "full")
ROUND_SCHEDULES = ("recipe", "annealed", "one_cycle", "constant", "swa")
STOP_DISTANCES = ("masks", "order")
CEP_REFERENCES = ("round_0", "round_before", "own_round")
CONTROLS = ("random_mask", "reinit", "both")
POLICIES = ("all", "xnnpack")
PATTERN_OPTIONS = ("block_size", "block_pooling_type", "sparsity_m_by_n")
LAYER_GROUPS = ("conv", "dense", "depthwise", "embedding", "recurrent")
OTHER_RUNS = ("sizes_from", "prac_from", "proxy_from", "pretrain_from")
PRETRAIN = ("all", "random", "easy", "hard")
_POINT = re.compile(r"(\d+(?:\.\d+)?)\s*(it|ep|%)")
"""A point of training: an amount, and its unit."""

AUTO: Literal["auto"] = "auto"
AutoBool = bool | Literal["auto"]
"""True, False, or "auto": the device decides, see `tf_prac.training.precision.resolved`."""


def _as_tuple(argument: str, value: object) -> tuple[Any, ...]:
    """Returns an iterable as a tuple; refuses a string, which iterates over its characters."""
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        remedy = f"Pass [{value!r}]." if isinstance(value, str) else ""
        if isinstance(value, Mapping) and argument == "layer_rates":
            remedy = f"Pass {[f'{name}={rate}' for name, rate in value.items()]}."
        raise ArgumentError(argument, value, "a list or tuple", remedy)
    return tuple(value)


def _without_defaults(
    options: dict[str, Any], config: type, names: Iterable[str]
) -> dict[str, Any]:
    """Returns options without those of `names` that have their default.

    Files of versions that did not have these options lack them, and mean the default.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return {n: v for n, v in options.items() if n not in names or v != defaults[n]}


def _rate_rule(text: object) -> tuple[str, float]:
    """Parses a rule such as "conv=0.1"."""
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
    """The rewind point: the training step k whose weights `W_k` every later round starts from.

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
        amount: number of units, >= 0.
        unit: "it" (training steps), "ep" (epochs) or "%" (percent of all training steps).

    Raises:
        ArgumentError: If the amount or the unit is not allowed.
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
        """Parses "500it", "3ep" or "1%"; raises `ArgumentError` for anything else."""
        match = _POINT.fullmatch(str(text).strip())
        if match is None:
            allowed = "an amount and a unit, such as 0it, 500it, 3ep or 1%"
            raise ArgumentError("rewind", text, allowed)
        return cls(float(match[1]), match[2])

    def steps(self, steps_per_epoch: int, total_steps: int) -> int:
        """Returns k in training steps; raises `ArgumentError` unless it is before the end."""
        k = self.nearest_step(steps_per_epoch, total_steps)
        if k >= total_steps:
            raise ArgumentError(
                "rewind",
                str(self),
                f"a point before the end of training ({total_steps} steps, "
                f"{steps_per_epoch} an epoch)",
                f"It is at step {k}.",
            )
        return k

    def nearest_step(self, steps_per_epoch: int, total_steps: int) -> int:
        """Returns the point in training steps, rounded, which may be after the end."""
        scale = {"it": 1, "ep": steps_per_epoch, "%": total_steps / 100}[self.unit]
        return round(self.amount * scale)

    def __str__(self) -> str:
        amount = decimal.Decimal(repr(float(self.amount))).normalize()
        return f"{amount:f}{self.unit}"  # all digits and no exponent, so that `parse` reads it


def budget_of(option: str, text: object) -> RewindPoint:
    """Parses a budget such as "30ep", "9000it" or "20%", which is above 0.

    Raises:
        ArgumentError: If it is something else; `option` names it.
    """
    try:
        budget = RewindPoint.parse(str(text))
    except ArgumentError:
        budget = None
    if budget is None or budget.amount <= 0 or not isinstance(text, str):
        allowed = "an amount above 0 and a unit, such as 9000it, 30ep or 20%"
        raise ArgumentError(option, text, allowed)
    return budget


DEVICE_OPTIONS = ("mixed_precision", "jit_compile", "tf32")
"""Options of `TrainingRecipe` whose default depends on the device."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How one network is trained for its full budget.

    Example:

        >>> recipe = TrainingRecipe(epochs=182, schedule="step", milestones=(91 / 182, 136 / 182))
        >>> recipe.learning_rate
        0.1

    Args:
        epochs: training budget of a dense network: passes over the full training set.
            Default 20.
        steps: training budget in steps, in place of `epochs`; None ("off" on the command line):
            `epochs` is the budget. Default None.
        batch_size: samples per step, over all replicas. Default 128.
        optimizer: name of a Keras optimizer class, in lower case: "sgd", "adam", "adamw",
            "rmsprop", ... Default "sgd".
        learning_rate: peak learning rate. Default 0.1.
        momentum: momentum of SGD and RMSprop; other optimizers ignore it. Default 0.9.
        momentum_form: where SGD multiplies by the learning rate: "keras", the gradient before it is
            added to the momentum, or "pytorch", the momentum when it is added to the weight. They
            are equal while the rate is constant; in Keras's form a drop of the rate takes effect
            over about 1 / (1 - momentum) steps. The papers' code has PyTorch's form, which
            TensorFlow 1 had too. Default "keras".
        weight_decay: coefficient of the L2 term added to the gradient of every trainable weight,
            as in the papers' SGD; "adamw" uses Keras's decoupled weight decay. Default 0.
        epsilon: epsilon of Adam, RMSprop and others; None ("off" on the command line): Keras's
            default. Default None.
        schedule: learning-rate schedule: "constant", "step" (multiplied by `decay` at each
            milestone), "linear" or "cosine" (to `final_rate`), or "exponential" (to `decay`
            times the peak). Default "step".
        milestones: where "step" decays: fractions of the budget, or points such as "20000it"
            (with `steps`) or "91ep" (with `epochs`). Default (0.5, 0.75).
        decay: factor of "step" and "exponential". Default 0.1.
        final_rate: final learning rate of "linear" and "cosine". Default 0.
        warmup: length of the linear warmup from 0 to the peak learning rate: a fraction of the
            budget, or a point such as "1000it" or "5ep". Default 0.
        augment: data augmentation, see `tf_prac.data.augment`: "none", "flip", "crop" (of images
            padded by 4 pixels), "crop_flip", or "resized_crop_flip" (ImageNet's: windows of 8% to
            100% of the area). Default "none".
        label_smoothing: fraction of each label that the loss spreads evenly over the classes, in
            [0, 1). Which samples are correct does not depend on it. Default 0.
        validation_split: fraction of the training set held out for validation if there is no
            validation set, in [0, 1). Default 0.1.
        split: which samples are held out: "seeded" (at random) or "last" (the last ones, as in
            the PrAC authors' code). Default "seeded".
        mixed_precision: compute in bfloat16 and keep weights in float32; faster on hardware that
            multiplies bfloat16. "auto": no, on every device so far. Default "auto".
        jit_compile: compile the training step with XLA. "auto": on one GPU; not on CPU, where it
            is rarely faster, nor with several replicas. Default "auto".
        tf32: let GPUs of compute capability 8.0 and higher round the inputs of float32 products
            to TensorFloat-32, with 10 bits of mantissa. "auto": on these GPUs, unless it is
            disabled in TensorFlow. Evaluation and scores do not use it. Default "auto".

    Raises:
        ArgumentError: If a value is outside its range.
    """

    epochs: int = 20
    steps: int | None = None
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    momentum_form: str = dataclasses.field(default="keras", repr=False)
    weight_decay: float = 0.0
    epsilon: float | None = None
    schedule: str = "step"
    milestones: tuple[float | str, ...] = (0.5, 0.75)
    decay: float = 0.1
    final_rate: float = 0.0
    warmup: float | str = 0.0
    augment: str = "none"
    label_smoothing: float = dataclasses.field(default=0.0, repr=False)
    validation_split: float = 0.1
    split: str = "seeded"
    mixed_precision: AutoBool = AUTO
    jit_compile: AutoBool = AUTO
    # Like `momentum_form` not in the repr, a part of the identity of checkpoints of 0.1.0.
    tf32: AutoBool = dataclasses.field(default=AUTO, repr=False)

    def __post_init__(self):
        python_numbers(self)
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
        check_number("label_smoothing", self.label_smoothing, minimum=0, below=1)
        check_number("validation_split", self.validation_split, minimum=0, below=1)
        check_choice("split", self.split, ("seeded", "last"))
        check_choice("momentum_form", self.momentum_form, MOMENTUM_FORMS)
        for name in DEVICE_OPTIONS:
            check_auto_bool(name, getattr(self, name))
        if not isinstance(self.optimizer, str) or not self.optimizer:
            remedy = "To use an optimizer object, return a compiled model from model_fn."
            allowed = "the name of a Keras optimizer"
            raise ArgumentError("optimizer", self.optimizer, allowed, remedy)

    def to_json(self) -> dict[str, Any]:
        """Returns the options, for config.json; `tf32` only if it is not False.

        Runs of 0.1.0 do not have it, and are compared with those that compute in float32.
        """
        later = ("momentum_form", "label_smoothing")
        options = _without_defaults(dataclasses.asdict(self), TrainingRecipe, later)
        return {name: v for name, v in options.items() if name != "tf32" or v is not False}

    @property
    def warmup_fraction(self) -> float:
        """The length of the warmup, as a fraction of the budget."""
        return self._fraction("warmup", self.warmup)

    @property
    def milestone_fractions(self) -> tuple[float, ...]:
        """The milestones as fractions of the budget."""
        return tuple(self._fraction("milestones", point) for point in self.milestones)

    def _fraction(self, argument: str, point: Any) -> float:
        """Parses "20000it", "91ep" or "50%"; returns numbers unchanged."""
        match = _POINT.fullmatch(point) if isinstance(point, str) else None
        if match is None:
            return point
        budget = {"it": self.steps, "ep": None if self.steps else self.epochs, "%": 100}[match[2]]
        if budget is None:
            remedy = "Use it with a budget in steps, and ep with a budget in epochs."
            raise ArgumentError(argument, point, "points in the unit of the budget", remedy)
        return float(match[1]) / budget


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruningConfig:
    """What is pruned, how much in each round, and where each round starts.

    Example:

        >>> PruningConfig(rounds=2, prune_rate=0.5, rewind="500it").rewind_point.amount
        500.0

    Source: "Stabilizing the Lottery Ticket Hypothesis", Algorithm 1 (iterative magnitude pruning
    with rewinding).

    Args:
        rounds: number of rounds of training and pruning; the ticket after n rounds has density
            (1 - prune_rate) ** n. Default 5.
        prune_rate: fraction of the remaining prunable weights to prune in each round, in (0, 1).
            Default 0.2.
        layer_rates: prune rates of some layers in place of `prune_rate`, such as
            ("output=0.1", "conv=0.15"): "output" (the last dense layer), a group of `layers`, or a
            shell pattern of names; the first match counts. With scope "global", weights with equal
            rates are ranked together. Default ().
        sparsities: target sparsity after each round, increasing, in place of rates; for example
            `tf_prac.PolynomialDecay(...).per_round(rounds)`. Default ().
        larger_cuts: skip the training of a round, so that two prunings follow each other, if the
            training before them changed little: the weights before it agree on at least this
            fraction of the weights to prune. 0: always, so that only round 0 trains ("one shot", if
            `largest_cut` allows it). None ("off" on the command line): every round trains.
            Default None.
        largest_cut: maximum number of prunings after one training, with `larger_cuts`. Default 2.
        criterion: how weights are scored; the lowest scores are pruned. "magnitude" and "taylor"
            score the trained weights. "magnitude_init", "snip", "grasp" and "synflow" score W_k,
            which are the initial weights with rewind="0it"; rounds do not train then. From
            Python also a `tf_prac.pruning.Criterion`, or a function of weights. See
            `tf_prac.pruning.CRITERIA`. Default "magnitude".
        score_steps: number of steps in which each round prunes, at an equal rate and with new
            scores before each step, for a criterion other than "magnitude"; 100 for SynFlow.
            Default 1.
        score_samples: number of training samples of each class for the scores of "snip", "grasp"
            and "taylor". Default 10.
        scope: "global" ranks all prunable weights together, "layerwise" ranks each weight tensor
            separately. Default "global".
        min_layer_density: fraction of each weight tensor that is kept, its weights with the
            highest scores, so that a global ranking empties no layer. At most the density of the
            last round. Default 0.
        pattern: sparsity pattern: "unstructured", "block" (with `block_size`), "m_by_n" (with
            `sparsity_m_by_n`), "channels" (whole output channels) or "refill" (unstructured, then
            whole channels with as many weights). From Python also a `tf_prac.pruning.Pattern`. See
            `tf_prac.pruning.PATTERNS`. None: the pattern of the next three options.
            Default None.
        block_size: (height, width) of the blocks in which matrices are pruned. Default (1, 1).
        block_pooling_type: a block's score is the "AVG" or "MAX" of its weights' scores.
            Default "AVG".
        sparsity_m_by_n: (m, n): prune m of every n weights along the input channels (of
            transposed convolutions, the output channels), in one round and independent of the rate.
            Default ().
        policy: "all" prunes the layers of the next three options; "xnnpack" only their 1x1
            convolutions, in networks that XNNPACK runs sparse. Default "all".
        layers: groups of layers to prune, of "conv", "dense", "depthwise", "embedding",
            "recurrent". Default ("conv", "dense").
        prune_last_dense: also prune the last dense layer. Default False.
        ignore: shell patterns of names of layers or weights to keep dense. Default ().
        rewind: rewind point k: "0it", "500it", "3ep" or "2%". Default "2%", about what the
            papers need on CIFAR-10 (0.1% to 3%).
        lr_rewind: True: rounds after the first train for the remaining T - k steps, and the
            learning rate continues from step k; False: for the full schedule of T steps from
            step 0, as in the PrAC authors' code. Default True.
        retraining: what later rounds, and retraining, start from: "weight_rewinding" (W_k, at the
            learning rate of step k), "lr_rewinding" (the trained weights, at the learning rate of
            step k; Renda et al. 2020) or "fine_tuning" (the trained weights, at the last
            learning rate of the schedule). Default "weight_rewinding".
        ticket_start: what the tickets start from, if rounds start from trained weights: "as_rounds"
            (the same), or "rewind_point" (W_k: the search finds the mask without rewinding weights,
            and the mask is then put on W_k). Default "as_rounds".
        rewind_statistics: also rewind BatchNorm's statistics; False: they stay as trained.
            Default True.
        rewind_optimizer: also rewind the momentum and other slots of the optimizer to step k;
            False: they start at zero. Default False.
        keep_epoch_masks: store the tentative mask of each epoch, one bit for each weight, for
            the matrix of mask distances (`tf-prac figures`). Default False.

    Raises:
        ArgumentError: If a value is outside its range, or two options exclude each other.
    """

    rounds: int = 5
    prune_rate: float = 0.2
    layer_rates: tuple[str, ...] = ()
    sparsities: tuple[float, ...] = ()
    larger_cuts: float | None = None
    largest_cut: int = 2
    criterion: str | Any = "magnitude"
    score_steps: int = 1
    score_samples: int = 10
    scope: str = "global"
    min_layer_density: float = 0.0
    pattern: str | Any = None
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
    ticket_start: str = "as_rounds"
    rewind_statistics: bool = True
    rewind_optimizer: bool = False
    keep_epoch_masks: bool = False

    def __post_init__(self):
        python_numbers(self)
        check_int("rounds", self.rounds, 1)
        CRITERIA.check(self.criterion)
        check_int("score_steps", self.score_steps, 1)
        check_int("score_samples", self.score_samples, 1)
        check_number("prune_rate", self.prune_rate, above=0, below=1)
        object.__setattr__(self, "layer_rates", _as_tuple("layer_rates", self.layer_rates))
        _ = self.rate_rules  # raises if a rule cannot be parsed
        if self.larger_cuts is not None:
            check_number("larger_cuts", self.larger_cuts, minimum=0, maximum=1)
        check_int("largest_cut", self.largest_cut, 2)
        check_choice("scope", self.scope, SCOPES)
        check_choice("policy", self.policy, POLICIES)
        check_number("min_layer_density", self.min_layer_density, minimum=0, below=1)
        for name in ("sparsities", "block_size", "sparsity_m_by_n"):
            object.__setattr__(self, name, _as_tuple(name, getattr(self, name)))
        self._set_pattern()
        self._check_sparsities()
        self._check_amounts()
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
        check_choice("ticket_start", self.ticket_start, TICKET_STARTS)
        if self.ticket_start != "as_rounds" and self.retraining == "weight_rewinding":
            allowed = "as_rounds with retraining=weight_rewinding"
            remedy = "Rounds then start from W_k, and so do tickets."
            raise ArgumentError("ticket_start", self.ticket_start, allowed, remedy)
        self._check_layers()
        object.__setattr__(self, "rewind", str(self.rewind_point))

    def _check_sparsities(self) -> None:
        for sparsity in self.sparsities:
            check_number("sparsities", sparsity, above=0, below=1)
        if list(self.sparsities) != sorted(set(self.sparsities)):
            raise ArgumentError("sparsities", self.sparsities, "increasing fractions")
        if self.sparsities and len(self.sparsities) != self.rounds:
            allowed = f"one for each round (rounds={self.rounds})"
            raise ArgumentError("sparsities", self.sparsities, allowed)

    def _check_amounts(self) -> None:
        """Raises `ArgumentError` for amounts that another option would leave without effect."""
        if self.sparsities and self.layer_rates:
            remedy = "Target sparsities replace the rates of all layers."
            raise ArgumentError("layer_rates", self.layer_rates, "() with sparsities", remedy)
        if not self.sets_sparsity:
            return
        for name in ("sparsities", "layer_rates", "min_layer_density"):
            value, default = getattr(self, name), getattr(PruningConfig, name)
            if value != default:
                pattern = "sparsity_m_by_n" if self.sparsity_m_by_n else f"pattern={self.pattern!r}"
                remedy = "The pattern alone determines how many weights are pruned."
                raise ArgumentError(name, value, f"{default!r} with {pattern}", remedy)

    def _check_layers(self) -> None:
        object.__setattr__(self, "layers", _as_tuple("layers", self.layers))
        object.__setattr__(self, "ignore", _as_tuple("ignore", self.ignore))
        if not self.layers:
            raise ArgumentError("layers", self.layers, "at least one of " + ", ".join(LAYER_GROUPS))
        for group in self.layers:
            check_choice("layers", group, LAYER_GROUPS)
        for pattern in self.ignore:
            if not isinstance(pattern, str):
                raise ArgumentError("ignore", pattern, "names or shell patterns")

    def make_pattern(self) -> Any:
        """Returns the `tf_prac.pruning.Pattern`.

        Raises:
            ArgumentError: If its options are not allowed, or exclude each other.
        """
        if self.pattern is not None and not isinstance(self.pattern, str):
            return self.pattern
        name = "unstructured" if self.block_size == (1, 1) else "block"
        name = "m_by_n" if self.sparsity_m_by_n else name
        return PATTERNS[self.pattern or name].from_config(self)

    def _set_pattern(self) -> None:
        """Checks the pattern; stores it in the options of `PATTERN_OPTIONS` if they describe it."""
        check_choice("block_pooling_type", self.block_pooling_type, ("AVG", "MAX"))
        if self.pattern is None:
            if self.sparsity_m_by_n or self.block_size != (1, 1):
                self.make_pattern()  # raises if these options are not allowed
            return
        PATTERNS.check(self.pattern)
        pattern = self.make_pattern()
        options = pattern.options()
        for name in PATTERN_OPTIONS:
            value, default = getattr(self, name), getattr(PruningConfig, name)
            described = (options or {}).get(name, default)
            if value not in (default, described):
                raise ArgumentError(name, value, f"{described!r} with pattern={self.pattern!r}")
            object.__setattr__(self, name, described)
        if options is not None:
            object.__setattr__(self, "pattern", None)

    def to_json(self) -> dict[str, Any]:
        """Returns the options as JSON values; a function or an object becomes its name."""
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        options["criterion"] = CRITERIA.name(self.criterion)
        if self.pattern is None:
            del options["pattern"]  # as in the files of version 0.1
        else:
            options["pattern"] = PATTERNS.name(self.pattern)
        return _without_defaults(options, PruningConfig, _LATER_PRUNING_OPTIONS)

    @property
    def sets_sparsity(self) -> bool:
        """Whether the pattern alone determines how many weights are pruned."""
        if self.pattern is None:
            return bool(self.sparsity_m_by_n)
        return bool(self.make_pattern().sets_sparsity)

    @property
    def rewind_point(self) -> RewindPoint:
        """The parsed `rewind`."""
        return RewindPoint.parse(self.rewind)

    @property
    def rate_rules(self) -> tuple[tuple[str, float], ...]:
        """The parsed `layer_rates`: (pattern, rate); the first match counts."""
        return tuple(_rate_rule(text) for text in self.layer_rates)


_LATER_PRUNING_OPTIONS = ("ticket_start", "min_layer_density", "larger_cuts", "largest_cut")
"""Options that version 0.1.0 did not have: they are written unless they have their default."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PracConfig:
    """Which samples a round trains on, for how long, and when it stops early.

    The defaults are those of the paper. `PRAC_VARIANTS` contains "paper", "official" (the authors'
    code), "fast" (short rounds on the full data) and "none" (plain iterative magnitude pruning on
    the full data); docs/prac.md and docs/fast.md explain every choice.

    Example:

        >>> config = PracConfig(forget_threshold=1, early_stop_eps=None)
        >>> config.use_cet, config.use_cep
        (True, True)

    Source: "Efficient Lottery Ticket Finding: Less Data is More", Section 3 and Algorithm 1.

    Args:
        selector: what selects the samples of the next round: "prac" (critical samples), or
            another key of `tf_prac.search.selectors.SELECTORS`, with `subset_size` or
            `sizes_from`: "random", "entropy", "margin", "el2n", "grand", "loss", "forgetting". In
            Python also a function like those in `SELECTORS`. Default "prac".
        subset_size: fraction of the training set that a selector other than "prac" selects.
            Default None.
        sizes_from: directory of a finished run, for a control of equal size and budget: a
            selector other than "prac" selects sets of the same sizes as the rounds of that run,
            and every selector trains for the same numbers of steps, without early stop.
            Default None.
        class_balanced: select every class in its proportion of the training set; "prac" only adds
            samples, until every class has its proportion of `min_size`. Default False.
        prac_from: directory of a finished run on the same samples, with any network; its sets
            are used in place of a selector's. Default None.
        prac_from_round: which sets of `prac_from` are used: in "each" round its own, or in all
            rounds the "last" one, or the one after the round of this number. Default "each".
        proxy_from: directory of a finished run on the same samples, with any network; the
            selector "forgetting" uses the forgetting events of its round 0 (selection via
            proxy) in place of this run's. Default None.
        use_cet: train on CET, the critical examples for training (forgotten, or never learned).
            Default True.
        use_cep: train on CEP, the critical examples for pruning (the dense and the sparse network
            disagree). Without CET and CEP, every round trains on the full data. Default True.
        forget_threshold: E_F; a sample is critical if it has more forgetting events.
            Default 0.
        cet_rate: CET is the int(N * (1 - cet_rate) ** (round + 1)) most forgotten samples, in
            place of those above the threshold; the authors' mode `constent` is 0.2. None ("off"
            on the command line): the threshold decides. Default None.
        never_learned: "critical": samples that were never classified correctly are critical;
            "ignore": only forgetting events count, and these samples have none.
            Default "critical".
        cep_network: the sparse network that CEP compares with the dense one: "pruned" (right
            after this round's pruning, Algorithm 1) or "trained" (the round's trained network
            before its pruning, the authors' code). Default "pruned".
        cep_weights: CEP uses the weights of the "last" epoch, or those with the "best" validation
            accuracy. Default "last".
        cep_from_round: first round that computes CEP. Default 0.
        cep_reference: the network that CEP compares the sparse one with: "round_0" (the dense
            network, as in the papers, which differs from a briefly trained round in its training
            too), "round_before" (the trained network of the round before) or "own_round" (this
            round's trained network before its pruning). Default "round_0".
        min_size: minimum size of a PrAC set, as a fraction of the training set; a smaller set is
            extended with other samples of the set it was selected from. Default 0.01.
        coverage: probability with which a round presents, in each epoch, a sample that is not in
            its set, with a loss weight that makes each step's expected gradient that of the full
            data (InfoBatch, Qin et al. 2024: 0.5); None ("off" on the command line): only the set
            is presented. Default None.
        coverage_until: fraction of such a round after which epochs are drawn from all samples
            alike, without weights (InfoBatch: 0.875). Default 0.875.
        hard_cutoff: fraction of the training set that is cut off from CET, never-learned samples
            and then those with the most forgetting events first, if CET is smaller than
            `hard_cutoff_below` (coverage-centric selection, Zheng et al. 2023). Default 0.
        hard_cutoff_below: see `hard_cutoff`; fraction of the training set. Default 0.5.
        budget: training budget of a round on P of N samples: "steps" (the paper's formula: steps
            in proportion to P, so the number of epochs stays the same), "epochs" (the authors'
            code: epochs in proportion to P too, so steps fall with its square),
            "epochs_truncated" (like "epochs", with milestones and warmup truncated to whole epochs,
            as that code computes) or "full" (the steps of the full data). Default "steps".
        dense_budget: training budget of round 0, such as "30ep", "9000it" or "20%" of the recipe's;
            None ("off" on the command line): the recipe's. Retraining has the recipe's. Default
            None.
        round_budget: the same for a later round on the full data; it passes through the whole
            schedule. Default None.
        round_schedule: learning rates of the rounds: "recipe", or "annealed": 10% linear warmup,
            then linear to 0, up to the peak of the recipe. If weights are not rewound, the peak of
            a round is lower if its pruning removed little (ALLR, Zimmer et al. 2023).
            "one_cycle": all rounds together are one annealed training, in which the weights are
            never rewound (gradual magnitude pruning). "constant": the rate stays at that of step k.
            "swa": the same, and masks are found from the average of the weights over the last half
            of the round (stochastic weight averaging, Izmailov et al. 2018). Default "recipe".
        early_stop_eps: stop a round once the mask distance stays below this value; None ("off"
            on the command line): never. Default 0.07.
        early_stop_window: number of consecutive mask distances that must be below
            `early_stop_eps`. Default 5.
        early_stop_average: factor, in [0, 1), of the exponential moving average of the weights at
            the ends of epochs, whose masks are compared; 0: the weights themselves. Their distance
            also falls at a constant learning rate. Default 0.
        early_stop_distance: what is compared with `early_stop_eps`: "masks", the mask distance, or
            "order", 1 minus the rank correlation (Spearman) of the scores of successive epochs, of
            the weights near the pruning threshold: those between half and one and a half times
            the round's pruning. Default "masks".
        early_stop_arming: which mask distances count: "after_above": those after warmup and after
            a distance above `early_stop_eps`, so that a slow start does not stop a round (the
            authors' code); "at_once": all. Default "after_above".
        pretrain_on: the samples of the k steps from W_0 to the rewind point W_k: "all", a
            "random" subset, or the "easy" or "hard" samples, which round 0 of `pretrain_from`
            forgot least or most often. Round 0 then continues from W_k on the full data (Paul et
            al. 2022). Default "all".
        pretrain_size: fraction of the training set in this subset. Default None.
        pretrain_from: directory of a finished run on the same samples, with any network, whose
            forgetting events rank the samples. Default None.

    Raises:
        ArgumentError: If a value is outside its range, or two options exclude each other.
    """

    selector: str | Callable[..., Any] = "prac"
    subset_size: float | None = None
    sizes_from: str | None = None
    class_balanced: bool = False
    prac_from: str | None = None
    prac_from_round: str = "each"
    proxy_from: str | None = None
    use_cet: bool = True
    use_cep: bool = True
    forget_threshold: int = 0
    cet_rate: float | None = None
    never_learned: str = "critical"
    cep_network: str = "pruned"
    cep_weights: str = "last"
    cep_from_round: int = 0
    cep_reference: str = "round_0"
    min_size: float = 0.01
    coverage: float | None = None
    coverage_until: float = 0.875
    hard_cutoff: float = 0.0
    hard_cutoff_below: float = 0.5
    budget: str = "steps"
    dense_budget: str | None = None
    round_budget: str | None = None
    round_schedule: str = "recipe"
    early_stop_eps: float | None = 0.07
    early_stop_window: int = 5
    early_stop_average: float = 0.0
    early_stop_distance: str = "masks"
    early_stop_arming: str = "after_above"
    pretrain_on: str = "all"
    pretrain_size: float | None = None
    pretrain_from: str | None = None

    def __post_init__(self):
        python_numbers(self)
        SELECTORS.check(self.selector, "prac")
        check_bool("class_balanced", self.class_balanced)
        check_bool("use_cet", self.use_cet)
        check_bool("use_cep", self.use_cep)
        check_int("forget_threshold", self.forget_threshold, 0)
        self._check_cet_rate()
        check_choice("never_learned", self.never_learned, ("critical", "ignore"))
        check_choice("cep_network", self.cep_network, ("pruned", "trained"))
        check_choice("cep_weights", self.cep_weights, ("last", "best"))
        check_int("cep_from_round", self.cep_from_round, 0)
        check_number("min_size", self.min_size, minimum=0, maximum=1)
        check_choice("budget", self.budget, BUDGETS)
        if self.early_stop_eps is not None:
            check_number("early_stop_eps", self.early_stop_eps, above=0)
        check_int("early_stop_window", self.early_stop_window, 1)
        check_choice("early_stop_arming", self.early_stop_arming, ("after_above", "at_once"))
        check_choice("pretrain_on", self.pretrain_on, PRETRAIN)
        self._check_cep_reference()
        self._check_coverage()
        self._check_rounds()
        self._check_selection()
        self._check_pretraining()

    def _check_cet_rate(self) -> None:
        if self.cet_rate is None:
            return
        check_number("cet_rate", self.cet_rate, above=0, below=1)
        for name in ("forget_threshold", "hard_cutoff"):
            if value := getattr(self, name):
                remedy = "It alone determines how many samples CET has: set it to None (off)."
                raise ArgumentError(name, value, "0 with a cet_rate", remedy)

    def _check_cep_reference(self) -> None:
        check_choice("cep_reference", self.cep_reference, CEP_REFERENCES)
        if self.cep_reference == "own_round" and self.cep_network == "trained":
            remedy = "It would be compared with itself."
            allowed = "another network with cep_network=trained"
            raise ArgumentError("cep_reference", self.cep_reference, allowed, remedy)

    def _check_coverage(self) -> None:
        if self.coverage is not None:
            check_number("coverage", self.coverage, above=0, maximum=1)
        check_number("coverage_until", self.coverage_until, minimum=0, maximum=1)
        check_number("hard_cutoff", self.hard_cutoff, minimum=0, below=1)
        check_number("hard_cutoff_below", self.hard_cutoff_below, minimum=0, maximum=1)

    def _check_rounds(self) -> None:
        """Checks the early stop, schedule and budgets of rounds."""
        check_number("early_stop_average", self.early_stop_average, minimum=0, below=1)
        check_choice("early_stop_distance", self.early_stop_distance, STOP_DISTANCES)
        check_choice("round_schedule", self.round_schedule, ROUND_SCHEDULES)
        for name in ("dense_budget", "round_budget"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, str(budget_of(name, value)))

    def _check_selection(self) -> None:
        for name in OTHER_RUNS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, (str, os.PathLike)) or not str(value)):
                raise ArgumentError(name, value, "the directory of a finished run")
            object.__setattr__(self, name, None if value is None else str(value))
        round_text = str(self.prac_from_round)
        if round_text not in ("each", "last") and not re.fullmatch(r"\d+", round_text):
            raise ArgumentError("prac_from_round", self.prac_from_round, "each, last or a round")
        object.__setattr__(self, "prac_from_round", round_text)
        if self.subset_size is not None:
            check_number("subset_size", self.subset_size, above=0, maximum=1)
        critical = self.selector == "prac"
        if not critical and self.prac_from is not None:
            raise ArgumentError("prac_from", self.prac_from, "none unless selector=prac")
        if not critical and (self.subset_size is None) == (self.sizes_from is None):
            raise ArgumentError(
                "subset_size",
                self.subset_size,
                f"a fraction in (0, 1] with selector={self.selector_name}, or sizes_from instead",
            )
        if critical and self.subset_size is not None:
            raise ArgumentError(
                "subset_size",
                self.subset_size,
                "none with selector=prac, whose sizes are the numbers of critical samples",
            )
        if self.proxy_from is not None and self.selector != "forgetting":
            raise ArgumentError("proxy_from", self.proxy_from, "none unless selector=forgetting")

    def _check_pretraining(self) -> None:
        on, size = self.pretrain_on, self.pretrain_size
        if size is not None:
            check_number("pretrain_size", size, above=0, maximum=1)
        if (size is None) != (on == "all"):
            allowed = "none with pretrain_on=all" if on == "all" else "a fraction in (0, 1]"
            raise ArgumentError("pretrain_size", size, allowed)
        if (self.pretrain_from is None) != (on not in ("easy", "hard")):
            allowed = "a finished run with pretrain_on=easy or hard, otherwise none"
            raise ArgumentError("pretrain_from", self.pretrain_from, allowed)

    @property
    def selector_name(self) -> str:
        """The name of the selector in config.json; MODULE.NAME for a function."""
        return SELECTORS.name(self.selector)

    @property
    def other_runs(self) -> dict[str, str]:
        """The directories of the other runs that the search uses, by option."""
        paths = {name: getattr(self, name) for name in OTHER_RUNS}
        return {name: path for name, path in paths.items() if path is not None}

    def to_json(self) -> dict[str, Any]:
        """Returns the options as JSON values; a function becomes its name."""
        options = {**dataclasses.asdict(self), "selector": self.selector_name}
        return _without_defaults(options, PracConfig, _LATER_PRAC_OPTIONS)

    def without_other_runs(self) -> dict[str, Any]:
        """The options without the directories of other runs, which may have been moved."""
        return {name: v for name, v in self.to_json().items() if name not in OTHER_RUNS}

    @property
    def pretrains(self) -> bool:
        """Whether the training to W_k uses other samples than the training after it."""
        return self.pretrain_on != "all"

    @property
    def selects_data(self) -> bool:
        """Whether rounds after the first train on a subset of the data."""
        other = self.selector != "prac" or self.prac_from is not None
        return other or self.use_cet or self.use_cep


_LATER_PRAC_OPTIONS = (
    *("cep_reference", "coverage", "coverage_until", "hard_cutoff", "hard_cutoff_below"),
    *("dense_budget", "round_budget", "round_schedule", "early_stop_average"),
    "early_stop_distance",
)
"""Options that version 0.1.0 did not have: they are written unless they have their default."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The options of training, pruning and sample selection, in three groups.

    Option names are unique across the groups, so `replace` takes them without a group.

    Example:

        >>> config = SearchConfig().replace(rounds=3, rewind="500it", use_cep=False)
        >>> config.pruning.rounds, config.prac.use_cep
        (3, False)

    Args:
        recipe: how a network is trained. Default `TrainingRecipe()`.
        pruning: what is pruned, and the rewind point. Default `PruningConfig()`.
        prac: which samples a round trains on, and when it stops. Default `PracConfig()`.

    Raises:
        ArgumentError: If a group is of another class.
    """

    recipe: TrainingRecipe = TrainingRecipe()
    pruning: PruningConfig = dataclasses.field(default_factory=PruningConfig)
    prac: PracConfig = PracConfig()

    def __post_init__(self):
        for name, group in OPTION_GROUPS.items():
            value = getattr(self, name)
            if not isinstance(value, group):
                received = value if len(repr(value)) < 100 else type(value).__name__
                raise ArgumentError(name, received, f"a {group.__name__}")

    @classmethod
    def of(
        cls,
        recipe: TrainingRecipe | SearchConfig | None = None,
        pruning: PruningConfig | None = None,
        prac: PracConfig | None = None,
    ) -> SearchConfig:
        """Returns the configuration of these groups, or `recipe` if it is a `SearchConfig`.

        Args:
            recipe: how a network is trained, or all three groups. Default `TrainingRecipe()`.
            pruning: what is pruned, and the rewind point. Default `PruningConfig()`.
            prac: which samples a round trains on. Default `PracConfig()`.

        Raises:
            ArgumentError: If `recipe` is a `SearchConfig` and another group is given too.
        """
        if isinstance(recipe, SearchConfig):
            if pruning is not None or prac is not None:
                remedy = "Use config.replace(...) to change some of its options."
                allowed = "a SearchConfig without pruning or prac"
                raise ArgumentError("recipe", "a SearchConfig", allowed, remedy)
            return recipe
        groups: dict[str, Any] = {"recipe": recipe, "pruning": pruning, "prac": prac}
        return cls(**{name: group for name, group in groups.items() if group is not None})

    def replace(self, **options: Any) -> SearchConfig:
        """Returns a copy with new values of some options, of any group.

        Raises:
            ArgumentError: If an option does not exist, or a value is not allowed.
        """
        groups: dict[str, Any] = {}
        for name, config in OPTION_GROUPS.items():
            fields = {field.name for field in dataclasses.fields(config)}
            changes = {key: options.pop(key) for key in list(options) if key in fields}
            groups[name] = dataclasses.replace(getattr(self, name), **changes)
        if options:
            raise ArgumentError("options", ", ".join(options), "options of a search")
        return SearchConfig(**groups)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Returns the options by group, without the directories of other runs."""
        return {
            "recipe": self.recipe.to_json(),
            "pruning": self.pruning.to_json(),
            "prac": self.prac.without_other_runs(),
        }

    @classmethod
    def from_json(cls, groups: Mapping[str, Mapping[str, Any]], **other_runs: Any) -> SearchConfig:
        """Builds the configuration from the dictionary of `to_json`.

        Options that an older version did not write have their defaults.

        Args:
            groups: options by group.
            **other_runs: directories of other runs, by option.

        Raises:
            KeyError: If a group is missing.
            TypeError: If an option does not exist.
            ArgumentError: If a value is not allowed.
        """
        return cls(
            recipe=TrainingRecipe(**{"tf32": False, **groups["recipe"]}),
            pruning=PruningConfig(**groups["pruning"]),
            prac=PracConfig(**groups["prac"], **other_runs),
        )


OPTION_GROUPS = {"recipe": TrainingRecipe, "pruning": PruningConfig, "prac": PracConfig}
"""The classes of the groups of a `SearchConfig`, by their names in config.json."""


@dataclasses.dataclass(frozen=True)
class PracVariant:
    """A named variant of the PrAC method: a `PracConfig` and the other options it sets.

    Attributes:
        prac: the `PracConfig`.
        pruning: fields of `PruningConfig` that the variant sets.
        recipe: fields of `TrainingRecipe` that the variant sets.
    """

    prac: PracConfig
    pruning: dict[str, Any] = dataclasses.field(default_factory=dict)
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)


FAST_METHOD: dict[str, Any] = {
    "retraining": "lr_rewinding",
    "ticket_start": "rewind_point",
    "early_stop_eps": None,
    "use_cet": False,
    "use_cep": False,
    "cep_reference": "own_round",
}
"""What the variant "fast" changes, apart from `FAST_ROUNDS`."""

FAST_ROUNDS: dict[str, Any] = {
    "round_schedule": "swa",
    "dense_budget": "30%",
    "round_budget": "4%",
}
"""How long, and at which learning rates, the rounds of the variant "fast" train."""

_FAST_PRUNING = ("retraining", "ticket_start")

PRAC_VARIANTS = {
    "paper": PracVariant(PracConfig()),
    "official": PracVariant(
        PracConfig(
            cep_network="trained",
            cep_weights="best",
            cep_from_round=1,
            budget="epochs_truncated",
            early_stop_eps=0.08,
        ),
        pruning={"layers": ("conv",), "lr_rewind": False},
        recipe={"split": "last"},
    ),
    "fast": PracVariant(
        PracConfig(
            **{n: v for n, v in (FAST_METHOD | FAST_ROUNDS).items() if n not in _FAST_PRUNING}
        ),
        pruning={name: FAST_METHOD[name] for name in _FAST_PRUNING},
    ),
    "none": PracVariant(PracConfig(use_cet=False, use_cep=False, early_stop_eps=None)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """How often checkpoints are written, from which a search resumes inside a round.

    The options do not change the result, and may differ each time a search is resumed.

    Example:

        >>> CheckpointConfig(checkpoint_seconds=10).checkpoint_steps
        0

    Args:
        checkpoint_seconds: write a checkpoint every N seconds, between two steps or at the end of
            an epoch, so that a crash loses at most this much work; 0: as often as possible.
            Default 60.
        checkpoint_steps: also write a checkpoint every N steps of a round; 0: no. Default 0.

    Raises:
        ArgumentError: If a value is outside its range.
    """

    checkpoint_seconds: float = 60.0
    checkpoint_steps: int = 0

    def __post_init__(self):
        python_numbers(self)
        check_number("checkpoint_seconds", self.checkpoint_seconds, minimum=0)
        check_int("checkpoint_steps", self.checkpoint_steps, 0)
