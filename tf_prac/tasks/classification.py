"""Classification: class numbers, one-hot classes, binary and multi-label, at any positions."""

from __future__ import annotations

import abc
import dataclasses
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_number
from tf_prac.errors import ArgumentError, DataError
from tf_prac.tasks.task import Task, flat, for_each, label_error

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """A task whose predictions are classes."""

    @abc.abstractmethod
    def logits(self, outputs: Any) -> tf.Tensor:
        """Returns the logits of each prediction, float [batch, predictions, classes]."""

    def resolved(self, labels: np.ndarray, outputs: Any = None, activation: Any = None) -> Self:
        """Returns the task with `from_logits` set; warns if it is set and outputs differ."""
        if outputs is None:
            return self
        if self.from_logits is None:
            return dataclasses.replace(self, from_logits=self._are_logits(outputs, activation))
        self.warn_of_outputs(outputs, activation)
        return self

    def warn_of_outputs(self, outputs: Any, activation: Any = None) -> None:
        """Warns if outputs are probabilities although `from_logits` is True, or the reverse.

        Args:
            outputs: of the model for a batch; symbolic ones are judged by `activation` alone.
            activation: as for `resolved`.
        """
        if self.from_logits is None:
            return
        are_logits, received = self._evidence(outputs, activation)
        if are_logits is None or are_logits == self.from_logits:
            return
        if are_logits:
            allowed = "probabilities, because of from_logits=False"
            remedy = (
                "Set from_logits=True in the loss or task, or end the model with a softmax or "
                "sigmoid."
            )
        else:
            allowed = "logits, because of from_logits=True"
            remedy = (
                "Set from_logits=False in the loss or task, or remove the softmax or sigmoid from "
                "the end of the model."
            )
        # stacklevel=1: Python shows a warning of one line only once.
        warnings.warn(
            f"outputs of the model: {received} received; allowed: {allowed}. {remedy}", stacklevel=1
        )

    def _evidence(self, outputs: Any, activation: Any) -> tuple[bool | None, str]:
        """Returns whether outputs are logits, or None if that is not certain, and what they are."""
        if activation in ("softmax", "sigmoid"):
            return False, f"probabilities of a {activation}"
        if tf.is_symbolic_tensor(outputs):
            return (True, "numbers of a linear layer") if activation == "linear" else (None, "")
        values = np.asarray(outputs, np.float64)
        if np.any((values < -1e-3) | (values > 1 + 1e-3)):
            return True, f"{values.min():.3g} to {values.max():.3g}"
        return None, ""

    def _are_logits(self, outputs: Any, activation: str | None) -> bool:
        if activation in ("linear", "softmax", "sigmoid"):
            return activation == "linear"
        are_logits, _ = self._evidence(outputs, activation)
        if are_logits is None:  # those of an untrained network may be in [0, 1] by chance
            raise ArgumentError(
                "from_logits",
                "outputs in [0, 1], of a layer whose activation is not known",
                "True or False",
                f"Set it: task={type(self).__name__}(from_logits=...), or compile the model with "
                "a loss that has it, such as BinaryCrossentropy(from_logits=...).",
            )
        return are_logits

    def losses(
        self, labels: Any, outputs: Any, weight: Any = None, temperature: float = 1.0
    ) -> tf.Tensor:
        """Returns the cross-entropy of each sample, summed over its predictions, float [batch]."""
        return tf.reduce_sum(self._losses(labels, outputs, weight, temperature), -1)

    def weighted_losses(
        self, labels: Any, outputs: Any, weight: Any = None, temperature: float = 1.0
    ) -> tf.Tensor:
        """Returns the losses of samples, whose predictions are multiplied by their weights."""
        losses = self._losses(labels, outputs, weight, temperature)
        if weight is not None:
            losses *= for_each(tf.cast(weight, losses.dtype), self.decisions(outputs))
        return tf.reduce_sum(losses, -1)

    def _losses(self, labels: Any, outputs: Any, weight: Any, temperature: float) -> tf.Tensor:
        """Returns the cross-entropy of each prediction, 0 if it does not count."""
        # Basic operations, because Hessians need the second derivative.
        logits = self.logits(outputs) / temperature
        classes = tf.cast(flat(self.targets(labels)), tf.int64)
        target = tf.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
        losses = -tf.reduce_sum(target * tf.nn.log_softmax(logits), -1)
        judged = self.judged(labels, outputs, weight)
        return losses if judged is None else losses * tf.cast(judged, losses.dtype)

    def _knows_logits(self) -> bool:
        if self.from_logits is None:
            raise ArgumentError(
                "from_logits",
                None,
                "True or False, for a loss without from_logits",
                "Set it: Targets(from_logits=...), or a task such as Binary(from_logits=True).",
            )
        return self.from_logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Softmax(Classification):
    """A task with one class for each prediction, the one with the highest output."""

    def decisions(self, outputs: Any) -> tf.Tensor:
        """Returns the class with the highest output, int64."""
        return tf.argmax(outputs, -1)

    def logits(self, outputs: Any) -> tf.Tensor:
        """Returns the logits of each prediction, float [batch, predictions, classes]."""
        return _positions(outputs if self._knows_logits() else as_logits(outputs))

    def probabilities(self, outputs: Any) -> tf.Tensor:
        """Returns the softmax of logits, or the outputs if they are probabilities."""
        return _positions(tf.nn.softmax(outputs) if self._knows_logits() else outputs)

    def _are_logits(self, outputs: Any, activation: str | None) -> bool:
        return not is_probability(outputs)

    def _evidence(self, outputs: Any, activation: Any) -> tuple[bool | None, str]:
        are_logits, received = super()._evidence(outputs, activation)
        if are_logits is None and not tf.is_symbolic_tensor(outputs) and is_probability(outputs):
            return False, "rows that sum to 1"
        return are_logits, received


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sparse(_Softmax):
    """Integer classes: [N], or one for each position, such as [N, height, width] or [N, steps].

    Example:

        >>> task = Sparse(from_logits=True, ignore_class=255, fraction=0.9)
        >>> labels, outputs = tf.constant([[1, 255]]), tf.constant([[[0.0, 2.0], [5.0, 1.0]]])
        >>> task.correct(labels, outputs).numpy().tolist()
        [True]

    Args:
        ignore_class: label that the loss ignores, such as 255 for void pixels or -1 for samples
            without a label. Default None.
        label_smoothing: of the default loss; not with an `ignore_class`. Default 0.
        from_logits, fraction: as for `Task`.
    """

    name: ClassVar[str] = "sparse"
    ignore_class: int | None = None
    label_smoothing: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_number("label_smoothing", self.label_smoothing, minimum=0, below=1)
        if self.label_smoothing and self.ignore_class is not None:
            raise ArgumentError("label_smoothing", self.label_smoothing, "0 with an ignore_class")

    def to_json(self) -> dict[str, Any]:
        """Returns the name and the options; `label_smoothing`, which 0.1.0 lacks, if it is set."""
        options = super().to_json()
        return {n: v for n, v in options.items() if n != "label_smoothing" or v}

    def smoothed(self, amount: float) -> Self:
        """Returns the task with this `label_smoothing`, if it is not 0."""
        return dataclasses.replace(self, label_smoothing=amount) if amount else self

    def targets(self, labels: Any) -> tf.Tensor:
        """Returns the classes, int64."""
        return tf.cast(labels, tf.int64)

    def counted(self, labels: Any) -> tf.Tensor | None:
        """Returns where labels are not `ignore_class`."""
        if self.ignore_class is None:
            return None
        return tf.cast(labels, tf.int64) != self.ignore_class

    def check_labels(self, labels: np.ndarray) -> None:
        """Raises `DataError` unless labels are class numbers from 0, or `ignore_class`."""
        if labels.dtype.kind not in "iu":
            remedy = "Convert them with labels.astype(np.int64)."
            if labels.ndim > 1 and labels.shape[-1] > 1:
                remedy = "Convert one-hot labels with labels.argmax(axis=-1)."
            raise label_error(labels, "integer class numbers", remedy)
        valid = self._valid(labels)
        if valid.size and valid.min() < 0:
            raise DataError(
                f"labels: {valid.min()} received; allowed: class numbers from 0. "
                f"If {valid.min()} means no label, use the task Sparse(ignore_class="
                f"{valid.min()}) or a loss with this ignore_class."
            )

    def check_outputs(self, labels: Any, outputs: Any) -> None:
        """Raises `ArgumentError` unless there is a distribution for each position of the labels."""
        positions = tuple(np.shape(labels)[1:])
        positions = positions[:-1] if positions[-1:] == (1,) else positions
        if tuple(outputs.shape[1:-1]) != positions:
            raise _shape_error(outputs, f"[batch, {', '.join(map(str, (*positions, 'classes')))}]")

    def check_classes(self, labels: Any, outputs: Any, num_classes: int | None = None) -> None:
        """Raises `ArgumentError` unless there is an output for each class of the labels."""
        valid = self._valid(labels)
        classes = int(valid.max()) + 1 if valid.size else 0
        if self.ignore_class is None:
            classes = max(classes, num_classes or 0)
        if outputs.shape[-1] >= classes:
            return
        allowed = f"one for each of the {classes} classes of the data"
        remedy = "For several labels of a sample or numbers, name the task: task=..."
        if valid.min() > 0:
            remedy = f"Class numbers start at 0, these at {valid.min()}."
        raise ArgumentError("model", f"{outputs.shape[-1]} outputs", allowed, remedy)

    def classes(self, labels: np.ndarray) -> np.ndarray | None:
        """Returns the labels if there is one for each sample; -1 for `ignore_class`."""
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1:
            return None
        return labels if self.ignore_class is None else np.where(self._is_valid(labels), labels, -1)

    def _valid(self, labels: np.ndarray) -> np.ndarray:
        """Returns the labels that the loss does not ignore."""
        return labels if self.ignore_class is None else labels[self._is_valid(labels)]

    def _is_valid(self, labels: np.ndarray) -> np.ndarray:
        return np.asarray(labels != self.ignore_class)

    def make_loss(self, keras: Any) -> Any:
        """Returns sparse categorical cross-entropy, of smoothed labels if they are."""
        if self.label_smoothing:
            return self._smoothed_loss(keras)
        ignored = {} if self.ignore_class is None else {"ignore_class": self.ignore_class}
        loss = keras.losses.SparseCategoricalCrossentropy
        return loss(from_logits=self._knows_logits(), **ignored)

    def _smoothed_loss(self, keras: Any) -> Any:
        """Returns the cross-entropy of one-hot labels, which Keras can smooth."""
        smoothing, crossentropy = self.label_smoothing, keras.losses.categorical_crossentropy

        def sparse_categorical_crossentropy(
            labels: Any, outputs: Any, from_logits: bool = self._knows_logits()
        ) -> Any:
            classes = tf.cast(labels, tf.int64)
            if classes.shape.rank == outputs.shape.rank:
                classes = tf.squeeze(classes, -1)
            one_hot = tf.one_hot(classes, outputs.shape[-1], dtype=outputs.dtype)
            options = {"from_logits": from_logits, "label_smoothing": smoothing}
            return crossentropy(one_hot, outputs, **options)

        return sparse_categorical_crossentropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Distributions(Classification):
    """A task whose labels have the shape of the outputs, and may be smoothed."""

    label_smoothing: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_number("label_smoothing", self.label_smoothing, minimum=0, below=1)

    def smoothed(self, amount: float) -> Self:
        """Returns the task with this `label_smoothing`, if it is not 0."""
        return dataclasses.replace(self, label_smoothing=amount) if amount else self

    def check_outputs(self, labels: Any, outputs: Any) -> None:
        """Raises `ArgumentError` unless outputs have the shape of the labels."""
        shape = tuple(np.shape(labels)[1:])
        if tuple(outputs.shape[1:]) != shape:
            raise _shape_error(outputs, f"[batch, {', '.join(map(str, shape))}], as the labels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneHot(_Distributions, _Softmax):
    """One-hot classes, [N, classes] or at positions; the highest value is the class.

    Example:

        >>> task = OneHot(from_logits=True)
        >>> labels, outputs = tf.constant([[0, 1], [1, 0]]), tf.constant([[1.0, 2.0], [0.0, 3.0]])
        >>> task.correct(labels, outputs)
        <tf.Tensor: ... numpy=array([ True, False])>

    Args:
        label_smoothing: of the default loss. Default 0.
        from_logits, fraction: as for `Task`.
    """

    name: ClassVar[str] = "one_hot"

    def targets(self, labels: Any) -> tf.Tensor:
        """Returns the class with the highest label, int64."""
        return tf.argmax(labels, -1)

    def check_labels(self, labels: np.ndarray) -> None:
        """Raises `DataError` unless labels are distributions over at least two classes."""
        allowed = "one row of class probabilities for each prediction, which sum to 1"
        if labels.ndim < 2 or labels.dtype.kind not in "biuf" or labels.shape[-1] < 2:
            remedy = "For class numbers, use the task sparse, or sparse_categorical_crossentropy."
            raise label_error(labels, allowed, remedy)
        sums = labels.sum(-1)
        if labels.min() < 0 or not np.allclose(sums, 1, atol=1e-3):
            raise DataError(
                f"labels: rows that sum to {sums.min():g} to {sums.max():g} received; allowed: "
                f"{allowed}. For several labels of a sample, use the task multi_label."
            )

    def classes(self, labels: np.ndarray) -> np.ndarray | None:
        """Returns the classes of labels [n, classes]."""
        return labels.argmax(-1) if labels.ndim == 2 else None

    def make_loss(self, keras: Any) -> Any:
        """Returns categorical cross-entropy."""
        return keras.losses.CategoricalCrossentropy(
            from_logits=self._knows_logits(), label_smoothing=self.label_smoothing
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLabel(_Distributions):
    """Several binary labels for each sample or position, [N, ..., labels]; all have to be correct.

    Example:

        >>> task = MultiLabel(from_logits=False, fraction=0.5)
        >>> task.correct(tf.constant([[0, 1], [1, 0]]), tf.constant([[0.1, 0.2], [0.3, 0.9]]))
        <tf.Tensor: ... numpy=array([ True, False])>

    Args:
        label_smoothing: of the default loss. Default 0.
        from_logits, fraction: as for `Task`.
    """

    name: ClassVar[str] = "multi_label"

    def decisions(self, outputs: Any) -> tf.Tensor:
        """Returns 1 where the probability is above 0.5, int64."""
        return tf.cast(outputs > (0.0 if self._knows_logits() else 0.5), tf.int64)

    def targets(self, labels: Any) -> tf.Tensor:
        """Returns 1 where the label is above 0.5, int64."""
        return tf.cast(tf.cast(labels, tf.float32) > 0.5, tf.int64)

    def logits(self, outputs: Any) -> tf.Tensor:
        """Returns the logits of both classes, float [batch, labels, 2]."""
        outputs = flat(outputs)
        if self._knows_logits():
            return tf.stack([tf.zeros_like(outputs), outputs], -1)
        return as_logits(tf.stack([1 - outputs, outputs], -1))

    def probabilities(self, outputs: Any) -> tf.Tensor:
        """Returns the probabilities of both classes, float [batch, labels, 2]."""
        outputs = flat(tf.sigmoid(outputs) if self._knows_logits() else outputs)
        return tf.stack([1 - outputs, outputs], -1)

    def check_labels(self, labels: np.ndarray) -> None:
        """Raises `DataError` unless labels are from 0 to 1."""
        if (
            labels.dtype.kind not in "biuf"
            or labels.size
            and not np.all((labels >= 0) & (labels <= 1))
        ):
            is_number = labels.dtype.kind in "iuf"
            found = f"from {labels.min()} to {labels.max()}" if is_number else f"{labels.dtype}"
            remedy = "For more classes, the model needs an output unit for each."
            if is_number and labels.min() == -1 and labels.max() == 1:
                remedy = "Labels of -1 and 1 are converted with (labels + 1) / 2."
            raise DataError(f"labels: {found} received; allowed: 0 or 1. {remedy}")

    def make_loss(self, keras: Any) -> Any:
        """Returns binary cross-entropy."""
        return keras.losses.BinaryCrossentropy(
            from_logits=self._knows_logits(), label_smoothing=self.label_smoothing
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Binary(MultiLabel):
    """One label of 0 or 1 for each sample or position, and a model with one unit.

    Example:

        >>> task = Binary(from_logits=True)
        >>> task.correct(tf.constant([0, 1]), tf.constant([[-2.0], [-1.0]]))
        <tf.Tensor: ... numpy=array([ True, False])>

    Args:
        label_smoothing: of the default loss. Default 0.
        from_logits, fraction: as for `Task`.
    """

    name: ClassVar[str] = "binary"

    def check_outputs(self, labels: Any, outputs: Any) -> None:
        """Raises `ArgumentError` unless the model has one unit."""
        if outputs.shape.rank > 1 and outputs.shape[-1] != 1:
            raise _shape_error(outputs, "[batch, 1]", "For class numbers, use the task sparse.")

    def classes(self, labels: np.ndarray) -> np.ndarray | None:
        """Returns 0 or 1 for each sample, if there is one label for each."""
        if labels.ndim > 2 or labels.ndim == 2 and labels.shape[1] != 1:
            return None
        return (labels.reshape(len(labels)) > 0.5).astype(np.int64)


def as_logits(probabilities: tf.Tensor) -> tf.Tensor:
    """Returns the logarithms of probabilities, whose softmax is `probabilities`."""
    return tf.math.log(tf.maximum(probabilities, tf.constant(1e-30, probabilities.dtype)))


def is_probability(outputs: Any) -> bool:
    """Returns whether each row of outputs is a probability distribution, as opposed to logits."""
    rows = np.asarray(outputs, np.float64)
    return bool(np.all(rows >= 0) and np.allclose(rows.sum(-1), 1, atol=1e-3))


def _positions(outputs: tf.Tensor) -> tf.Tensor:
    """Returns outputs [batch, ..., classes] as [batch, predictions, classes]."""
    outputs = tf.convert_to_tensor(outputs)
    return tf.reshape(outputs, [tf.shape(outputs)[0], -1, outputs.shape[-1]])


def _shape_error(outputs: Any, allowed: str, remedy: str = "") -> ArgumentError:
    shape = ", ".join(map(str, ("batch", *outputs.shape[1:])))
    return ArgumentError("model", f"outputs [{shape}]", allowed, remedy)
