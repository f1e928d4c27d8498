"""`Task`: what labels and outputs mean, when a sample is correct, when two networks disagree.

To add a task, write a subclass with `decisions` and the other methods that differ from those here,
and add it to `TASKS` in `tf_prac/registry.py`.

Source: "Efficient Lottery Ticket Finding: Less Data is More", Section 3.1, which needs both for
classification: CET are the samples that training forgets, CEP those on which the dense and the
sparse network disagree.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_bool, check_number
from tf_prac.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """What labels and outputs mean.

    A sample has one prediction or several: one for each position of an image or text, each label of
    a multi-label sample, or each number of a regression. Each is compared with its label, except
    those that the loss ignores. The sample is correct if enough of them are.

    Example:

        >>> class Sign(Task):
        ...     def decisions(self, outputs):
        ...         return outputs > 0
        ...
        ...     def targets(self, labels):
        ...         return labels > 0
        >>> task = Sign()
        >>> task.correct(tf.constant([[1.0], [-2.0]]), tf.constant([[0.3], [0.4]])).numpy().tolist()
        [True, False]

    Args:
        fraction: a sample is correct if at least this fraction of its predictions is, and two
            networks disagree on it if they differ in more than the rest, in (0, 1]. Default 1.
        from_logits: whether outputs are logits or other unbounded numbers, otherwise
            probabilities. Default None: inferred from the loss, or else from the activation of the
            output layer, or else from the outputs. If all leave both, an `ArgumentError` is raised.

    Attributes:
        metric: name of the metric of validation and test samples. Default "accuracy".
        higher_is_better: whether higher values of the metric are better. Default True.
    """

    metric: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True

    fraction: float = 1.0
    from_logits: bool | None = None

    def __post_init__(self):
        if self.from_logits is not None:
            check_bool("from_logits", self.from_logits)
        check_number("fraction", self.fraction, above=0, maximum=1)

    # What a subclass defines.

    @abc.abstractmethod
    def decisions(self, outputs: Any) -> Any:
        """Returns what the model predicts, such as classes, [batch, ...].

        Args:
            outputs: of the model for a batch.
        """

    def targets(self, labels: Any) -> Any:
        """Returns the correct decisions for labels, [batch, ...]. By default, the labels."""
        return labels

    def same(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """Returns which decisions are equal, bool [batch, predictions]. By default, with ==."""
        return first == tf.cast(second, first.dtype)

    def counted(self, labels: Any) -> tf.Tensor | None:
        """Returns which labels the loss counts, bool, in the shape of `targets`. Default: all."""
        return None

    def check_labels(self, labels: np.ndarray) -> None:  # noqa: B027
        """Raises `DataError` unless these labels, of all samples, are those of the task."""

    def check_outputs(self, labels: Any, outputs: Any) -> None:  # noqa: B027
        """Raises `ArgumentError` unless outputs of the model fit the labels of a batch."""

    def check_classes(  # noqa: B027
        self, labels: Any, outputs: Any, num_classes: int | None = None
    ) -> None:
        """Raises `ArgumentError` unless outputs of the model have each class of the labels.

        Args:
            labels: of all samples.
            outputs: of the model for a batch.
            num_classes: how many classes the data has, if it says so. Default None.
        """

    def resolved(self, labels: np.ndarray, outputs: Any = None, activation: Any = None) -> Self:
        """Returns the task with the values that depend on data and model.

        Args:
            labels: of the training set.
            outputs: of the model for a few samples. Default None.
            activation: name of the activation of the output layer, or None if it is not known.
        """
        return self

    def check_bound(self) -> None:  # noqa: B027
        """Raises `ArgumentError` if the task does not say which predictions are correct."""

    def classes(self, labels: np.ndarray) -> np.ndarray | None:
        """Returns the class of each sample, int [n]; None if samples have no single class.

        Samples that the loss ignores have no class, which is -1.
        """
        return None

    def make_loss(self, keras: Any) -> Any:
        """Returns the loss that is used for a model without its own.

        Args:
            keras: the Keras package of the model.
        """
        raise self._lacks("loss", "a model that is compiled with a loss")

    def smoothed(self, amount: float) -> Task:
        """Returns the task with a loss that spreads this fraction of each label over all classes.

        Raises:
            ArgumentError: If its loss cannot be smoothed.
        """
        if amount:
            raise ArgumentError("label_smoothing", amount, f"0 for the task {self.name}")
        return self

    def probabilities(self, outputs: Any) -> tf.Tensor:
        """Returns the probabilities of each prediction, [batch, predictions, classes]."""
        raise self._lacks("score", "a score that needs no class probabilities")

    def losses(
        self, labels: Any, outputs: Any, weight: Any = None, temperature: float = 1.0
    ) -> tf.Tensor:
        """Returns the loss of each sample, float [batch], which can be differentiated twice.

        Args:
            labels, outputs, weight: as for `correct`.
            temperature: divides logits. Default 1.
        """
        raise self._lacks("score", "a score that needs no loss of single samples")

    def weighted_losses(
        self, labels: Any, outputs: Any, weight: Any = None, temperature: float = 1.0
    ) -> tf.Tensor:
        """Returns the losses of samples multiplied by their weights, float [batch].

        Here, positions of a sample have the mean of its weights that are not 0.

        Args:
            labels, outputs, weight, temperature: as for `losses`.
        """
        losses = self.losses(labels, outputs, weight, temperature)
        if weight is None:
            return losses
        weight = flat(tf.cast(weight, losses.dtype))
        count = tf.math.count_nonzero(weight, -1, dtype=losses.dtype)
        return losses * tf.math.divide_no_nan(tf.reduce_sum(weight, -1), count)

    def metric_values(
        self, labels: Any, outputs: Any, weight: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns values whose weighted mean is the metric, and their weights or None."""
        right, judged = self._compared(labels, outputs, weight)
        return tf.cast(right, tf.float32), None if judged is None else tf.cast(judged, tf.float32)

    # What follows from it.

    @property
    def name(self) -> str:
        """The name of the task in files and messages."""
        return type(self).__name__

    def to_json(self) -> dict[str, Any]:
        """Returns the name and the options, for config.json."""
        return {"name": self.name, **dataclasses.asdict(self)}

    def correct(self, labels: Any, outputs: Any, weight: Any = None) -> tf.Tensor:
        """Returns whether each sample is correct, bool [batch].

        A sample with no prediction that counts, such as one without a label, is correct: it is
        neither forgotten nor critical.

        Args:
            labels: of the batch.
            outputs: of the model for the batch.
            weight: sample weights, [batch] or one for each prediction; those of 0 do not count.
                Default None: all count.
        """
        judged = self.judged(labels, outputs, weight)
        if judged is None and self.fraction == 1:
            decisions, targets = (
                tf.convert_to_tensor(each)
                for each in (self.decisions(outputs), self.targets(labels))
            )
            if decisions.shape.rank == targets.shape.rank == 1:  # one prediction for each sample
                return self.same(decisions, targets)
        return self._enough(*self._compared(labels, outputs, weight))

    def disagree(self, first: Any, second: Any, judged: Any = None) -> tf.Tensor:
        """Returns on which samples two networks disagree, bool [batch].

        Args:
            first: decisions of one network, [batch, predictions].
            second: those of the other.
            judged: which predictions count, as returned by `judged`.
        """
        return ~self._enough(
            self.same(tf.convert_to_tensor(first), tf.convert_to_tensor(second)), judged
        )

    def judged(self, labels: Any, outputs: Any, weight: Any = None) -> tf.Tensor | None:
        """Returns which predictions count, bool [batch, predictions]; None if all do.

        Not counted are labels that the loss ignores, positions that a Keras mask leaves out, and
        those with sample weight 0.
        """
        decisions = self.decisions(outputs)
        parts = [self.counted(labels), getattr(outputs, "_keras_mask", None)]
        parts += [None if weight is None else tf.convert_to_tensor(weight) > 0]
        judged = None
        for part in parts:
            if part is not None:
                each = for_each(tf.cast(part, tf.bool), decisions)
                judged = each if judged is None else judged & each
        return judged

    def flat_decisions(self, outputs: Any) -> Any:
        """Returns the decisions, [batch, predictions]."""
        return flat(self.decisions(outputs))

    def _compared(
        self, labels: Any, outputs: Any, weight: Any
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns which predictions are correct and which count, bool [batch, predictions]."""
        same = self.same(flat(self.decisions(outputs)), flat(self.targets(labels)))
        return same, self.judged(labels, outputs, weight)

    def _enough(self, same: tf.Tensor, judged: tf.Tensor | None) -> tf.Tensor:
        if judged is None and self.fraction == 1:
            return tf.reduce_all(same, -1)
        judged = tf.ones_like(same) if judged is None else tf.cast(judged, tf.bool)
        differing = tf.reduce_sum(tf.cast(judged & ~same, tf.float32), -1)
        allowed = (1 - self.fraction) * tf.reduce_sum(tf.cast(judged, tf.float32), -1)
        return differing <= allowed + 0.01  # both are counts up to rounding

    def _lacks(self, argument: str, allowed: str) -> ArgumentError:
        return ArgumentError(argument, f"the task {self.name}", allowed)


def flat(values: Any) -> tf.Tensor:
    """Returns values [batch, ...] as [batch, predictions]."""
    values = tf.convert_to_tensor(values)
    return tf.reshape(
        values,
        [tf.shape(values)[0], int(np.prod(values.shape[1:]))]
        if values.shape[1:].is_fully_defined()
        else [tf.shape(values)[0], -1],
    )


def for_each(part: Any, decisions: Any) -> tf.Tensor:
    """Returns values [batch] or [batch, positions, ...] for each decision, [batch, predictions]."""
    part, decisions = tf.convert_to_tensor(part), tf.convert_to_tensor(decisions)
    if part.shape.rank == decisions.shape.rank + 1 and part.shape[-1] == 1:
        part = tf.squeeze(part, -1)
    for _ in range(decisions.shape.rank - part.shape.rank):
        part = part[..., None]
    return flat(tf.broadcast_to(part, tf.shape(decisions)))


def describe_labels(labels: Any) -> str:
    """Returns dtype and shape of labels, for messages."""
    if isinstance(labels, Mapping):
        return ", ".join(f"{name}: {describe_labels(value)}" for name, value in labels.items())
    return f"{labels.dtype} of shape {('N', *labels.shape[1:])}".replace("'", "")


def label_error(labels: Any, allowed: str, remedy: str = "") -> DataError:
    """Returns the error for labels that a task does not take."""
    return DataError(
        f"labels: {describe_labels(labels)} received; allowed: {allowed}. {remedy}".rstrip()
    )
