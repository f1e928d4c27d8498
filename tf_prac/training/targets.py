"""`Targets`: how to tell from targets and predictions whether a sample is predicted correctly."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_bool
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import output_activations
from tf_prac.registry import TASKS
from tf_prac.tasks.classification import Classification, Sparse
from tf_prac.tasks.infer import REGRESSION, as_task, from_logits_of, loss_name, task_of
from tf_prac.tasks.outputs import Outputs, select
from tf_prac.tasks.task import Task, flat
from tf_prac.training.masked_model import network_of


@dataclasses.dataclass(frozen=True)
class Targets:
    """Which output of a model to use, its task, and whether it returns logits.

    By default, task and logits are inferred from the loss that the model is compiled with.

    Example:

        >>> Targets("multi_label", from_logits=True, output="tags").kind
        'multi_label'

    Args:
        kind: the task: "sparse" (class indices), "one_hot" (the class with the highest value),
            "binary" (one label, 0 or 1), "multi_label" (several binary labels, all of which must
            be predicted correctly), another name of `tf_prac.tasks.TASKS`, a `Task` such as
            `Regression(bound=0.5)`, or "auto": inferred from the loss, or from integer labels if
            it is not a loss of Keras. A binary loss over several units means "multi_label".
            Default "auto".
        from_logits: whether predictions are logits, otherwise probabilities. Default None:
            inferred from the loss.
        output: name or index of the output to use, in a model with several outputs. For several
            outputs, set `kind` to `tf_prac.tasks.Outputs`. Default None: the only one.

    Raises:
        ArgumentError: If a value is not allowed or of the wrong type.
    """

    kind: str | Task = "auto"
    from_logits: bool | None = None
    output: str | int | None = None

    def __post_init__(self):
        if isinstance(self.kind, Mapping):  # a task from `to_json`
            object.__setattr__(self, "kind", as_task(self.kind))
        if not isinstance(self.kind, Task) and self.kind not in ("auto", *TASKS):
            allowed = f"one of auto, {', '.join(TASKS)}, or a Task"
            raise ArgumentError("kind", self.kind, allowed)
        if self.from_logits is not None:
            check_bool("from_logits", self.from_logits)
        if isinstance(self.output, bool) or not isinstance(self.output, (str, int, types.NoneType)):
            raise ArgumentError("output", self.output, "the name or index of an output")

    def to_json(self) -> dict[str, Any]:
        """Returns the options as JSON values."""
        kind = self.kind.to_json() if isinstance(self.kind, Task) else self.kind
        return {"kind": kind, "from_logits": self.from_logits, "output": self.output}

    def check_output(self, names: Sequence[str]) -> None:
        """Raises `ArgumentError` unless `output` selects one of the outputs with these names."""
        if isinstance(self.kind, Outputs):
            return
        allowed = {*names, *range(len(names))}
        if names and not (self.output in allowed or (self.output is None and len(names) == 1)):
            remedy = "Choose: Targets(output=...), or Targets(kind=Outputs(...)) for several."
            raise ArgumentError("output", self.output, f"one of {', '.join(names)}", remedy)

    def check_correct(self, model: Any) -> None:
        """Raises `ArgumentError` if the model's loss has no "correct", before training starts."""
        task, loss = self.kind, getattr(model, "loss", None)
        if task == "auto" and loss_name(self._part(model, loss)) in REGRESSION:
            task = "regression"
        task = as_task(task) if task == "regression" else task
        if isinstance(task, Task):
            task.check_bound()

    def read(self, model: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Predictions:
        """Returns the predictions and targets of the selected output, for one batch.

        Args:
            model: the model that predicted; its output names are used, and its loss if it is
                compiled.
            y: targets, nested as in `fit`.
            y_pred: predictions, nested as the model returns them.
            sample_weight: weights, nested as in `fit`; those of 0 do not count. Default None.

        Raises:
            ArgumentError: If there are several outputs and `output` selects none, or the task
                cannot be inferred.
        """
        if isinstance(self.kind, Outputs):
            return Predictions(self.kind, y, y_pred, sample_weight)
        self.check_output(_names(model, y_pred))
        loss = self._part(model, getattr(model, "loss", None), y_pred)
        y, y_pred, weight = (self._part(model, v, y_pred) for v in (y, y_pred, sample_weight))
        y = tf.convert_to_tensor(y)
        y_pred = y_pred if tf.is_tensor(y_pred) else tf.convert_to_tensor(y_pred)
        task = task_of(loss, y, y_pred) if self.kind == "auto" else as_task(self.kind)
        if isinstance(task, Classification):
            known = task.from_logits if self.from_logits is None else self.from_logits
            known = from_logits_of(loss) if known is None else known
            task = dataclasses.replace(task, from_logits=known)
            activations = output_activations(network_of(model))
            activation = self._part(model, activations, y_pred)
            for each in {known, from_logits_of(loss)}:
                dataclasses.replace(task, from_logits=each).warn_of_outputs(y_pred, activation)
        return Predictions(task, y, y_pred, weight)

    def _part(self, model: Any, value: Any, y_pred: Any = None) -> Any:
        """Returns the part of the selected output from values of all outputs."""
        names = _names(model, y_pred)
        output = self.output if self.output is not None else 0
        name = names[output] if isinstance(output, int) and names else output
        return select(value, name, names.index(name) if name in names else 0)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions and targets of a batch, with their task.

    Attributes:
        task: the `Task`.
        y: targets, int or float [batch, ...].
        y_pred: outputs of the model, float [batch, ...].
        weight: sample weights, or None.
    """

    task: Task
    y: Any
    y_pred: Any
    weight: Any = None

    @property
    def num_classes(self) -> int | None:
        """The number of classes that labels must be below; None if they may have other values."""
        is_checked = isinstance(self.task, Sparse) and self.task.ignore_class is None
        return self.y_pred.shape[-1] if is_checked else None

    def bounded_labels(self) -> tuple[tf.Tensor, int] | None:
        """Returns class numbers, int64 [batch, ...], and what they must be below, or None."""
        return None if self.num_classes is None else (tf.cast(self.y, tf.int64), self.num_classes)

    def valid_labels(self) -> tf.Tensor:
        """Returns whether the model has an output for each label of a sample, bool [batch]."""
        if self.num_classes is None:
            return tf.ones_like(flat(tf.nest.flatten(self.y)[0])[:, 0], tf.bool)
        labels = flat(tf.cast(self.y, tf.int64))
        return tf.reduce_all((labels >= 0) & (labels < self.num_classes), -1)

    @property
    def kind(self) -> str:
        """The name of the task."""
        return self.task.name

    @property
    def from_logits(self) -> bool | None:
        """Whether `y_pred` are logits, otherwise probabilities; None if not known."""
        return self.task.from_logits

    def correct(self) -> tf.Tensor:
        """Returns whether each sample is correct, bool [batch]."""
        return self.task.correct(self.y, self.y_pred, self.weight)

    def metric_values(self) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns values whose weighted mean is the metric, and their weights; see `Task`."""
        values, weights = self.task.metric_values(self.y, self.y_pred, self.weight)
        if weights is None and self.weight is not None and values.shape.rank == 1:
            weights = tf.cast(self.weight > 0, values.dtype)  # the padding of a batch
        return values, weights

    def loss(self) -> tf.Tensor:
        """Returns the loss of the batch, summed over predictions and samples."""
        return tf.reduce_sum(self.task.losses(self.y, self.y_pred, self.weight))


def label_error(label: Any, num_classes: int | None = None) -> ArgumentError:
    """Returns the error for a label without an output of the model.

    Args:
        label: the label, or a description of it.
        num_classes: the number of outputs, if it is known.
    """
    allowed = f"0 to {num_classes - 1}, one for each output" if num_classes else "the outputs"
    remedy = "Renumber the classes from 0, without gaps, or use a model with an output for each."
    return ArgumentError("labels", label, f"{allowed} of the model", remedy)


def check_valid_labels(ids: np.ndarray, valid: np.ndarray) -> None:
    """Raises `ArgumentError` that names the first sample for whose label there is no output."""
    if not valid.all():
        raise label_error(f"no class of the model, for sample {int(ids[~valid][0])}")


def _names(model: Any, y_pred: Any) -> list[str]:
    """Returns the names of the outputs of a model."""
    names = list(getattr(model, "output_names", None) or ())
    if isinstance(y_pred, Mapping):
        return list(y_pred)
    if isinstance(y_pred, (list, tuple)):
        return names or [str(index) for index in range(len(y_pred))]
    return names
