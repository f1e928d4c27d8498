"""`PracModel`: a Keras model that holds masks and records forgetting while it trains."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_prac.config import PruningConfig
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import flavour_of
from tf_prac.pruning.masks import Masks
from tf_prac.training.distribution import check_fit
from tf_prac.training.fused_batch_norm import FusedBatchNorm
from tf_prac.training.masked_weights import held_masks
from tf_prac.training.recorder import TOO_FEW, ForgettingRecorder
from tf_prac.training.targets import Targets


class PracModel:
    """Wraps a built Keras model of either flavour, for `compile` and `fit` as usual.

    Two things are added to each training step, inside the compiled graph: after the update,
    pruned weights are set back to exactly 0, whatever the optimizer did; and correctness of the
    training forward pass (on the augmented batch, before the update) is recorded by sample id.
    Nothing happens in evaluation or prediction. The wrapped model shares its weights; save and
    export that one.

    Example:

        >>> model = PracModel(network, num_samples=60000)  # doctest: +SKIP
        >>> model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> model.fit(with_sample_ids(dataset).batch(128), epochs=5)
        >>> model.forgetting.stats.events

    Args:
        network: a built model.
        masks: masks to hold; change them later with `set_masks`. Default: those that a model of
            `prune`, or one with pruning wrappers of TFMOT, brings; otherwise dense ones.
        num_samples: size of the training set, to record forgetting. Default None: not recorded.
            When given, `fit` takes data of `({"inputs": x, "sample_id": id}, y[, weight])`.
        pruning: which weights are prunable. Default `PruningConfig()`.
        targets: which output counts and when it is right, for forgetting. Default `Targets()`:
            the only output, as the loss says.

    Raises:
        ArgumentError: the model has nothing to prune, or is not a Keras model; forgetting is to
            be recorded of a model with several outputs, and `targets` does not choose one.
        MismatchError: masks of another architecture.

    Attributes:
        network: the wrapped model.
        prunable: the prunable variables, by name.
        held_masks: the masks as variables.
        forgetting: the `ForgettingRecorder`, or None.
        targets: how predictions are judged.
        traces: how often Python built the training step; each is a compilation.
    """

    # Keras provides these in the class made by __new__.
    __call__: Any
    compile: Any
    evaluate: Any
    optimizer: Any
    metrics: list[Any]
    reset_metrics: Any
    stop_training: bool

    def __new__(cls, network: Any, *args: Any, **kwargs: Any):
        """Chooses the subclass whose Keras is that of `network`."""
        if cls is not PracModel:
            return super().__new__(cls)
        flavour = flavour_of(network)
        return super().__new__(flavour.subclass(PracModel, flavour.module.Model))

    def __init__(
        self,
        network: Any,
        *,
        masks: Masks | None = None,
        num_samples: int | None = None,
        pruning: PruningConfig | None = None,
        targets: Targets | None = None,
    ):
        super().__init__()
        self.network = network
        if (names := getattr(network, "output_names", None)) is not None:
            self.output_names = names  # so that losses and targets may be named by output
        self.traces = 0
        self.held_masks = held_masks(network, pruning)
        self.forgetting = None if num_samples is None else ForgettingRecorder(num_samples)
        self.targets = targets or Targets()
        if self.forgetting is not None:
            self.targets.check_output(names or ())
        self._steps = _FiniteSteps()
        self._step = _Step()
        self._fused = FusedBatchNorm(network)
        self._silent = False
        if masks is not None:
            self.set_masks(masks)

    @property
    def prunable(self) -> dict[str, Any]:
        """The prunable variables, by name."""
        return self.held_masks.variables

    @property
    def masks(self) -> Masks:
        """The masks in force."""
        return self.held_masks.get()

    def set_masks(self, masks: Masks) -> None:
        """Puts other masks in force, and zeros what they prune; nothing is compiled anew.

        Raises:
            MismatchError: the masks are of another architecture.
        """
        self.held_masks.set(masks)

    @property
    def finite_steps(self) -> int:
        """Training steps since `reset_finite_steps` before the loss was NaN or infinite."""
        return int(self._steps.variable.numpy()[1])

    def reset_finite_steps(self) -> None:
        """Starts counting `finite_steps` from 0."""
        self._steps.variable.assign([0, 0])

    @property
    def records(self) -> list[tf.Variable]:
        """What the training step counts: `finite_steps`, and forgetting if it is recorded."""
        counted = [self._steps.variable]
        return counted if self.forgetting is None else [*counted, self.forgetting.table]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the network on `inputs`, or on the "inputs" of data that carries sample ids."""
        if isinstance(inputs, dict) and "sample_id" in inputs:
            inputs = inputs["inputs"]
        return self.network(inputs, training=training)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Keras's own `fit`, after checking that the data carries sample ids if they are needed.

        Raises:
            ArgumentError: forgetting is recorded and the data has no ids, or ids that are not
                below `num_samples`, which the first of them tells; or the model is of Keras 3 and
                the strategy `MultiWorkerMirroredStrategy`.
        """
        check_fit(self)
        if self.forgetting is None:
            return super().fit(x, *args, **kwargs)  # type: ignore[misc]
        _check_ids(x)
        try:
            return super().fit(x, *args, **kwargs)  # type: ignore[misc]
        except tf.errors.InvalidArgumentError as error:
            if TOO_FEW in str(error):
                raise self.forgetting.too_few() from error
            raise

    def train_step(self, data: Any) -> dict[str, Any]:
        """Keras's own training step, then masks held."""
        self.traces += 1
        step = self._step
        step.traced = True
        try:
            with self._fused():
                logs = super().train_step(data)  # type: ignore[misc]
        finally:
            step.traced = False
        self.held_masks.hold(self.optimizer)
        finite = tf.math.is_finite(step.loss)
        if self.forgetting is not None:
            finite = self.forgetting.record(step.ids, step.correct, finite, step.filled_up)
        self._steps.count(finite)
        return logs

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Keras's own metrics, of samples that count; in training, correctness is noted."""
        filled_up = _is_filled_up(x)
        if self._step.traced and self.forgetting is not None:
            self._step.ids = x["sample_id"]
            self._step.correct = self.targets.read(self, y, y_pred).correct()
            self._step.filled_up = filled_up
        if filled_up:
            sample_weight = tf.cast(x["weight"] > 0, tf.float32)
        return super().compute_metrics(x, y, y_pred, sample_weight)  # type: ignore[misc]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **kw: Any
    ) -> Any:
        """Keras's own loss, with the weights that the inputs bring if a batch is filled up."""
        if _is_filled_up(x):
            sample_weight = x["weight"]
        loss = super().compute_loss(x, y, y_pred, sample_weight, **kw)  # type: ignore[misc]
        if self._step.traced:
            self._step.loss = loss
        return loss

    def get_metrics_result(self) -> dict[str, Any]:
        """Keras's own; nothing inside the steps of a loop that asks for it later."""
        return {} if self._silent else super().get_metrics_result()  # type: ignore[misc]

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Makes steps that are traced meanwhile return no metrics, which replicas would sum up."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False


def _check_ids(data: Any) -> None:
    """Raises `ArgumentError` unless `data`, the first argument of `fit`, carries sample ids."""
    inputs = data.element_spec if isinstance(data, tf.data.Dataset) else (data,)
    inputs = inputs[0] if isinstance(inputs, tuple) else inputs
    if not (isinstance(inputs, dict) and {"inputs", "sample_id"} <= set(inputs)):
        raise ArgumentError(
            "data",
            "no sample ids",
            'batches of ({"inputs": x, "sample_id": id}, y)',
            "Use tf_prac.with_sample_ids(dataset) before batching.",
        )


class _Step(threading.local):
    """What Keras shows of a step while it is traced, each replica in a thread of its own."""

    traced = False
    loss: Any
    ids: Any
    correct: Any
    filled_up = False


def _is_filled_up(x: Any) -> bool:
    """Whether batches have places without a sample, as those of `BatchShard` may."""
    return isinstance(x, dict) and {"inputs", "sample_id", "weight"} <= set(x)


class _FiniteSteps:
    """Counts steps, and those before the first loss that is not finite."""

    def __init__(self):
        self.variable = tf.Variable([0, 0], trainable=False, dtype=tf.int64, name="finite_steps")

    def count(self, finite: tf.Tensor) -> None:
        taken, good = tf.unstack(tf.convert_to_tensor(self.variable))
        still = tf.cast((taken == good) & finite, tf.int64)
        self.variable.assign(tf.stack([taken + 1, good + still]))
