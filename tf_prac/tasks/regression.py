"""Regression: a prediction is correct within an error bound."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_number
from tf_prac.errors import ArgumentError
from tf_prac.tasks.task import Task, flat, for_each, label_error

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Numbers, [N] or [N, ...]; a prediction is correct within an error bound.

    Without a bound there is no "correct": samples are neither forgotten nor critical, and what
    needs it is refused.

    Example:

        >>> task = Regression(bound=0.5)
        >>> task.correct(tf.constant([1.0, 2.0]), tf.constant([[1.2], [2.9]])).numpy().tolist()
        [True, False]

    Args:
        bound: the largest absolute error of a correct prediction, and the largest difference of
            two networks that agree: a number, or one for each output. Default None.
        quantile: the bound is this quantile of the absolute differences of the training labels
            from their median, in (0, 1): with 0.25, predictions are correct that are as near as
            the best constant prediction is for a quarter of the samples. Default None.
        fraction, from_logits: as for `Task`.

    Raises:
        ArgumentError: If a value is not allowed, or both are given.
    """

    name: ClassVar[str] = "regression"
    metric: ClassVar[str] = "mean_absolute_error"
    higher_is_better: ClassVar[bool] = False
    from_logits: bool | None = True
    bound: float | tuple[float, ...] | None = None
    quantile: float | None = None

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.bound, (list, tuple, np.ndarray)):
            object.__setattr__(self, "bound", _bounds(self.bound))
        for bound in self.bound if isinstance(self.bound, tuple) else (self.bound,):
            if bound is not None:
                check_number("bound", bound, minimum=0)
        if self.quantile is not None:
            check_number("quantile", self.quantile, above=0, below=1)
        if self.bound is not None and self.quantile is not None:
            raise ArgumentError("quantile", self.quantile, "None with a bound")

    def resolved(self, labels: np.ndarray, outputs: Any = None, activation: Any = None) -> Self:
        """Returns the task with the bound that `quantile` means for these training labels."""
        if self.quantile is None:
            return self
        values = np.asarray(labels, np.float64).reshape(len(labels), -1)
        bounds = np.quantile(np.abs(values - np.median(values, 0)), self.quantile, axis=0)
        if not bounds.all():
            output = np.argmin(bounds)
            equal = np.mean(values == np.median(values, 0), axis=0)[output]
            remedy = (
                f"{equal:.0%} of the labels of output {output} are equal to their median: "
                "use a larger quantile, or Regression(bound=...) in units of the labels."
            )
            allowed = "a quantile at which the error bound is above 0"
            raise ArgumentError("quantile", self.quantile, allowed, remedy)
        return dataclasses.replace(self, bound=tuple(bounds.tolist()), quantile=None)

    def decisions(self, outputs: Any) -> tf.Tensor:
        """Returns the outputs, float32."""
        return tf.cast(outputs, tf.float32)

    def targets(self, labels: Any) -> tf.Tensor:
        """Returns the labels, float32."""
        return tf.cast(labels, tf.float32)

    def same(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """Returns which numbers differ by at most `bound`."""
        self.check_bound()
        return tf.abs(first - second) <= tf.constant(self.bound, tf.float32)

    def check_bound(self) -> None:
        """Raises `ArgumentError` if there is no bound, so that no prediction is correct or not."""
        if self.bound is None:
            raise ArgumentError(
                "task",
                "regression without an error bound"
                if self.quantile is None
                else "regression with a quantile, without the training labels",
                "an error bound, as forgetting and disagreement need to know which errors count",
                "Give Regression(bound=...)"
                + (
                    ", in units of the labels, or Regression(quantile=0.25), as task of a search "
                    "or kind of Targets."
                    if self.quantile is None
                    else "."
                ),
            )

    def check_labels(self, labels: np.ndarray) -> None:
        """Raises `DataError` unless labels are finite numbers."""
        if labels.dtype.kind not in "iuf" or not np.isfinite(labels).all():
            raise label_error(labels, "finite numbers")

    def check_outputs(self, labels: Any, outputs: Any) -> None:
        """Raises `ArgumentError` unless each number of the labels has an output, and a bound."""
        count, outputs_count = (int(np.prod(np.shape(each)[1:])) for each in (labels, outputs))
        if count != outputs_count:
            raise ArgumentError("model", f"{outputs_count} outputs", f"{count}, as the labels")
        if isinstance(self.bound, tuple) and len(self.bound) not in (1, count):
            raise ArgumentError("bound", self.bound, f"a number, or {count}: one for each output")

    def make_loss(self, keras: Any) -> Any:
        """Returns the mean squared error."""
        return keras.losses.MeanSquaredError()

    def losses(
        self, labels: Any, outputs: Any, weight: Any = None, temperature: float = 1.0
    ) -> tf.Tensor:
        """Returns the squared error of each sample, summed over its numbers, float [batch]."""
        return tf.reduce_sum(tf.square(self.errors(labels, outputs, weight)), -1)

    def weighted_losses(
        self, labels: Any, outputs: Any, weight: Any = None, temperature: float = 1.0
    ) -> tf.Tensor:
        """Returns the losses of samples, whose numbers are multiplied by their weights."""
        losses = tf.square(self.errors(labels, outputs, weight))
        if weight is not None:
            losses *= for_each(tf.cast(weight, losses.dtype), self.decisions(outputs))
        return tf.reduce_sum(losses, -1)

    def errors(self, labels: Any, outputs: Any, weight: Any = None) -> tf.Tensor:
        """Returns outputs minus labels, 0 where they do not count, float [batch, predictions]."""
        errors = flat(self.decisions(outputs)) - flat(self.targets(labels))
        judged = self.judged(labels, outputs, weight)
        return errors if judged is None else errors * tf.cast(judged, errors.dtype)

    def metric_values(
        self, labels: Any, outputs: Any, weight: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the absolute errors, and their weights or None."""
        errors = flat(self.decisions(outputs)) - flat(self.targets(labels))
        judged = self.judged(labels, outputs, weight)
        return tf.abs(errors), None if judged is None else tf.cast(judged, tf.float32)


def _bounds(values: Any) -> tuple[float, ...]:
    """Returns bounds of the outputs as a tuple; raises `ArgumentError` if they are not numbers."""
    try:
        (*bounds,) = map(float, values)
    except (TypeError, ValueError):
        raise ArgumentError("bound", values, "a number, or one for each output") from None
    if not bounds:
        raise ArgumentError("bound", values, "a number, or one for each output")
    return tuple(bounds)
