"""`PracModel`: a Keras model that applies masks and records forgetting as it trains."""

from __future__ import annotations

import contextlib
import inspect
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import PruningConfig
from tf_prac.data.adapters import adapt
from tf_prac.data.checks import MEMORY_LIMIT_BYTES
from tf_prac.data.ids import check_id_spec, has_ids, with_sample_ids
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import flavor_of
from tf_prac.pruning.masks import Masks
from tf_prac.pruning.weights import weight_report
from tf_prac.tasks.infer import OF_POSITIONS, loss_name
from tf_prac.tasks.task import Task
from tf_prac.training.callbacks.callback import Callback
from tf_prac.training.fused_batch_norm import FusedBatchNorm
from tf_prac.training.fused_sgd import FusedSGD
from tf_prac.training.gradual import fit_arguments, with_schedule
from tf_prac.training.masked_model import MaskedModelMixin
from tf_prac.training.masked_weights import MaskedWeights, attach_masks, has_masks
from tf_prac.training.recorder import ForgettingRecorder, RecordedTable
from tf_prac.training.strategies import check_fit
from tf_prac.training.targets import Predictions, Targets, label_error
from tf_prac.training.wrapped_network import (
    check_no_overrides,
    keras_class,
    network_config,
    network_from_config,
)

# What TensorFlow's cross-entropy says on a CPU; on a GPU and with XLA, the loss becomes NaN.
BAD_LABEL = re.compile(r"Received a label value of (-?\d+) which is outside the valid range")


class PracModel(MaskedModelMixin):
    """Wraps a built Keras model of either flavor, for `compile` and `fit` as usual.

    Adds two things to each training step, inside the compiled graph. After the update, pruned
    weights are set back to exactly 0, with any optimizer. And for each sample id, it records
    whether the training forward pass (on the augmented batch, before the update) classified the
    sample correctly. Evaluation and prediction are those of the wrapped model, which shares its
    weights with this one; save and export the wrapped model.

    Example:

        >>> model = PracModel(network, num_samples=60000)  # doctest: +SKIP
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> model.fit(with_sample_ids(dataset).batch(128), epochs=5)
        >>> model.forgetting.stats.events

    Args:
        network: a built model.
        masks: the masks to apply; change them later with `set_masks`. Default: the masks of a
            model that `prune` returned or that has TFMOT's pruning wrappers, otherwise dense ones.
        num_samples: size of the training set, to record forgetting. Default None: not recorded.
            If given, `fit` takes data of `({"inputs": x, "sample_id": id}, y[, weight])`.
        pruning: which weights are prunable. Default `PruningConfig()`.
        targets: how to tell from targets and predictions whether a sample is classified correctly,
            for forgetting. What the loss ignores is not judged. Default `Targets()`: the only
            output, interpreted according to the loss.
        mask_config: the names of the masked weights and the shapes of their masks, from a saved
            model. Default None: as `pruning` selects.
        **options: passed to `keras.Model`, such as `name`.

    Raises:
        ArgumentError: If the model is not a Keras model, overrides a training method such as
            `train_step` or `compute_loss`, or has nothing to prune while forgetting is not recorded
            either; if forgetting is recorded, the model has several outputs, and `targets` does not
            select one.
        MismatchError: If the masks are of another architecture.

    Attributes:
        network: the wrapped model.
        prunable: the prunable variables, by name.
        masked_weights: the masks as variables.
        forgetting: the `ForgettingRecorder`, or None.
        targets: the `Targets`.
        padded_batches: whether a sample weight of 0 marks padding, as in the batches of a
            `BatchShard`; metrics then count every sample once. Set it before the first step.
            Default False: sample weights are those of the user.
        loss_weights_by_id: loss weights of the training samples, float32 [num_samples], a variable;
            set it before the first step. Default None: all samples have weight 1.
        judges: whether samples are judged; False records each presentation as correct, for a
            task without a "correct". Default True.
        traces: how often the training step was traced; each time it is compiled.
    """

    # Provided by Keras, in the class that __new__ creates.
    __call__: Any
    compile: Any
    evaluate: Any
    optimizer: Any
    metrics: list[Any]
    reset_metrics: Any
    stop_training: bool

    def __new__(cls, network: Any, *args: Any, **kwargs: Any):
        """Creates an instance of the subclass for the Keras of `network`."""
        if cls is not PracModel:
            return super().__new__(cls)
        return super().__new__(cls.of_keras(flavor_of(network)))

    def __init__(
        self,
        network: Any,
        *,
        masks: Masks | None = None,
        num_samples: int | None = None,
        pruning: PruningConfig | None = None,
        targets: Targets | None = None,
        mask_config: Mapping[str, Any] | None = None,
        **options: Any,
    ):
        check_no_overrides(network)
        super().__init__(**options)
        self.network = network
        self.built = bool(network.built)
        if (names := getattr(network, "output_names", None)) is not None:
            self.output_names = names  # Keras maps losses and targets to outputs by these names.
        self.traces = 0
        if mask_config is None:
            self._set_masked_weights(_masked_weights(network, pruning, num_samples is not None))
        else:
            self._set_mask_config(**mask_config)
        self.forgetting = None if num_samples is None else ForgettingRecorder(num_samples)
        self.targets = targets or Targets()
        self.task_metric: Any = None
        self.judges = True
        self.padded_batches = False
        self.loss_weights_by_id: tf.Variable | None = None
        if self.forgetting is not None:
            self.targets.check_output(names or ())
        self._steps = _FiniteSteps()
        self._step = _Step()
        self._fused = FusedBatchNorm(network)
        self._silent = False
        if masks is not None:
            self.set_masks(masks)

    def _plain_model(self) -> Any:
        return self.network

    def get_config(self) -> dict[str, Any]:
        """The network, which Keras must be able to serialize, and the options."""
        return {
            **network_config(self),
            "num_samples": None if self.forgetting is None else self.forgetting.num_samples,
            "targets": self.targets.to_json(),
            "mask_config": self._mask_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Creates a model from its `get_config`."""
        cls = keras_class(cls)
        options = network_from_config(cls, config, custom_objects)
        return cls(**{**options, "targets": Targets(**config["targets"])})

    def measure(self, task: Task) -> None:
        """Adds the metric of a task to those of `compile`, and judges samples by this task."""
        self.targets = Targets(kind=task)
        self.task_metric = flavor_of(self.network).module.metrics.Mean(name=task.metric)

    @property
    def finite_steps(self) -> int:
        """Training steps since `reset_finite_steps` before the first NaN or infinite loss."""
        return int(self._steps.variable.numpy()[1])

    def reset_finite_steps(self) -> None:
        """Starts counting `finite_steps` from 0."""
        self._steps.variable.assign([0, 0])

    @property
    def records(self) -> list[tf.Variable | RecordedTable]:
        """What a checkpoint stores of `finite_steps` and `forgetting`."""
        variables: list[tf.Variable | RecordedTable] = [self._steps.variable]
        return variables if self.forgetting is None else [*variables, self.forgetting.table]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the network on `inputs`, or on their "inputs" if they contain sample ids."""
        if isinstance(inputs, dict) and "sample_id" in inputs:
            inputs = inputs["inputs"]
        return self.network(inputs, training=training)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Keras's own `fit`, after checking that the data has sample ids if they are needed.

        Arrays (x, y) and a `tf.data.Dataset` without ids get those of `with_sample_ids`.

        Raises:
            ArgumentError: If forgetting is recorded and the data has no ids, or ids that are not
                integers [batch]; at the end of an epoch or before, if an id was not in
                [0, num_samples), a batch had the same id twice, or the model has no output for a
                label; if a Keras 3 model is trained under `MultiWorkerMirroredStrategy`.
        """
        check_fit(self)
        arguments = fit_arguments(self, x, *args, **kwargs)
        arguments = with_schedule(arguments, self, getattr(self.network, "_gradual", None))
        if self.forgetting is None:
            return super().fit(**arguments)
        keras = flavor_of(self).module
        arguments["x"] = _with_ids(x, arguments.get("y"))
        _check_ids(arguments["x"])
        self.targets.check_correct(self)
        self.forgetting.restart_checks()
        callbacks = arguments.pop("callbacks", None)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            check = _CheckRecords(self.forgetting)
            callbacks = [check] if callbacks is None else [check, callbacks]
        try:
            history = super().fit(**arguments, callbacks=callbacks)
        except tf.errors.InvalidArgumentError as error:
            if bad_label := BAD_LABEL.search(str(error)):
                raise label_error(int(bad_label[1])) from error
            raise
        self.forgetting.check()
        return history

    def train_step(self, data: Any) -> dict[str, Any]:
        """Keras's own training step, followed by applying the masks."""
        if self.forgetting is not None:
            _part_with_ids(data[0] if isinstance(data, tuple) else data)
        self.traces += 1
        step = self._step
        step.traced = True
        try:
            with self._fused(), FusedSGD(self)():
                logs = super().train_step(data)  # type: ignore[misc]
        finally:
            step.traced = False
        self.masked_weights.apply_masks(self.optimizer)
        finite = tf.math.is_finite(step.loss)
        if self.forgetting is not None:
            finite = self.forgetting.record(
                step.ids,
                step.predictions.correct() if self.judges else tf.ones_like(step.ids, tf.bool),
                finite,
                self.padded_batches,
                labels=step.predictions.bounded_labels(),
            )
        self._steps.count(finite)
        return logs

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Keras's own metrics, without padding; in training, notes which samples are correct."""
        if self._step.traced and self.forgetting is not None:
            self._step.ids = x["sample_id"]
            self._step.predictions = self.targets.read(self, y, y_pred, sample_weight)
        if self.task_metric is not None:
            predictions = self.targets.read(self, y, y_pred, sample_weight)
            values, weights = predictions.metric_values()
            self.task_metric.update_state(values, weights)
        if self.padded_batches and sample_weight is not None:
            sample_weight = tf.cast(sample_weight > 0, tf.float32)  # each sample counts once
        return super().compute_metrics(x, y, y_pred, sample_weight)  # type: ignore[misc]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **kw: Any
    ) -> Any:
        """Keras's own loss, which the training step checks to be finite."""
        if self._step.traced and self.loss_weights_by_id is not None:
            ids = tf.cast(x["sample_id"], tf.int64)
            ids = tf.where(ids < 0, tf.zeros_like(ids), ids)  # padding, which has weight 0
            sample_weight = _weighted(sample_weight, tf.gather(self.loss_weights_by_id, ids))
        sample_weight = self._for_positions(sample_weight, y_pred)
        loss = super().compute_loss(x, y, y_pred, sample_weight, **kw)  # type: ignore[misc]
        if self._step.traced:
            self._step.loss = loss
        return loss

    def _for_positions(self, weight: Any, y_pred: Any) -> Any:
        """Returns weights [batch] as [batch, 1, ...] for a loss [batch, positions, ...] of Keras.

        Losses of Keras 3 broadcast weights along the last axis, which is not that of the batch.
        """
        rank = getattr(getattr(y_pred, "shape", None), "rank", None) or 0
        known = loss_name(getattr(self, "loss", None)) in OF_POSITIONS
        if weight is None or tf.nest.is_nested(weight) or rank < 3 or not known:
            return weight
        weight = tf.convert_to_tensor(weight)
        if weight.shape.rank != 1:
            return weight
        return tf.reshape(weight, [-1, *[1] * (rank - 2)])

    def get_metrics_result(self) -> dict[str, Any]:
        """Keras's own metric results; empty inside `silent`."""
        return {} if self._silent else super().get_metrics_result()  # type: ignore[misc]

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Makes steps traced inside the context return no metrics, which replicas would sum up."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False


def _weighted(sample_weight: Any, factors: tf.Tensor) -> Any:
    """Returns sample weights, or a nest of them, times factors, float32 [batch]."""
    if sample_weight is None:
        return factors

    def times_factors(weights: Any) -> tf.Tensor:
        weights = tf.convert_to_tensor(weights)
        shape = tf.concat([tf.shape(factors), tf.ones([tf.rank(weights) - 1], tf.int32)], 0)
        return weights * tf.cast(tf.reshape(factors, shape), weights.dtype)

    return tf.nest.map_structure(times_factors, sample_weight)


def _masked_weights(network: Any, pruning: PruningConfig | None, recording: bool) -> MaskedWeights:
    """Returns the masked weights of a network: none if it only records and has nothing to prune."""
    if recording and not has_masks(network):
        report = weight_report(network, pruning)
        if not any(info.prunable for info in report):
            return MaskedWeights({})
    return attach_masks(network, pruning)


def _with_ids(x: Any, y: Any) -> Any:
    """Returns the first argument of `fit` with sample ids, if they can be added there."""
    if isinstance(x, tf.data.Dataset):
        is_tuple = isinstance(x.element_spec, tuple)
        return x if is_tuple and has_ids(x.element_spec) else with_sample_ids(x)
    if y is None or (isinstance(x, Mapping) and "sample_id" in x):
        return x
    inputs = adapt((x, y), "data", MEMORY_LIMIT_BYTES).data[0]
    count = len(tf.nest.flatten(inputs)[0])
    return {"inputs": inputs, "sample_id": np.arange(count, dtype=np.int64)}


def _check_ids(data: Any) -> None:
    """Checks that `data`, the first argument of `fit`, has sample ids of the right type.

    What a generator or a `PyDataset` yields is checked when the first step is traced.
    """
    if inspect.isgenerator(data) or hasattr(data, "on_epoch_end"):
        return
    inputs = data.element_spec if isinstance(data, tf.data.Dataset) else (data,)
    ids = _part_with_ids(inputs[0] if isinstance(inputs, tuple) else inputs)["sample_id"]
    ids = ids if hasattr(ids, "dtype") and hasattr(ids, "shape") else np.asarray(ids)
    check_id_spec(tf.as_dtype(ids.dtype), ids.shape)


def _part_with_ids(inputs: Any) -> Any:
    """Returns inputs that have sample ids; raises `ArgumentError` for others."""
    if not (isinstance(inputs, Mapping) and {"inputs", "sample_id"} <= set(inputs)):
        raise ArgumentError(
            "data",
            "no sample ids",
            'batches of ({"inputs": x, "sample_id": id}, y)',
            "Pass arrays x and y, or tf_prac.with_sample_ids(data).",
        )
    return inputs


class _CheckRecords(Callback):
    """Raises `ArgumentError` at the end of an epoch with invalid sample ids or labels.

    It comes first, so that no other callback saves anything of such an epoch.
    """

    def __init__(self, recorder: ForgettingRecorder):
        self._recorder = recorder

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Checks the ids and labels of the epoch."""
        self._recorder.check()


class _Step(threading.local):
    """Tensors of a step while it is traced; thread-local, as each replica has its thread."""

    traced = False
    loss: Any
    ids: Any
    predictions: Predictions


class _FiniteSteps:
    """Counts training steps, and those before the first loss that is not finite."""

    def __init__(self):
        self.variable = tf.Variable([0, 0], trainable=False, dtype=tf.int64, name="finite_steps")

    def count(self, finite: tf.Tensor) -> None:
        counts = tf.convert_to_tensor(self.variable)
        # True, and whether all steps so far are finite. `unstack` of int64 is not on a GPU.
        is_counted = (counts == counts[0]) & tf.stack([True, finite])
        tf.raw_ops.AssignAddVariableOp(
            resource=self.variable.handle, value=tf.cast(is_counted, tf.int64)
        )
