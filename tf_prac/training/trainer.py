"""`Trainer`: repeated training of one network with one compiled training function."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import AUTO, PruningConfig, TrainingRecipe
from tf_prac.data.batches import Batches
from tf_prac.data.checks import check_weights
from tf_prac.data.coverage import Coverage
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.order import steps_per_epoch
from tf_prac.data.pipeline import Preprocessing, evaluation_batches
from tf_prac.data.source import Samples
from tf_prac.data.splits import Split, names_split
from tf_prac.errors import (
    ArgumentError,
    DataError,
    MismatchError,
    NonFiniteLossError,
    TfPracError,
)
from tf_prac.keras_api import (
    NamedWeight,
    build_metrics,
    compiled_with,
    described,
    flavour_of,
    learning_rate_of,
    like_optimizer,
    make_optimizer,
    named_weights,
    numeric,
    output_activations,
    random_states,
    reset_random_layers,
    tf_variable,
    to_numpy,
)
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import OPTIMIZER, rewind, snapshot
from tf_prac.tasks.classification import OneHot, Sparse
from tf_prac.tasks.infer import as_task, infer
from tf_prac.tasks.task import Task
from tf_prac.training.callbacks.best_weights import BestWeights
from tf_prac.training.callbacks.mask_distance import MaskDistance
from tf_prac.training.checkpoint import Checkpoints, NoCheckpoints
from tf_prac.training.distribution import Distribution, ReplicaVariable
from tf_prac.training.inference import EVALUATION_BATCH, Predictor
from tf_prac.training.loop import StepLoop
from tf_prac.training.placement import DataPlacement
from tf_prac.training.prac_model import PracModel
from tf_prac.training.precision import exact_float32, explained_errors, resolved, tf32_execution
from tf_prac.training.schedules import Budget, make_schedule
from tf_prac.training.state import TrainingState, identity_of
from tf_prac.training.targets import Targets

Weights = Mapping[str, np.ndarray]
OPTIMIZER_OPTIONS = (
    "optimizer",
    "learning_rate",
    "momentum",
    "weight_decay",
    "epsilon",
    "schedule",
    "momentum_form",
) + ("milestones", "decay", "final_rate", "warmup")
"""The options of a recipe that a compiled model has itself."""


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """The result of one training run.

    Attributes:
        weights: every weight after the last step, by name.
        best: the weights, value and epoch of the best value of the metric on validation samples.
        history: the metrics of each epoch, in order: epoch, step, loss, accuracy, ...
        snapshots: copies of the weights after the requested steps, by step.
        forgetting: forgetting statistics of this training run.
        steps: the number of optimizer steps.
        samples_seen: the number of training samples (forward and backward passes).
        validation_samples: the number of validation samples (forward passes).
        stop: what ended training: "budget", "early_stop" or "limit" (the budget's `limit`).
        seconds: wall-clock time.
    """

    weights: dict[str, np.ndarray]
    best: BestWeights
    history: list[dict[str, float]]
    snapshots: dict[int, dict[str, np.ndarray]]
    forgetting: ForgettingStats
    steps: int
    samples_seen: int
    validation_samples: int
    stop: str
    seconds: float

    @property
    def best_weights(self) -> dict[str, np.ndarray]:
        """The weights of the best validation metric; the last ones without validation."""
        return self.best.weights or self.weights

    @property
    def mask_distances(self) -> list[float]:
        """The mask distances in the history, in order."""
        return self.values_of("mask_distance")

    def values_of(self, name: str) -> list[float]:
        """The values of a metric in the epochs of the history that have it, in order."""
        return [row[name] for row in self.history if name in row]


class Trainer:
    """Trains a network from given weights, with given masks, on given samples.

    Created in the scope of a strategy, as the network was, it trains on all replicas.

    The training function is compiled in the first call of `train`. Masks, samples, budget and
    learning rate of later calls are variables and data, so that it is not retraced.

    A compiled network keeps its loss, its metrics and its optimizer, of which a new one with the
    same options is made; `recipe` sets only the budget, batches and data.

    Args:
        network: a built model of either flavour.
        recipe: how it is trained; the device replaces "auto".
        samples: the training set; `train` takes ids of its samples.
        validation: samples to validate on after each epoch, or None.
        pruning: which weights are prunable. Default `PruningConfig()`.
        data_placement: where the samples are, see `DataPlacement`; does not change results.
            Default "auto".
        task: what labels and outputs mean, a `Task` or its name. Default None: inferred from the
            loss of a compiled network, or from integer labels.
        class_weight: a factor of the loss for each class, as in Keras's `fit`. Default None.
        on_fallback: called with a line of text if XLA cannot compile the model; training then
            starts again without XLA. Default None: refused, or if `jit_compile` of the recipe is
            "auto", a warning.

    Raises:
        ArgumentError: If the optimizer or augmentation is unknown, the batch size is not a
            multiple of the number of replicas, the outputs do not fit the labels, the task cannot
            be inferred, there is nothing to prune, or `data_placement` is "device" and the samples
            do not fit.
        DataError: If the labels are not those of the task.

    Attributes:
        model: the `PracModel` that is trained.
        distribution: the `Distribution` of the current strategy.
        placement: the `DataPlacement` of all samples.
        predictor: predicts samples with the network's current weights.
        task: the `Task`.
    """

    def __init__(
        self,
        network: Any,
        recipe: TrainingRecipe,
        samples: Samples,
        validation: Split | None = None,
        pruning: PruningConfig | None = None,
        data_placement: str = "auto",
        on_fallback: Callable[[str], Any] | None = None,
        task: Task | str | None = None,
        class_weight: Mapping[int, float] | None = None,
    ):
        Preprocessing.of(samples, recipe.augment)  # raises if the augmentation is unknown
        self.network = network
        self.distribution = Distribution()
        if on_fallback is None and recipe.jit_compile == AUTO:
            on_fallback = functools.partial(warnings.warn, stacklevel=3)
        self._on_fallback = on_fallback
        self.recipe = recipe = resolved(recipe, self.distribution)
        self.samples = samples
        self.validation = validation
        self.distribution.per_replica(recipe.batch_size)  # raises if not divisible
        self.placement = DataPlacement(self.distribution, data_placement)
        first = Targets(output=0)  # replaced once the task is known, if there are several outputs
        self.model = PracModel(network, num_samples=len(samples), pruning=pruning, targets=first)
        self.model.padded_batches = self.distribution.pads_batches
        self._schedule, self._optimizer = self._compile(task)
        self.check_split("validation", validation)
        self._class_weight = class_weight
        if class_weight is not None:
            self.samples = self._with_class_weight(class_weight)
        self.placement.place(self.samples)  # raises if they must fit and do not
        if validation is not None:
            self.placement.place(validation.samples)
        self._initial_optimizer = [to_numpy(v) for v in self._optimizer.variables]
        self._replica_weights = _replica_weights(network) if self.distribution.replicas > 1 else []
        self._rewind_optimizer = pruning is not None and pruning.rewind_optimizer
        self._optimizer_steps = 0
        self._make_loop(recipe.jit_compile is True)
        self.predictor = Predictor(network, self.distribution, self.task, self.placement)

    def _make_loop(self, jit_compile: bool) -> None:
        self._jit_compile = self.placement.jit_compile = jit_compile
        self._loop = StepLoop(self.model, self.distribution, jit_compile=jit_compile)
        self._validate = None if self.validation is None else self.evaluator(self.validation)

    def _compile(self, task: Task | str | None) -> tuple[Any, Any]:
        flavour, own = flavour_of(self.network), own_compile(self.network, self.recipe)
        rate = None if own is None else learning_rate_of(own["optimizer"])
        schedule = make_schedule(flavour, self.recipe, rate)
        if own is not None:
            optimizer = like_optimizer(own["optimizer"], schedule)
        else:
            optimizer = make_optimizer(
                flavour,
                self.recipe.optimizer,
                learning_rate=schedule,
                momentum=self.recipe.momentum,
                momentum_form=self.recipe.momentum_form,
                weight_decay=self.recipe.weight_decay,
                epsilon=self.recipe.epsilon,
            )
        optimizer.build(self.network.trainable_variables)
        ids = np.arange(min(len(self.samples), 16))
        inputs, labels, *_ = next(iter(evaluation_batches(self.samples, ids, batch_size=len(ids))))
        outputs = self._outputs(inputs)
        self.task = self._task(task, own, labels, outputs)
        with contextlib.suppress(ArgumentError):
            self.model.judges = False
            self.task.check_bound()
            self.model.judges = True
        if self.recipe.mixed_precision:
            _check_mixed_precision(self.network, outputs)
        smoothed = self.task.smoothed(self.recipe.label_smoothing)
        options = dict(own or {"loss": smoothed.make_loss(flavour.module)})
        metrics = "weighted_metrics" if self.distribution.pads_batches else "metrics"
        if own is None and _is_plain(self.task, self.samples):
            # Weighted, so that the padding of a batch does not count.
            options[metrics] = [self.task.metric]
        else:
            self.model.measure(self.task)
            if isinstance(options.get("metrics"), (list, tuple)):
                kept = [each for each in options["metrics"] if _name(each) != self.task.metric]
                options["metrics"] = kept or None
            if self.distribution.pads_batches and options.get("metrics"):
                options["weighted_metrics"] = options.pop("metrics")
        self.model.compile(**{**options, "optimizer": optimizer})
        build_metrics(self.model, inputs, outputs, labels)
        return schedule, optimizer

    def check_split(self, name: str, split: Split | None) -> None:
        """Checks that labels and inputs of validation or test samples fit task and model.

        Raises:
            DataError, ArgumentError: If they do not.
        """
        if split is None:
            return
        with names_split(name):
            self.task.check_labels(split.labels)
            if str(split.samples.input_shape) != str(self.samples.input_shape):
                inputs, *_ = next(
                    iter(evaluation_batches(split.samples, split.ids[:1], batch_size=1))
                )
                self._outputs(inputs)

    def _outputs(self, inputs: Any) -> Any:
        """Returns the outputs of the model for a batch; raises `DataError` if it cannot."""
        try:
            return self.model(inputs, training=False)
        except TfPracError:
            raise
        except Exception as error:
            received = tf.nest.map_structure(_shape_of, inputs["inputs"])
            expected = {each.name: _shape_of(each) for each in _inputs_of(self.network)}
            allowed = str(expected) if expected else "inputs that the model can be called with"
            if len(expected) == 1:
                (allowed,) = expected.values()
            raise DataError(f"inputs: {received} received; allowed: {allowed}.") from error

    def _task(self, task: Task | str | None, own: Any, labels: Any, outputs: Any) -> Task:
        """Returns the task, checked against labels and outputs."""
        names = list(getattr(self.network, "output_names", None) or ())
        if task is None:
            loss = None if own is None else own["loss"]
            task = infer(loss, labels, outputs, names)
        task = as_task(task)
        task.check_labels(self.samples.labels)
        task.check_outputs(labels, outputs)
        has_positions = isinstance(task, (Sparse, OneHot)) and outputs.shape.rank > 2
        if self.distribution.pads_batches and has_positions:
            allowed = "one device for labels of positions, whose loss has no weight per sample"
            raise ArgumentError("strategy", f"{self.distribution.replicas} replicas", allowed)
        classes = self.samples.num_classes
        if isinstance(task, Sparse) and classes and outputs.shape[-1] < classes:
            allowed = f"one for each of the {classes} classes of the data"
            remedy = "For several labels of a sample or numbers, name the task: task=..."
            if self.samples.labels.min() > 0:
                remedy = f"Class numbers start at 0, these at {self.samples.labels.min()}."
            raise ArgumentError("model", f"{outputs.shape[-1]} outputs", allowed, remedy)
        return task.resolved(self.samples.labels, outputs, output_activations(self.network))

    def train(
        self,
        weights: Weights,
        masks: Masks,
        ids: np.ndarray | Coverage,
        budget: Budget,
        order: tuple[int, ...],
        *,
        snapshot_at: Sequence[int] = (),
        mask_distance: MaskDistance | None = None,
        advance: Callable[[int], Any] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> TrainedNetwork:
        """Trains the network from `weights`, and returns the result.

        The optimizer starts from its initial state, or from the optimizer variables in `weights`
        if there are any.

        Args:
            weights: every weight to start from, a `snapshot`.
            masks: the masks to apply after each step.
            ids: the samples to train on, int64 indices into `samples`; or a `Coverage`, after
                `prepare_coverage`.
            budget: the number of steps, and the part of the learning-rate schedule.
            order: seed of the data order, augmentation and random layers; the same seed repeats
                the same training.
            snapshot_at: steps (0 <= step <= budget.steps) after which to copy the weights.
            mask_distance: callback that monitors the mask distance and may stop training.
            advance: called after every few steps with their number.
            checkpoints: where checkpoints are saved, and from where an interrupted training
                resumes. SIGINT and SIGTERM are then delayed until a checkpoint is saved.
                Default None: no checkpoints.

        Raises:
            ArgumentError: If an operation of the model is not deterministic although determinism
                is enabled, or cannot be compiled by XLA although `jit_compile` is True.
            NonFiniteLossError: If the loss or a weight becomes NaN or infinite; the message names
                the step and the last good checkpoint.
            FileError: If a checkpoint cannot be read or written.
        """
        options: dict[str, Any] = {
            "snapshot_at": snapshot_at,
            "mask_distance": mask_distance,
            "advance": advance,
            "checkpoints": checkpoints or NoCheckpoints(),
        }
        arguments = weights, masks, ids, budget, order
        try:
            return self._train(*arguments, **options)
        except ArgumentError as error:
            xla = self._jit_compile and error.argument in ("jit_compile", "deterministic")
            if not xla or self._on_fallback is None:
                raise
            self._on_fallback(f"Training starts again without XLA. {error}")
            self._make_loop(jit_compile=False)
            return self._train(*arguments, **options)

    def _train(
        self,
        weights: Weights,
        masks: Masks,
        ids: np.ndarray | Coverage,
        budget: Budget,
        order: tuple[int, ...],
        *,
        snapshot_at: Sequence[int],
        mask_distance: MaskDistance | None,
        advance: Callable[[int], Any] | None,
        checkpoints: Checkpoints,
    ) -> TrainedNetwork:
        state = TrainingState(mask_distance, self._best())
        self._reset(weights, masks, budget, order)
        for callback in state.callbacks:
            callback.set_model(self.model)
            callback.on_train_begin()
        options = [self.recipe, budget, order, list(snapshot_at), state.early_stopping]
        if (replicas := self.distribution.replicas) > 1:
            options += [f"values of {replicas} replicas"]
        options += ["tf32"] if self.recipe.tf32 else []
        options += ["pytorch"] if self.recipe.momentum_form == "pytorch" else []
        options += [self.recipe.label_smoothing] if self.recipe.label_smoothing else []
        options += budget.later_options
        samples: list[Any] = [ids]
        if isinstance(ids, Coverage):
            samples = [ids.always, ids.others, ids.probability, ids.uniform_from]
        identity = identity_of(*options, *samples, masks, weights)
        checkpoint = checkpoints.load_latest(identity)
        start = checkpoint.step if checkpoint else 0
        batches = self._batches(ids, budget, order, start)
        pauses = _pauses(budget, {*snapshot_at, *checkpoints.due_steps(budget.steps)})
        # Tracing is inside, too: XLA then compiles the step, and reads whether it may use TF32.
        with checkpoints, tf32_execution(self.recipe.tf32 is True), explained_errors():
            if checkpoint:
                self._loop.trace(batches)
                state.restore(checkpoint, self._variables(), weights, masks)
                if advance is not None:
                    advance(state.step)
            elif 0 in snapshot_at:
                state.snapshots[0] = self._snapshot()
            for pause, ends_epoch in pauses:
                while state.step < pause and not self.model.stop_training:
                    state.step += self._loop.train(
                        batches, pause - state.step, advance, checkpoints.is_due
                    )
                    self._check_finite(state.step, budget, checkpoints)
                    if state.step in snapshot_at:
                        state.snapshots[state.step] = self._snapshot()
                    if state.step == pause and ends_epoch:
                        self._end_epoch(state)
                        if isinstance(ids, Coverage) and pause < budget.steps:
                            batches = self._batches(ids, budget, order, state.step)
                    if any(self.distribution.any_worker(checkpoints.is_due(state.step))):
                        checkpoints.save(state.to_checkpoint(identity, self._variables()))
        return self._result(state, ids, budget)

    def _result(
        self, state: TrainingState, ids: np.ndarray | Coverage, budget: Budget
    ) -> TrainedNetwork:
        assert self.model.forgetting is not None
        num_validation = len(self.validation.ids) if self.validation else 0
        return TrainedNetwork(
            weights=snapshot(self.network),
            best=state.best,
            history=state.rows,
            snapshots=state.snapshots,
            forgetting=self.model.forgetting.stats,
            steps=state.step,
            samples_seen=_samples_seen(state.step, len(ids), budget, self.recipe.batch_size),
            validation_samples=len(state.rows) * num_validation,
            stop="early_stop" if state.step < budget.steps else budget.end,
            seconds=state.elapsed,
        )

    def _best(self) -> BestWeights:
        mode = "max" if self.task.higher_is_better else "min"
        return BestWeights(f"val_{self.task.metric}", mode)

    def _snapshot(self) -> dict[str, np.ndarray]:
        """Returns a copy of the weights, and of the optimizer's variables if these are rewound."""
        weights = {**snapshot(self.network), **self._replica_means()}
        if self._rewind_optimizer:
            variables = enumerate(self._optimizer.variables)
            weights |= {f"{OPTIMIZER}{index:04d}": to_numpy(v) for index, v in variables}
        return weights

    def _replica_means(self) -> dict[str, np.ndarray]:
        """Returns the means over replicas of the weights that each replica updates by itself."""
        named = {w.name: w.variable for w in self._replica_weights}
        means = self.distribution.means(list(named.values()))
        return dict(zip(named, means, strict=True))

    def _reset_optimizer(self, weights: Weights) -> None:
        """Sets the optimizer's variables to those in `weights`, or to their initial values."""
        saved = {name: value for name, value in weights.items() if name.startswith(OPTIMIZER)}
        values = [saved[name] for name in sorted(saved)] or self._initial_optimizer
        if [v.shape for v in values] != [v.shape for v in self._initial_optimizer]:
            raise MismatchError("weights: they contain the variables of another optimizer.")
        for variable, value in zip(self._optimizer.variables, values, strict=True):
            variable.assign(value)
        self._optimizer_steps = int(to_numpy(self._optimizer.iterations))

    def _end_epoch(self, state: TrainingState) -> None:
        for weight, mean in zip(self._replica_weights, self._replica_means().values(), strict=True):
            weight.variable.assign(mean)
        logs = {**self._loop.results(), **self._validation_logs()}
        for callback in state.callbacks:
            callback.on_epoch_end(len(state.rows), logs)
        state.end_epoch(logs, float(self._schedule(self._optimizer_steps + state.step - 1)))

    def _variables(self) -> list[Any]:
        """Returns every variable that training changes, once each, in a fixed order.

        Metrics create their variables when the training step is first traced. Variables that each
        replica updates by itself are returned as `ReplicaVariable`.
        """
        owners = [self.network, self._optimizer, *self.model.metrics]
        variables = [variable for owner in owners for variable in numeric(owner.variables)]
        variables += [*random_states(self.network), *self.model.records]
        by_id = {id(variable): variable for variable in variables}
        if self.distribution.replicas > 1:
            local = [weight.variable for weight in self._replica_weights]
            local += [v for metric in self.model.metrics for v in numeric(metric.variables)]
            by_id |= {id(each): ReplicaVariable(each, self.distribution) for each in local}
        return list(by_id.values())

    def _with_class_weight(self, class_weight: Mapping[int, float]) -> Samples:
        """Returns the samples with their weights multiplied by those of their classes."""
        classes = self.task.classes(self.samples.labels)
        if classes is None:
            allowed = f"None for the task {self.task.name}, whose samples have no single class"
            raise ArgumentError("class_weight", class_weight, allowed)
        missing = sorted({int(each) for each in np.unique(classes)} - set(class_weight))
        if missing:
            allowed = f"a number for each class; {missing[0]} is missing"
            raise ArgumentError("class_weight", class_weight, allowed)
        factors = np.array([class_weight[int(each)] for each in classes], np.float32)
        samples = copy.copy(self.samples)
        if samples.weights is not None:
            factors = factors.reshape(-1, *[1] * (samples.weights.ndim - 1)) * samples.weights
        samples.weights = check_weights(factors, len(samples))
        return samples

    def identity(self) -> dict[str, Any]:
        """Returns the task, and what a compiled model trains with, for config.json.

        Nothing for integer classes and a model that is not compiled.
        """
        identity: dict[str, Any] = {}
        if self._class_weight is not None:
            weights = {str(each): float(w) for each, w in sorted(self._class_weight.items())}
            identity["class_weight"] = weights
        if not _is_plain(self.task, self.samples):
            identity["task"] = self.task.to_json()
        if (own := own_compile(self.network, self.recipe)) is not None:
            identity["compiled"] = described(self.network, own)
        return identity

    def load(self, weights: Weights, masks: Masks | None = None) -> None:
        """Sets the network's weights; with masks, pruned weights become 0."""
        rewind(self.network, weights, masks)

    def evaluator(self, split: Split) -> Evaluator:
        """Returns an `Evaluator` of the network's current weights on some samples."""
        return Evaluator(self._loop, split, self.distribution, self.placement)

    def _validation_logs(self) -> dict[str, float]:
        logs = {} if self._validate is None else self._validate()
        return {f"val_{name}": value for name, value in logs.items()}

    def _reset(
        self, weights: Weights, masks: Masks, budget: Budget, order: tuple[int, ...]
    ) -> None:
        reset_random_layers(self.network, order)
        rewind(self.network, weights, masks)
        self.model.set_masks(masks)
        self.model.stop_training = False
        self.model.reset_metrics()
        self.model.reset_finite_steps()
        assert self.model.forgetting is not None
        self.model.forgetting.reset()
        self._reset_optimizer(weights)
        self._schedule.set_budget(budget, self._optimizer_steps)

    def prepare_coverage(self) -> None:
        """Gives samples loss weights, which `train` needs for a `Coverage`; call it once."""
        ones = tf.ones([len(self.samples)])
        self.model.loss_weights_by_id = tf.Variable(ones, trainable=False, name="loss_weights")

    def _set_loss_weights(self, ids: np.ndarray | Coverage, epoch: int) -> None:
        variable, count = self.model.loss_weights_by_id, len(self.samples)
        if isinstance(ids, Coverage):
            assert variable is not None, "prepare_coverage was not called"
            variable.assign(ids.weights(epoch, count))
        elif variable is not None:
            variable.assign(np.ones(count, np.float32))

    def _batches(
        self,
        ids: np.ndarray | Coverage,
        budget: Budget,
        order: tuple[int, ...],
        first_step: int,
    ) -> Batches:
        """Returns the batches from a step on; with a `Coverage`, at least to the end of its epoch.

        Sets the loss weights of the epoch.
        """
        epoch = first_step // budget.steps_per_epoch
        self._set_loss_weights(ids, epoch)
        if isinstance(ids, Coverage):
            ids = ids.epoch_ids(order, epoch)
        return self.placement.training(
            self.samples,
            ids,
            batch_size=self.recipe.batch_size,
            seed=order,
            first_step=first_step,
            steps=budget.steps - first_step,
            augment=self.recipe.augment,
        )

    def _check_finite(self, step: int, budget: Budget, checkpoints: Checkpoints) -> None:
        finite_steps, name = self.model.finite_steps, "loss"
        if finite_steps == step:
            weights = snapshot(self.network)
            bad = [name for name, value in weights.items() if not np.isfinite(value).all()]
            if not bad:
                return
            finite_steps, name = step - 1, bad[0]
        epoch = finite_steps // budget.steps_per_epoch + 1
        raise NonFiniteLossError(
            f"{name}: NaN or infinite at step {finite_steps + 1} of {budget.steps} "
            f"(epoch {epoch}). Progress is kept up to the last good checkpoint: "
            f"{checkpoints.last}. "
            "Lower the learning rate, or look for bad values in the data."
        )


def _pauses(budget: Budget, steps: Collection[int]) -> list[tuple[int, bool]]:
    """Returns the steps at which to pause training, and whether an epoch ends there.

    Args:
        budget: of the training.
        steps: where to pause in addition to the ends of epochs.
    """
    per_epoch, end = budget.steps_per_epoch, budget.steps
    epoch_ends = {*range(per_epoch, end, per_epoch), end}
    others = {step for step in steps if 0 < step < end}
    return [(step, step in epoch_ends) for step in sorted(epoch_ends | others)]


def untrained(weights: Weights, num_samples: int, step: int) -> TrainedNetwork:
    """Returns the result of training for no steps, with `weights` as the snapshot of `step`."""
    weights = dict(weights)
    stats = ForgettingStats(num_samples)
    return TrainedNetwork(weights, BestWeights(), [], {step: weights}, stats, 0, 0, 0, "limit", 0.0)


class Evaluator:
    """Evaluates a network on the same samples repeatedly, in endless passes.

    Computes without TensorFloat-32, also between the steps of a training that uses it.

    Args:
        loop: runs the evaluation steps of the model.
        split: the samples.
        distribution: the same as that of `loop`.
        placement: where the samples are.
    """

    def __init__(
        self, loop: StepLoop, split: Split, distribution: Distribution, placement: DataPlacement
    ):
        size = distribution.padded_batch_size(EVALUATION_BATCH)
        self._loop, self._steps = loop, steps_per_epoch(len(split.ids), size)
        self._batches = placement.evaluation(split, size)

    @exact_float32()
    def __call__(self) -> dict[str, float]:
        """Returns the loss and the metrics, with the network's current weights."""
        return self._loop.evaluate(self._batches, self._steps)


def _check_mixed_precision(network: Any, outputs: Any) -> None:
    """Raises `ArgumentError` unless layers compute in bfloat16 and outputs are float32."""
    layers = network._flatten_layers(include_self=False)
    dtypes = {layer.compute_dtype for layer in layers if layer.weights}
    if "bfloat16" not in dtypes or outputs.dtype != "float32":
        received = (
            f"layers that compute in {', '.join(sorted(dtypes))}, outputs in {outputs.dtype.name}"
        )
        remedy = "Import Keras before the search, and use dtype='float32' in the last layer."
        allowed = "layers in bfloat16 and outputs in float32, for mixed_precision"
        raise ArgumentError("model", received, allowed, remedy)


def own_compile(network: Any, recipe: TrainingRecipe) -> dict[str, Any] | None:
    """Returns the loss, metrics and optimizer of a compiled network; None if it is not compiled.

    Raises:
        ArgumentError: If the recipe sets an option of the optimizer too, or the network has its own
            training step or loss function, or runs eagerly.
    """
    compiled = compiled_with(network)
    if compiled is None:
        return None
    default = TrainingRecipe()
    both = [name for name in OPTIMIZER_OPTIONS if getattr(recipe, name) != getattr(default, name)]
    if both:
        raise ArgumentError(
            "recipe",
            f"{', '.join(both)} for a model that is compiled with an optimizer",
            "one of the two",
            "Return the model from model_fn without compile, or leave these options out.",
        )
    if recipe.label_smoothing:
        allowed = "0 for a compiled model, which keeps its loss"
        raise ArgumentError("label_smoothing", recipe.label_smoothing, allowed)
    if compiled.get("run_eagerly"):
        raise ArgumentError("model", "compile(run_eagerly=True)", "a model that can be compiled")
    names = ("loss", "loss_weights", "metrics", "weighted_metrics", "optimizer")
    return {name: compiled[name] for name in names if compiled.get(name) is not None}


def _name(metric: Any) -> str:
    return metric if isinstance(metric, str) else getattr(metric, "name", "")


def _inputs_of(network: Any) -> Sequence[Any]:
    """Returns the symbolic inputs of a network; none if it has no graph."""
    return getattr(network, "inputs", None) or ()


def _shape_of(values: Any) -> str:
    """Returns dtype and shape of a batch or an input, such as "float32 (N, 64)"."""
    sizes = ", ".join(map(str, ["N", *values.shape[1:]]))
    return f"{getattr(values.dtype, 'name', values.dtype)} ({sizes})"


def _is_plain(task: Task, samples: Samples) -> bool:
    """Whether the metric is Keras's accuracy of class numbers, as for image classification."""
    is_sparse = isinstance(task, Sparse) and task.ignore_class is None
    return is_sparse and np.ndim(samples.labels) == 1 and samples.weights is None


def _replica_weights(network: Any) -> list[NamedWeight]:
    """Returns the weights that each replica updates by itself: BatchNorm's moving averages."""
    candidates = {id(weight) for weight in numeric(network.non_trainable_weights)}
    weights = [each for each in named_weights(network) if id(each.variable) in candidates]
    return [each for each in weights if tf_variable(each.variable).dtype.is_floating]


def _samples_seen(steps: int, count: int, budget: Budget, batch_size: int) -> int:
    epochs, remainder = divmod(steps, budget.steps_per_epoch)
    return epochs * count + min(remainder * batch_size, count)
