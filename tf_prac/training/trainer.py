"""`Trainer`: repeated training of one network with one compiled training function."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import AUTO, PruningConfig, TrainingRecipe
from tf_prac.data.batches import Batches
from tf_prac.data.coverage import Coverage
from tf_prac.data.pipeline import Preprocessing
from tf_prac.data.source import Samples
from tf_prac.data.splits import Split, names_split
from tf_prac.errors import ArgumentError, NonFiniteLossError
from tf_prac.keras_api import compile_config, reset_random_layers
from tf_prac.pruning.masks import Masks, Weights
from tf_prac.pruning.weights import rewind, snapshot
from tf_prac.tasks.task import Task
from tf_prac.training.callbacks.best_weights import BestWeights
from tf_prac.training.callbacks.mask_distance import MaskDistance
from tf_prac.training.checkpoint import Checkpoints, NoCheckpoints
from tf_prac.training.compilation import compile_model, own_compile
from tf_prac.training.distribution import Distribution
from tf_prac.training.evaluator import Evaluator
from tf_prac.training.inference import Predictor, is_class_accuracy
from tf_prac.training.inputs import check_takes, with_class_weight
from tf_prac.training.loop import StepLoop
from tf_prac.training.placement import DataPlacement
from tf_prac.training.prac_model import PracModel
from tf_prac.training.precision import explained_errors, resolved, tf32_execution
from tf_prac.training.schedules import Budget
from tf_prac.training.state import TrainingState
from tf_prac.training.targets import Targets
from tf_prac.training.trained_network import TrainedNetwork
from tf_prac.training.training_run import TrainingRun
from tf_prac.training.variables import TrainingVariables


class Trainer:
    """Trains a network from given weights, with given masks, on given samples.

    Created in the scope of a strategy, as the network was, it trains on all replicas.

    The training function is compiled in the first call of `train`. Masks, samples, budget and
    learning rate of later calls are variables and data, so that it is not retraced.

    A compiled network keeps its loss, its metrics and its optimizer, of which a new one with the
    same options is made; `recipe` sets only the budget, batches and data.

    Args:
        network: a built model of either flavor.
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
        self.task, self._optimizer = compile_model(
            self.model, samples, recipe, self.distribution, task
        )
        self.check_split("validation", validation)
        self._class_weight = class_weight
        if class_weight is not None:
            self.samples = with_class_weight(samples, self.task, class_weight)
        self.placement.place(self.samples)  # raises if they must fit and do not
        if validation is not None:
            self.placement.place(validation.samples)
        self._rewinds_optimizer = pruning is not None and pruning.rewind_optimizer
        self._variables = TrainingVariables(self.model, self._optimizer.keras, self.distribution)
        self._make_loop(recipe.jit_compile is True)
        self.predictor = Predictor(network, self.distribution, self.task, self.placement)

    def _make_loop(self, jit_compile: bool) -> None:
        self._jit_compile = self.placement.jit_compile = jit_compile
        self._loop = StepLoop(self.model, self.distribution, jit_compile=jit_compile)
        self._validate = None if self.validation is None else self.evaluator(self.validation)

    def check_split(self, name: str, split: Split | None) -> None:
        """Checks that labels and inputs of validation or test samples fit task and model.

        Raises:
            DataError, ArgumentError: If they do not.
        """
        if split is None:
            return
        with names_split(name):
            self.task.check_labels(split.labels)
            check_takes(self.model, self.task, split)

    def prepare_coverage(self) -> None:
        """Gives samples loss weights, which `train` needs for a `Coverage`; call it once."""
        ones = tf.ones([len(self.samples)])
        self.model.loss_weights_by_id = tf.Variable(ones, trainable=False, name="loss_weights")

    def identity(self) -> dict[str, Any]:
        """Returns the task, and what a compiled model trains with, for config.json.

        Nothing for integer classes and a model that is not compiled.
        """
        identity: dict[str, Any] = {}
        if self._class_weight is not None:
            weights = {str(each): float(w) for each, w in sorted(self._class_weight.items())}
            identity["class_weight"] = weights
        if not is_class_accuracy(self.task, self.samples):
            identity["task"] = self.task.to_json()
        if (own := own_compile(self.network, self.recipe)) is not None:
            identity["compiled"] = compile_config(self.network, own)
        return identity

    def load(self, weights: Weights, masks: Masks | None = None) -> None:
        """Sets the network's weights; with masks, pruned weights become 0."""
        rewind(self.network, weights, masks)

    def evaluator(self, split: Split) -> Evaluator:
        """Returns an `Evaluator` of the network's current weights on some samples."""
        return Evaluator(self._loop, split, self.distribution, self.placement)

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
        checkpoints = checkpoints or NoCheckpoints()
        run = TrainingRun(
            weights, masks, ids, budget, order, snapshot_at, mask_distance, advance, checkpoints
        )
        try:
            return self._train(run)
        except ArgumentError as error:
            xla = self._jit_compile and error.argument in ("jit_compile", "deterministic")
            if not xla or self._on_fallback is None:
                raise
            self._on_fallback(f"Training starts again without XLA. {error}")
            self._make_loop(jit_compile=False)
            return self._train(run)

    def _train(self, run: TrainingRun) -> TrainedNetwork:
        best = BestWeights(
            f"val_{self.task.metric}", "max" if self.task.higher_is_better else "min"
        )
        state = TrainingState(run.mask_distance, best)
        self._reset(run)
        for callback in state.callbacks:
            callback.set_model(self.model)
            callback.on_train_begin()
        identity = run.identity(self.recipe, self.distribution.replicas, state.early_stopping)
        checkpoint = run.checkpoints.load_latest(identity)
        batches = self._batches(run, checkpoint.step if checkpoint else 0)
        pauses = run.pauses()
        # Tracing is inside, too: XLA then compiles the step, and reads whether it may use TF32.
        with run.checkpoints, tf32_execution(self.recipe.tf32 is True), explained_errors():
            if checkpoint:
                self._loop.trace(batches)
                state.restore(checkpoint, self._variables.all(), run.weights, run.masks)
                if run.advance is not None:
                    run.advance(state.step)
            elif 0 in run.snapshot_at:
                state.snapshots[0] = self._snapshot()
            for pause, ends_epoch in pauses:
                while state.step < pause and not self.model.stop_training:
                    state.step += self._loop.train(
                        batches, pause - state.step, run.advance, run.checkpoints.is_due
                    )
                    self._check_finite(state.step, run)
                    if state.step in run.snapshot_at:
                        state.snapshots[state.step] = self._snapshot()
                    if state.step in run.budget.averaged_at:
                        state.average.add(self.model.prunable)
                    if state.step == pause and ends_epoch:
                        self._end_epoch(state)
                        if run.coverage is not None and pause < run.budget.steps:
                            batches = self._batches(run, state.step)
                    if any(self.distribution.any_worker(run.checkpoints.is_due(state.step))):
                        saved = state.to_checkpoint(identity, self._variables.all())
                        run.checkpoints.save(saved)
        return self._result(state, run)

    def _reset(self, run: TrainingRun) -> None:
        reset_random_layers(self.network, run.order)
        self.load(run.weights, run.masks)
        self.model.set_masks(run.masks)
        self.model.stop_training = False
        self.model.reset_metrics()
        self.model.reset_finite_steps()
        assert self.model.forgetting is not None
        self.model.forgetting.reset()
        self._optimizer.reset(run.weights, run.budget)

    def _batches(self, run: TrainingRun, first_step: int) -> Batches:
        """Returns the batches from a step on; with a `Coverage`, at least to the end of its epoch.

        Sets the loss weights of the epoch.
        """
        epoch = first_step // run.budget.steps_per_epoch
        self._set_loss_weights(run.coverage, epoch)
        return self.placement.training(
            self.samples,
            run.ids_of(epoch),
            batch_size=self.recipe.batch_size,
            seed=run.order,
            first_step=first_step,
            steps=run.budget.steps - first_step,
            augment=self.recipe.augment,
        )

    def _set_loss_weights(self, coverage: Coverage | None, epoch: int) -> None:
        variable, count = self.model.loss_weights_by_id, len(self.samples)
        if coverage is not None:
            assert variable is not None, "prepare_coverage was not called"
            variable.assign(coverage.weights(epoch, count))
        elif variable is not None:
            variable.assign(np.ones(count, np.float32))

    def _snapshot(self) -> dict[str, np.ndarray]:
        """Returns a copy of the weights, and of the optimizer's variables if these are rewound."""
        weights = self._variables.weights()
        return weights | self._optimizer.snapshot() if self._rewinds_optimizer else weights

    def _end_epoch(self, state: TrainingState) -> None:
        self._variables.average_replicas()
        logs = self._loop.results()  # before validation, which resets the metrics
        if self._validate is not None:
            logs |= {f"val_{name}": value for name, value in self._validate().items()}
        for callback in state.callbacks:
            callback.on_epoch_end(len(state.rows), logs)
        state.end_epoch(logs, self._optimizer.learning_rate(state.step - 1))

    def _check_finite(self, step: int, run: TrainingRun) -> None:
        finite_steps, name = self.model.finite_steps, "loss"
        if finite_steps == step:
            weights = snapshot(self.network)
            bad = [name for name, value in weights.items() if not np.isfinite(value).all()]
            if not bad:
                return
            finite_steps, name = step - 1, bad[0]
        epoch = finite_steps // run.budget.steps_per_epoch + 1
        raise NonFiniteLossError(
            f"{name}: NaN or infinite at step {finite_steps + 1} of {run.budget.steps} "
            f"(epoch {epoch}). Progress is kept up to the last good checkpoint: "
            f"{run.checkpoints.last}. "
            "Lower the learning rate, or look for bad values in the data."
        )

    def _result(self, state: TrainingState, run: TrainingRun) -> TrainedNetwork:
        assert self.model.forgetting is not None
        num_validation = len(self.validation.ids) if self.validation else 0
        return TrainedNetwork(
            weights=snapshot(self.network),
            best=state.best,
            history=state.rows,
            snapshots=state.snapshots,
            forgetting=self.model.forgetting.stats,
            steps=state.step,
            samples_seen=run.samples_seen(state.step, self.recipe.batch_size),
            validation_samples=len(state.rows) * num_validation,
            stop="early_stop" if state.step < run.budget.steps else run.budget.end,
            seconds=state.elapsed,
            averaged=state.average.weights,
        )
