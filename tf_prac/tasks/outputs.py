"""`Outputs`: a model with several outputs, each with its own task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from tf_prac.errors import ArgumentError
from tf_prac.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs(Task):
    """Several outputs, each with its own task.

    Example:

        >>> from tf_prac.tasks import Binary, Sparse
        >>> task = Outputs(tasks={"digit": Sparse(), "even": Binary()}, judge="digit")
        >>> task.name
        'outputs'

    Args:
        tasks: the task of each output by its name, in the order of the model's outputs.
        judge: which outputs decide: "all" (a sample is correct if all outputs are, and two
            networks disagree on it if they do in any), "any" (the reverse: any output, and all
            outputs), or the name of one output. Default "all".

    Raises:
        ArgumentError: If there are no outputs, one is not a `Task`, or none is named `judge`.
    """

    name: ClassVar[str] = "outputs"
    tasks: Mapping[str, Task]
    judge: str = "all"

    def __post_init__(self):
        super().__post_init__()
        is_valid = isinstance(self.tasks, Mapping) and self.tasks
        if not is_valid or not all(isinstance(task, Task) for task in self.tasks.values()):
            raise ArgumentError("tasks", self.tasks, "a Task for each output, by name")
        if self.judge not in ("all", "any", *self.tasks):
            raise ArgumentError("judge", self.judge, f"all, any, or one of {', '.join(self.tasks)}")
        each = [task.from_logits for task in self.tasks.values()]
        object.__setattr__(self, "from_logits", None if None in each else all(each))

    @property
    def metric(self) -> str:  # type: ignore[override]
        """That of the output `judge`; "accuracy" of samples for "all" and "any"."""
        return self.tasks[self.judge].metric if self.judge in self.tasks else "accuracy"

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether higher values of the metric are better."""
        return self.judge not in self.tasks or self.tasks[self.judge].higher_is_better

    @property
    def judging(self) -> dict[str, Task]:
        """The tasks of the outputs that decide, by name."""
        return {n: task for n, task in self.tasks.items() if self.judge in ("all", "any", n)}

    def to_json(self) -> dict[str, Any]:
        """Returns the tasks and which decide, for config.json."""
        tasks = {name: task.to_json() for name, task in self.tasks.items()}
        return {"name": self.name, "tasks": tasks, "judge": self.judge}

    def of(self, values: Any, name: str) -> Any:
        """Returns the part of one output from labels, outputs or weights of all."""
        return select(values, name, list(self.tasks).index(name))

    def decisions(self, outputs: Any) -> dict[str, tf.Tensor]:
        """Returns the decisions of the outputs that decide, by name."""
        return {n: task.decisions(self.of(outputs, n)) for n, task in self.judging.items()}

    def flat_decisions(self, outputs: Any) -> dict[str, tf.Tensor]:
        """Returns the decisions, [batch, predictions], by name."""
        return {n: task.flat_decisions(self.of(outputs, n)) for n, task in self.judging.items()}

    def judged(self, labels: Any, outputs: Any, weight: Any = None) -> Any:
        """Returns which predictions count by name; see `Task.judged`."""
        return {
            n: task.judged(self.of(labels, n), self.of(outputs, n), self.of(weight, n))
            for n, task in self.judging.items()
        }

    def correct(self, labels: Any, outputs: Any, weight: Any = None) -> tf.Tensor:
        """Returns whether each sample is correct, bool [batch]."""
        each = [
            task.correct(self.of(labels, n), self.of(outputs, n), self.of(weight, n))
            for n, task in self.judging.items()
        ]
        return tf.reduce_any(each, 0) if self.judge == "any" else tf.reduce_all(each, 0)

    def disagree(self, first: Any, second: Any, judged: Any = None) -> tf.Tensor:
        """Returns on which samples two networks disagree, bool [batch]."""
        each = [
            task.disagree(first[n], second[n], None if judged is None else judged[n])
            for n, task in self.judging.items()
        ]
        return tf.reduce_all(each, 0) if self.judge == "any" else tf.reduce_any(each, 0)

    def metric_values(
        self, labels: Any, outputs: Any, weight: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the values of the output `judge`, or whether each sample is correct."""
        if self.judge in self.tasks:
            task, parts = self.tasks[self.judge], (labels, outputs, weight)
            return task.metric_values(*(self.of(part, self.judge) for part in parts))
        return tf.cast(self.correct(labels, outputs, weight), tf.float32), None

    def losses(
        self, labels: Any, outputs: Any, weight: Any = None, temperature: float = 1.0
    ) -> tf.Tensor:
        """Returns the sum of the losses of all outputs, float [batch]."""
        each = [
            task.losses(self.of(labels, n), self.of(outputs, n), self.of(weight, n), temperature)
            for n, task in self.tasks.items()
        ]
        return tf.add_n(each)

    def weighted_losses(
        self, labels: Any, outputs: Any, weight: Any = None, temperature: float = 1.0
    ) -> tf.Tensor:
        """Returns the sum of the weighted losses of all outputs, float [batch]."""
        each = []
        for name, task in self.tasks.items():
            y, y_pred, own = (self.of(part, name) for part in (labels, outputs, weight))
            each.append(task.weighted_losses(y, y_pred, own, temperature))
        return tf.add_n(each)

    def check_labels(self, labels: Any) -> None:
        """Raises an error unless labels are those of each task."""
        self._each(lambda n, task: task.check_labels(self.of(labels, n)))

    def check_outputs(self, labels: Any, outputs: Any) -> None:
        """Raises an error unless outputs fit the labels of each task."""
        self._each(lambda n, task: task.check_outputs(self.of(labels, n), self.of(outputs, n)))

    def check_classes(self, labels: Any, outputs: Any, num_classes: int | None = None) -> None:
        """Raises an error unless each output has each class of its labels."""
        self._each(lambda n, task: task.check_classes(self.of(labels, n), self.of(outputs, n)))

    def resolved(self, labels: Any, outputs: Any = None, activation: Any = None) -> Self:
        """Returns the task with each of its tasks resolved."""
        tasks = self._each(
            lambda n, task: task.resolved(
                self.of(labels, n), self.of(outputs, n), self.of(activation, n)
            )
        )
        return dataclasses.replace(self, tasks=tasks)

    def make_loss(self, keras: Any) -> dict[str, Any]:
        """Returns the loss of each output, by name."""
        return self._each(lambda n, task: task.make_loss(keras))

    def check_bound(self) -> None:
        """Raises `ArgumentError` if a task does not say which predictions are correct."""
        for task in self.judging.values():
            task.check_bound()

    def classes(self, labels: Any) -> np.ndarray | None:
        """Returns the classes of the output `judge`, if one is named."""
        if self.judge not in self.tasks:
            return None
        return self.tasks[self.judge].classes(self.of(labels, self.judge))

    def _each(self, fn: Callable[[str, Task], Any]) -> dict[str, Any]:
        return {name: fn(name, task) for name, task in self.tasks.items()}


def select(values: Any, name: Any, index: int) -> Any:
    """Returns the part of one output from targets, predictions or losses of all outputs."""
    if isinstance(values, Mapping):
        return values.get(name)
    return values[index] if isinstance(values, (list, tuple)) else values
