"""`Targets`: how to tell from targets and predictions whether a sample is classified correctly."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_bool, check_choice
from tf_prac.errors import ArgumentError
from tf_prac.training.gradients import as_logits

KINDS = ("auto", "sparse", "one_hot", "binary", "multi_label")


@dataclasses.dataclass(frozen=True)
class Targets:
    """Which output of a model to use, the kind of its targets, and whether it returns logits.

    By default, kind and logits are inferred from the loss that the model is compiled with.

    Example:

        >>> Targets("multi_label", from_logits=True, output="tags").kind
        'multi_label'

    Args:
        kind: "sparse" (class indices), "one_hot" (the class with the highest value), "binary" (one
            label, 0 or 1), "multi_label" (several binary labels, all of which must be predicted
            correctly), or "auto": inferred from the loss, or from shapes if it is not a loss of
            Keras. A binary loss over several units means "multi_label". Default "auto".
        from_logits: whether predictions are logits, otherwise probabilities. Default None:
            inferred from the loss.
        output: name or index of the output to use, in a model with several outputs.
            Default None: the only one.

    Raises:
        ArgumentError: If a value is not allowed or of the wrong type.
    """

    kind: str = "auto"
    from_logits: bool | None = None
    output: str | int | None = None

    def __post_init__(self):
        check_choice("kind", self.kind, KINDS)
        if self.from_logits is not None:
            check_bool("from_logits", self.from_logits)
        if isinstance(self.output, bool) or not isinstance(self.output, (str, int, types.NoneType)):
            raise ArgumentError("output", self.output, "the name or index of an output")

    def check_output(self, names: Sequence[str]) -> None:
        """Raises `ArgumentError` unless `output` selects one of the outputs with these names."""
        allowed = {*names, *range(len(names))}
        if names and not (self.output in allowed or (self.output is None and len(names) == 1)):
            raise ArgumentError(
                "output", self.output, f"one of {', '.join(names)}", "Choose: Targets(output=...)."
            )

    def read(self, model: Any, y: Any, y_pred: Any) -> Predictions:
        """Returns the predictions and targets of the selected output, for one batch.

        Args:
            model: the model that predicted; its output names are used, and its loss if it is
                compiled.
            y: targets, nested as in `fit`.
            y_pred: predictions, nested as the model returns them.

        Raises:
            ArgumentError: If there are several outputs and `output` selects none.
        """
        names = list(getattr(model, "output_names", None) or ())
        if isinstance(y_pred, Mapping):
            names = list(y_pred)
        elif isinstance(y_pred, (list, tuple)):
            names = names or [str(index) for index in range(len(y_pred))]
        self.check_output(names)
        output = self.output if self.output is not None else 0
        name = names[output] if isinstance(output, int) and names else output
        index = names.index(name) if name in names else 0
        y, y_pred, loss = (
            _select(each, name, index) for each in (y, y_pred, getattr(model, "loss", None))
        )
        y, y_pred = tf.convert_to_tensor(y), tf.convert_to_tensor(y_pred)
        kind = _kind(loss, y, y_pred) if self.kind == "auto" else self.kind
        from_logits = _from_logits(loss) if self.from_logits is None else self.from_logits
        return Predictions(y, y_pred, kind, from_logits, _ignores_a_class(loss))


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions and targets of one output for a batch, with their interpretation.

    A sample has one prediction or several: one for each label of "multi_label", or one for each
    position of an image or text. It is correct if all of them are.

    Attributes:
        y: targets, int or float [batch, ...].
        y_pred: outputs of the model, float [batch, ...].
        kind: one of `KINDS` except "auto".
        from_logits: whether `y_pred` are logits, otherwise probabilities; None if not known.
        ignores_a_class: whether the loss ignores samples with a label that is no class.
    """

    y: Any
    y_pred: Any
    kind: str
    from_logits: bool | None
    ignores_a_class: bool = False

    @property
    def num_classes(self) -> int | None:
        """The number of classes that labels must be below; None if they may have other values."""
        is_checked = self.kind == "sparse" and not self.ignores_a_class
        return self.y_pred.shape[-1] if is_checked else None

    def correct(self) -> tf.Tensor:
        """Returns whether each sample is classified correctly, bool [batch]."""
        if self._is_binary:
            predicted = self.y_pred > (0.0 if self._require_from_logits() else 0.5)
        else:
            predicted = tf.argmax(self.y_pred, -1)
        predicted, classes = tf.cast(predicted, tf.int64), self._classes()
        if predicted.shape.rank == classes.shape.rank == 1:
            return predicted == classes
        return tf.reduce_all(self._flat(predicted) == self._flat(classes), -1)

    def labels(self) -> tf.Tensor:
        """Returns the true class of each prediction, int64 [batch, predictions]."""
        return self._flat(self._classes())

    def _classes(self) -> tf.Tensor:
        if self._is_binary:
            return tf.cast(tf.cast(self.y, tf.float32) > 0.5, tf.int64)
        return tf.cast(tf.argmax(self.y, -1) if self.kind == "one_hot" else self.y, tf.int64)

    def bounded_labels(self) -> tuple[tf.Tensor, int] | None:
        """Returns class numbers, int64 [batch, ...], and what they must be below, or None."""
        return None if self.num_classes is None else (self._classes(), self.num_classes)

    def valid_labels(self) -> tf.Tensor:
        """Returns whether the model has an output for each label of a sample, bool [batch]."""
        labels = self.labels()
        if self.num_classes is None:
            return tf.ones_like(labels[:, 0], tf.bool)
        return tf.reduce_all((labels >= 0) & (labels < self.num_classes), -1)

    def logits(self) -> tf.Tensor:
        """Returns the logits of each prediction, float [batch, predictions, classes]."""
        y_pred = self.y_pred
        if self._is_binary:
            y_pred = self._flat(y_pred)
            negative = tf.zeros_like(y_pred) if self._require_from_logits() else 1 - y_pred
            y_pred = tf.stack([negative, y_pred], -1)
        if not self._require_from_logits():
            y_pred = as_logits(y_pred)
        classes = y_pred.shape[-1]
        return tf.reshape(y_pred, [tf.shape(y_pred)[0], -1, classes])

    def loss(self) -> tf.Tensor:
        """Returns the cross-entropy of the batch, summed over predictions and samples."""
        logits, labels = self.logits(), self.labels()
        target = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        return -tf.reduce_sum(target * tf.nn.log_softmax(logits))

    @property
    def _is_binary(self) -> bool:
        return self.kind in ("binary", "multi_label")

    def _require_from_logits(self) -> bool:
        if self.from_logits is None:
            raise ArgumentError(
                "from_logits",
                None,
                "True or False, for a loss without from_logits",
                "Set it: Targets(from_logits=...).",
            )
        return self.from_logits

    def _flat(self, values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [tf.shape(values)[0], -1])


def label_error(label: Any, num_classes: int | None = None) -> ArgumentError:
    """Returns the error for a label without an output of the model.

    Args:
        label: the label, or a description of it.
        num_classes: the number of outputs, if it is known.
    """
    allowed = f"0 to {num_classes - 1}, one for each output" if num_classes else "the outputs"
    remedy = "Renumber the classes, or use a model with an output for each of them."
    return ArgumentError("labels", label, f"{allowed} of the model", remedy)


def check_valid_labels(ids: np.ndarray, valid: np.ndarray) -> None:
    """Raises `ArgumentError` that names the first sample for whose label there is no output."""
    if not valid.all():
        raise label_error(f"no class of the model, for sample {int(ids[~valid][0])}")


def _select(value: Any, name: Any, index: int) -> Any:
    """Returns the targets, predictions or loss of one output from those of all outputs."""
    if isinstance(value, Mapping):
        return value.get(name)
    return value[index] if isinstance(value, (list, tuple)) else value


def _kind(loss: Any, y: tf.Tensor, y_pred: tf.Tensor) -> str:
    name = _loss_name(loss)
    single_unit = y_pred.shape.rank == 1 or y_pred.shape[-1] == 1
    if "sparsecategorical" in name:
        return "sparse"
    if "categorical" in name:
        return "one_hot"
    if "binary" in name or name == "bce" or single_unit:
        return "binary" if single_unit else "multi_label"
    same_shape = y.shape.rank == y_pred.shape.rank and y.shape[-1] == y_pred.shape[-1]
    return "one_hot" if same_shape else "sparse"


def _loss_name(loss: Any) -> str:
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.lower().replace("_", "")


def _ignores_a_class(loss: Any) -> bool:
    options = getattr(loss, "_fn_kwargs", None) or {}
    return getattr(loss, "ignore_class", options.get("ignore_class")) is not None


def _from_logits(loss: Any) -> bool | None:
    """Returns the `from_logits` of a loss, or None if it has none."""
    if isinstance(loss, str):
        return False  # the default of every Keras loss
    value = getattr(loss, "from_logits", None)
    if value is None:
        value = (getattr(loss, "_fn_kwargs", None) or {}).get("from_logits")
    if value is None and inspect.isfunction(loss):
        parameter = inspect.signature(loss).parameters.get("from_logits")
        value = None if parameter is None else parameter.default
    return value if isinstance(value, bool) else None
