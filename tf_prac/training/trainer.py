"""`Trainer`: trains one network again and again, with one compiled training function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tf_prac.config import PruningConfig, TrainingRecipe
from tf_prac.data.augment import augmentation
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from tf_prac.data.samples import Samples
from tf_prac.data.search_data import Subset
from tf_prac.errors import ArgumentError, MismatchError, NonFiniteLossError
from tf_prac.keras_api import (
    build_metrics,
    flavour_of,
    make_optimizer,
    random_states,
    reset_random_layers,
    to_numpy,
)
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import OPTIMIZER, rewind, snapshot
from tf_prac.training.callbacks.best_weights import BestWeights
from tf_prac.training.callbacks.mask_distance import MaskDistance
from tf_prac.training.checkpoint import Checkpoints, NoCheckpoints
from tf_prac.training.distribution import Distribution
from tf_prac.training.inference import EVALUATION_BATCH, Predictor
from tf_prac.training.loop import StepLoop
from tf_prac.training.prac_model import PracModel
from tf_prac.training.schedules import Budget, make_schedule
from tf_prac.training.state import TrainingState, identity_of

Weights = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """What one training gave.

    Attributes:
        weights: every weight after the last step, by name.
        best: the weights, value and epoch of the best validation accuracy.
        history: one row for each epoch, in order: epoch, step, loss, accuracy, ...
        snapshots: weights after the steps that were asked for, by step.
        forgetting: statistics of this training alone.
        steps: SGD steps taken.
        samples_seen: samples that went forward and backward.
        validation_samples: samples that went forward only.
        stop: "budget", "early_stop" or "limit" (the budget's `limit`).
        seconds: wall time.
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
        """The weights of the best validation accuracy; the last ones without validation."""
        return self.best.weights or self.weights

    @property
    def mask_distances(self) -> list[float]:
        """The mask distance of each epoch that has one."""
        return [row["mask_distance"] for row in self.history if "mask_distance" in row]


class Trainer:
    """Trains a network from given weights, under given masks, on given samples.

    Made in the scope of a strategy, as the network was, it trains on all its replicas.

    The training function is compiled at the first `train`; masks, samples, budget and learning
    rate of later ones are variables and data, so nothing is compiled anew.

    Args:
        network: a built model of either flavour that classifies.
        recipe: how it is trained.
        samples: the training set; `train` takes ids of it.
        validation: samples to validate on after each epoch, or None.
        pruning: which weights are prunable.

    Raises:
        ArgumentError: an optimizer or augmentation that is not known, nothing to prune.

    Attributes:
        model: the `PracModel` that is trained.
        distribution: of the strategy in whose scope this was made.
        predictor: classifies with the network's present weights.
        from_logits: whether the network gives logits; probabilities otherwise.
    """

    def __init__(
        self,
        network: Any,
        recipe: TrainingRecipe,
        samples: Samples,
        validation: Subset | None = None,
        pruning: PruningConfig | None = None,
    ):
        augmentation(recipe.augment, samples.input_shape)  # refuses what it does not know
        self.network = network
        self.recipe = recipe
        self.samples = samples
        self.validation = validation
        self.distribution = Distribution()
        self.distribution.per_replica(recipe.batch_size)  # refuses what does not divide
        self.model = PracModel(network, num_samples=len(samples), pruning=pruning)
        self._schedule, self._optimizer = self._compile()
        self._fresh_optimizer = [to_numpy(v) for v in self._optimizer.variables]
        self._keeps_optimizer = pruning is not None and pruning.rewind_optimizer
        self._taken = 0
        self._loop = StepLoop(self.model, self.distribution, jit_compile=recipe.jit_compile)
        self._validate = None if validation is None else self.evaluation(validation)
        self.predictor = Predictor(network, self.distribution)

    def _compile(self) -> tuple[Any, Any]:
        flavour = flavour_of(self.network)
        schedule = make_schedule(flavour, self.recipe)
        optimizer = make_optimizer(
            flavour,
            self.recipe.optimizer,
            learning_rate=schedule,
            momentum=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay,
            epsilon=self.recipe.epsilon,
        )
        optimizer.build(self.network.trainable_variables)
        first = np.arange(min(len(self.samples), 16))
        inputs = next(iter(evaluation_batches(self.samples, first, batch_size=len(first))))[0]
        outputs = self.model(inputs, training=False)
        if outputs.shape[-1] < self.samples.num_classes:
            raise ArgumentError(
                "model",
                f"{outputs.shape[-1]} outputs",
                f"one for each of the {self.samples.num_classes} classes of the data",
                "In place of one sigmoid for yes or no, end in Dense(2)."
                if outputs.shape[-1] == 1
                else "",
            )
        if self.recipe.mixed_precision:
            _check_mixed(self.network, outputs)
        losses = flavour.module.losses
        self.from_logits = not is_probability(outputs)
        self.model.compile(
            optimizer=optimizer,
            loss=losses.SparseCategoricalCrossentropy(from_logits=self.from_logits),
            # Weighted where some places of a batch have no sample.
            **{"weighted_metrics" if self.distribution.static else "metrics": ["accuracy"]},
        )
        build_metrics(self.model, inputs, outputs)
        return schedule, optimizer

    def train(
        self,
        weights: Weights,
        masks: Masks,
        ids: np.ndarray,
        budget: Budget,
        order: tuple[int, ...],
        *,
        snapshot_at: Sequence[int] = (),
        mask_distance: MaskDistance | None = None,
        advance: Callable[[int], Any] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> TrainedNetwork:
        """Trains from `weights`, with a fresh optimizer unless they hold the variables of one.

        Args:
            weights: every weight to start from, a `snapshot`.
            masks: masks to hold at each step.
            ids: the samples to train on, int64, positions in `samples`.
            budget: how many steps, and which part of the schedule.
            order: seed of the data order, augmentation and random layers; same order, same
                training.
            snapshot_at: steps (0 <= step <= budget.steps) after which weights are copied.
            mask_distance: watches each epoch, and may stop training.
            advance: called with a number of steps whenever as many have been taken.
            checkpoints: where the state is kept, and where a training that was stopped goes on;
                SIGINT and SIGTERM then wait until the state is written. Default None.

        Raises:
            NonFiniteLossError: the loss or a weight became NaN or infinite; names the step, and
                the last good checkpoint.
            FileError: a checkpoint cannot be read or written.
        """
        checkpoints = checkpoints or NoCheckpoints()
        state = TrainingState(mask_distance)
        self._reset(weights, masks, budget, order)
        for hook in state.hooks:
            hook.set_model(self.model)
            hook.on_train_begin()
        settings = [self.recipe, budget, order, list(snapshot_at), state.settings]
        settings += [self.distribution.replicas] if self.distribution.replicas > 1 else []
        identity = identity_of(*settings, ids, masks, weights)
        found = checkpoints.newest(identity)
        batches = iter(self._batches(ids, budget, order, found.step if found else 0))
        if found:
            self._loop.trace(batches)
            state.restore(found, self._variables())
            (advance or int)(state.step)
        elif 0 in snapshot_at:
            state.snapshots[0] = self._snapshot()
        with checkpoints:
            for stop, ends_epoch in _stops(budget, {*snapshot_at, *checkpoints.cuts(budget.steps)}):
                while state.step < stop and not self.model.stop_training:
                    state.step += self._loop.train(
                        batches, stop - state.step, advance, checkpoints.wanted
                    )
                    self._check_finite(state.step, budget, checkpoints)
                    if state.step in snapshot_at:
                        state.snapshots[state.step] = self._snapshot()
                    if state.step == stop and ends_epoch:
                        self._end_epoch(state)
                    if any(self.distribution.any(checkpoints.wanted(state.step))):
                        checkpoints.save(state.saved(identity, self._variables()))
        assert self.model.forgetting is not None
        return TrainedNetwork(
            weights=snapshot(self.network),
            best=state.best,
            history=state.rows,
            snapshots=state.snapshots,
            forgetting=self.model.forgetting.stats,
            steps=state.step,
            samples_seen=_samples_seen(state.step, len(ids), budget, self.recipe.batch_size),
            validation_samples=len(state.rows)
            * (len(self.validation.ids) if self.validation else 0),
            stop="early_stop" if state.step < budget.steps else budget.end,
            seconds=state.elapsed,
        )

    def _snapshot(self) -> dict[str, np.ndarray]:
        """Replicates the weights, and the optimizer's variables if they are rewound too."""
        found = snapshot(self.network)
        if self._keeps_optimizer:
            values = enumerate(self._optimizer.variables)
            found |= {f"{OPTIMIZER}{number:04d}": to_numpy(v) for number, v in values}
        return found

    def _reset_optimizer(self, weights: Weights) -> None:
        """Sets the optimizer's variables to those among `weights`, or to what they were first."""
        kept = {name: value for name, value in weights.items() if name.startswith(OPTIMIZER)}
        values = [kept[name] for name in sorted(kept)] or self._fresh_optimizer
        if [v.shape for v in values] != [v.shape for v in self._fresh_optimizer]:
            raise MismatchError("weights: they hold the variables of another optimizer.")
        for variable, value in zip(self._optimizer.variables, values, strict=True):
            variable.assign(value)
        self._taken = int(to_numpy(self._optimizer.iterations))

    def _end_epoch(self, state: TrainingState) -> None:
        logs = {**self._loop.results(), **self._validation_logs()}
        for hook in state.hooks:
            hook.on_epoch_end(len(state.rows), logs)
        state.end_epoch(logs, float(self._schedule(self._taken + state.step - 1)))

    def _variables(self) -> list[Any]:
        """Every variable that training changes, each once, in a fixed order.

        Metrics have theirs after the first trace.
        """
        parts = [self.network, self._optimizer, *self.model.metrics]
        found = [variable for part in parts for variable in part.variables]
        found += [*random_states(self.network), *self.model.records]
        return list({id(variable): variable for variable in found}.values())

    def load(self, weights: Weights, masks: Masks | None = None) -> None:
        """Sets the network's weights, masked if masks are given."""
        rewind(self.network, weights, masks)

    def evaluation(self, subset: Subset) -> Evaluation:
        """Returns what evaluates the network's present weights on some samples."""
        return Evaluation(self._loop, subset, self.distribution)

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
        self._schedule.set_budget(budget, self._taken)

    def _batches(self, ids: np.ndarray, budget: Budget, order: tuple[int, ...], start: int) -> Any:
        size, endless = self.recipe.batch_size, self.distribution.static
        return self.distribution.batches(
            lambda shard: training_batches(
                self.samples,
                ids,
                batch_size=size,
                seed=order,
                start_step=start,
                steps=None if endless else budget.steps - start,
                augment=self.recipe.augment,
                shard=shard,
            ),
            size,
            endless=False,
        )

    def _check_finite(self, done: int, budget: Budget, checkpoints: Checkpoints) -> None:
        finite, wrong = self.model.finite_steps, "loss"
        if finite == done:
            weights = snapshot(self.network)
            bad = [name for name, value in weights.items() if not np.isfinite(value).all()]
            if not bad:
                return
            finite, wrong = done - 1, bad[0]
        epoch = finite // budget.steps_per_epoch + 1
        raise NonFiniteLossError(
            f"{wrong}: NaN or infinite at step {finite + 1} of {budget.steps} (epoch {epoch}). "
            f"Nothing after the last good checkpoint is kept: {checkpoints.last}. "
            "Lower the learning rate, or look for bad values in the data."
        )


def _stops(budget: Budget, cuts: Collection[int]) -> list[tuple[int, bool]]:
    """Lists the steps after which something is done, and whether an epoch ends there."""
    length, end = budget.steps_per_epoch, budget.steps
    epochs = {*range(length, end, length), end}
    inner = {cut for cut in cuts if 0 < cut < end}
    return [(stop, stop in epochs) for stop in sorted(epochs | inner)]


def untrained(weights: Weights, num_samples: int, step: int) -> TrainedNetwork:
    """Returns what a training of no steps gives, when `weights` are those of step `step`."""
    found = dict(weights)
    stats = ForgettingStats(num_samples)
    return TrainedNetwork(found, BestWeights(), [], {step: found}, stats, 0, 0, 0, "limit", 0.0)


class Evaluation:
    """Evaluates the same samples again and again, from one endless iterator.

    Args:
        loop: of the model.
        subset: the samples.
        distribution: that of the loop.
    """

    def __init__(self, loop: StepLoop, subset: Subset, distribution: Distribution):
        size = distribution.whole_batch(EVALUATION_BATCH)
        self._loop, self._steps = loop, steps_per_epoch(len(subset.ids), size)
        self._batches = iter(
            distribution.batches(
                lambda shard: evaluation_batches(*subset, batch_size=size, shard=shard), size
            )
        )

    def __call__(self) -> dict[str, float]:
        """Returns "loss" and "accuracy" with the network's present weights."""
        return self._loop.evaluate(self._batches, self._steps)


def _check_mixed(network: Any, outputs: Any) -> None:
    """Raises `ArgumentError` unless layers compute in bfloat16 and outputs are float32."""
    inner = network._flatten_layers(include_self=False)
    layers = {layer.compute_dtype for layer in inner if layer.weights}
    if "bfloat16" not in layers or outputs.dtype != "float32":
        kinds = (
            f"layers that compute in {', '.join(sorted(layers))}, outputs in {outputs.dtype.name}"
        )
        remedy = "Import Keras before the search, and give the last layer dtype='float32'."
        allowed = "layers in bfloat16 and outputs in float32, for mixed_precision"
        raise ArgumentError("model", kinds, allowed, remedy)


def is_probability(outputs: Any) -> bool:
    """Whether each row of real outputs is a probability distribution, not logits."""
    rows = np.asarray(outputs, np.float64)
    return bool(np.all(rows >= 0) and np.allclose(rows.sum(-1), 1, atol=1e-3))


def _samples_seen(steps: int, count: int, budget: Budget, batch_size: int) -> int:
    epochs, rest = divmod(steps, budget.steps_per_epoch)
    return epochs * count + min(rest * batch_size, count)
