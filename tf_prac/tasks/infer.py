"""The task that a loss and labels imply."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.errors import ArgumentError
from tf_prac.registry import TASKS
from tf_prac.tasks.classification import Binary, MultiLabel, OneHot, Sparse
from tf_prac.tasks.outputs import Outputs, select
from tf_prac.tasks.regression import Regression
from tf_prac.tasks.task import Task

ONE_HOT = ("categoricalcrossentropy", "categoricalfocalcrossentropy", "categoricalhinge")
BINARY = ("binarycrossentropy", "bce", "binaryfocalcrossentropy")
REGRESSION = (
    "meansquarederror",
    "mse",
    "meanabsoluteerror",
    "mae",
    "huber",
    "huberloss",
    "logcosh",
) + ("meansquaredlogarithmicerror", "msle", "meanabsolutepercentageerror", "mape", "poisson")

OF_POSITIONS = ("sparsecategoricalcrossentropy", *ONE_HOT, *BINARY, *REGRESSION)
"""Losses with one value for each position of outputs [batch, positions, ..., units]."""


def task_of(loss: Any, labels: Any, outputs: Any) -> Task:
    """Returns the task that a loss implies; for other losses, the labels, if they are integers.

    Args:
        loss: a loss of Keras, its name, another function, or None.
        labels: of a batch.
        outputs: of the model for the batch.

    Raises:
        ArgumentError: If they leave more than one task; the message names the options.
    """
    name, from_logits = loss_name(loss), from_logits_of(loss)
    outputs = tf.convert_to_tensor(outputs)
    single_unit = outputs.shape.rank == 1 or outputs.shape[-1] == 1
    if name == "sparsecategoricalcrossentropy":
        return Sparse(from_logits=from_logits, ignore_class=_option(loss, "ignore_class"))
    if name in ONE_HOT:
        return OneHot(from_logits=from_logits)
    if name in BINARY:
        return (Binary if single_unit else MultiLabel)(from_logits=from_logits)
    if name in REGRESSION:
        return Regression()
    labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
    is_integer = np.dtype(getattr(labels.dtype, "name", labels.dtype)).kind in "iub"
    rank = len(labels.shape)
    if is_integer and single_unit:
        return Binary(from_logits=from_logits)
    if is_integer and (rank == len(outputs.shape) - 1 or labels.shape[-1] == 1):
        return Sparse(from_logits=from_logits)
    shown = "no loss" if loss is None else f"the loss {name}"
    dtype = getattr(labels.dtype, "name", labels.dtype)
    remedy = (
        "Name it as task=... of a search or Targets(kind=...), or compile the model with a loss "
        "that implies it."
    )
    if rank == len(outputs.shape) - 1:
        remedy += " If they are class numbers, convert them to integers."
    raise ArgumentError(
        "task",
        f"{shown}, labels {dtype} {_shape(labels)} and outputs {_shape(outputs)}",
        f"what these labels mean: one of {', '.join(TASKS)}, or a Task",
        remedy,
    )


def infer(loss: Any, labels: Any, outputs: Any, names: Sequence[str] = ()) -> Task:
    """Returns the task of a model with one or several outputs.

    Args:
        loss: its loss, or one for each output.
        labels: of a batch, nested as in `fit`.
        outputs: of the model for the batch.
        names: the names of the outputs.

    Raises:
        ArgumentError: If the task of an output cannot be inferred, or labels lack an output.
    """
    if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
        outputs, loss = outputs[0], select(loss, names[0] if names else "", 0)
    if not isinstance(outputs, (Mapping, list, tuple)):
        if isinstance(labels, Mapping):
            received = f"labels {', '.join(labels)} for a model with one output"
            raise ArgumentError("labels", received, "one array of labels")
        return task_of(loss, labels, outputs)
    names = list(outputs) if isinstance(outputs, Mapping) else list(names)
    if not isinstance(labels, Mapping) or set(labels) != set(names):
        received = f"labels {', '.join(labels)}" if isinstance(labels, Mapping) else "one array"
        raise ArgumentError(
            "labels", received, f"a dictionary of the labels of each output: {', '.join(names)}"
        )
    return Outputs(
        tasks={
            name: task_of(*(select(part, name, index) for part in (loss, labels, outputs)))
            for index, name in enumerate(names)
        }
    )


def loss_name(loss: Any) -> str:
    """Returns the name of a loss in lower case, without underscores; "" for None."""
    if loss is None:
        return ""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.lower().replace("_", "")


def from_logits_of(loss: Any) -> bool | None:
    """Returns the `from_logits` of a loss, or None if it has none."""
    if isinstance(loss, str):
        return False if loss_name(loss).endswith(("crossentropy", "bce")) else None
    value = _option(loss, "from_logits")
    if value is None and inspect.isfunction(loss):
        parameter = inspect.signature(loss).parameters.get("from_logits")
        value = None if parameter is None else parameter.default
    return value if isinstance(value, bool) else None


def _option(loss: Any, name: str) -> Any:
    """Returns an option of a loss object of either Keras, or None."""
    value = getattr(loss, name, None)
    for options in ("_fn_kwargs", "fn_kwargs"):
        if value is None:
            value = (getattr(loss, options, None) or {}).get(name)
    return value


def _shape(values: Any) -> str:
    return str(["batch", *values.shape[1:]]).replace("'", "")


def task_name(task: Any) -> str:
    """Returns the name of a task; raises `ArgumentError` if it is not a `Task`."""
    if not isinstance(task, Task):
        allowed = f"one of {', '.join(TASKS)}, or a Task such as Regression(bound=...)"
        raise ArgumentError("task", task, allowed)
    return task.name


def as_task(task: str | Task | Mapping[str, Any]) -> Task:
    """Returns a task from its name or from what `Task.to_json` returned, or unchanged."""
    if isinstance(task, Mapping):
        options = dict(task)
        name = options.pop("name", None)
        if name == "outputs":
            tasks = {n: as_task(each) for n, each in options.pop("tasks").items()}
            return Outputs(tasks=tasks, **options)
        TASKS.check(name)
        return TASKS[name](**options)
    TASKS.check(task)
    return TASKS[task]() if isinstance(task, str) else task
